"""Reference systems without sampling: lower bounds for a sampler, and an oracle mask.

``mixture``       every stem is the mixture divided by the number of stems: SI-SDRi is 0, but higher
                  in windows where a stem is silent, since the score rewards quiet estimates there
``wiener-split``  w_k = s_k^2 / sum_j s_j^2 in each MDCT band, with s_k the level of source k
``oracle-mask``   |S_k| / sum_j |S_j| of the true stems, applied to the mixture's STFT
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.evaluation.folders import find_tracks
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import LoadedPrior

Baseline = Callable[[Tensor, Tensor, list[str]], Tensor]
"""Maps (mixture [channel, time], true stems [stem, channel, time], their names) to estimates."""

NAMES = ("mixture", "wiener-split", "oracle-mask")
N_FFT, HOP = 2048, 512


def baselines(prior: LoadedPrior, scale: Tensor | None = None) -> dict[str, Baseline]:
    """Returns the systems by name, "wiener-split" only for a network on MDCT bands.

    ``scale``: its levels [source, band], by default the prior's, measured on augmented stems.
    """
    found: dict[str, Baseline] = {"mixture": equal_shares, "oracle-mask": oracle_mask}
    if isinstance(prior.network, TFUNet):
        network, scale = prior.network, prior.network.scale if scale is None else scale
        found["wiener-split"] = partial(wiener_split, prior=prior, network=network, scale=scale)
    return found


def equal_shares(mixture: Tensor, truth: Tensor, stems: list[str]) -> Tensor:
    return (mixture / len(truth)).expand_as(truth)


def wiener_split(
    mixture: Tensor,
    truth: Tensor,
    stems: list[str],
    *,
    prior: LoadedPrior,
    network: TFUNet,
    scale: Tensor,
) -> Tensor:
    power = scale[[prior.stems.index(stem) for stem in stems]].square()  # [stem, band]
    share = (power / power.sum(0))[:, None, None]  # over channels and frames
    parts = network.synthesis(share * network.analysis(mixture.to(scale)), mixture.shape[-1])
    return parts.to(mixture)


def training_levels(folder: Path, prior: LoadedPrior, network: TFUNet) -> Tensor:
    """Returns the rms of each (source, MDCT band) over the tracks of ``folder``."""
    tracks = find_tracks(folder)
    power = torch.zeros_like(network.scale)
    for files in tracks.values():
        for stem, path in files.items():
            spectrum = network.analysis(read(path, damaged="refuse").samples.mean(0))
            power[prior.stems.index(stem)] += spectrum.square().mean(0)
    return (power / len(tracks)).sqrt().clamp_min(1e-6)


def oracle_mask(mixture: Tensor, truth: Tensor, stems: list[str]) -> Tensor:
    window = torch.hann_window(N_FFT)
    spectrum = partial(torch.stft, n_fft=N_FFT, hop_length=HOP, window=window, return_complex=True)
    level = spectrum(truth.flatten(0, 1)).abs().unflatten(0, truth.shape[:2])
    masked = level / level.sum(0).clamp_min(1e-12) * spectrum(mixture)
    length = mixture.shape[-1]
    waves = torch.istft(masked.flatten(0, 1), N_FFT, HOP, window=window, length=length)
    return waves.unflatten(0, truth.shape[:2])
