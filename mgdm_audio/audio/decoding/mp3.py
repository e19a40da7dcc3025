"""MPEG audio (MP1, MP2, MP3): its frames, what stands between them, and files joined to one.

A stream has no header of its own (ISO/IEC 11172-3, 13818-3): each frame says how long it is. The
first may be none, but hold the number of those that follow (Xing's), and how many samples of the
first and last the encoder added (LAME's). Where it is missing, decoders guess the length by the
first frame's bit rate; where several files were joined, by the first. So the frames are counted
here, and a decoder is given pieces that begin with a true number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from mgdm_audio.audio.decoding.events import Loss
from mgdm_audio.audio.decoding.window import Piece

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBPS = {  # (is version 1, layer) -> of the bit rate's index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AHEAD = 4  # frames in a row that make a stream of what may be anything
_BUFFER = 1 << 16
_FRAME = 2881  # bytes at most: MPEG 2 layer 2, 160 kbit/s at 8 kHz


class Header(NamedTuple):
    """The four bytes that a frame begins with."""

    bits: int
    version: int  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    layer: int
    rate: int  # Hz
    channels: int
    length: int  # bytes of the frame
    samples: int  # a channel

    @property
    def form(self) -> tuple[int, int, int]:
        return self.layer, self.rate, self.channels

    @property
    def info_at(self) -> int:
        """Bytes into the frame where Xing's or LAME's first frame says that it is one."""
        side = (32, 17) if self.version == 3 else (17, 9)
        return 4 + side[self.channels == 1]


def header(data: bytes) -> Header | None:
    """Of a frame that begins so; None where none does, or one of free bit rate."""
    if len(data) < 4:
        return None
    bits = int.from_bytes(data[:4], "big")
    version, layer, index, rate = (
        bits >> 19 & 3,
        4 - (bits >> 17 & 3),
        bits >> 12 & 15,
        bits >> 10 & 3,
    )
    if bits >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 3 or index in (0, 15):
        return None
    hertz, kbps = _RATES[version][rate], _KBPS[version == 3, layer][index]
    samples = 384 if layer == 1 else 1152 if layer == 2 or version == 3 else 576
    padding = bits >> 9 & 1
    length = samples // 8 * kbps * 1000 // hertz + padding
    if layer == 1:
        length = (12 * kbps * 1000 // hertz + padding) * 4
    return Header(bits, version, layer, hertz, 1 if bits >> 6 & 3 == 3 else 2, length, samples)


@dataclass
class Run:
    """Frames in a row, of one form. ``info``: a frame before them that holds their number."""

    first: Header
    start: int  # bytes into the file
    info: bytes = b""
    end: int = 0
    frames: int = 0  # of sound

    @property
    def samples(self) -> int:
        return self.frames * self.first.samples

    @property
    def pieces(self) -> list[Piece]:
        """What a decoder is to be given: the frames, after one that holds their number."""
        sound: Piece = (self.start, self.end)
        if self.first.layer != 3:
            return [sound]
        if not self.info:
            return [_info(self.first, self.frames), sound]
        return [_sized(self.info, self.first, self.end - self.start), sound]

    def seconds(self, size: int) -> float:
        """Of so many bytes of it."""
        frames = size * self.frames / max(1, self.end - self.start)
        return frames * self.first.samples / self.first.rate


def scan(file: BinaryIO, size: int, begin: int = 0) -> list[Run | Loss]:
    """The runs of a file of ``size`` bytes, and what is missing between them. Raises OSError."""
    found: list[Run | Loss] = []
    run: Run | None = None  # what a next frame continues
    song: _Song | None = None
    junk: Loss | None = None  # between the last frame and this place
    data = _Bytes(file)
    for start, stop, head, promised in _tokens(data, size, begin):
        if head is None:
            if promised is None and song is not None:
                junk = song.lost(start, stop, size)
            run = None
            continue
        full = song is not None and song.promised is not None and song.found >= song.promised
        if song is None or promised is not None or full or head.form != song.form:
            if song is not None:
                found += song.missing(junk, end=False)
            song, run = _Song(head.form, promised if promised != _UNSAID else None), None
        elif junk is not None:
            found.append(junk)
            song.explained = True
        junk = None
        if promised not in (None, _UNSAID, 0):
            run = Run(head, stop, data.at(start, stop - start), stop)
            found.append(run)
        elif promised is None:
            if run is None:
                run = Run(head, start)
                found.append(run)
            run.end, run.frames = stop, run.frames + 1
            song.found, song.last = song.found + 1, run
    if song is not None:
        found += song.missing(junk, end=True)
    return [part for part in found if isinstance(part, Loss) or part.frames]


@dataclass
class _Song:
    """What one encoder wrote: runs of one form, of which a first frame may give the number."""

    form: tuple[int, int, int]
    promised: int | None
    found: int = 0
    explained: bool = False  # a loss amid it was told already
    last: Run | None = None

    def lost(self, start: int, stop: int, size: int) -> Loss | None:
        """What the bytes after its last frame were; None where all is there that was promised."""
        if self.last is None or (self.promised is not None and self.found >= self.promised):
            return None
        why = f"{stop - start} bytes at byte {start} are no frames"
        return Loss(self.last.seconds(stop - start), why, stop >= size)

    def missing(self, junk: Loss | None, end: bool) -> list[Loss]:
        """What its end lacks."""
        if self.promised is not None and self.last is not None:
            frames = self.promised - self.found
            if frames <= 0 or (self.explained and junk is None):
                return []
            first = self.last.first
            return [Loss(frames * first.samples / first.rate, "the file ends before", end)]
        return [junk] if junk is not None else []


_UNSAID = -1  # a first frame that holds no number


def _tokens(
    data: _Bytes, size: int, at: int
) -> Iterator[tuple[int, int, Header | None, int | None]]:
    """(start, stop, header, number of frames that it holds) of frames; of other bytes
    (start, stop, None, None), or with 0 where they are a tag, or zeros to the end."""
    in_step = False
    while at < size:
        head = header(data.at(at, 4))
        if head is not None and at + head.length <= size and (in_step or _follow(data, at, size)):
            frame = data.at(at, head.length)
            yield at, at + head.length, head, _number(frame, head)
            at, in_step = at + head.length, True
            continue
        start, in_step = at, False
        if length := tag_length(data, at):
            at = min(size, at + length)
            yield start, at, None, 0
            continue
        at = _next(data, at + 1, size, size)
        empty = at >= size and not any(data.at(start, min(at - start, _BUFFER)))
        yield start, at, None, 0 if empty else None


def _follow(data: _Bytes, at: int, size: int) -> bool:
    """Returns whether frames of one kind stand there in a row, to a tag or the end at least."""
    first = None
    for count in range(_AHEAD):
        if at == size or (first is not None and tag_length(data, at)):
            break
        if at > size:  # the last frame is cut: not it alone
            return count > 2
        head = header(data.at(at, 4))
        if head is None or (first is not None and head[1:4] != first[1:4]):
            return False
        at, first = at + head.length, first or head
    return True


def _next(data: _Bytes, at: int, stop: int, size: int) -> int:
    """Returns the start of the next frame or tag, or ``stop``; ``size``: of the file."""
    while at < stop:
        held = data.at(at, _BUFFER)[: stop - at]
        for offset, letter in enumerate(held):
            if letter == 0xFF and _follow(data, at + offset, size):
                return at + offset
            if letter in _TAGS and tag_length(data, at + offset):
                return at + offset
        at += max(1, len(held))
    return stop


def begin_of(file: BinaryIO, size: int) -> int | None:
    """Returns where the first frame stands; None where the file is no such stream.

    Tags, zeros, and the end of a frame that began earlier, may come before it.
    """
    data, at = _Bytes(file), tags_before(file, size)
    while at < size and not any(held := data.at(at, _BUFFER)):
        at += max(1, len(held))
    start = at
    if not _follow(data, at, size):
        start = _next(data, at + 1, min(size, at + 2 * _FRAME), size)
    found = start < size and header(data.at(start, 4)) and _follow(data, start, size)
    return start if found else None


def tags_before(file: BinaryIO, size: int) -> int:
    """Bytes of the tags that a file begins with."""
    data, at = _Bytes(file), 0
    while at < size and (length := tag_length(data, at)):
        at += length
    return at


_TAGS = b"ITAL"  # what the tags below begin with


def tag_length(data: _Bytes, at: int) -> int:
    """Bytes of the tag that stands there, 0 where there is none: ID3v1, ID3v2, APE, Lyrics3."""
    head = data.at(at, 32)
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        length = 0
        for byte in head[6:10]:  # seven bits each
            length = length << 7 | byte
        return 10 + length + (10 if head[5] & 0x10 else 0)
    if head[:4] == b"TAG+":
        return 227
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        length, flags = struct.unpack("<I4xI", head[12:24])
        return 32 + length if flags >> 29 & 1 else 32
    if head[:11] == b"LYRICSBEGIN":
        text = data.at(at, 1 << 16)
        ends = [text.find(mark) + 9 for mark in (b"LYRICS200", b"LYRICSEND") if mark in text]
        return min(ends, default=0)
    return 0


def _number(frame: bytes, head: Header) -> int | None:
    """How many frames follow, where this one says so; None where it is sound."""
    if head.layer != 3:
        return None
    at = head.info_at
    if frame[at : at + 4] in (b"Xing", b"Info"):
        flags, count = struct.unpack(">II", frame[at + 4 : at + 12].ljust(8, b"\0"))
        return count if flags & 1 else _UNSAID
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def _info(first: Header, frames: int) -> bytes:
    """A frame as Xing's, for frames as ``first``: of the largest bit rate, to hold the number."""
    bits = first.bits | 1 << 16  # no checksum
    bits = bits & ~0xF200 | 14 << 12
    length = header(bits.to_bytes(4, "big")).length  # type: ignore[union-attr]
    start = bits.to_bytes(4, "big").ljust(first.info_at, b"\0")
    return (start + b"Xing" + struct.pack(">II", 1, frames)).ljust(length, b"\0")


def _sized(info: bytes, head: Header, size: int) -> bytes:
    """Xing's frame with the bytes that there are: a decoder would complain of others."""
    at = head.info_at
    flags = int.from_bytes(info[at + 4 : at + 8], "big")
    if info[at : at + 4] not in (b"Xing", b"Info") or not flags & 2:
        return info
    at += 8 + 4 * (flags & 1)
    return info[:at] + struct.pack(">I", (len(info) + size) & 0xFFFFFFFF) + info[at + 4 :]


class _Bytes:
    """A file's bytes at any place, the last ones read held."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begin, self._held = file, 0, b""

    def at(self, start: int, length: int) -> bytes:
        inside = start - self._begin
        if inside < 0 or inside + length > len(self._held):
            self._file.seek(start)
            self._begin, self._held, inside = start, self._file.read(max(length, _BUFFER)), 0
        return self._held[inside : inside + length]
