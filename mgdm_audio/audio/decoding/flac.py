"""FLAC (RFC 9639): where its streams begin, and what their headers say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from mgdm_audio.audio.speakers import flac_mask

_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the mark, and a STREAMINFO block of 34 bytes
_HEAD = 42
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9a-fA-F]{1,8})")
_BUFFER = 1 << 20


@dataclass(frozen=True)
class Stream:
    """One FLAC stream of a file, which may be several one after the other."""

    start: int  # bytes into the file
    stop: int
    rate: int  # Hz
    samples: int  # a channel; 0: the length was left open
    mask: int  # of speakers


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
    return Stream(start, stop, bits >> 44, bits & (1 << 36) - 1, mask)
