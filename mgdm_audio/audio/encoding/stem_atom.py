"""The metadata of Native Instruments Stems (2015): JSON in the atom moov/udta/stem of an MP4 file.

A player takes the names and colours of the four stems from it, and the settings of the compressor
and limiter that it applies to their sum, which are off here: the stems sum to the mixture as they
are. The values and their units are those of Native Instruments' Stem Creator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

STEMS = 4  # the format holds neither more nor fewer
COLOURS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
MASTERING: dict[str, dict[str, float | bool]] = {
    "compressor": {
        "enabled": False,
        "ratio": 3,
        "threshold": 0,
        "attack": 0.003,
        "release": 0.3,
        "hp_cutoff": 300,
        "input_gain": 0.5,
        "output_gain": 0.5,
        "dry_wet": 50,
    },
    "limiter": {"enabled": False, "threshold": 0, "ceiling": -0.35, "release": 0.05},
}


def metadata(names: Sequence[str]) -> dict[str, Any]:
    """What the atom holds, for stems in the order of their tracks."""
    stems = [{"name": n, "color": c} for n, c in zip(names, COLOURS, strict=True)]
    return {"version": 1, "mastering_dsp": MASTERING, "stems": stems}


def add_stem_atom(path: Path, names: Sequence[str]) -> None:
    """Put the atom into a file that FFmpeg wrote, whose moov is its last atom. Raises OSError."""
    atom = _atom(b"stem", json.dumps(metadata(names)).encode())
    with open(path, "rb+") as file:
        start, moov = _last(file)
        children = _children(moov[8:])
        rest = b"".join(child for child in children if child[4:8] != b"udta")
        udta = b"".join(child[8:] for child in children if child[4:8] == b"udta")
        file.seek(start)
        file.write(_atom(b"moov", rest + _atom(b"udta", udta + atom)))


def _last(file: BinaryIO) -> tuple[int, bytes]:
    """Returns where the last atom begins, and its bytes."""
    start = at = 0
    while head := file.read(16):
        start, size = at, int.from_bytes(head[:4], "big")
        if size == 1:  # its size has 64 bits
            size = int.from_bytes(head[8:], "big")
        at += size
        file.seek(at)
    file.seek(start)
    moov = file.read()
    if moov[4:8] != b"moov":
        raise RuntimeError(f"the last atom is {moov[4:8]!r}")
    return start, moov


def _children(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at : at + size])
        at += size
    return found


def _atom(name: bytes, data: bytes) -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + name + data
