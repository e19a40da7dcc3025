"""Reads and checks the results of ``mgdm-audio separate`` in a track's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio import reading
from mgdm_audio.audio.encoding.files import Shape
from mgdm_audio.audio.encoding.formats import FORMATS, Format
from mgdm_audio.audio.files import MIXTURES, STEM_SUFFIXES
from mgdm_audio.audio.reading import Reading
from mgdm_audio.errors import UserError
from mgdm_audio.output.stem_files import FILES
from mgdm_audio.separation.result import RECORD, UNCERTAINTY

LIMIT = 30 * 60  # seconds of sound, all stems and the mixture together: about 50 MB of page


@dataclass(frozen=True)
class Run:
    """The results for one track; stems and mixture are its beginning, up to ``LIMIT``.

    The uncertainty (``Spread``) is empty after a single draw.
    """

    name: str
    record: dict[str, Any]  # separation.json
    files: dict[str, Path]  # stem -> file
    stems: dict[str, Tensor]  # [channel, time]
    mixture: Tensor  # [channel, time], the sum of the stems
    sample_rate: int  # Hz
    seconds: float  # of the whole track
    confidence_db: dict[str, float | None]  # stem -> dB, None if silent
    std: dict[str, Tensor]  # stem -> [window], in the stems' unit
    hop_seconds: float  # the length of a window
    std_db: dict[str, Tensor]  # stem -> [window, band], dB
    bands_hz: list[float]  # the edges of the bands


def read_run(folder: Path) -> Run:
    """Reads ``OUT/<track>``; the mixture is ``mixture.wav`` or the like, else the sum of the stems.

    Raises UserError for a folder without separation.json, for stems that it lists and that are
    missing, and for sounds of another shape than the recorded one.
    """
    record = read_json(folder / RECORD)
    form, files = _stem_files(folder, record)
    for path in files.values():
        if not path.is_file():
            raise UserError(f"{path}: missing, {RECORD} lists it; separate it again")
    uncertainty = read_json(folder / UNCERTAINTY)
    try:
        measured = _measured(uncertainty)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        raise damaged(folder / UNCERTAINTY) from None
    confidence, std, hop, std_db, bands = measured
    shape = track_shape(folder, record)
    kept = min(shape.time, LIMIT * shape.sample_rate // (1 + len(files)))
    stems = {
        stem: _beginning(path, shape, kept, number if form.in_one_file else 0)
        for number, (stem, path) in enumerate(files.items(), 1)  # 0 is the mixture's
    }
    given = [p for n in MIXTURES for s in STEM_SUFFIXES if (p := folder / f"{n}{s}").is_file()]
    mixture = _beginning(given[0], shape, kept) if given else sum(stems.values(), torch.zeros(()))
    seconds = shape.time / shape.sample_rate
    name = folder.resolve().name
    return Run(
        name,
        record,
        files,
        stems,
        mixture,
        shape.sample_rate,
        seconds,
        confidence,
        std,
        hop,
        std_db,
        bands,
    )


def _stem_files(folder: Path, record: dict[str, Any]) -> tuple[Format, dict[str, Path]]:
    """The format and stem -> file, which may be one for all.

    Raises UserError for a record that lists no stems, or stems that do not sum to the mixture.
    """
    names, form = record.get(FILES, {}), FORMATS.get(str(record.get("format", "wav")))
    stems = record.get("stems")
    if not isinstance(names, dict) or form is None:
        raise damaged(folder / RECORD)
    # Those beside the record: others are draws.
    found = [name for name in names if name.endswith(form.suffix) and not {*"/\0"} & {*name}]
    if not found:
        raise UserError(f"{folder / RECORD}: lists no stems; separate it again")
    if not record.get("complete", True):
        raise UserError(
            f"{folder}: its files do not sum to the input, as a page plays them; separate it "
            "again with --rest"
        )
    if not form.in_one_file:
        return form, {name.removesuffix(form.suffix): folder / name for name in found}
    if not isinstance(stems, list) or not all(isinstance(stem, str) for stem in stems):
        raise damaged(folder / RECORD)
    return form, dict.fromkeys(stems, folder / found[0])


def _measured(uncertainty: dict[str, Any]) -> tuple[Any, ...]:
    """What ``Run`` has of uncertainty.json. Raises one or another error for what is none."""
    confidence = dict(uncertainty["confidence_db"] or {})
    if not all(value is None or type(value) in (int, float) for value in confidence.values()):
        raise ValueError("confidence_db")
    std = {stem: torch.tensor(row).float() for stem, row in (uncertainty["std"] or {}).items()}
    hop = float(uncertainty["hop_seconds"])
    bands = [float(edge) for edge in uncertainty.get("bands_hz") or []]
    rows = uncertainty.get("std_db") or {}
    std_db = {s: torch.tensor(x).float().reshape(-1, len(bands) - 1) for s, x in rows.items()}
    if not 1e-6 < hop < 1e6 or any(row.ndim != 1 or bool((row < 0).any()) for row in std.values()):
        raise ValueError("hop_seconds, std")
    if sorted(set(bands)) != bands or len(bands) == 1 or bands[:1] > [0.0]:
        raise ValueError("bands_hz")
    return confidence, std, hop, std_db, bands


def read_json(path: Path) -> dict[str, Any]:
    """Reads an object from a JSON file. Raises UserError where there is none."""
    try:
        value = reading.read_json(path)
    except OSError:
        raise UserError(
            f"{path}: missing; give a folder written by `mgdm-audio separate -o`"
        ) from None
    except ValueError:
        raise damaged(path) from None
    if not isinstance(value, dict):
        raise damaged(path)
    return value


def damaged(path: Path) -> UserError:
    """Returns the error for a damaged file."""
    return UserError(f"{path}: is damaged; separate it again")


def track_shape(folder: Path, record: dict[str, Any]) -> Shape:
    """Returns the recorded shape of the stems in ``folder``. Raises UserError if there is none."""
    values = [record.get(key) for key in ("channels", "samples", "sample_rate")]
    numbers = [value for value in values if type(value) is int and 0 < value < 2**48]
    if len(numbers) < len(values):
        raise damaged(folder / RECORD)
    return Shape(*numbers)


def _beginning(path: Path, shape: Shape, kept: int, stream: int = 0) -> Tensor:
    """Reads the first ``kept`` samples and counts the rest, which may not fit in memory."""
    time, parts = 0, []
    for block in Reading(path, stream):
        if time < kept:
            parts.append(block.samples[:, : kept - time])
        time += block.samples.shape[-1]
    found = (block.samples.shape[0], time, block.sample_rate)
    for what, value, wanted in zip(("channels", "samples", "Hz"), found, shape[:3], strict=True):
        if value != wanted:
            raise UserError(f"{path}: {value} {what}, {RECORD} says {wanted}; separate it again")
    return torch.cat(parts, -1)
