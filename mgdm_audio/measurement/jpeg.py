"""JPEG compression (ITU-T T.81, JFIF) as an operator, with a rounding that has a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mgdm_audio.measurement.operator import Operator
from mgdm_audio.measurement.separable import along

# T.81, tables K.1 and K.2, in the order of the frequencies: rows are vertical.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF 1.02: rows Y, Cb, Cr; Cb and Cr are centred on 128.
RED, GREEN, BLUE = 0.299, 0.587, 0.114
YCBCR = torch.tensor(
    [
        [RED, GREEN, BLUE],
        [-RED / (2 - 2 * BLUE), -GREEN / (2 - 2 * BLUE), 0.5],
        [0.5, -GREEN / (2 - 2 * RED), -BLUE / (2 - 2 * RED)],
    ],
    dtype=torch.float64,
)


def soft_round(x: Tensor) -> Tensor:
    """Returns ``round(x) + (x - round(x))^3``, within 1/8 of ``round(x)``, with a gradient.

    (Shin and Song, "JPEG-resistant adversarial images", 2017.)
    """
    nearest = x.round()
    return nearest + (x - nearest) ** 3


class SoftJPEG(Operator):
    """Compresses and decompresses images by JPEG: ``[batch, 3 or 1, height, width]`` to the same.

    Images are RGB or grey in [0, 1]; the result is clipped to [0, 1] and not rounded to 8 bits.

    ``quality``      1 to 100, on libjpeg's scale
    ``subsampling``  "4:2:0": Cb and Cr have half the size, averaged down and interpolated up, as
                     libjpeg does by default; "4:4:4": all have full size
    ``baseline``     clips the quantisation steps to 255, the limit of 8-bit tables (Pillow's);
                     otherwise they rise further below quality 25, as in the papers
    ``published``    uses the operator of the code of MGDM's authors, which differs from JPEG in
                     four ways: its tables are transposed, their steps are neither rounded to
                     integers nor kept above 0 (quality 100 raises), Cb and Cr are repeated where
                     JPEG interpolates, and decoded planes are not clipped to 8 bits
    ``rounding``     rounds the coefficients; with ``torch.round`` the operator is JPEG itself

    Raises ``ValueError`` for another quality or subsampling, and for ``published`` together with
    4:4:4 or ``baseline``, which that code does not have.
    """

    def __init__(
        self,
        quality: int,
        *,
        subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0",
        baseline: bool = False,
        published: bool = False,
        rounding: Callable[[Tensor], Tensor] = soft_round,
    ) -> None:
        if subsampling not in ("4:2:0", "4:4:4"):
            raise ValueError(f"subsampling {subsampling!r}: give 4:2:0 or 4:4:4")
        if published and (baseline or subsampling != "4:2:0"):
            raise ValueError("published is 4:2:0 without baseline; leave those two out")
        if published:
            self.tables = published_tables(quality)
        else:
            self.tables = quantisation_tables(quality, baseline=baseline)
        self.halved = subsampling == "4:2:0"
        self.published = published
        self.rounding = rounding

    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        grey = x.shape[-3] == 1
        side = 16 if self.halved and not grey else 8
        below, right = -height % side, -width % side
        x = functional.pad(255 * x, (0, right, 0, below), mode="replicate")
        if grey:
            return ((self._code(x - 128, 0)[..., :height, :width] + 128) / 255).clamp(0, 1)
        ycbcr = along({-3: YCBCR}, x)  # Cb and Cr are centred on 0 and need no level shift
        luma = self._code(ycbcr[:, :1] - 128, 0)[..., :height, :width]
        if self.halved:
            small = self._code(functional.avg_pool2d(ycbcr[:, 1:], 2), 1)
            # The padding is removed first: libjpeg's decoder interpolates without it.
            small = small[..., : (height + 1) // 2, : (width + 1) // 2]
            mode = "nearest" if self.published else "bilinear"
            chroma = functional.interpolate(small, scale_factor=2, mode=mode)
        else:
            chroma = self._code(ycbcr[:, 1:], 1)
        ycbcr = torch.cat([luma + 128, chroma[..., :height, :width]], dim=1)
        return (along({-3: YCBCR.inverse()}, ycbcr) / 255).clamp(0, 1)

    def _code(self, planes: Tensor, which: int) -> Tensor:
        """Quantises the DCT coefficients of planes centred on 0 and decodes them.

        The result is clipped to 8 bits, as by a decoder, except in the published operator.
        """
        table = self.tables[which].to(planes)
        dct = _dct(planes)
        blocks = planes.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)
        coefficients = self.rounding((dct @ blocks @ dct.T) / table) * table
        blocks = dct.T @ coefficients @ dct
        planes = blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)
        return planes if self.published else planes.clamp(-128, 127)


def quantisation_tables(quality: int, *, baseline: bool = False) -> Tensor:
    """Returns libjpeg's steps of luminance and chrominance: ``[2, 8, 8]``.

    Raises ``ValueError`` for a ``quality`` outside 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality {quality}: give 1 to 100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = torch.tensor([LUMINANCE, CHROMINANCE])
    return ((tables * percent + 50) // 100).clamp(1, 255 if baseline else 32767)


def published_tables(quality: int) -> Tensor:
    """Returns the steps of the published operator: float64 ``[2, 8, 8]``.

    They are T.81's tables transposed: the steps of vertical and horizontal frequencies are
    exchanged. Raises ``ValueError`` for a ``quality`` outside 1 to 99.
    """
    if not 1 <= quality <= 99:
        raise ValueError(f"quality {quality} of the published operator: give 1 to 99")
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    return factor * torch.tensor([LUMINANCE, CHROMINANCE], dtype=torch.float64).mT


def _dct(like: Tensor) -> Tensor:
    """Returns the orthonormal DCT-II of 8 points: ``[frequency, point]``."""
    k = torch.arange(8, dtype=torch.float64)
    dct = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    dct[0] /= math.sqrt(2)
    return dct.to(like.dtype).to(like.device)
