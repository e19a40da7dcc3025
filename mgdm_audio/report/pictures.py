"""Pictures of a sound as PNG: its waveform, its mel spectrogram, and how uncertain it is."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mgdm_audio.evaluation.spectral import MEL_FLOOR, log_mel, mel_centres
from mgdm_audio.separation.uncertainty import band_power

COLUMNS = 1600  # of a picture, at most
FLOOR_DB = 10 * math.log10(MEL_FLOOR)
HALF = 100  # half a waveform's height: full scale
OVERLAY_DB = 6


def waveform(samples: Tensor) -> str:
    """The SVG path around the extremes of [channel, time], full scale 1.0, in every column.

    x: columns, at most ``COLUMNS``; y: 0 (full scale) to 200 (minus full scale).
    """
    return _area(_columns(samples.amax(0)), -_columns(-samples.amin(0)))


def band(std: Tensor) -> str:
    """The SVG path of plus and minus ``std`` [window], on the waveform's scale; x: windows."""
    return _area(std, -std)


def _area(top: Tensor, bottom: Tensor) -> str:
    """Steps of width 1 along the top, and back along the bottom."""
    y_top, y_bottom = ((HALF * (1 - y.clamp(-1, 1))).round().int().tolist() for y in (top, bottom))
    there = "".join(f"V{y}h1" for y in y_top)
    back = "".join(f"V{y}h-1" for y in reversed(y_bottom))
    return f"M0 {HALF}{there}{back}z"


def mel_levels(samples: Tensor, sample_rate: int) -> Tensor:
    """Log-mel power of [channel, time], the mean of its channels, in dB: [band, column].

    Where there are more frames than ``COLUMNS``, a column has the loudest of its frames.
    """
    # A channel at a time: spectrograms of a whole track are large.
    power = torch.zeros(())
    for channel in samples:
        power = power + _columns(10 ** (log_mel(channel, sample_rate).mT / 10)) / len(samples)
    return 10 * power.clamp(min=MEL_FLOOR).log10()


def draw_overlay(
    samples: Tensor, sample_rate: int, std_db: Tensor, hop: float, edges: Sequence[float]
) -> Tensor:
    """How uncertain [channel, time] is over time and the bands of ``mel_levels``.

    std_db: [window, band], of windows of ``hop`` seconds and bands that ``edges`` (Hz) bound -> 0
    where it lies ``OVERLAY_DB`` or more below the stem, or at the pictures' floor, to 255 where it
    lies as far above; uint8 [band, column], high bands at the top, 0 above the last edge.
    """
    length = round(hop * sample_rate)
    power = band_power(samples, length, edges, sample_rate).mean(0)[: len(std_db)] / length
    ratio = std_db[: len(power)] - 10 * power.clamp(min=1e-12).log10()
    share = ((1 + ratio / OVERLAY_DB) / 2).clamp(0, 1) * (std_db[: len(power)] > FLOOR_DB)
    centres = mel_centres(sample_rate)
    band = torch.bucketize(centres, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    rows = share.T[band] * (centres < edges[-1])[:, None]
    return (255 * _columns(rows)).round().to(torch.uint8).flip(0)


def shade(level: Tensor, top_db: float) -> Tensor:
    """Levels in dB [band, column] -> 0 at the floor of ``log_mel`` (-80 dB) to 255 at ``top_db``.

    uint8, high bands at the top.
    """
    share = (level - FLOOR_DB) / max(top_db - FLOOR_DB, 1e-3)
    return (255 * share.clamp(0, 1)).round().to(torch.uint8).flip(0)


def _columns(values: Tensor) -> Tensor:
    """[..., time] -> [..., column], the largest value of each of ``COLUMNS`` equal parts."""
    columns = min(COLUMNS, values.shape[-1])
    return F.adaptive_max_pool1d(values.reshape(1, -1, values.shape[-1]), columns).reshape(
        *values.shape[:-1], columns
    )


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
