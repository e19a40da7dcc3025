"""What a fifth instrument or a voice does to the four stems and to their confidence.

    python egs/mini_slakh/five_stems/local/foreign.py SONGS [--prior PRIOR] [--seconds 12]

SONGS/<track>/{bass,drums,guitar,piano,other}.flac, where every ``other`` sounds. The middle of each
song is separated without ``other`` and with it. Prints a Markdown table: the mean SI-SDR and the
mean confidence of each of the four stems in both cases, and in how many songs the confidence rose;
where the prior has a stem ``other``, its SI-SDR too. Stems that are 30 dB below the mixture are
left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[4] / "recipes" / "local"))

from script import run, separation_parser
from truth import true_stems

from mgdm_audio import tables
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import find_tracks, track_number
from mgdm_audio.evaluation.metrics import si_sdr
from mgdm_audio.separation.separator import Separator

STEMS, FIFTH = ("bass", "drums", "guitar", "piano"), "other"
Found = dict[str, tuple[float, float]]  # stem -> SI-SDR, confidence, both dB


def found(separator: Separator, truth: Tensor, seed: int) -> Found:
    """What the stems of the sum of ``truth``, [stem, time], score and are thought to."""
    mixture = truth.sum(0, keepdim=True)
    result = separator.separate(mixture, separator.loaded.sample_rate, seed=seed)
    confidence = result.confidence_db
    if confidence is None:
        raise UserError("this sampler reports no confidence of a single draw; add --set draws=2")
    floor = 1e-3 * mixture.square().mean()
    return {
        name: (float(si_sdr(result[name][0], true)), expected)
        for name, true in zip((*STEMS, FIFTH), truth, strict=True)
        if name in separator.stems
        and true.square().mean() > floor
        and (expected := confidence[name]) is not None
    }


def main() -> None:
    parser = separation_parser((__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of each track")
    options = parser.parse_args()
    separator = Separator.from_pretrained(
        options.prior, options.sampler, overrides=options.set, device=options.device
    )
    pairs: list[tuple[Found, Found]] = []
    for track, files in list(find_tracks(options.stems).items())[: options.tracks]:
        if missing := {*STEMS, FIFTH} - files.keys():
            raise UserError(f"{track}: has no stem {sorted(missing)[0]}")
        rate = separator.loaded.sample_rate
        truth = true_stems((*STEMS, FIFTH), files, rate, options.seconds)
        alone = truth * torch.tensor([1.0, 1, 1, 1, 0])[:, None]
        seed = track_number(track)
        pairs.append((found(separator, alone, seed), found(separator, truth, seed)))
    lines = []
    for stem in (*STEMS, FIFTH):
        both = [(a[stem], b[stem]) for a, b in pairs if stem in a and stem in b]
        after = torch.tensor([b[stem] for _, b in pairs if stem in b]).reshape(-1, 2).mean(0)
        if both:
            before = torch.tensor([a for a, _ in both]).mean(0)
            rose = sum(b[1] > a[1] for a, b in both)
            cells = [f"{before[0]:.2f}", f"{after[0]:.2f}", f"{before[1]:.2f}", f"{after[1]:.2f}"]
            lines.append([stem, *cells, f"{rose} of {len(both)}"])
        elif stem in separator.stems:
            lines.append([stem, "-", f"{after[0]:.2f}", "-", f"{after[1]:.2f}", "-"])
    heads = ["dB", "SI-SDR alone", "with it", "confidence alone", "with it", "it rose"]
    print(tables.table(heads, lines))


if __name__ == "__main__":
    run(main)
