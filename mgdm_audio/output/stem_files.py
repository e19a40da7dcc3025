"""The files of one separated track, written block by block, and whether they are there already."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mgdm_audio.audio.encoding.files import Files, ReadBack, Shape
from mgdm_audio.audio.encoding.formats import Format
from mgdm_audio.audio.encoding.tags import Tags
from mgdm_audio.audio.pcm import quantise_together
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.output.layout import Layout
from mgdm_audio.output.result_folder import Inputs, spare, whole
from mgdm_audio.reading import read_json

FILES = "files"  # key of the record: path relative to the record -> SHA-256


class Block(NamedTuple):
    """Some samples of a track."""

    mixture: Tensor  # [channel, time]
    parts: Sequence[Tensor]  # [stem, channel, time]: the mean of the draws, then those kept


class Encoding(NamedTuple):
    """An ``Encoding`` says how the files are written."""

    subtype: str | None  # how they store samples; None: the format is lossy
    tags: Tags  # of the mixture


def write_result(
    layout: Layout,
    names: Sequence[str],
    shape: Shape,
    blocks: Callable[[], Iterable[Block]],
    draws: int,
    encoding: Encoding,
    gain: float,
    report: dict[str, Any],
    uncertainty: dict[str, Any],
    inputs: Sequence[Path] = (),
    complete: bool = True,
) -> dict[str, Any]:
    """Write all files, lowered by ``gain``, or none; returns the record.

    ``names``: of the stems. ``blocks()``: all of them, from the beginning. ``draws``: how many of
    them are kept. Where the stems sum to the mixture (``complete``) they, and every draw, are
    rounded together, so that they do so as exactly as the format can. Of an earlier result that
    ``layout`` leads to, what its record lists goes. Raises UserError where it cannot be written,
    and where one of the user's ``inputs`` would be replaced or removed.
    """
    check_inputs(layout, names, draws, inputs)
    parts = [layout.files(names, i) for i in (None, *range(draws))]
    files = [file for part in parts for file in part]
    folder = PurePath(os.path.commonpath([str(f.parent) for f in (*files, layout.record)]) or ".")
    record_file = layout.record.relative_to(folder)
    earlier = partial(_earlier, record=record_file)
    with whole(layout.root / folder, str(record_file), earlier) as fresh:

        def place(file: PurePath) -> Path:
            path = fresh / file.relative_to(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

        placed = [[place(file) for file in part] for part in parts]
        residual = _write_samples(
            placed, layout.form, names, shape, blocks, encoding, gain, complete
        )
        place(layout.uncertainty).write_text(json.dumps(uncertainty) + "\n")
        record = report | {
            "format": layout.form.name,
            "subtype": encoding.subtype,
            "lossy": layout.form.lossy,
            "stems": list(names),
            "complete": complete,
            "gain": gain,
            "residual_db": residual,
            "filename": layout.template,
            FILES: {
                _beside(file, layout.record): hash_file(place(file))
                for file in (*files, layout.uncertainty)
            },
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        # A name's bytes that are no UTF-8 become \udcXX, which JSON reads back as they were.
        place(layout.record).write_text(text, encoding="utf-8", errors="backslashreplace")
    return record


def _write_samples(
    paths: Sequence[Sequence[Path]],
    form: Format,
    names: Sequence[str],
    shape: Shape,
    blocks: Callable[[], Iterable[Block]],
    encoding: Encoding,
    gain: float,
    complete: bool,
) -> float:
    """Write [part, stem] files; returns the residual of the first part's in dB.

    It is what they sum to, less the mixture, or less the sum of their stems where those are not
    all. A lossy format's files are read back for it, to the sample.
    """
    residual = _Residual(gain, complete, shape.channels * shape.time)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(Files(form, part, names, shape, *encoding)) for part in paths
        ]
        for block in blocks():
            for writer, stems in zip(writers, block.parts, strict=True):
                samples = _rounded(stems * gain, encoding.subtype, complete)
                writer.write(samples)
                if writer is writers[0] and not form.lossy:
                    residual.add(samples, block)
    if form.lossy:
        with ReadBack(paths[0], shape) as back:
            for block in blocks():
                residual.add(back.next(block.mixture.shape[-1]), block)
    return residual.db()


def _rounded(stems: Tensor, subtype: str | None, complete: bool) -> Tensor:
    """Returns [stem, channel, time] as the files store them; unchanged for a lossy format."""
    if subtype is None:
        return stems
    if complete:
        return quantise_together(stems, subtype)
    return torch.cat([quantise_together(stem[None], subtype) for stem in stems])


class _Residual:
    """Sums the energy of what is written less what is wanted, in double precision."""

    def __init__(self, gain: float, complete: bool, count: int) -> None:
        self._gain, self._complete, self._count = gain, complete, count
        self._energies = torch.zeros(2, dtype=torch.float64)  # of the residual, of what is wanted

    def add(self, written: Tensor, block: Block) -> None:
        whole = block.mixture if self._complete else block.parts[0].double().sum(0)
        wanted = self._gain * whole.double()
        residual = written.double().sum(0) - wanted
        self._energies += torch.stack([residual.square().sum(), wanted.square().sum()])

    def db(self) -> float:
        residual, power = (self._energies / self._count).tolist()
        # A silent mixture has no level to compare with: full scale is the reference then.
        return round(10 * math.log10(max(residual / power if power > 0 else residual, 1e-30)), 1)


def _beside(file: PurePath, record: PurePath) -> str:
    return PurePath(os.path.relpath(file, record.parent)).as_posix()


def _earlier(folder: Path, record: PurePath) -> list[Path]:
    """Returns the files that an earlier record lists."""
    return list(listed(folder / record))


def check_inputs(
    layout: Layout, names: Sequence[str], draws: int, inputs: Iterable[Path] | Inputs
) -> None:
    """Raises UserError where what ``write_result`` writes or removes is one of ``inputs``.

    ``draws``: how many are kept. Links and other names of a file are seen through.
    """
    stems = [file for i in (None, *range(draws)) for file in layout.files(names, i)]
    planned = [layout.root / file for file in (*stems, layout.record, layout.uncertainty)]
    spare([*planned, *listed(layout.root / layout.record)], inputs)


def read_record(path: Path) -> dict[str, Any]:
    """Returns an earlier result's record; empty where none can be read."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def listed(record: Path) -> dict[Path, str]:
    """Files that a record lists -> their SHA-256 when they were written."""
    files = read_record(record).get(FILES)
    if not isinstance(files, dict):
        return {}
    return {
        Path(os.path.normpath(record.parent / name)): str(sha)
        for name, sha in files.items()
        if "\0" not in name
    }


SETTINGS = (
    "version",
    "prior",
    "prior_sha256",
    "prior_config_sha256",
    "sampler",
    "options",
    "noise_std",
    "own_code_sha256",
    "start_from",
    "speeds",
    "stereo",
    "draws",
    "keep_draws",
    "seed",
    "level",
    "segment_seconds",
    "overlap_seconds",
    "join",
    "precision",
    "two_stems",
    "chosen",
    "format",
    "subtype",
    "filename",
)
"""What decides the files' content. A device or a batch size changes their rounding at most."""


def is_done(layout: Layout, path: Path, wanted: dict[str, Any]) -> bool:
    """Returns whether the files of ``layout`` are those that separating ``path`` would write.

    The record must hold the ``SETTINGS`` of ``wanted`` and the hash of ``path``, and every file
    that it lists must be as it was written. One of a damaged file counts where "damaged" is "keep".
    """
    place = layout.root / layout.record
    record = {"format": "wav"} | read_record(place)  # older ones do not say
    if record.get("missing") and wanted.get("damaged") != "keep":
        return False
    asked = json.loads(json.dumps({key: wanted[key] for key in SETTINGS}))  # tuples become lists
    if {key: record.get(key) for key in SETTINGS} != asked:
        return False
    try:
        files = listed(place)
        return (
            record.get("input_sha256") == hash_file(path)
            and bool(files)
            and all(hash_file(file) == sha for file, sha in files.items())
        )
    except UserError:  # one of them cannot be read: separating it again tells why
        return False
