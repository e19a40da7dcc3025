"""What is in a sound file, and which decoder takes it: the one place that decides.

The content decides, never the suffix. libsndfile reads WAV, RF64, W64, AIFF, CAF, AU, FLAC, MP1 to
MP3, Ogg Vorbis and Opus; FFmpeg, where the extra ``formats`` is installed, all that it refuses, and
what follows damage in FLAC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mgdm_audio.audio.decoding import ffmpeg, flac, mp3, ogg, sndfile
from mgdm_audio.audio.decoding.chunks import Sound, find_sound
from mgdm_audio.audio.decoding.events import Block, Event, Loss
from mgdm_audio.audio.decoding.sndfile import Refused
from mgdm_audio.audio.decoding.window import window
from mgdm_audio.errors import UserError

_MPEG_TAGS = (0x50, 0x55)  # WAVE_FORMAT_MPEG and WAVE_FORMAT_MPEGLAYER3


@dataclass(frozen=True)
class Content:
    """One stream of sound. ``seconds``: how long, by its packets, before any is decoded."""

    seconds: float
    events: Callable[[], Iterator[Event]]


def find_content(path: Path, file: BinaryIO, size: int, stream: int = 0) -> Content:
    """The sound in a file of ``size`` bytes, which is left open; ``path`` is for messages.

    ``stream``: its number among several, from 0. Raises UserError where there is none, and where
    PyAV is missing that it needs; OSError where it cannot be read.
    """
    if stream:
        return _by_ffmpeg(path, file, "it reads no stream but the first", stream)
    begin = mp3.tags_before(file, size)  # decoders of other formats do not expect them, or miscount
    bare = window(file, [(begin, size)]) if begin else file
    for find in (_chunks, _ogg):
        if (content := find(path, bare, size - begin)) is not None:
            return content
    for find in (_flac, _mpeg):
        if (content := find(path, file, size)) is not None:
            return content
    return _by_any(path, window(file, [(begin, size)]))


def _by_any(path: Path, file: BinaryIO, mask: int = 0, excess: float = 1.0) -> Content:
    """By libsndfile, unless it refuses."""
    try:
        seconds = sndfile.seconds(file)
    except Refused as error:
        return _by_ffmpeg(path, file, str(error))
    return Content(seconds, _Decoded(file, mask, excess))


def _by_ffmpeg(path: Path, file: BinaryIO, refusal: str, stream: int = 0) -> Content:
    found = ffmpeg.Stream(path, file, refusal, stream)

    def events() -> Iterator[Event]:
        yield from found
        if _ends_early(file):
            yield Loss(None, "the file ends before", True)

    return Content(found.seconds(), events)


def _ends_early(file: BinaryIO) -> bool:
    """Returns whether an AVI, Ogg or MPEG-TS file was cut, which FFmpeg does not report."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(200)
    for packet, sync in ((188, 0), (192, 4)):  # bytes of MPEG-TS's packets, and of Blu-ray's
        if head[sync : sync + 1] == head[sync + packet : sync + packet + 1] == b"\x47":
            return size % packet > 0
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return size < int.from_bytes(head[4:8], "little") + 8 < 0x7FFF0000
    return head[:4] == b"OggS" and ogg.ends_within_page(file, size)


def _joined(parts: Iterable[Content]) -> Content:
    """Contents one after the other."""
    parts = list(parts)
    return Content(
        sum(part.seconds for part in parts),
        lambda: (event for part in parts for event in part.events()),
    )


def _chunks(path: Path, file: BinaryIO, size: int) -> Content | None:
    """WAV and its like; several where files were joined."""
    parts, begin = [], 0
    while begin < size and (sound := find_sound(file, size, begin)) is not None:
        if sound.again:
            raise UserError(f"{path}: has several chunks of sound; export it again")
        last = find_sound(file, size, sound.end) is None
        pieces = sound.pieces if last else ((begin, sound.end),)
        inside = _mpeg_in_wav(path, file, sound)
        parts.append(inside or _by_any(path, window(file, pieces), sound.mask, sound.excess))
        begin = size if last else sound.end
    return _joined(parts) if parts else None


def _mpeg_in_wav(path: Path, file: BinaryIO, sound: Sound) -> Content | None:
    """Frames of MP2 or MP3, which the header's number of samples does not count."""
    if sound.tag not in _MPEG_TAGS:
        return None
    content = _mpeg(path, window(file, [(sound.start, sound.start + sound.there)]), sound.there)
    if content is None or sound.excess == 1:
        return content
    lacking = content.seconds * (sound.excess - 1)
    return _joined(
        [content, Content(0, lambda: iter([Loss(lacking, "the file ends before", True)]))]
    )


@dataclass(frozen=True)
class _Decoded:
    """A window that libsndfile decodes from its beginning."""

    file: BinaryIO
    mask: int = 0
    excess: float | None = 1.0

    def __call__(self) -> Iterator[Event]:
        self.file.seek(0)
        try:
            yield from sndfile.decode(self.file, self.mask, self.excess)
        except Refused as error:
            yield Loss(None, str(error))


def _flac(path: Path, file: BinaryIO, size: int) -> Content | None:
    file.seek(0)
    if file.read(4)[:3] not in (b"fLa", b"ID3"):
        return None
    parts = []
    for stream in flac.find_streams(file, size):
        part = window(file, stream.pieces)
        if not stream.samples:
            parts.append(_by_ffmpeg(path, part, "its header leaves the length open"))
        else:
            seconds = stream.samples / max(1, stream.rate)
            parts.append(Content(seconds, _CheckedFlac(path, part, stream.mask)))
    return _joined(parts) if parts else None


@dataclass(frozen=True)
class _CheckedFlac:
    """FLAC, whose checksums tell damage: libsndfile stops there, FFmpeg tells where and goes on."""

    path: Path
    file: BinaryIO
    mask: int

    def __call__(self) -> Iterator[Event]:
        self.file.seek(0)
        done, why = 0, ""
        try:
            for event in sndfile.decode(self.file, self.mask):
                if isinstance(event, Loss):
                    why = event.why
                    break
                if isinstance(event, Block):
                    done += event.samples.shape[1]
                yield event
        except Refused as error:
            why = str(error)
        if why:
            yield from self._rest(done, why)

    def _rest(self, done: int, why: str) -> Iterator[Event]:
        """What follows the first ``done`` samples."""
        try:
            found: Iterable[Event] = ffmpeg.Stream(self.path, self.file, why)
        except UserError:  # without PyAV
            yield Loss(None, why)
            return
        damaged = False
        for event in found:
            damaged |= isinstance(event, Loss)
            if isinstance(event, Block):
                skipped, done = min(done, event.samples.shape[1]), done - event.samples.shape[1]
                done = max(0, done)
                if skipped == event.samples.shape[1]:
                    continue
                event = event._replace(samples=event.samples[:, skipped:])
            yield event
        if not damaged:
            yield Loss(None, why)


def _ogg(path: Path, file: BinaryIO, size: int) -> Content | None:
    file.seek(0)
    if file.read(4) != b"OggS":
        return None
    runs = ogg.scan(file, size)
    if runs is None:
        return _by_ffmpeg(path, file, "Ogg of more than one stream of Vorbis or Opus")
    return _joined(
        Content(0, lambda run=run: iter([run]))  # type: ignore[misc]
        if isinstance(run, Loss)
        else Content(run.seconds, _Decoded(window(file, run.pieces), excess=None))
        for run in runs
    )


def _mpeg(path: Path, file: BinaryIO, size: int) -> Content | None:
    begin = mp3.begin_of(file, size)
    if begin is None:
        return None
    return _joined(
        Content(0, lambda run=run: iter([run]))  # type: ignore[misc]
        if isinstance(run, Loss)
        else Content(run.samples / run.first.rate, _Decoded(window(file, run.pieces), excess=None))
        for run in mp3.scan(file, size, begin)
    )
