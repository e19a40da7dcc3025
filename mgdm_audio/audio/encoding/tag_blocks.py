"""Tags in files that libsndfile wrote: ID3 in MP3, comments and pictures in FLAC and Ogg Vorbis.

The packets of sound stay as they are, to the bit.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mgdm_audio.audio.decoding.ogg import checksum
from mgdm_audio.audio.encoding.tags import Tags

# The frames of ID3v2.4.0, 4.2; a comment has one of another form.
_ID3 = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "album_artist": "TPE2",
    "composer": "TCOM",
    "performer": "TPE3",
    "date": "TDRC",
    "genre": "TCON",
    "track": "TRCK",
    "disc": "TPOS",
    "copyright": "TCOP",
    "publisher": "TPUB",
}
_VORBIS = {"album_artist": "ALBUMARTIST", "track": "TRACKNUMBER", "disc": "DISCNUMBER"}
_FRONT_COVER = 3  # the picture's type, in ID3 and in FLAC
_NUMBER = slice(18, 22)  # of an Ogg page
_CHECKSUM = slice(22, 26)


def add_tags(path: Path, tags: Tags) -> None:
    """Put ``tags`` into a file of a name in .mp3, .flac or .ogg that has none. Raises OSError."""
    add = {".mp3": _mp3, ".flac": _flac, ".ogg": _ogg}[path.suffix]
    tagged = path.with_name(path.name + ".tagged")
    with open(path, "rb") as old, open(tagged, "xb") as new:
        add(old, new, tags)
    os.replace(tagged, path)


def _mp3(old: BinaryIO, new: BinaryIO, tags: Tags) -> None:
    frames = [_id3_text(name, text) for name, text in tags.texts.items()]
    if tags.cover:
        head = b"\0" + tags.mime.encode() + bytes([0, _FRONT_COVER, 0])  # no description
        frames.append(_id3_frame("APIC", head + tags.cover))
    body = b"".join(frames)
    new.write(b"ID3\4\0\0" + _sevens(len(body)) + body)
    shutil.copyfileobj(old, new)


def _id3_text(name: str, text: str) -> bytes:
    utf8 = b"\3"
    if name == "comment":  # of an unknown language, without a description
        return _id3_frame("COMM", utf8 + b"XXX\0" + text.encode())
    return _id3_frame(_ID3[name], utf8 + text.encode())


def _id3_frame(name: str, data: bytes) -> bytes:
    return name.encode() + _sevens(len(data)) + bytes(2) + data


def _sevens(number: int) -> bytes:
    """Returns an integer of 28 bits with seven of them in each byte."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _comments(tags: Tags, picture: bytes = b"") -> bytes:
    """The Vorbis comment header (Vorbis I, 5.2.1), without its framing bit."""
    lines = [
        f"{_VORBIS.get(name, name.upper())}={text}".encode() for name, text in tags.texts.items()
    ]
    if picture:
        lines.append(b"METADATA_BLOCK_PICTURE=" + base64.b64encode(picture))
    fields = [b"mgdm_audio", struct.pack("<I", len(lines)), *lines]
    return b"".join(
        field if i == 1 else struct.pack("<I", len(field)) + field for i, field in enumerate(fields)
    )


def _picture(tags: Tags) -> bytes:
    """FLAC's picture block (RFC 9639, 8.8); sizes of 0 are unknown ones."""
    if not tags.cover:
        return b""
    mime = tags.mime.encode()
    head = struct.pack(">II", _FRONT_COVER, len(mime)) + mime + bytes(4 * 5)
    return head + struct.pack(">I", len(tags.cover)) + tags.cover


def _flac(old: BinaryIO, new: BinaryIO, tags: Tags) -> None:
    """Replaces libsndfile's comments (block 4) and drops padding (1); other blocks stay."""
    new.write(old.read(4))
    blocks, last = [], False
    while not last:
        head = old.read(4)
        last, kind = head[0] >= 0x80, head[0] & 0x7F
        data = old.read(int.from_bytes(head[1:], "big"))
        if kind not in (1, 4):
            blocks.append((kind, data))
    blocks.append((4, _comments(tags)))
    if tags.cover:
        blocks.append((6, _picture(tags)))
    for i, (kind, data) in enumerate(blocks):
        new.write(bytes([kind | (0x80 if i == len(blocks) - 1 else 0)]))
        new.write(len(data).to_bytes(3, "big") + data)
    shutil.copyfileobj(old, new)


def _ogg(old: BinaryIO, new: BinaryIO, tags: Tags) -> None:
    """The second of the three header packets replaced, and all pages numbered anew (RFC 3533)."""
    pages = _pages(old)
    first = next(pages)
    new.write(b"".join(first))
    packets, bodies = [b""], 0
    while len(packets) < 3:  # comments and setup end a page, as Vorbis I, A.2, has it
        (head, table, body), at = next(pages), 0
        for size in table:
            packets[-1] += body[at : at + size]
            at += size
            if size < 255:
                packets.append(b"")
        bodies += 1
    packets[0] = b"\3vorbis" + _comments(tags, _picture(tags)) + b"\1"
    number = 1
    for page in _paginate(packets[:2]):
        new.write(_sealed(bytearray(first[0][:26]), *page, number))
        number += 1
    for head, table, body in pages:
        new.write(_numbered(bytearray(head + table + body), number))
        number += 1


def _pages(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Head, table of segments and body of every page of a file that is whole."""
    while head := file.read(27):
        table = file.read(head[26])
        yield head, table, file.read(sum(table))


def _paginate(packets: list[bytes]) -> Iterator[tuple[bool, bytes, bytes]]:
    """Returns whether a page goes on with a packet of the one before, its table and its body."""
    table = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets)
    data, at = b"".join(packets), 0
    for start in range(0, len(table), 255):
        sizes = table[start : start + 255]
        goes_on = start > 0 and table[start - 1] == 255
        yield goes_on, sizes, data[at : at + sum(sizes)]
        at += sum(sizes)


def _sealed(head: bytearray, goes_on: bool, table: bytes, body: bytes, number: int) -> bytes:
    """A page of headers: none of it begins or ends the stream. -1: no packet ends on it."""
    head[5] = 1 if goes_on else 0
    ends = any(size < 255 for size in table)
    head[6:14] = (0 if ends else -1).to_bytes(8, "little", signed=True)
    return _numbered(head + bytes([len(table)]) + table + body, number)


def _numbered(page: bytearray, number: int) -> bytes:
    page[_NUMBER] = number.to_bytes(4, "little")
    page[_CHECKSUM] = bytes(4)
    page[_CHECKSUM] = checksum(bytes(page))
    return bytes(page)
