"""Draws the waveform (SVG), the mel spectrogram (PNG) and the uncertainty (PNG) of a sound."""

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

COLUMNS = 1600  # the largest width of an image
FLOOR_DB = 10 * math.log10(MEL_FLOOR)
HALF = 100  # half the height of a waveform, which is full scale
SURE_DB = 10  # from here on a stem is called sure: it has ten times the energy of its deviation


def waveform(samples: Tensor) -> str:
    """Returns the SVG path around the extremes of [channel, time] in every column.

    x: columns, at most ``COLUMNS``; y: 0 (full scale, 1.0) to 200 (minus full scale).
    """
    return _area(_columns(samples.amax(0)), -_columns(-samples.amin(0)))


def band(std: Tensor) -> str:
    """Returns the SVG path of plus and minus ``std`` [window] on the waveform's scale."""
    return _area(std, -std)


def _area(top: Tensor, bottom: Tensor) -> str:
    """Returns a path in steps of width 1 along the top and back along the bottom."""
    y_top, y_bottom = ((HALF * (1 - y.clamp(-1, 1))).round().int().tolist() for y in (top, bottom))
    there = "".join(f"V{y}h1" for y in y_top)
    back = "".join(f"V{y}h-1" for y in reversed(y_bottom))
    return f"M0 {HALF}{there}{back}z"


def mel_levels(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the log-mel power of [channel, time], averaged over channels, in dB: [band, column].

    With more frames than ``COLUMNS``, a column is the maximum of its frames.
    """
    # One channel at a time, because spectrograms of a whole track are large.
    power = torch.zeros(())
    for channel in samples:
        power = power + _columns(10 ** (log_mel(channel, sample_rate).mT / 10)) / len(samples)
    return 10 * power.clamp(min=MEL_FLOOR).log10()


def draw_overlay(
    samples: Tensor,
    sample_rate: int,
    std_db: Tensor,
    hop: float,
    edges: Sequence[float],
    shown: Tensor,
    shown_rate: int,
) -> Tensor:
    """Draws the uncertainty of [channel, time] over its spectrogram.

    std_db: [window, band] for windows of ``hop`` seconds and bands with ``edges`` in Hz; shown: the
    spectrogram of the same time as ``shade`` gives it, [row, column], at ``shown_rate``. Returns
    uint8 of its shape: its brightness times the uncertainty, which rises with the deviation's dB
    over the stem, from 0 at -``SURE_DB`` to 1 at 0 dB. What is quiet thus stays as it is, although
    most of the noise floor is uncertain.
    """
    length = round(hop * sample_rate)
    energy = band_power(samples, length, edges, sample_rate).mean(0)[: len(std_db)]
    rest = samples.shape[-1] - length * torch.arange(len(energy))
    power = energy / rest.clamp(max=length)[:, None]  # the last window may be a part
    ratio = std_db[: len(power)] - 10 * power.clamp(min=1e-12).log10()
    doubt = (1 + ratio / SURE_DB).clamp(0, 1) * (std_db[: len(power)] > FLOOR_DB)
    centres = mel_centres(shown_rate)
    band = torch.bucketize(centres, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    rows = (doubt.T[band] * (centres < edges[-1])[:, None]).flip(0)
    # A column has the most uncertain of its windows.
    columns = shown.shape[1]
    points = columns * -(-len(power) // columns)
    place = (torch.arange(points) + 0.5) / points * (samples.shape[-1] / length)
    windows = place.long().clamp(max=len(power) - 1)
    found = rows[:, windows].unflatten(1, (columns, -1)).amax(2)
    return (found * shown).round().to(torch.uint8)


def shade(level: Tensor, top_db: float) -> Tensor:
    """Maps dB [band, column] to uint8, from 0 at -80 dB, the floor, to 255 at ``top_db``.

    High bands come first.
    """
    share = (level - FLOOR_DB) / max(top_db - FLOOR_DB, 1e-3)
    return (255 * share.clamp(0, 1)).round().to(torch.uint8).flip(0)


def _columns(values: Tensor) -> Tensor:
    """Returns the maximum of each of ``COLUMNS`` equal parts: [..., time] -> [..., column]."""
    columns = min(COLUMNS, values.shape[-1])
    return F.adaptive_max_pool1d(values.reshape(1, -1, values.shape[-1]), columns).reshape(
        *values.shape[:-1], columns
    )


def to_png(levels: Tensor, colours: Sequence[Sequence[int]] | None = None) -> bytes:
    """Encodes uint8 indices into ``colours``, [row, column] with the top row first, as PNG.

    ``colours``: 256 tuples of red, green, blue and optionally opacity, by default ``cubehelix``.
    """
    palette = np.array(cubehelix() if colours is None else colours, np.uint8)
    image = Image.fromarray(levels.numpy())
    image.putpalette(palette[:, :3].tobytes())
    opacity = {"transparency": palette[:, 3].tobytes()} if palette.shape[1] > 3 else {}
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=9, **opacity)
    return file.getvalue()


def cubehelix(start: float = 0.5, rotations: float = -1.5) -> list[tuple[int, int, int]]:
    """Returns 256 colours from black to white with evenly rising perceived brightness.

    D. A. Green, A colour scheme for the display of astronomical intensity images, 2011 (Section 3),
    with hue 1 and gamma 1. ``start``: the hue at black, ``rotations``: turns through the hues.
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
