#!/usr/bin/env python3
"""Compares the mean over the default's speeds of a track with that over other speeds.

    python egs/mini_slakh/separate/speeds.py STEMS [--seconds 48]

separates the middle of the mono sum of the stems STEMS/<track>/<stem>.wav with one draw at each of
``SPEEDS``. Prints a Markdown table of the means over the draws of each of ``SETS``: the SI-SDR
improvement in dB by the protocol of the MGDM paper, over all stems but "other"; and the difference
from that of the default's speeds, with its 95 % interval over tracks. A draw has the same offset of
its frames in all sets, while the draws of a preset have offsets that depend on their number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes/local"))
from script import run, separation_parser
from truth import true_stems

from mgdm_audio import tables
from mgdm_audio.evaluation.folders import find_tracks
from mgdm_audio.evaluation.metrics import si_sdr_improvement
from mgdm_audio.separation.separator import Separator

SPEEDS = (0, -3, 3, -2, 5)  # semitones
DEFAULT = (0, -3, 3)
SETS = (DEFAULT, (0,), (0, -3), (0, 3), (0, 5), (0, -2, 5), SPEEDS)


def gains(stems: Path, separator: Separator, tracks: int | None, seconds: float) -> np.ndarray:
    """Returns the improvement of each track by each of ``SETS``: [track, set]."""
    rate = separator.loaded.sample_rate
    scored = [k for k, name in enumerate(separator.stems) if name != "other"]
    rows = []
    for files in list(find_tracks(stems).values())[:tracks]:
        truth = true_stems(separator.stems, files, rate, seconds)
        mixture = truth.sum(0, keepdim=True)
        with separator.separate(mixture, rate, draws=len(SPEEDS), keep_draws=True) as found:
            draws = dict(zip(SPEEDS, found.parts.read(0, found.parts.time)[1:, :, 0], strict=True))
        means = [sum(draws[s] for s in speeds) / len(speeds) for speeds in SETS]
        each = [si_sdr_improvement(x[scored], truth[scored], rate, mixture[0]) for x in means]
        rows.append([float(x.nanmean()) for x in each])
    return np.array(rows)


def main() -> None:
    parser = separation_parser((__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=48)
    options = parser.parse_args()
    separator = Separator.from_pretrained(
        options.prior,
        options.sampler,
        overrides=options.set,
        device=options.device,
        speeds=SPEEDS,
    )
    found = gains(options.stems, separator, options.tracks, options.seconds)
    lines = []
    for speeds, each in zip(SETS, found.T, strict=True):
        apart = each - found[:, SETS.index(DEFAULT)]
        half = 1.96 * np.std(apart, ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else None
        interval = "" if half is None else f" ± {half:.2f}"
        name = ", ".join(map(str, speeds))
        lines.append([name, str(len(each)), f"{each.mean():.2f}", f"{apart.mean():+.2f}{interval}"])
    print(tables.table(["speeds, semitones", "n", "SI-SDRi", "difference"], lines))


if __name__ == "__main__":
    run(main)
