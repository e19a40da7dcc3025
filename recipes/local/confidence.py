"""Whether the confidence of a separation is the SI-SDR that its stems then have.

    python recipes/local/confidence.py STEMS [--seconds 20] [--set draws=8]

separates the sum of the stems STEMS/<track>/<stem>.wav, of each track the middle so many seconds,
and compares the confidence (``Separation.confidence_db``) with the SI-SDR, both of whole excerpts
and of windows of 4 s, where the true stem is at most 30 dB below the mixture. Prints a Markdown
table: the means of both in dB, the mean absolute difference, and Pearson's correlation; and beside
it what the confidence would be by the spread of the draws alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from script import run, separation_parser
from torch import Tensor
from truth import true_stems

from mgdm_audio import tables
from mgdm_audio.evaluation.folders import find_tracks, track_number
from mgdm_audio.evaluation.metrics import si_sdr
from mgdm_audio.separation.result import Separation
from mgdm_audio.separation.separator import Separator
from mgdm_audio.separation.uncertainty import confidence_db

WINDOW = 4  # seconds
Row = tuple[str, float, float, float]  # stem; SI-SDR, confidence, the same by draws alone, dB


def rows(found: Separation, truth: Tensor, window: float) -> Iterator[Row]:
    """Of each ``window`` (seconds) and each stem that sounds in it."""
    rate = found.sample_rate
    assert found.spread is not None
    assert found.draws is not None
    deviations = found.draws.var(0)  # [stem, channel, time]
    length, hop = round(window * rate), round(found.spread.hop * rate)
    for start in range(0, truth.shape[-1] - length + 1, length):
        span, spans = slice(start, start + length), slice(start // hop, (start + length) // hop)
        part = replace(
            found.spread, std={name: x[:, spans] for name, x in found.spread.std.items()}
        )
        power = {name: float(x[:, span].square().mean()) for name, x in found.stems.items()}
        confidence = confidence_db(power, part, window)
        floor = 1e-3 * truth[:, span].sum(0).square().mean()
        for k, name in enumerate(found.stems):
            true, expected = truth[k, span], confidence[name]
            if true.square().mean() > floor and expected is not None:
                alone = 10 * math.log10(power[name] / float(deviations[k, :, span].mean()))
                yield name, float(si_sdr(found.stems[name][0, span], true)), expected, alone


def line(name: str, found: Sequence[Row]) -> list[str]:
    """The cells of a line of the table."""
    true, expected, alone = torch.tensor([row[1:] for row in found], dtype=torch.float64).T
    cells = [name, str(len(found)), f"{true.mean():.2f}"]
    for x in (expected, alone):
        both = torch.corrcoef(torch.stack([x, true]))[0, 1]
        cells += [f"{x.mean():.2f}", f"{(x - true).abs().mean():.2f}", f"{both:.2f}"]
    return cells


def main() -> None:
    parser = separation_parser((__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each track")
    options = parser.parse_args()
    separator = Separator.from_pretrained(
        options.prior, options.sampler, overrides=options.set, device=options.device
    )
    whole: list[Row] = []
    windows: list[Row] = []
    for track, files in list(find_tracks(options.stems).items())[: options.tracks]:
        rate = separator.loaded.sample_rate
        truth = true_stems(separator.stems, files, rate, options.seconds)
        found = separator.separate(
            truth.sum(0, keepdim=True),
            separator.loaded.sample_rate,
            seed=track_number(track),
            keep_draws=True,
        )
        windows += rows(found, truth, WINDOW)
        whole += rows(found, truth, truth.shape[-1] / found.sample_rate)
    heads = ["", "n", "SI-SDR", "confidence", "error", "correlation"]
    lines = [line("excerpts", whole), line(f"windows of {WINDOW} s", windows)]
    for stem in separator.stems:
        if own := [row for row in windows if row[0] == stem]:
            lines.append(line(f"  {stem}", own))
    print(tables.table([*heads, "by draws", "error", "correlation"], lines))


if __name__ == "__main__":
    run(main)
