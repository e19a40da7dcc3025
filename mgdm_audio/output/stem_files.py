"""The files of one separated track, written block by block, and whether they are there already."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mgdm_audio.audio.pcm import SUBTYPES, quantise_together
from mgdm_audio.audio.wav import WavWriter
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.output.layout import Layout
from mgdm_audio.output.result_folder import spare, whole
from mgdm_audio.reading import read_json

FILES = "files"  # key of the record: path relative to the record -> SHA-256


class Shape(NamedTuple):
    """Of every stem."""

    channels: int
    time: int  # samples
    sample_rate: int  # Hz
    mask: int = 0  # of the speakers that the channels are for


class Block(NamedTuple):
    """Some samples of a track."""

    mixture: Tensor  # [channel, time]
    parts: Sequence[Tensor]  # [stem, channel, time]: the mean of the draws, then those kept


def check_subtype(subtype: str) -> None:
    """UserError for a format that is not written."""
    if subtype not in SUBTYPES:
        raise UserError(f"subtype {subtype!r} is unknown; use one of {', '.join(SUBTYPES)}")


def write_result(
    layout: Layout,
    names: Sequence[str],
    shape: Shape,
    blocks: Iterable[Block],
    draws: int,
    subtype: str,
    gain: float,
    report: dict[str, Any],
    uncertainty: dict[str, Any],
    inputs: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write all files, lowered by ``gain``, or none; returns the record.

    ``names``: of the stems. ``draws``: how many of them are kept. Stems, and every draw, are
    rounded together, so that they sum to the mixture as exactly as the format can. Of an earlier
    result that ``layout`` leads to, what its record lists goes. Raises UserError where it cannot
    be written, and where one of the user's ``inputs`` would be replaced or removed.
    """
    check_inputs(layout, names, draws, inputs)
    parts = [[layout.stem(name, i) for name in names] for i in (None, *range(draws))]
    files = [file for part in parts for file in part]
    folder = PurePath(os.path.commonpath([str(f.parent) for f in (*files, layout.record)]) or ".")
    record_file = layout.record.relative_to(folder)
    energies = torch.zeros(2, dtype=torch.float64)  # of the residual, of the mixture
    earlier = partial(_earlier, record=record_file)
    with whole(layout.root / folder, str(record_file), earlier) as fresh:

        def place(file: PurePath) -> Path:
            path = fresh / file.relative_to(folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

        with _writers([[place(file) for file in part] for part in parts], shape, subtype) as rows:
            for mixture, stems in blocks:
                for i, (writers, part) in enumerate(zip(rows, stems, strict=True)):
                    rounded = quantise_together(part * gain, subtype)
                    for writer, samples in zip(writers, rounded, strict=True):
                        writer.write(samples)
                    if not i:
                        wanted = gain * mixture.double()
                        residual = rounded.double().sum(0) - wanted
                        energies += torch.stack([residual.square().sum(), wanted.square().sum()])
        place(layout.uncertainty).write_text(json.dumps(uncertainty) + "\n")
        record = report | {
            "subtype": subtype,
            "gain": gain,
            "residual_db": _residual_db(energies, shape.channels * shape.time),
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


@contextmanager
def _writers(
    parts: list[list[Path]], shape: Shape, subtype: str
) -> Iterator[list[list[WavWriter]]]:
    with ExitStack() as stack:
        samples = shape.channels * shape.time
        yield [
            [
                stack.enter_context(
                    WavWriter(path, shape.channels, samples, shape.sample_rate, subtype, shape.mask)
                )
                for path in part
            ]
            for part in parts
        ]


def _residual_db(energies: Tensor, count: int) -> float:
    """Of what is written, against the mixture in double precision."""
    residual, power = (energies / count).tolist()
    # A silent mixture has no level to compare with: full scale is the reference then.
    return round(10 * math.log10(max(residual / power if power > 0 else residual, 1e-30)), 1)


def _beside(file: PurePath, record: PurePath) -> str:
    return PurePath(os.path.relpath(file, record.parent)).as_posix()


def _earlier(folder: Path, record: PurePath) -> list[Path]:
    """What the record that is there lists."""
    return list(listed(folder / record))


def check_inputs(layout: Layout, names: Sequence[str], draws: int, inputs: Iterable[Path]) -> None:
    """UserError where what ``write_result`` writes or removes is one of ``inputs``.

    ``draws``: how many are kept. Links and other names of a file are seen through.
    """
    stems = [layout.stem(name, i) for i in (None, *range(draws)) for name in names]
    planned = [layout.root / file for file in (*stems, layout.record, layout.uncertainty)]
    spare([*planned, *listed(layout.root / layout.record)], inputs)


def read_record(path: Path) -> dict[str, Any]:
    """Of an earlier result; empty where there is none, or none that can be read."""
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
    "draws",
    "keep_draws",
    "seed",
    "level",
    "segment_seconds",
    "overlap_seconds",
    "join",
    "precision",
    "two_stems",
    "subtype",
    "filename",
)
"""What decides the files' content. A device or a batch size changes their rounding at most."""


def is_done(layout: Layout, path: Path, wanted: dict[str, Any]) -> bool:
    """Whether what ``layout`` leads to is what separating ``path`` as ``wanted`` would write.

    The record must hold the ``SETTINGS`` of ``wanted`` and the hash of ``path``, and every file
    that it lists must be as it was written. One of a damaged file counts where "damaged" is "keep".
    """
    place = layout.root / layout.record
    record = read_record(place)
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
