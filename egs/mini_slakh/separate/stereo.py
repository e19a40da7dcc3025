#!/usr/bin/env python3
"""Compares the two ways to separate stereo: each channel, or their mean at other speeds.

    python egs/mini_slakh/separate/stereo.py STEMS [--debian PACKAGES]

makes stereo out of the middle of the mono stems STEMS/<track>/<stem>.wav in three ways: "pan", each
stem at one place; "room", the same with a reverberation that differs between the channels, 12 dB
below; "wide", drums, piano and other at places that depend on frequency, and of another track a
second guitar on the other side. With PACKAGES (../data/local/fetch_programs.py), "real" is four
places in the stereo songs that mini_slakh keeps from training, their guitar against the rest.
Prints a Markdown table: SI-SDR improvement in dB, of the channels as one vector, over the stems
that are at most 30 dB below the mixture, with --stereo channels and image, and the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import fftconvolve, resample

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[2] / "recipes/local"), str(HERE.parent / "data/local")]
import fretsonfire  # noqa: E402
from script import run, separation_parser  # noqa: E402
from truth import true_stems  # noqa: E402

from mgdm_audio import tables  # noqa: E402
from mgdm_audio.evaluation.folders import find_tracks  # noqa: E402
from mgdm_audio.evaluation.metrics import si_sdr  # noqa: E402
from mgdm_audio.separation.separator import Separator  # noqa: E402
from mgdm_audio.separation.stereo import Stereo  # noqa: E402

Item = tuple[str, Tensor, list[list[int]]]
"""A way, stems [2, stem, time], and of which of the prior's stems each is the sum."""

SECONDS = 12
WIDEST = {"bass": 0.15, "drums": 0.3, "guitar": 0.9, "piano": 0.7}  # of a pan; -1 is left
ELSEWHERE = 0.5  # of other stems
SLOPES = {"drums": (-0.1, 0.5), "piano": (-0.6, 0.6), "other": (0.4, -0.4)}  # from 0 Hz to the top
DOUBLE = "guitar"
ROOM, DECAY = 0.25, 1.0  # amplitude, and seconds until it has decayed by 60 dB
PLACES = 4  # of a real song


def panned(mono: Tensor, pan: Tensor | float) -> Tensor:
    """[..., time] at ``pan`` -1 (left) to 1: [2, ..., time], of constant power."""
    angle = (torch.as_tensor(pan) + 1) * torch.pi / 4
    return torch.stack([mono * angle.cos(), mono * angle.sin()])


def sloped(mono: Tensor, low: float, high: float) -> Tensor:
    """A pan that goes with the root of the frequency from ``low`` to ``high``: [2, time]."""
    bins = torch.fft.rfft(mono)
    pans = low + (high - low) * torch.linspace(0, 1, bins.shape[-1]).sqrt()
    return torch.fft.irfft(panned(bins, pans), mono.shape[-1])


def in_a_room(stems: Tensor, rate: int, seed: int) -> Tensor:
    """[2, stem, time] with a decaying noise's reverberation, another in each channel and stem."""
    time = torch.arange(round(DECAY * rate)) / rate
    noise = torch.randn(*stems.shape[:2], len(time), generator=_generator(seed))
    response = noise * 10 ** (-3 * time / DECAY) * (time > 0.008)
    response = response / response.norm(dim=-1, keepdim=True)
    mono = stems.mean(0).expand_as(stems)
    return stems + ROOM * fftconvolve(mono, response)[..., : stems.shape[-1]]


def made(
    mono: Tensor, names: tuple[str, ...], second: Tensor, rate: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yields the name of each way and the stems [2, stem, time]; ``second``: a guitar [time]."""
    widest = torch.tensor([WIDEST.get(name, ELSEWHERE) for name in names])
    pans = widest * (2 * torch.rand(len(names), generator=_generator(seed)) - 1)
    stems = panned(mono, pans[:, None])
    yield "pan", stems
    yield "room", in_a_room(stems, rate, seed)
    wide = stems.clone()
    for k, name in enumerate(names):
        if name in SLOPES:
            wide[:, k] = sloped(mono[k], *SLOPES[name])
        elif name == DOUBLE:
            level = mono[k].norm() / second.norm().clamp_min(1e-6)
            wide[:, k] = panned(mono[k], -0.7) + panned(level * second, 0.7)
        else:
            wide[:, k] = panned(mono[k], 0.0)
    yield "wide", wide


def from_stems(folder: Path, separator: Separator, tracks: int | None) -> Iterator[Item]:
    """Yields every track in all ways."""
    rate, names = separator.loaded.sample_rate, separator.stems
    found = list(find_tracks(folder).values())[:tracks]
    mono = [true_stems(names, files, rate, SECONDS) for files in found]
    for seed, stems in enumerate(mono):
        second = mono[(seed + 1) % len(mono)][names.index(DOUBLE)]
        for way, stereo in made(stems, names, second, rate, seed):
            yield way, stereo, [[k] for k in range(len(names))]


def from_songs(debian: Path, separator: Separator) -> Iterator[Item]:
    """Yields guitar and rest of places in the test songs."""
    rate, names = separator.loaded.sample_rate, separator.stems
    guitar = names.index(DOUBLE)
    groups = [[guitar], [k for k in range(len(names)) if k != guitar]]
    for song in fretsonfire.split(debian)[1]:
        frames = min(soundfile.info(song / f"{part}.ogg").frames for part in ("guitar", "song"))
        for place in range(PLACES):
            parts = [
                _part(song / f"{part}.ogg", frames, place, rate) for part in ("guitar", "song")
            ]
            yield "real", torch.stack(parts, 1), groups


def _part(path: Path, frames: int, place: int, rate: int) -> Tensor:
    own = soundfile.info(path).samplerate
    length = round(SECONDS * own)
    start = int((place + 0.5) / PLACES * frames) - length // 2
    wave, _ = soundfile.read(path, dtype="float32", start=start, frames=length)
    return resample(torch.from_numpy(wave.T.copy()), own, rate)


def improvement(estimate: Tensor, truth: Tensor) -> float:
    """Mean SI-SDR improvement in dB of [2, stem, time] over the stems that sound."""
    mixture = truth.sum(1)
    sounds = truth.square().mean((0, 2)) > 1e-3 * mixture.square().mean()
    flat, given = (x[:, sounds].transpose(0, 1).flatten(1) for x in (estimate, truth))
    return float((si_sdr(flat, given) - si_sdr(mixture.flatten().expand_as(given), given)).mean())


def rows(
    items: Iterator[Item], separators: dict[str, Separator]
) -> Iterator[tuple[str, list[float]]]:
    for way, truth, groups in items:
        gains = []
        for separator in separators.values():
            found = separator.separate(truth.sum(1), separator.loaded.sample_rate)
            stems = torch.stack(list(found.stems.values()), 1)
            joined = torch.stack([stems[:, group].sum(1) for group in groups], 1)
            gains.append(improvement(joined, truth))
        yield way, gains


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    parser = separation_parser((__doc__ or "").split("\n")[0])
    parser.add_argument("--debian", type=Path, help="packages unpacked, for the real songs")
    options = parser.parse_args()
    choices: tuple[Stereo, ...] = ("channels", "image")
    opened = partial(Separator.from_pretrained, options.prior, options.sampler)
    separators: dict[str, Separator] = {
        stereo: opened(overrides=options.set, device=options.device, stereo=stereo)
        for stereo in choices
    }
    any_ = separators["image"]
    found: dict[str, list[list[float]]] = {}
    for way, gains in rows(from_stems(options.stems, any_, options.tracks), separators):
        found.setdefault(way, []).append(gains)
    if options.debian is not None:
        for way, gains in rows(from_songs(options.debian, any_), separators):
            found.setdefault(way, []).append(gains)
    lines = []
    for way, pairs in found.items():
        channels, image = np.array(pairs).T
        half = (
            1.96 * np.std(image - channels, ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else None
        )
        cells = [way, str(len(pairs)), f"{channels.mean():.2f}", f"{image.mean():.2f}"]
        interval = "" if half is None else f" ± {half:.2f}"
        lines.append([*cells, f"{(image - channels).mean():+.2f}{interval}"])
    print(tables.table(["", "n", "channels", "image", "image less channels"], lines))


if __name__ == "__main__":
    run(main)
