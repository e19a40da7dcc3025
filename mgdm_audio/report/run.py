"""Reads and checks the results of ``mgdm-audio separate`` in a track's folder."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from mgdm_audio import reading
from mgdm_audio.audio.encoding.files import Shape
from mgdm_audio.audio.encoding.formats import FORMATS, Format
from mgdm_audio.audio.files import MIXTURES, STEM_SUFFIXES
from mgdm_audio.audio.reading import Audio, Reading
from mgdm_audio.engine.runner import Workers
from mgdm_audio.errors import UserError
from mgdm_audio.output.stem_files import FILES
from mgdm_audio.separation.result import RECORD, UNCERTAINTY

LIMIT = 30 * 60  # seconds of sound, all stems and the mixture together: about 65 MB of page
BLOCK = 2**17  # samples of every sound that are in memory at a time
Result = TypeVar("Result")


@dataclass(frozen=True)
class Run:
    """The results for one track, of whose sound a page has the first ``kept`` samples.

    The uncertainty (``Spread``) is empty after a single draw, unless that is E[x_0 | y] of one
    step.
    """

    name: str
    record: dict[str, Any]  # separation.json
    files: dict[str, Path]  # stem -> file
    streams: tuple[int, ...]  # of the stems in their files
    given: Path | None  # the file of the mixture; None: it is the sum of the stems
    shape: Shape
    kept: int  # samples, those of ``LIMIT`` at most
    peak: float | None  # the greatest magnitude of all sounds, if it is recorded
    confidence_db: dict[str, float | None]  # stem -> dB, None if silent
    std: dict[str, Tensor]  # stem -> [window], in the stems' unit
    hop_seconds: float  # the length of a window
    std_db: dict[str, Tensor]  # stem -> [window, band], dB
    bands_hz: list[float]  # the edges of the bands

    @property
    def seconds(self) -> float:
        """The length of the whole track."""
        return self.shape.time / self.shape.sample_rate

    def blocks(self, workers: Workers) -> Iterator[Tensor]:
        """Yields the sound in consecutive blocks: [1 + stem, channel, any], the mixture first.

        The files are read to their ends. Raises UserError for sounds of another shape than the
        recorded one.
        """
        places = zip(self.files.values(), self.streams, strict=True)
        files = [_File(path, self.shape, stream) for path, stream in places]
        files += [_File(self.given, self.shape)] if self.given is not None else []
        with ExitStack() as stack:
            for file in files:
                stack.callback(file.close)
            for start in range(0, self.kept, BLOCK):
                count = min(BLOCK, self.kept - start)
                found = together(workers, [partial(file.next, count) for file in files])
                mixture = found.pop() if self.given is not None else torch.stack(found).sum(0)
                yield torch.stack([mixture, *found])
            together(workers, [file.require_end for file in files])


def together(workers: Workers, calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Returns what ``calls`` return; none of them runs any more when one of them raises."""
    futures = [workers.submit(call) for call in calls]
    try:
        return [future.result() for future in futures]
    finally:
        wait(futures)


def read_run(folder: Path) -> Run:
    """Reads ``OUT/<track>``; the mixture is ``mixture.wav`` or the like, else the sum of the stems.

    Raises UserError for a folder without separation.json, and for stems that it lists and that are
    missing.
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
    shape = track_shape(folder, record)
    kept = min(shape.time, LIMIT * shape.sample_rate // (1 + len(files)))
    streams = tuple(number if form.in_one_file else 0 for number in range(1, 1 + len(files)))
    given = [p for n in MIXTURES for s in STEM_SUFFIXES if (p := folder / f"{n}{s}").is_file()]
    mixture = given[0] if given else None
    peak = record.get("peak")
    known = isinstance(peak, float) and 0 <= peak < math.inf
    if form.lossy or mixture is not None or not known:  # what a codec changed is not recorded
        peak = None
    name = folder.resolve().name
    return Run(name, record, files, streams, mixture, shape, kept, peak, *measured)


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


class _File:
    """``next`` gives the samples of a file that follow, whose ``shape`` is checked."""

    def __init__(self, path: Path, shape: Shape, stream: int = 0) -> None:
        self._reading, self._shape, self._path = Reading(path, stream), shape, path
        self._held, self._came = torch.zeros(shape.channels, 0), 0

    def next(self, count: int) -> Tensor:
        """[channel, count]."""
        while self._held.shape[-1] < count:
            for block in self._reading:
                self._take(block)
                break
            else:
                self._require("samples", self._came, self._shape.time)
        found, self._held = self._held[:, :count], self._held[:, count:]
        return found

    def _take(self, block: Audio) -> None:
        self._came += block.samples.shape[-1]
        self._require("channels", len(block.samples), self._shape.channels)
        self._require("Hz", block.sample_rate, self._shape.sample_rate)
        self._held = torch.cat([self._held, block.samples], -1)

    def require_end(self) -> None:
        """Counts the rest, which may not fit in memory."""
        self._came += sum(block.samples.shape[-1] for block in self._reading)
        self._require("samples", self._came, self._shape.time)

    def close(self) -> None:
        self._reading.close()

    def _require(self, what: str, value: int, wanted: int) -> None:
        if value != wanted:
            raise UserError(
                f"{self._path}: {value} {what}, {RECORD} says {wanted}; separate it again"
            )
