"""The files of some stems in one format, written together and read back."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from mgdm_audio.audio.encoding.formats import Format
from mgdm_audio.audio.encoding.mp4 import Mp4Writer
from mgdm_audio.audio.encoding.sndfile import SoundWriter
from mgdm_audio.audio.encoding.tags import Tags
from mgdm_audio.audio.encoding.wav import WavWriter
from mgdm_audio.audio.encoding.writer import Writer
from mgdm_audio.audio.reading import Audio, Reading
from mgdm_audio.errors import UserError


class Shape(NamedTuple):
    """The shape of every stem."""

    channels: int
    time: int  # samples
    sample_rate: int  # Hz
    mask: int = 0  # of the speakers that the channels are for


class Files:
    """``write`` takes blocks of all stems; the files are whole when the block ends.

    ``paths``: one for each of the stems ``names``, or one where the format has them in one file,
    beside their sum. ``tags``: of the mixture; the title gets the stem's name. Raises UserError
    for what the format cannot hold, and OSError where a file cannot be written.
    """

    def __init__(
        self,
        form: Format,
        paths: Sequence[Path],
        names: Sequence[str],
        shape: Shape,
        subtype: str | None,
        tags: Tags,
    ) -> None:
        form.require_channels(paths[0].name, shape.channels, shape.mask)
        self._stack, self._mp4 = ExitStack(), form.by_ffmpeg
        self._in_one_file = form.in_one_file
        with self._stack as stack:  # those that are open are closed where another cannot be
            self._writers: list[Writer] = [
                stack.enter_context(writer)
                for writer in _open(form, paths, names, shape, subtype, tags)
            ]
            self._stack = stack.pop_all()

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, stems: Tensor) -> None:
        """[stem, channel, time], the samples that follow."""
        if self._in_one_file:
            self._writers[0].write(torch.cat([stems.double().sum(0)[None].float(), stems]))
            return
        for writer, samples in zip(self._writers, stems, strict=True):
            writer.write(samples[None] if self._mp4 else samples)


def _open(
    form: Format,
    paths: Sequence[Path],
    names: Sequence[str],
    shape: Shape,
    subtype: str | None,
    tags: Tags,
) -> Iterator[Writer]:
    channels, time, rate, mask = shape
    if form.in_one_file:
        yield Mp4Writer(paths[0], form, channels, rate, subtype, tags, names=names)
        return
    for path, name in zip(paths, names, strict=True):
        own = tags.of_part(name)
        if form.by_ffmpeg:
            yield Mp4Writer(path, form, channels, rate, subtype, own, mask)
        elif form.name == "wav":
            assert subtype is not None  # the format is not lossy
            yield WavWriter(path, channels, channels * time, rate, subtype, mask, own.texts)
        else:
            yield SoundWriter(path, form, channels, rate, subtype, own)


class ReadBack:
    """``next`` gives blocks of the stems that ``paths`` hold, whose ``shape`` is checked.

    Raises OSError for a file that cannot be read or has another shape: it did not reach the disk.
    """

    def __init__(self, paths: Sequence[Path], shape: Shape) -> None:
        self._files = [_File(Reading(path), shape) for path in paths]

    def __enter__(self) -> ReadBack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for file in self._files:
            if kind is None:
                file.require_end()
            file.reading.close()

    def next(self, count: int) -> Tensor:
        """[stem, channel, count], the samples that follow."""
        return torch.stack([file.next(count) for file in self._files])


class _File:
    def __init__(self, reading: Reading, shape: Shape) -> None:
        self.reading, self._shape = reading, shape
        self._held = torch.zeros(shape.channels, 0)

    def next(self, count: int) -> Tensor:
        while self._held.shape[-1] < count:
            block = self._block()
            if block is None or block.sample_rate != self._shape.sample_rate:
                raise self._wrong("its end is missing" if block is None else "its rate differs")
            self._held = torch.cat([self._held, block.samples], -1)
        found, self._held = self._held[:, :count], self._held[:, count:]
        return found

    def require_end(self) -> None:
        if self._held.shape[-1] or self._block() is not None:
            raise self._wrong("it is too long")

    def _block(self) -> Audio | None:
        try:
            return next(self.reading, None)
        except UserError as error:
            raise self._wrong(str(error)) from None

    def _wrong(self, why: str) -> OSError:
        path = self.reading.path
        return OSError(errno.EIO, f"{path.name} cannot be read back: {why}", str(path))
