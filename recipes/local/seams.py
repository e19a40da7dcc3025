"""Steps at the joins of segments against steps at random cuts of one segment.

    python recipes/local/seams.py STEMS [--joins crossfade condition] [--tracks 4]

separates the sum of the stems STEMS/<track>/<stem>.wav of each track with each way to join its
segments, and measures the steps (``mgdm_audio.evaluation.seams``) of every stem: at the joins; at
random cuts of one segment, an overlap's length or more from a join; and at the joins' places in a
second separation, which begins half a segment later and so has no joins there. Prints a Markdown
table of their means in dB, with 95 % intervals over the places, each the mean of its stems; of the
second separation what the joins have above it, place by place; and the mean SI-SDR improvement.
"""

import math

import torch
from script import run, separation_parser
from torch import Tensor
from truth import true_stems

from mgdm_audio import tables
from mgdm_audio.evaluation.folders import find_tracks, track_number
from mgdm_audio.evaluation.metrics import si_sdr_improvement
from mgdm_audio.evaluation.seams import MEASURES, steps
from mgdm_audio.rng import generator_for
from mgdm_audio.separation.segments import JOINS, starts
from mgdm_audio.separation.separator import Separator

WINDOWS = (0.05, 0.5)  # seconds
CUTS = 10  # random ones for each join


def separated(separator: Separator, mixture: Tensor, seed: int) -> Tensor:
    """[time] -> [stem, time]"""
    return torch.stack(
        [x[0] for x in separator.separate_batch(mixture[None, None], seed=seed).values()]
    )


def places(separator: Separator, time: int, seed: int) -> tuple[list[int], list[int]]:
    """The joins, in the middle of the overlaps, and random cuts."""
    segment, overlap = separator.segmentation.cuts(time)
    joins = [start + overlap // 2 for start in starts(time, segment, overlap)[1:]]
    room = round(max(WINDOWS) * separator.loaded.sample_rate)
    joins = [join for join in joins if room <= join <= time - room]
    generator = generator_for(seed, "cuts")
    cuts: list[int] = []
    while len(cuts) < CUTS * len(joins):
        cut = int(torch.randint(room, time - room, (), generator=generator))
        if all(abs(cut - join) >= overlap for join in joins):
            cuts.append(cut)
    return joins, cuts


def mean(values: Tensor) -> str:
    """[place] -> with its 95 % interval."""
    return f"{values.mean():.2f} ± {1.96 * values.std() / math.sqrt(len(values)):.2f}"


def main() -> None:
    parser = separation_parser((__doc__ or "").split("\n")[0])
    parser.add_argument("--joins", nargs="+", choices=JOINS, default=JOINS)
    parser.add_argument("--segment", type=float, default=12.0, help="seconds")
    parser.add_argument("--overlap", type=float, default=1.0, help="seconds")
    options = parser.parse_args()
    heads = ["join", "SI-SDRi", "window", "step in", "at joins", "at random cuts"]
    print(tables.head([*heads, "joins over no joins"], "lrrlrrr"))
    for join in options.joins:
        separator = Separator.from_pretrained(
            options.prior,
            options.sampler,
            overrides=options.set,
            device=options.device,
            segment=options.segment,
            overlap=options.overlap,
            join=join,
        )
        rate, gains = separator.loaded.sample_rate, []
        found: dict[tuple[float, str], list[Tensor]] = {}
        for track, files in list(find_tracks(options.stems).items())[: options.tracks]:
            truth = true_stems(separator.stems, files, rate)
            mixture, seed, time = truth.sum(0), track_number(track), truth.shape[-1]
            stems, shift = separated(separator, mixture, seed), separator.segment // 2
            there = [i for i, stem in enumerate(separator.stems) if stem in files]
            gains.append(si_sdr_improvement(stems[there], truth[there], rate).mean())
            joins, cuts = places(separator, time, seed)
            other = separated(separator, mixture[shift:], seed)
            for window in WINDOWS:
                inside = [join - shift for join in joins]
                for kind, sound, where in (
                    ("join", stems, joins),
                    ("cut", stems, cuts),
                    ("other", other, inside),
                ):
                    values = steps(sound, where, rate, window).mean(1)  # of the stems
                    found.setdefault((window, kind), []).append(values)
        for window in WINDOWS:
            at, cut, other = (torch.cat(found[window, k], -1) for k in ("join", "cut", "other"))
            for i, measure in enumerate(MEASURES):
                cells = [join, f"{torch.stack(gains).mean():.2f}", f"{window} s", measure]
                cells += [mean(values[i]) for values in (at, cut, at - other)]
                print(tables.row(cells), flush=True)


if __name__ == "__main__":
    run(main)
