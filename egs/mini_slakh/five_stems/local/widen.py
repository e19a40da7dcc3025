"""Start a prior over a further stem from the weights of another.

    python local/widen.py mini-slakh-v2 OUT --stem other --songs SONGS [--double-bins]

OUT is a prior folder. The outputs of the new stem are zero, so that it begins as the static Wiener
filter's. Its level in each bin is measured on SONGS/<track>/<stem>.flac, songs in which it is
silent included. With --double-bins the grid has as many positions and half as many frames, so that
a call costs half: each patch holds twice as many bins, and its weights are repeated.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.priors.folder import load_prior, save_prior
from mgdm_audio.rng import generator_for
from mgdm_audio.training.augmentation import UNCHANGED
from mgdm_audio.training.stems import StemFolder

EXAMPLES, LENGTH = 400, 32768  # from which a stem's levels are measured


def with_double_bins(network: TFUNet) -> TFUNet:
    """Returns the network on half as many frames of twice as many bins, with the same trunk."""
    config = network.config
    k, patch = config.sources, config.patch
    wide = TFUNet(replace(config, bins=2 * config.bins, patch=2 * patch))
    # A pair stands for one bin: its coefficients share the bin's power, its levels are averaged.
    linear = {*range(k), 2 * k, 2 * k + 2}
    scale = torch.tensor([0.5**0.5 if i in linear else 0.5 for i in range(2 * k + 4)])
    enter = network.enter.weight.view(-1, 2 * k + 4, patch) * scale[:, None]

    def rows(values: Tensor) -> Tensor:
        return values.unflatten(0, (-1, patch)).repeat_interleave(2, 1).flatten(0, 1)

    changed = {name: rows(values) for name, values in _outputs(network).items()}
    changed["enter.weight"] = enter.repeat_interleave(2, 2).flatten(1)
    changed["scale"] = network.scale.repeat_interleave(2, 1)
    wide.load_state_dict(network.state_dict() | changed)
    return wide


def with_source(network: TFUNet, scale: Tensor) -> TFUNet:
    """Returns the network with one more source, whose outputs are zero.

    ``scale``: [bins], the prior's standard deviation of its MDCT coefficients.
    """
    config = network.config
    k, patch = config.sources, config.patch
    wide = TFUNet(replace(config, sources=k + 1))
    enter = network.enter.weight.view(-1, 2 * k + 4, patch)
    none = enter.new_zeros(len(enter), 1, patch)
    enter = torch.cat([enter[:, :k], none, enter[:, k : 2 * k], none, enter[:, 2 * k :]], 1)

    def rows(values: Tensor) -> Tensor:
        groups = values.unflatten(0, (-1, k, patch))  # additive, on source, on mixture
        return torch.cat([groups, torch.zeros_like(groups[:, :1])], 1).flatten(0, 2)

    changed = {name: rows(values) for name, values in _outputs(network).items()}
    changed["enter.weight"] = enter.flatten(1)
    changed["scale"] = torch.cat([network.scale, scale[None]])
    wide.load_state_dict(network.state_dict() | changed)
    return wide


def _outputs(network: TFUNet) -> dict[str, Tensor]:
    """Returns the parameters whose rows are [group, source, bin of a patch]."""
    names = [
        f"{layer}.{kind}" for layer in ("leave", "log_variance.2") for kind in ("weight", "bias")
    ]
    state = network.state_dict()
    return {name: state[name] for name in names}


def levels(songs: Path, stem: str, rate: int, bins: int) -> Tensor:
    """Returns the rms of ``stem`` in each MDCT bin over segments of all songs: [bins].

    ``rate``: of the songs in Hz. Raises UserError where no song has the stem's file.
    """
    folder = StemFolder(songs, [stem], rate)
    examples = folder.batch(EXAMPLES, LENGTH, UNCHANGED, generator_for(0, "levels"))
    measured = TFUNet(TFUNetConfig(bins=bins, sources=1))
    measured.measure(examples)
    return measured.scale[0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("prior")
    parser.add_argument("out", type=Path)
    parser.add_argument("--stem", required=True)
    parser.add_argument("--songs", type=Path, required=True)
    parser.add_argument("--double-bins", action="store_true")
    options = parser.parse_args(arguments)
    start = load_prior(options.prior)
    network = with_double_bins(start.network) if options.double_bins else start.network
    level = levels(options.songs, options.stem, start.sample_rate, network.config.bins)
    network = with_source(network, level)
    config = {
        key: start.config[key] for key in ("schedule", "sample_rate", "mixture_rms", "segment")
    }
    details = config | {"stems": [*start.stems, options.stem], "step": 0}
    save_prior(options.out, network, network.config, "tf_unet", details)


if __name__ == "__main__":
    main()
