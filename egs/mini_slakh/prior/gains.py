"""How much better a prior denoises than the static Wiener filter, per noise level.

    python gains.py mini-slakh-v2 STEMS/validation --levels STEMS/train

prints a Markdown table of denoising errors over the signal's energy in dB, of all stems together,
of x alone and with the mixture: of the prior, of the filter, and their difference, the gain.
STEMS/... are folders of songs, TrackXXXXX/{bass,drums,guitar,piano}.flac; the filter takes its
level per stem and frequency from --levels.
"""

import argparse
import sys
from pathlib import Path

import torch

from mgdm_audio import tables
from mgdm_audio.diffusion import MixtureDenoiser
from mgdm_audio.engine.device import at_precision
from mgdm_audio.errors import UserError
from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.training.objective import validate
from mgdm_audio.training.stems import StemFolder

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes/local"))
from script import run

SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0)
LENGTH = 2**17  # samples of a segment


def table(errors: dict[str, dict[str, float]]) -> str:
    """``errors``: row -> "prior@0.1" -> dB, of the rows "network" and "filter"."""
    lines = []
    for mode, what in (("prior", "x alone"), ("given", "x and the mixture")):
        rows = {
            name: [row[f"{mode}@{sigma:g}"] for sigma in SIGMAS] for name, row in errors.items()
        }
        pairs = zip(rows["filter"], rows["network"], strict=True)
        rows["gain"] = [static - network for static, network in pairs]
        for name, row in rows.items():
            lines.append([f"{what}: {name}", *(f"{value:.2f}" for value in row)])
    return tables.table(["", *(f"sigma = {sigma:g}" for sigma in SIGMAS)], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("prior")
    parser.add_argument("stems", type=Path)
    parser.add_argument("--levels", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=24, help="of 2^17 samples, of each folder")
    options = parser.parse_args()
    if options.segments < 1:
        raise UserError(f"--segments {options.segments}: give at least 1")
    loaded = load_prior(options.prior)
    denoiser = at_precision(loaded.prior, torch.device("cpu"), "auto")[0].denoiser
    if not isinstance(denoiser, MixtureDenoiser) or not isinstance(loaded.network, TFUNet):
        raise UserError(f"{options.prior}: is no tf_unet, which has a static Wiener filter to beat")
    x_0, training = (
        StemFolder(folder, loaded.stems, loaded.sample_rate).fixed(options.segments, LENGTH)
        for folder in (options.stems, options.levels)
    )
    # Untrained, a network is that filter, whatever its width.
    shape = loaded.network.config
    static = TFUNet(TFUNetConfig(shape.sources, shape.bins, shape.patch, (16,), (1,))).eval()
    static.measure(training)
    errors = {
        name: {key: found["all"] for key, found in validate(network, x_0, SIGMAS).items()}
        for name, network in (("network", denoiser.network), ("filter", static))
    }
    print(table(errors))


if __name__ == "__main__":
    run(main)
