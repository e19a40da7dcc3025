"""Data sets -> folders of stems for training and scoring: mono, one sample rate, with a manifest.

Writes ``OUT/<split>/<track>/<stem>.flac|wav`` and ``OUT/manifest.jsonl``. The output depends on the
sources and the options alone, not on the number of workers nor on what was done before: a track
appears whole or not at all, and one that is there already is kept if it is what it would become.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.audio import io
from mgdm_audio.data import manifest
from mgdm_audio.data.manifest import RECORD, Record
from mgdm_audio.data.plan import Decision, Plan, Planner, Track
from mgdm_audio.data.summing import narrowest_subtype, sum_sources, survey
from mgdm_audio.digest import hash_file, hash_json
from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.errors import UserError, recorded

_VERSION = 3  # of what is made of sources; in a record, another one makes the track again
Form = Literal["flac", "wav"]


@dataclass(frozen=True)
class Options:
    """How stems are written. With ``flac``, a stem beyond full scale is a WAV of floats."""

    format: Form = "flac"
    sample_rate: int = 22050  # Hz


@dataclass(frozen=True)
class Outcome:
    """What became of a track; ``error`` says why it failed."""

    track: Track
    state: Literal["made", "kept", "failed"]
    record: Record | None = None
    error: str = ""


def prepare(
    tracks: Sequence[Track],
    out: Path,
    planner: Planner,
    options: Options,
    workers: int = 1,
    on_track: Callable[[Outcome], None] = lambda outcome: None,
    executor: str = "local",
) -> list[Outcome]:
    """Write the stems of every track and the manifest; ``on_track`` is told as tracks finish.

    A track that fails is left out of the manifest and stops no other. The manifest keeps the tracks
    that an earlier call put into other splits of ``out``. Raises UserError where ``out`` and the
    tracks lie within each other, where it cannot be written to, and where a worker is killed.
    ``executor``: a cluster in place of ``workers``, see ``find_executor``.
    """
    splits = {track.split for track in tracks}
    for track in tracks:
        home = track.folder if track.planned else track.folder.parent
        target, folder = (out / track.split).resolve(), home.resolve()
        if target.is_relative_to(folder) or folder.is_relative_to(target):
            raise UserError(f"{out / track.split}: lies among the tracks; choose another output")
    try:
        for split in splits:
            (out / split).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror}); choose another place") from None
    jobs = {f"{t.split}/{t.name}": partial(prepare_track, t, out, planner, options) for t in tracks}
    outcomes = []
    for _, outcome in run_jobs(jobs, workers, executor):
        on_track(outcome)
        outcomes.append(outcome)
    records = [outcome.record for outcome in outcomes if outcome.record]
    for file in out.glob(f"*/*/{RECORD}"):
        record = manifest.load_record(file.parent)
        here = (file.parent.parent.name, file.parent.name)
        if here[0] not in splits and record and (record["split"], record["track"]) == here:
            records.append(record)
    if records or (out / manifest.MANIFEST).exists():  # of no track at all nothing is written
        manifest.write(out, records)
    return outcomes


@contextmanager
def _one_thread() -> Iterator[None]:
    """The number of threads may change how a filter's sums are rounded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def prepare_track(track: Track, out: Path, planner: Planner, options: Options) -> Outcome:
    """Make one track, unless it is there already."""
    target = out / track.split / track.name
    try:
        atomic.sweep(target.parent)  # of a run that was killed
        if track.elsewhere:
            others = " and ".join(track.elsewhere)
            raise UserError(f"{track.folder}: a track so named is in {others} too; remove one")
        if isinstance(track.planned, UserError):
            raise track.planned
        plan = track.planned or planner(track.folder)
        fingerprint = _fingerprint(track, plan, options)
        record = manifest.load_record(target)
        if record and _is_current(record, fingerprint, track, plan, out):
            return Outcome(track, "kept", record)
        _check_own(target, plan, record)
        with _one_thread():
            record = _make(track, out, plan, options, fingerprint)
    except Exception as error:  # a bug that one track meets is no reason to lose the others
        return Outcome(track, "failed", error=recorded(error, out, target))
    return Outcome(track, "made", record)


def _fingerprint(track: Track, plan: Plan, options: Options) -> str:
    """Hashes all that the stems depend on; of the sources' samples, only the sizes."""
    planned = [source for sources in plan.stems.values() for source in sources]
    sizes = {s.path: s.file(track.folder).stat().st_size for s in sorted(planned)}
    return hash_json([_VERSION, track.split, track.source, asdict(plan), sizes, asdict(options)])


def _is_current(record: Record, fingerprint: str, track: Track, plan: Plan, out: Path) -> bool:
    """Returns whether sources and stems are those that the record has."""
    sources = [source for sources in plan.stems.values() for source in sources]
    files = {(source.path, source.stream): source.file(track.folder) for source in sources}
    return (
        record["fingerprint"] == fingerprint
        and manifest.is_of(record, files)
        and manifest.is_intact(record, out)
    )


def _check_own(target: Path, plan: Plan, record: Record | None) -> None:
    """Raise UserError where ``target`` holds files that are not from here: it will be replaced."""
    if not target.is_dir():
        return
    names = {path.name for path in target.iterdir()}
    stems = {*plan.stems, *(record["stems"] if record else ())}
    own = {RECORD, *(f"{stem}.{suffix}" for stem in stems for suffix in ("flac", "wav"))}
    foreign = names if RECORD not in names else names - own
    if foreign:
        raise UserError(
            f"{target / min(foreign)}: is no result of an earlier run; move its folder away"
        )


def _make(track: Track, out: Path, plan: Plan, options: Options, fingerprint: str) -> Record:
    found = survey(track.folder, plan)
    decisions = [*plan.decisions, *found.decisions]
    target = out / track.split / track.name
    with atomic.replaced_folder(target) as room:
        stems = {}
        for stem, sources in plan.stems.items():
            samples = sum_sources(track.folder, sources, found, options.sample_rate)
            file, subtype, said = _write_stem(room, stem, samples, options)
            decisions += said
            if not samples.any():
                why = "all of its samples are 0" if sources else "the track has no source of it"
                decisions.append(Decision(stem, "silent", why))
            stems[stem] = {
                "path": f"{track.split}/{track.name}/{file.name}",
                "sha256": hash_file(file),
                "frames": len(samples),
                "subtype": subtype,
                "sources": found.describe(sources),
            }
        record = {
            "track": track.name,
            "split": track.split,
            "source": track.source,
            "sample_rate": options.sample_rate,
            "frames": len(samples),
            "stems": stems,
            "decisions": [asdict(decision) for decision in sorted(decisions)],
            "fingerprint": fingerprint,
        }
        (room / RECORD).write_text(manifest.to_line(record), encoding="utf-8")
    return record


def _write_stem(
    folder: Path, stem: str, samples: Tensor, options: Options
) -> tuple[Path, str, list[Decision]]:
    """The file in ``folder`` that [time] was written to, its subtype, and what was decided."""
    subtype = narrowest_subtype(samples)
    suffix, said = options.format, []
    if subtype == "FLOAT":
        suffix = "wav"
        peak = float(samples.abs().max())
        said.append(Decision(stem, "float", f"peaks at {peak:.4f}, beyond full scale"))
    file = folder / f"{stem}.{suffix}"
    io.write(file, samples[None], options.sample_rate, subtype)
    return file, subtype, said
