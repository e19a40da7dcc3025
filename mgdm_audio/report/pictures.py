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

from mgdm_audio.evaluation.spectral import (
    MEL_BANDS,
    MEL_FLOOR,
    mel_centres,
    mel_lengths,
    mel_power,
)
from mgdm_audio.separation.uncertainty import band_power

COLUMNS = 1600  # the largest width of an image
FLOOR_DB = 10 * math.log10(MEL_FLOOR)
HALF = 100  # half the height of a waveform, which is full scale
SURE_DB = 10  # from here on a stem is called sure: it has ten times the energy of its deviation


class Columns:
    """The maximum of each of at most ``COLUMNS`` equal parts of [row, time], met block by block.

    ``time``: how many values there will be; ``values``: [row, column] of those that were added.
    """

    def __init__(self, rows: int, time: int) -> None:
        self._time, self._done, self._count = time, 0, min(COLUMNS, time)
        self._values = np.full((rows, self._count), -np.inf, np.float32)

    def add(self, values: Tensor) -> None:
        """Takes the values that follow: [row, any]."""
        begin, end = self._done, self._done + values.shape[-1]
        if begin == end:
            return
        first, last = (i * self._count // self._time for i in (begin, end - 1))
        # Column c begins at the first value i with i * count // time = c.
        starts = [-(-c * self._time // self._count) - begin for c in range(first + 1, last + 1)]
        found = np.maximum.reduceat(values.contiguous().numpy(), [0, *starts], axis=-1)
        part = self._values[:, first : last + 1]
        np.maximum(part, found, out=part)
        self._done = end

    @property
    def values(self) -> Tensor:
        """[row, column]."""
        return torch.from_numpy(self._values)


class Frames:
    """Cuts [channel, time], met block by block, into frames of ``length`` every ``hop`` samples.

    ``time``: how many samples there will be; ``before``: of zeros in front of them. After the last
    sample zeros fill the frames that begin before ``time``, as far as ``count`` frames.
    """

    def __init__(self, length: int, hop: int, time: int, before: int, count: int) -> None:
        self._length, self._hop, self._before = length, hop, before
        self._missing, self._count, self._held = time, count, torch.zeros(0)

    def add(self, samples: Tensor) -> Tensor:
        """Takes the samples that follow, [channel, any]; returns [channel, frame, length]."""
        if not len(self._held):
            self._held = samples.new_zeros(len(samples), self._before)
        self._held = torch.cat([self._held, samples], -1)
        self._missing -= samples.shape[-1]
        whole = max(0, (self._held.shape[-1] - self._length) // self._hop + 1)
        ready = self._count if self._missing <= 0 else min(whole, self._count)
        if ready > whole:
            needed = (ready - 1) * self._hop + self._length
            self._held = F.pad(self._held, (0, needed - self._held.shape[-1]))
        if not ready:
            return samples.new_zeros(len(samples), 0, self._length)
        found = self._held.unfold(-1, self._length, self._hop)[:, :ready]
        self._held = self._held[:, ready * self._hop :]
        self._count -= ready
        return found


class MelPicture:
    """The mel power of [channel, time], met block by block: the mean over channels of ``log_mel``.

    With more frames than ``COLUMNS``, a column is the maximum of its frames.
    """

    def __init__(self, time: int, sample_rate: int) -> None:
        length, hop = mel_lengths(sample_rate)
        count = time // hop + 1
        self._frames = Frames(length, hop, time, length // 2, count)
        self._columns, self._rate = Columns(MEL_BANDS, count), sample_rate

    def add(self, samples: Tensor) -> None:
        """Takes the samples that follow: [channel, any]."""
        for part in self._frames.add(samples).split(64, 1):  # whose spectra fit into a cache
            if part.shape[1]:
                self._columns.add(mel_power(part, self._rate).mean(0).T)

    def levels(self, full: float) -> Tensor:
        """Returns dB relative to the amplitude ``full``, at least the floor: [band, column]."""
        return 10 * (self._columns.values / full**2).clamp(min=MEL_FLOOR).log10()


class BandPicture:
    """The mean power of [channel, time] in windows and bands, met block by block.

    ``hop``: of the windows in seconds; ``edges``: of the bands in Hz.
    """

    def __init__(self, time: int, sample_rate: int, hop: float, edges: Sequence[float]) -> None:
        self._length = max(1, min(round(hop * sample_rate), time))
        self._rate, self._edges = sample_rate, edges
        self._time, self.windows = time, time / self._length  # with a fraction for the last one
        count = math.ceil(self.windows)
        self._frames = Frames(self._length, self._length, time, 0, count)
        self._parts: list[Tensor] = []

    def add(self, samples: Tensor) -> None:
        """Takes the samples that follow: [channel, any]."""
        flat = self._frames.add(samples).flatten(1)
        if flat.shape[1]:
            power = band_power(flat, self._length, self._edges, self._rate)
            self._parts.append(power.mean(0))

    def power(self) -> Tensor:
        """Returns the mean square: [window, band]."""
        energy = torch.cat(self._parts)
        rest = self._time - self._length * torch.arange(len(energy))
        return energy / rest.clamp(max=self._length)[:, None]  # the last window may be a part


def waveform(top: Tensor, bottom: Tensor) -> str:
    """Returns the SVG path in steps of width 1 along ``top`` and back along ``bottom``: [column].

    y: 0 (full scale, 1.0) to 200 (minus full scale).
    """
    y_top, y_bottom = ((HALF * (1 - y.clamp(-1, 1))).round().int().tolist() for y in (top, bottom))
    there = "".join(f"V{y}h1" for y in y_top)
    back = "".join(f"V{y}h-1" for y in reversed(y_bottom))
    return f"M0 {HALF}{there}{back}z"


def band(std: Tensor) -> str:
    """Returns the SVG path of plus and minus ``std`` [window] on the waveform's scale."""
    return waveform(std, -std)


def mel_levels(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the log-mel power of [channel, time] in dB: [band, column], see ``MelPicture``."""
    picture = MelPicture(samples.shape[-1], sample_rate)
    picture.add(samples)
    return picture.levels(1.0)


def draw_overlay(
    bands: BandPicture, std_db: Tensor, edges: Sequence[float], shown: Tensor, shown_rate: int
) -> Tensor:
    """Draws the uncertainty of a sound, of which there are ``bands``, over its spectrogram.

    std_db: [window, band] for the windows of ``bands`` and bands with ``edges`` in Hz; shown: the
    spectrogram of the same time as ``shade`` gives it, [row, column], at ``shown_rate``. Returns
    uint8 of its shape: its brightness times the uncertainty, which rises with the deviation's dB
    over the stem, from 0 at -``SURE_DB`` to 1 at 0 dB. What is quiet thus stays as it is, although
    most of the noise floor is uncertain.
    """
    power = bands.power()[: len(std_db)]
    ratio = std_db[: len(power)] - 10 * power.clamp(min=1e-12).log10()
    doubt = (1 + ratio / SURE_DB).clamp(0, 1) * (std_db[: len(power)] > FLOOR_DB)
    centres = mel_centres(shown_rate)
    band = torch.bucketize(centres, torch.tensor(edges[1:-1], dtype=torch.float64), right=True)
    rows = (doubt.T[band] * (centres < edges[-1])[:, None]).flip(0)
    # A column has the most uncertain of its windows.
    columns = shown.shape[1]
    points = columns * -(-len(power) // columns)
    place = (torch.arange(points) + 0.5) / points * bands.windows
    windows = place.long().clamp(max=len(power) - 1)
    found = rows[:, windows].unflatten(1, (columns, -1)).amax(2)
    return (found * shown).round().to(torch.uint8)


def shade(level: Tensor, top_db: float) -> Tensor:
    """Maps dB [band, column] to uint8, from 0 at -80 dB, the floor, to 255 at ``top_db``.

    High bands come first.
    """
    share = (level - FLOOR_DB) / max(top_db - FLOOR_DB, 1e-3)
    return (255 * share.clamp(0, 1)).round().to(torch.uint8).flip(0)


def to_png(levels: Tensor, colours: Sequence[Sequence[int]] | None = None) -> bytes:
    """Encodes uint8 indices into ``colours``, [row, column] with the top row first, as PNG.

    ``colours``: 256 tuples of red, green, blue and optionally opacity, by default ``cubehelix``.
    """
    palette = np.array(cubehelix() if colours is None else colours, np.uint8)
    image = Image.fromarray(levels.numpy())
    image.putpalette(palette[:, :3].tobytes())
    opacity = {"transparency": palette[:, 3].tobytes()} if palette.shape[1] > 3 else {}
    file = io.BytesIO()
    image.save(file, "PNG", **opacity)
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
