"""``mgdm-audio separate``: stems of sound files and folders of them."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mgdm_audio.cli.options import (
    OUTPUT,
    PRESET,
    SET,
    STEM_PRIOR,
    Outputs,
    Positive,
    imports,
    outputs,
    progress,
)

if TYPE_CHECKING:
    from mgdm_audio.audio.files import Track
    from mgdm_audio.output.layout import Layout
    from mgdm_audio.separation.separator import Separator


def _semitones(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: give semitones, as 0,-3,3") from None


HELP = """
Separate sound files, and those in folders, into stems.

Writes OUTPUT/<track>/<stem>.wav, at the input's rate, channels and length, and
separation.json, which says how they were made.  The stems sum to the input, or to the input
lowered by a common gain where PCM would clip (a line then says so); those of mp3, m4a and ogg,
which are lossy, do so only nearly.  Tags of the input are copied, and with PyAV its cover.  <track>
is the file's name.  For the sound files in a folder it is their path in it, with the suffix where
two paths are otherwise equal.  A track that fails stops no other; no input is ever overwritten.

WAV, RF64, W64, AIFF, CAF, AU, FLAC, MP3, Ogg Vorbis and Opus are read as they are; m4a, aac, mka,
webm, wma and others need PyAV: pip install 'mgdm_audio[formats]'.

uncertainty.json contains the posterior standard deviation per stem, window of 0.1 s (longer in
tracks over an hour) and frequency band, and per stem a confidence: the expected SI-SDR in dB
under the posterior (null with a single draw).

\b
mgdm-audio separate song.mp3 -o stems
mgdm-audio separate album/ -o stems --skip-existing
mgdm-audio separate song.wav -o stems --two-stems drums --filename "{track} ({stem})"
mgdm-audio separate song.mp3 -o stems --format mp3 --stems guitar --mix bass+drums --rest
mgdm-audio separate song.mp3 -o stems --format stem.mp4
mgdm-audio separate song.wav -o stems --sampler mgdm --set gibbs_steps=2 --samples 4
mgdm-audio separate song.wav -o stems --sampler mine.toml --import mine.py
"""
Row = tuple[str, str, str, str]
"""Of the closing table: a track, seconds, residual in dB, state."""


@click.command(help=HELP)
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="INPUT..."
)
@OUTPUT
@STEM_PRIOR
@click.option("--sampler", type=PRESET, help="Sampler preset, bundled or a TOML file.")
@SET
@click.option(
    "--samples",
    type=click.IntRange(1),
    metavar="N",
    help="Average N posterior samples (default: the preset's number).",
)
@click.option("--keep-samples", is_flag=True, help="Also write each sample to samples/<number>/.")
@outputs
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--level",
    type=click.Choice(["rms", "none"]),
    default="rms",
    show_default=True,
    help="Scale songs to the level of the prior's training data, or do not.",
)
@click.option(
    "--join",
    type=click.Choice(["crossfade", "condition"]),
    default="crossfade",
    show_default=True,
    help="Blend segments, or draw every second given its neighbours (overlap conditioning).",
)
@click.option(
    "--speeds",
    metavar="A,B,...",
    callback=_semitones,
    help="Speed augmentation: semitones, 0 first, by which successive samples change the track's "
    "speed (default: the preset's).",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Segments x samples x channels per network call on a GPU, halved where memory runs out "
    "(default: 8; always 1 on a CPU).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "--filename",
    default="{track}/{stem}",
    show_default=True,
    metavar="TEMPLATE",
    help="Names of the files, with {track}, {stem}, {sampler}, {sample} (its number) and {seed}.",
)
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Keep results whose input, prior, settings and files are unchanged (by hash).",
)
@click.option(
    "--damaged",
    type=click.Choice(["refuse", "keep"]),
    default="refuse",
    show_default=True,
    help="Files that are cut short or damaged: refuse them, or keep what can be decoded; what is "
    "missing is shown, and in separation.json.",
)
@click.option(
    "--max-duration",
    type=Positive(),
    default=12.0,
    show_default=True,
    metavar="HOURS",
    help="Longest sound that a file may contain.",
)
@click.option(
    "--report", is_flag=True, help="Also write a page to listen to them, and of a folder an index."
)
@imports
def separate(
    inputs: tuple[Path, ...],
    output: Path,
    prior: str | None,
    sampler: str | None,
    overrides: tuple[str, ...],
    samples: int | None,
    keep_samples: bool,
    seed: int,
    level: Literal["rms", "none"],
    join: Literal["crossfade", "condition"],
    speeds: tuple[float, ...] | None,
    batch_size: int | None,
    device: str,
    filename: str,
    skip_existing: bool,
    damaged: Literal["refuse", "keep"],
    max_duration: float,
    report: bool,
    outputs: Outputs,
) -> None:
    """Separate sound files, and those in folders, into stems: see ``HELP``."""
    from mgdm_audio.audio.files import find_tracks
    from mgdm_audio.output.layout import Layout, check_template
    from mgdm_audio.output.result_folder import require_writable
    from mgdm_audio.priors.folder import DEFAULT_PRIOR
    from mgdm_audio.separation.separator import DEFAULT_SAMPLER, Separator

    check_template(filename)
    form, subtype = outputs.checked()
    tracks = find_tracks(inputs, output, lambda line: click.echo(line, err=True))
    name = Path(sampler).stem if sampler else DEFAULT_SAMPLER
    layouts = [Layout(output, filename, track.name, name, seed, form) for track in tracks]
    clashing = _clashes(layouts, report)
    separator = Separator.from_pretrained(
        prior or DEFAULT_PRIOR,
        sampler,
        overrides=overrides,
        device=device,
        level=level,
        join=join,
        speeds=speeds,
        batch_size=batch_size,
    )
    choice = outputs.choice(separator.stems, report)
    click.echo(f"device: {separator.device} ({separator.device_reason})", err=True)
    require_writable(output)
    settings = separator.settings(seed=seed, draws=samples, keep_draws=keep_samples)
    settings |= {"two_stems": outputs.two_stems, "chosen": choice.settings, "format": form.name}
    settings |= {"subtype": subtype, "filename": filename, "damaged": damaged}
    limits = {"damaged": damaged, "max_seconds": 3600 * max_duration}
    run = _Run(separator, output, choice.names, settings, limits, skip_existing, report)
    rows = [
        run.row(track, layout, [other.path for other in tracks], clashing.get(i))
        for i, (track, layout) in enumerate(zip(tracks, layouts, strict=True))
    ]
    _end(rows, output if report and any(path.is_dir() for path in inputs) else None)


def _end(rows: "list[Row]", indexed: Path | None) -> None:
    """Prints what was done; writes the index of ``indexed``. Exits with 1 if a track failed."""
    from mgdm_audio.report import write_index
    from mgdm_audio.tables import aligned

    if len(rows) > 1:
        head = ("track", "seconds", "residual dB", "state")
        click.echo("\n" + aligned([head, *rows]))
    if indexed is not None:
        click.echo(f"written: {write_index(indexed)}")
    if any(row[-1].startswith("error") for row in rows):
        sys.exit(1)


def _clashes(layouts: "list[Layout]", report: bool) -> dict[int, str]:
    """Number of a track -> the one before it whose files it would replace, in a line."""
    from mgdm_audio.errors import UserError
    from mgdm_audio.output.layout import clashes, fields_of
    from mgdm_audio.separation.result import RECORD

    found = clashes(layouts)
    if found and "track" not in fields_of(layouts[0].template):  # then it is not the tracks' names
        raise UserError(next(iter(found.values())))
    if report and any(layout.record.name != RECORD for layout in layouts):
        template = layouts[0].template
        raise UserError(f"--report needs a folder a track; leave --filename {template!r} out")
    return found


@dataclass(frozen=True)
class _Run:
    """A separator and what is asked of every track."""

    separator: "Separator"
    output: Path
    names: tuple[str, ...]  # of the stems that are written
    settings: dict[str, Any]
    limits: dict[str, Any]  # of what is read
    skip_existing: bool
    report: bool

    def row(self, track: "Track", layout: "Layout", inputs: "list[Path]", clash: str | None) -> Row:
        """Separates a track and prints so, or its error, which stops no other track.

        ``inputs``: the user's files, none of which is replaced. ``clash``: why its files would be
        those of another track, if they would.
        """
        from mgdm_audio.errors import DamagedError, UserError, recorded
        from mgdm_audio.output.stem_files import check_inputs, is_done
        from mgdm_audio.report import ensure_page

        folder = self.output / layout.record.parent
        try:
            if clash is not None:
                raise UserError(f"{track.path}: {clash}")
            draws = self.settings["draws"] if self.settings["keep_draws"] else 0
            check_inputs(layout, self.names, draws, inputs)
            if not (self.skip_existing and is_done(layout, track.path, self.settings)):
                return self._separated(track, layout, folder)
            click.echo(f"{folder}: there already, unchanged")
            if self.report and (missing := ensure_page(folder)) is not None:
                click.echo(f"written: {missing}")
            return (track.name, "", "", "ok, there already")
        except Exception as error:  # a bug that one track meets is no reason to lose the others
            line = recorded(error, self.output, track.path)
            if isinstance(error, DamagedError):
                line += ", or go on with what is left: --damaged keep"
            click.echo(f"error: {line}", err=True)
            return (track.name, "", "", f"error: {line}")

    def _separated(self, track: "Track", layout: "Layout", folder: Path) -> Row:
        from mgdm_audio.engine.memory import PeakMemory
        from mgdm_audio.report import write_page

        self._require_fit(track, layout)
        peak = PeakMemory(self.separator.device)
        asked = {key: self.settings[key] for key in ("seed", "draws", "keep_draws", "two_stems")}
        chosen = self.settings["chosen"] or {}
        with progress(track.path.name) as move:
            found = self.separator.separate(
                track.path, folder=self.output, on_progress=move, **asked, **self.limits
            )
            with found:
                found.report["peak_memory_bytes"] = peak.read()
                record = found.choose(**chosen).save(layout, self.settings["subtype"])
        page = write_page(folder) if self.report else None
        if record["gain"] < 1:
            lowered = f"{-20 * math.log10(record['gain']):.2f} dB"
            click.echo(f"{track.path}: stems lowered by {lowered}, or they would clip", err=True)
        seconds, residual = f"{record['seconds']:.1f}", f"{record['residual_db']:.0f}"
        if "input_sample_rate" in record:
            rates = f"{record['sample_rate']} Hz, not {record['input_sample_rate']}"
            click.echo(f"{track.path}: {layout.form.name} is written at {rates}", err=True)
        if record["lossy"]:
            exact = f"{layout.form.name} is lossy: the files do not sum to the input exactly"
            click.echo(f"{track.path}: {exact} (residual {residual} dB)", err=True)
        click.echo(f"{folder}: {', '.join(self.names)} ({seconds} s, residual {residual} dB)")
        if page is not None:
            click.echo(f"written: {page}")
        return (track.name, seconds, residual, "ok")

    def _require_fit(self, track: "Track", layout: "Layout") -> None:
        """Before hours of computing: UserError where the format has too few channels."""
        from mgdm_audio.audio.reading import Reading

        if layout.form.name == "wav":
            return
        reading = Reading(track.path, **self.limits)
        first = next(reading)
        reading.close()
        layout.form.require_channels(track.path, len(first.samples), first.mask)
