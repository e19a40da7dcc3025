"""PNG files of indexed colours, by the standard library (PNG specification, W3C)."""

import math
import struct
import zlib
from collections.abc import Sequence

from torch import Tensor

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def to_png(levels: Tensor, colours: Sequence[Sequence[int]] | None = None) -> bytes:
    """levels: [row, column] uint8, top row first, each an index into ``colours``.

    These are 256 of red, green, blue and if wanted opacity; by default ``cubehelix``.
    """
    colours = cubehelix() if colours is None else colours
    height, width = levels.shape
    rows = levels.contiguous().numpy()
    # 8 bits, indexed; deflate, the standard filters, not interlaced. Filter 0 before every row.
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows), 9)
    palette = bytes(channel for colour in colours for channel in colour[:3])
    opacity = bytes(colour[3] for colour in colours if len(colour) > 3)
    chunks = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", data), (b"IEND", b"")]
    if opacity:
        chunks.insert(2, (b"tRNS", opacity))
    return SIGNATURE + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def cubehelix(start: float = 0.5, rotations: float = -1.5) -> list[tuple[int, int, int]]:
    """256 colours from black to white whose perceived brightness rises evenly.

    D. A. Green, A colour scheme for the display of astronomical intensity images, 2011 (Section 3),
    with hue 1 and gamma 1. ``start``: the hue at black, ``rotations``: through the hues.
    """
    colours = []
    for index in range(256):
        level = index / 255
        angle = 2 * math.pi * (start / 3 + 1 + rotations * level)
        cos, sin = math.cos(angle), math.sin(angle)
        amplitude = level * (1 - level) / 2
        red = level + amplitude * (-0.14861 * cos + 1.78277 * sin)
        green = level + amplitude * (-0.29227 * cos - 0.90649 * sin)
        blue = level + amplitude * 1.97294 * cos
        red, green, blue = (round(255 * min(max(c, 0), 1)) for c in (red, green, blue))
        colours.append((red, green, blue))
    return colours
