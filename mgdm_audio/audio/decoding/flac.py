"""FLAC (RFC 9639): where its streams begin, what their headers say, and how long they are.

The header's number of samples may be left open, or be less than there is (of a recorder that was
stopped, of a file that was appended to). Decoders stop there. Each frame has the number of its
first sample, so that the last one tells how many there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from mgdm_audio.audio.decoding.window import Piece
from mgdm_audio.audio.speakers import flac_mask

_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the mark, and a STREAMINFO block of 34 bytes
_HEAD = 42
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9a-fA-F]{1,8})")
_BUFFER = 1 << 20
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FRAME_HEAD = 16  # bytes at most
_TOTAL = 21, 26  # bytes of the header that hold the samples, in their last 36 bits


@dataclass(frozen=True)
class Stream:
    """One FLAC stream of a file, which may be several one after the other."""

    start: int  # bytes into the file
    stop: int
    rate: int  # Hz
    samples: int  # a channel; 0: the length was left open, and no frame tells it
    mask: int  # of speakers
    pieces: tuple[Piece, ...]  # the stream, with ``samples`` in its header


def find_streams(file: BinaryIO, size: int) -> list[Stream]:
    """Every stream in a file that begins with one, or with tags before it. Raises OSError."""
    starts, at = [], 0
    while at < size:
        file.seek(at)
        data = file.read(_BUFFER + _HEAD)
        found = [match.start() for match in _BEGIN.finditer(data)]
        starts += [at + start for start in found if start < _BUFFER]
        if not starts and at:
            break
        at += _BUFFER
    ends = [*starts[1:], size] if starts else []
    return [_stream(file, start, stop) for start, stop in zip(starts, ends, strict=True)]


def _stream(file: BinaryIO, start: int, stop: int) -> Stream:
    file.seek(start)
    head = file.read(1 << 16)  # with the comments, unless a picture comes before them
    # Of 20 bits the rate, of 3 the channels, of 5 the width, of 36 the samples.
    bits = int.from_bytes(head[18:26].ljust(8, b"\0"), "big")
    said = _MASK.search(head)
    channels = (bits >> 41 & 7) + 1
    mask = int(said[1], 16) if said else flac_mask(channels)
    total = bits & (1 << 36) - 1
    samples = max(total, _samples_until_end(file, head, start, stop))
    pieces: tuple[Piece, ...] = ((start, stop),)
    if samples > total:
        true = (bits - total + samples).to_bytes(8, "big")[_TOTAL[0] - 18 :]
        pieces = ((start, start + _TOTAL[0]), true, (start + _TOTAL[1], stop))
    return Stream(start, stop, bits >> 44, samples, mask, pieces)


def _samples_until_end(file: BinaryIO, head: bytes, start: int, stop: int) -> int:
    """Returns the end of the last frame that follows another, in samples; 0 without one."""
    block = int.from_bytes(head[8:10], "big")  # of all frames but the last, where it is fixed
    largest = int.from_bytes(head[15:18], "big")  # bytes of a frame, 0 where nobody knows
    begin = max(start + _HEAD, stop - max(_BUFFER, 3 * largest))
    file.seek(begin)
    data = file.read(max(0, stop - begin))  # the file may end within its head
    ends, last = {0}, 0
    for match in _SYNC.finditer(data):
        found = _samples_of(data[match.start() : match.start() + _FRAME_HEAD], block)
        if found is not None:
            ends.add(found[1])
            if found[0] in ends:
                last = found[1]
    return last


def _samples_of(head: bytes, block: int) -> tuple[int, int] | None:
    """The numbers of a frame's first sample and of the one after its last; None for no frame.

    ``block``: samples of a frame, where all but the last are alike.
    """
    size, rate = (head[2] >> 4, head[2] & 15) if len(head) > 6 else (0, 0)
    length = next((n for n in range(8) if not head[4] << n & 0x80), 0) if size else 0  # as UTF-8
    length = max(1, length)
    at = 4 + length
    more = {6: 1, 7: 2}.get(size, 0)
    end = at + more + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if not size or rate == 15 or len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    number = head[4] & (0x7F if length == 1 else (1 << (7 - length)) - 1)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 1 << size
    if more:
        samples = int.from_bytes(head[at : at + more], "big") + 1
    first = number if head[1] & 1 else number * block
    return first, first + samples


def _crc8(data: bytes) -> int:
    """Returns the CRC of the polynomial 0x07 (RFC 9639, 9.1.8)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc
