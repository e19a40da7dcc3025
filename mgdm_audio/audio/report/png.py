"""PNG files of indexed colours."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor


def to_png(levels: Tensor, colours: Sequence[Sequence[int]] | None = None) -> bytes:
    """levels: [row, column] uint8, top row first, each an index into ``colours``.

    These are 256 of red, green, blue and if wanted opacity; by default ``cubehelix``.
    """
    palette = np.array(cubehelix() if colours is None else colours, np.uint8)
    image = Image.fromarray(levels.numpy())
    image.putpalette(palette[:, :3].tobytes())
    opacity = {"transparency": palette[:, 3].tobytes()} if palette.shape[1] > 3 else {}
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9, **opacity)
    return file.getvalue()


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
