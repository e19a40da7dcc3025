"""Containers of chunks: where the sound lies in a WAV, RF64, W64, AIFF, CAF or AU file.

A header that was written before the sound was (into a pipe, by a recorder that was stopped) leaves
its length open. libsndfile then reads too little, nothing, or refuses; it is given the same file
with the length that there is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from mgdm_audio.audio.decoding.window import Piece


class Form(NamedTuple):
    """How a container lays out its chunks: an identifier, a length, and the rest."""

    name: str
    magic: bytes  # the file begins with it
    type_at: int  # where ``kinds`` stand in the file
    kinds: tuple[bytes, ...]
    first: int  # where the first chunk begins
    id_bytes: int
    length: str  # ``struct`` format of a chunk's length
    multiple: int  # chunks begin at multiples of it
    with_head: bool  # whether the length counts the chunk's head
    data: bytes  # identifier of the chunk of sound
    before: int  # bytes of it before the sound


_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # after four letters, in W64 (Sony 2003)
FORMS = (
    Form("WAV", b"RIFF", 8, (b"WAVE",), 12, 4, "<I", 2, False, b"data", 0),
    Form("WAV", b"RIFX", 8, (b"WAVE",), 12, 4, ">I", 2, False, b"data", 0),
    Form("RF64", b"RF64", 8, (b"WAVE",), 12, 4, "<I", 2, False, b"data", 0),  # EBU Tech 3306
    Form("RF64", b"BW64", 8, (b"WAVE",), 12, 4, "<I", 2, False, b"data", 0),  # ITU-R BS.2088
    Form("AIFF", b"FORM", 8, (b"AIFF", b"AIFC"), 12, 4, ">I", 2, False, b"SSND", 8),
    Form("CAF", b"caff", 0, (b"caff",), 8, 4, ">q", 1, False, b"data", 4),
    Form("W64", b"riff", 24, (b"wave" + _GUID,), 40, 16, "<Q", 8, True, b"data" + _GUID, 0),
)
AU = b".snd"

# Every length that was left open: what programs write that do not know it yet. Each is believed all
# the same where so many bytes are there, and nothing else or another chunk follows.
OPEN = (
    (0, 0),  # GStreamer, FFmpeg's AIFF, recorders that were stopped
    (0x7F000000, 0x80000000),  # SoX: 2^31 - 4096 in WAV, 2^31 - 2^24 in AIFF
    (0xFFFF0000, 0xFFFFFFFF),  # FFmpeg, AU by its definition; both also less a header's bytes
    (2**63 - 2**16, 2**64 - 1),  # FFmpeg's W64, and RF64's chunk ``ds64``
    (-1, -1),  # CAF by its definition
)


@dataclass(frozen=True)
class Sound:
    """The sound of one file. ``promised``: its bytes, None where the length was left open."""

    form: str
    start: int  # bytes into the file
    there: int  # bytes of it that there are
    promised: int | None
    pieces: tuple[Piece, ...]  # the file, with the length that there is in place of an open one
    end: int  # where what follows the sound begins
    mask: int = 0  # of speakers, by the format chunk
    tag: int = 0  # of the codec, by a WAV file's format chunk
    again: bool = False  # another chunk of sound follows in the container

    @property
    def excess(self) -> float:
        """The bytes that are promised over those there are, at least 1."""
        if self.promised is None or not self.there:
            return 1.0
        return max(1.0, self.promised / self.there)


class _Length(NamedTuple):
    """The place of a length in a file, and how it is written."""

    at: int
    field: str  # ``struct`` format
    extra: int  # bytes that it counts beside the sound


def find_sound(file: BinaryIO, size: int, begin: int = 0) -> Sound | None:
    """Finds the sound in the container at byte ``begin`` of a file of ``size`` bytes.

    None where it is no such container, or holds no chunk of sound. Raises OSError.
    """
    file.seek(begin)
    head = file.read(40)
    if head[:4] == AU and len(head) >= 12:
        offset, length = struct.unpack(">II", head[4:12])
        start = begin + offset
        meant = _is_meant(length, size - start, start + length >= size)
        place = _Length(begin + 8, ">I", 0)
        return _located("AU", begin, size, start, length if meant else None, place, size, 0)
    form = next((f for f in FORMS if head.startswith(f.magic) and _kind(f, head)), None)
    if form is None:
        return None
    mask, tag, long_length, ds64 = 0, 0, None, 0
    for name, at, length in _chunks(file, form, begin + form.first, size):
        if name == form.data:
            width = struct.calcsize(form.length)
            extra = form.before + (form.id_bytes + width if form.with_head else 0)
            place = _Length(at - width, form.length, extra)
            length -= form.before if length >= form.before else 0
            if form.name == "RF64" and length == 0xFFFFFFFF and long_length is not None:
                length, place = long_length, _Length(ds64 + 8, "<Q", 0)
            start = at + form.before
            end = start + max(length, 0)
            end += -(end - begin) % form.multiple
            followed = _is_followed(file, form, end, size)
            meant = _is_meant(length, size - start, followed)
            promised = length if meant else None
            found = _located(form.name, begin, size, start, promised, place, end, mask)
            later = _chunks(file, form, end, size) if followed and promised is not None else ()
            return replace(found, tag=tag, again=any(n == form.data for n, _, _ in later))
        if name[:4] == b"fmt ":
            body = file.read(40)
            tag = int.from_bytes(body[:2], "little")
            mask = _wave_mask(body) if length >= 40 - form.id_bytes else 0
        elif name == b"ds64":
            ds64, long_length = at, struct.unpack("<Q", file.read(16)[8:].ljust(8, b"\0"))[0]
    return None


def _kind(form: Form, head: bytes) -> bool:
    return any(head[form.type_at :].startswith(kind) for kind in form.kinds)


def _chunks(file: BinaryIO, form: Form, at: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(identifier, where its content begins, how long that is) of each; the file stands there."""
    head = form.id_bytes + struct.calcsize(form.length)
    begin = at
    while at + head <= size:
        file.seek(at)
        data = file.read(head)
        if len(data) < head:
            return
        name, length = data[: form.id_bytes], struct.unpack(form.length, data[form.id_bytes :])[0]
        length -= head if form.with_head and length >= head else 0
        yield name, at + head, length
        if length < 0:
            return
        at += head + length
        at += -(at - begin) % form.multiple


def _is_meant(length: int, there: int, followed: bool) -> bool:
    """Returns whether it is no length left open. ``followed``: by another chunk, where it says."""
    if any(low <= length <= high for low, high in OPEN):
        return 0 <= length <= there and followed
    # 32 bits hold the length of more than 4 GiB without what is above them.
    return there - length < 1 << 32 or followed


def _is_followed(file: BinaryIO, form: Form, at: int, size: int) -> bool:
    """Returns whether chunks, or another file, stand there and reach to the end."""
    if at >= size:
        return True
    file.seek(at)
    if file.read(len(form.magic)) == form.magic:
        return True
    for name, start, length in _chunks(file, form, at, size):
        if not all(32 <= letter < 127 for letter in name[:4]) or not 0 <= length <= size - start:
            return False
        at = start + length
    return size - at < form.multiple


def _located(
    name: str,
    begin: int,
    size: int,
    start: int,
    promised: int | None,
    place: _Length,
    end: int,
    mask: int,
) -> Sound:
    """``place``: of the length, in whose place that stands for a decoder which there is."""
    there = max(0, size - start)
    if promised is not None and promised <= there:
        return Sound(name, start, promised, promised, ((begin, size),), min(end, size), mask)
    after = place.at + struct.calcsize(place.field)
    pieces: list[Piece] = [(begin, place.at)]
    if name == "WAV" and place.field == "<I" and there > _LARGEST:  # as RF64, which can say it
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, size - begin + 28, there, 0, 0)
        head = b"RF64\xff\xff\xff\xffWAVE" + ds64
        length, pieces = b"\xff\xff\xff\xff", [head, (begin + 12, place.at)]
    else:
        length = struct.pack(place.field, min(there + place.extra, _LARGEST_OF[place.field]))
    return Sound(name, start, there, promised, (*pieces, length, (after, size)), size, mask)


_LARGEST = 2**32 - 2**16
_LARGEST_OF = {"<I": _LARGEST, ">I": _LARGEST, "<Q": 2**63 - 1, ">q": 2**63 - 1}


def _wave_mask(body: bytes) -> int:
    """Returns the speaker mask of WAVEFORMATEXTENSIBLE (tag 0xFFFE), 0 for other formats."""
    extensible = body[:2] == b"\xfe\xff" and len(body) >= 24
    return struct.unpack("<I", body[20:24])[0] if extensible else 0
