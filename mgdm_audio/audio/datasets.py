"""Folders of stems -> random training segments [batch, sources, time]."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.stems import find_stems
from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Track:
    """One song: a file per stem (None where the song lacks it), equally long."""

    name: str
    files: tuple[Path | None, ...]
    frames: int


@dataclass(frozen=True)
class Augmentation:
    """What is done to segments in training. Gains and equaliser bands in dB."""

    remix: float = 0.5  # share of the examples whose stems come from different songs
    gain: float = 4.0  # each stem, uniform in +- gain
    polarity: bool = True  # each stem's sign, at random
    equalise: float = 0.5  # share of the stems that pass a random smooth equaliser
    equalise_gain: float = 6.0  # its bands, uniform in +- this
    loudness: float = 3.0  # the whole example, uniform in +- this


def equaliser(frequencies: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """A random smooth curve over log-frequency: a tilt and two bands. Linear gain, [bins]."""
    draw = torch.rand(6, generator=generator)
    octaves = (frequencies.clamp_min(20.0) / 20.0).log2()
    top = octaves[-1]
    decibels = gain * (2 * draw[0] - 1) * (octaves / top - 0.5)
    for centre, width, height in ((draw[1], draw[2], draw[3]), (draw[4], draw[2], draw[5])):
        distance = (octaves - centre * top) / (0.5 + 1.5 * width)
        decibels = decibels + gain * (2 * height - 1) * torch.exp(-0.5 * distance**2)
    return 10 ** (decibels / 20)


class StemFolder:
    """``root/<track>/<stem>.wav|flac``: mono stems at one sample rate.

    ``batch`` is a function of its generator alone: training resumes exactly with no reader state.
    """

    def __init__(self, root: str | Path, stems: Sequence[str], sample_rate: int):
        self.root, self.stems, self.sample_rate = Path(root), tuple(stems), sample_rate
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder of training tracks; prepare the data first")
        self.tracks = [
            t for f in sorted(self.root.iterdir()) if f.is_dir() and (t := self._open(f))
        ]
        if not self.tracks:
            raise UserError(
                f"{root}: holds no <track>/<stem>.wav or .flac with stems {', '.join(stems)}"
            )

    def _open(self, folder: Path) -> Track | None:
        found = find_stems(folder)
        files = tuple(found.get(stem) for stem in self.stems)
        frames = set()
        for path in files:
            if path is None:
                continue
            try:
                info = soundfile.info(str(path))
            except soundfile.LibsndfileError as error:
                reason = error.error_string.rstrip(".")
                raise UserError(f"{path}: cannot be read ({reason}); render it again") from None
            if info.samplerate != self.sample_rate or info.channels != 1:
                raise UserError(
                    f"{path}: {info.samplerate} Hz with {info.channels} channels; "
                    f"training needs {self.sample_rate} Hz mono, resample it first"
                )
            frames.add(info.frames)
        if not frames:
            return None
        if len(frames) > 1:
            raise UserError(
                f"{folder}: stems of different lengths {sorted(frames)}; pad them first"
            )
        return Track(folder.name, files, frames.pop())

    def read(self, track: Track, stem: int, start: int, length: int) -> Tensor:
        """[length] float32; zeros past the end and where the track lacks the stem."""
        out = np.zeros(length, np.float32)
        path = track.files[stem]
        if path is not None:
            with soundfile.SoundFile(path) as file:
                file.seek(start)
                data = file.read(length, dtype="float32")
            out[: len(data)] = data
        return torch.from_numpy(out)

    def batch(
        self, size: int, length: int, augment: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """Random segments [size, sources, length], augmented, drawn by ``generator`` alone."""

        def below(bound: int) -> int:
            return int(torch.randint(max(bound, 1), (), generator=generator))

        def place() -> tuple[Track, int]:
            track = self.tracks[below(len(self.tracks))]
            return track, below(track.frames - length + 1)

        examples = []
        for _ in range(size):
            song = place()
            remix = float(torch.rand((), generator=generator)) < augment.remix
            places = [place() if remix else song for _ in self.stems]
            examples.append(
                torch.stack([self.read(t, k, start, length) for k, (t, start) in enumerate(places)])
            )
        return augmented(torch.stack(examples), augment, self.sample_rate, generator)

    def fixed(self, count: int, length: int) -> Tensor:
        """The same segments [count, sources, length] each time, spread over the tracks."""
        per_track = math.ceil(count / len(self.tracks))
        segments = []
        for i in range(count):
            track, j = self.tracks[i % len(self.tracks)], i // len(self.tracks)
            start = max(0, round((j + 0.5) / per_track * (track.frames - length)))
            segments.append(
                torch.stack([self.read(track, k, start, length) for k in range(len(self.stems))])
            )
        return torch.stack(segments)


def augmented(
    x: Tensor, augment: Augmentation, sample_rate: int, generator: torch.Generator
) -> Tensor:
    """Gain, polarity, loudness and equaliser, per example and stem. x: [batch, sources, time]."""
    batch, sources, time = x.shape

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator) - 1

    decibels = augment.gain * uniform(batch, sources, 1) + augment.loudness * uniform(batch, 1, 1)
    gain = 10 ** (decibels / 20)
    if augment.polarity:
        gain = gain * uniform(batch, sources, 1).sign()
    if augment.equalise > 0:
        frequencies = torch.fft.rfftfreq(time, 1 / sample_rate)
        chosen = torch.rand(batch, sources, generator=generator) < augment.equalise
        curves = (
            torch.stack(
                [
                    equaliser(frequencies, augment.equalise_gain, generator)
                    for _ in range(int(chosen.sum()))
                ]
            )
            if chosen.any()
            else torch.ones(0, len(frequencies))
        )
        x = x.clone()
        x[chosen] = torch.fft.irfft(torch.fft.rfft(x[chosen]) * curves, n=time)
    return x * gain
