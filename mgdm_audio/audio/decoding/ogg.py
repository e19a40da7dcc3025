"""Ogg (RFC 3533): its pages, the links of a chain, and what is missing between pages.

A chain is files one after the other, as recordings of web radios are: each link begins with headers
of its own, and may have another rate and other channels. Decoders stop after the first, so that
each is given to them as a file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from mgdm_audio.audio.decoding.events import Loss
from mgdm_audio.audio.decoding.window import Piece

_CODECS = {b"\x01vorbis": "VORBIS", b"OpusHead": "OPUS"}  # what a first packet begins with
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_UNKNOWN = -1  # position of a page on which no packet ends
_BUFFER = 1 << 16


class Page(NamedTuple):
    """One page. ``position``: samples up to the end of its last whole packet, -1 without one."""

    start: int  # bytes into the file
    stop: int
    begins: bool  # a stream
    position: int
    serial: int  # of the stream
    number: int  # of the page in its stream
    codec: str  # of a page that begins a stream; empty where it is none of ours
    rate: int  # Hz of positions, of a page that begins a stream


@dataclass
class Run:
    """Pages in a row of one stream, to be decoded after its headers."""

    codec: str
    rate: int  # Hz
    headers: tuple[int, int]  # bytes of the file
    start: int
    stop: int
    first: int = _UNKNOWN  # position of its first page that has one
    last: int = _UNKNOWN
    whole: bool = True  # nothing is missing before it in its stream

    @property
    def pieces(self) -> list[Piece]:
        return [self.headers, (self.start, self.stop)]

    @property
    def seconds(self) -> float:
        """Up to its last position, from the stream's beginning or from its first page."""
        begin = 0 if self.whole else max(0, self.first)
        return max(0, self.last - begin) / self.rate


@dataclass
class _Stream:
    """What is known of a link's one stream as its pages come."""

    begin: Page
    headers: int = 0  # where they end
    runs: list[Run] = field(default_factory=list)
    number: int = 0  # of its last page
    position: int = 0

    def loss(self, page: Page, lost: int) -> Loss:
        """So many pages before ``page``. Positions tell how long they and it are together."""
        together = max(0, page.position - self.position) / self.begin.rate
        return Loss(together * lost / (lost + 1), f"{lost} of its pages are damaged or gone")


def scan(file: BinaryIO, size: int) -> list[Run | Loss] | None:
    """The runs of pages, and what is missing between them.

    None where a link holds several streams, or one that is neither Vorbis nor Opus. Raises OSError.
    """
    found: list[Run | Loss] = []
    stream: _Stream | None = None
    for page in _pages(file, size):
        if isinstance(page, Loss):
            found.append(page)
            continue
        if page.begins:
            if not page.codec or (stream is not None and not stream.runs):
                return None
            stream = _Stream(page, page.stop, number=page.number)
            continue
        if stream is None or page.serial != stream.begin.serial:
            return None
        _place(stream, page, found)
    return found


def _place(stream: _Stream, page: Page, found: list[Run | Loss]) -> None:
    """Put a page that is no first one where it belongs."""
    lost = (page.number - stream.number - 1) & 0xFFFFFFFF  # pages
    if not stream.runs and not lost and page.position == 0:
        stream.headers, stream.number = page.stop, page.number
        return
    if not stream.runs or lost:
        if lost:
            found[:] = [*_without_last_loss(found), stream.loss(page, lost)]
        headers = (stream.begin.start, stream.headers)
        whole = not lost and not stream.runs
        run = Run(
            stream.begin.codec, stream.begin.rate, headers, page.start, page.stop, whole=whole
        )
        stream.runs.append(run)
        found.append(run)
    run = stream.runs[-1]
    run.stop, stream.number = page.stop, page.number
    if page.position != _UNKNOWN:
        run.first = page.position if run.first == _UNKNOWN else run.first
        run.last = stream.position = page.position


def _without_last_loss(found: list[Run | Loss]) -> list[Run | Loss]:
    return found[:-1] if found and isinstance(found[-1], Loss) else found


def ends_within_page(file: BinaryIO, size: int) -> bool:
    """Returns whether the file was cut amid a page, whatever its streams are."""
    last = None
    for last in _pages(file, size):  # noqa: B007
        pass
    return isinstance(last, Loss) and last.at_end


def _pages(file: BinaryIO, size: int) -> Iterator[Page | Loss]:
    """Whole pages, whose checksum is right, and what else stands between them."""
    at = 0
    while at < size:
        page = _page(file, at, size)
        if page is not None:
            yield page
            at = page.stop
            continue
        start, at = at, _next(file, at + 1, size)
        file.seek(start)
        data = file.read(min(at - start, _BUFFER))
        if at >= size and (not any(data) or data[:3] in (b"TAG", b"APE")):
            return
        if at >= size and data[:4] == b"OggS":
            yield Loss(None, "the file ends within a page", True)
        else:
            yield Loss(None, f"{at - start} bytes at byte {start} are damaged", at >= size)


def _page(file: BinaryIO, at: int, size: int) -> Page | None:
    file.seek(at)
    head = file.read(27)
    if len(head) < 27 or head[:5] != b"OggS\0":
        return None
    table = file.read(head[26])
    body = file.read(sum(table))
    stop = at + 27 + head[26] + sum(table)
    if stop > size or len(body) < sum(table):
        return None
    if checksum(head[:22] + bytes(4) + head[26:] + table + body) != head[22:26]:
        return None
    codec, rate = "", 0
    if begins := bool(head[5] & 2):
        codec = next((name for mark, name in _CODECS.items() if body.startswith(mark)), "")
        rate = 48000 if codec == "OPUS" else int.from_bytes(body[12:16], "little")
    position = int.from_bytes(head[6:14], "little", signed=True)
    serial, number = (int.from_bytes(head[i : i + 4], "little") for i in (14, 18))
    return Page(at, stop, begins, position, serial, number, codec if rate else "", rate)


def checksum(page: bytes) -> bytes:
    """CRC-32 of the polynomial 0x04C11DB7 with the highest bit first; zlib's has the lowest."""
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED)


def _next(file: BinaryIO, at: int, size: int) -> int:
    """Returns where the next page begins, else ``size``."""
    while at < size:
        file.seek(at)
        data = file.read(_BUFFER)
        place = data.find(b"OggS")
        if place >= 0:
            if _page(file, at + place, size) is not None:
                return at + place
            at += place + 1
        elif len(data) < 4:
            break
        else:
            at += len(data) - 3
    return size
