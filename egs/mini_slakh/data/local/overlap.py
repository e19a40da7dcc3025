"""Look for recordings that fonts have in common, whatever their gain, trimming and sample rate.

    python local/overlap.py guitar_*.sf2 --against TimGM6mb.sf2 Merlin.sf2

prints each recording whose attack occurs in one of the other fonts: the peak of the normalised
cross-correlation of its first 0.2 s with them reaches --threshold. The same recording scores 0.95
and more, after filtering 0.85 and more; different ones stay under 0.7, but for near-sines (flutes,
electric pianos, bells), which match by chance and are to be judged by their names.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import sf2
import torch
from torchaudio.functional import resample

RATE = 11025
WINDOW, LONGEST = RATE // 5, RATE  # of the attack looked for, and searched in each reference
SIZE = 13500  # of the transforms: LONGEST + WINDOW fit in
SHORTEST = 150
Recordings = list[tuple[str, np.ndarray]]  # "font: name" and the prepared recording
CANDIDATES = 40  # references, by their magnitude spectra, that are worth correlating


class References:
    """Recordings to search: their names, and what the correlations need of them."""

    def __init__(self, recordings: Recordings) -> None:
        self.names = [name for name, _ in recordings]
        waves = np.zeros((len(recordings), LONGEST), np.float32)
        owners, shapes = [], []
        for k, (_, whole) in enumerate(recordings):
            wave = whole[:LONGEST]
            waves[k, : len(wave)] = wave
            for start in (0, WINDOW // 4, WINDOW // 2, WINDOW, 2 * WINDOW):
                part = _from_attack(wave)[start : start + WINDOW]
                if len(part) >= SHORTEST and part.any():
                    owners.append(k)
                    shapes.append(_shape(part))
        self.owners, self.shapes = np.array(owners), np.array(shapes)
        self.spectra = np.fft.rfft(waves, SIZE).astype(np.complex64)
        self.energy = np.cumsum(np.pad(waves.astype(np.float64), ((0, 0), (1, 0))) ** 2, axis=1)

    def best(self, wave: np.ndarray) -> tuple[float, str]:
        """The highest absolute correlation of `wave`'s attack, and the reference it is with."""
        attack = _from_attack(wave)[:WINDOW]
        if len(attack) < SHORTEST:
            return 0.0, "too short to tell"
        alike = np.full(len(self.names), -1.0)
        np.maximum.at(alike, self.owners, self.shapes @ _shape(attack))
        top = np.argsort(-alike)[:CANDIDATES]
        count = LONGEST - len(attack) + 1
        product = self.spectra[top] * np.conj(np.fft.rfft(attack, SIZE))
        correlation = np.abs(np.fft.irfft(product, SIZE)[:, :count])
        energy = self.energy[top, len(attack) :] - self.energy[top, :count]
        energy = np.maximum(energy, 1e-4 * energy.max(axis=1, keepdims=True) + 1e-12)
        score = correlation / np.sqrt(energy * (attack.astype(np.float64) ** 2).sum())
        row = int(score.max(axis=1).argmax())
        return float(score.max()), self.names[top[row]]


def prepare(data: np.ndarray, rate: int) -> np.ndarray:
    """A recording at RATE, differenced so that its low partials do not decide alone."""
    wave = torch.from_numpy(data[: 2 * rate].astype(np.float32))
    ratio = Fraction(RATE, rate).limit_denominator(400)
    at_rate = resample(wave, ratio.denominator, ratio.numerator).numpy()
    return np.diff(at_rate, prepend=np.float32(0))


def recordings_of(fonts: list[Path]) -> Recordings:
    """The recordings of fonts that are long enough to tell, prepared."""
    found: Recordings = []
    for font in fonts:
        zones = [zone for preset in sf2.read(font) for zone in preset.zones]
        for sample in {id(zone.sample): zone.sample for zone in zones}.values():
            wave = prepare(sample.data, sample.rate)
            if len(wave) >= SHORTEST:
                found.append((f"{font.stem}: {sample.name}", wave))
    return found


def _from_attack(wave: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max(initial=0))
    return wave[loud[0] :] if len(loud) else wave[:0]


def _shape(part: np.ndarray) -> np.ndarray:
    """The magnitude spectrum in 256 bands, square root, without mean, of norm 1."""
    bands = np.abs(np.fft.rfft(part, 4096))[:2048].reshape(256, 8).mean(axis=1)
    centred = np.sqrt(bands) - np.sqrt(bands).mean()
    return np.asarray(centred / (np.linalg.norm(centred) + 1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("fonts", type=Path, nargs="+")
    parser.add_argument("--against", type=Path, nargs="+", required=True)
    parser.add_argument("--threshold", type=float, default=0.85)
    options = parser.parse_args()
    references = References(recordings_of(options.against))
    recordings = recordings_of(options.fonts)
    found = 0
    for name, wave in recordings:
        score, other = references.best(wave)
        if score >= options.threshold:
            found += 1
            print(f"{score:.3f}  {name}  =  {other}", flush=True)
    print(f"{len(recordings)} recordings, {len(references.names)} others: {found} matches")


if __name__ == "__main__":
    main()
