"""What a sampler must beat, and what masks could reach: estimates that need no sampling.

    python baselines.py REFERENCE MIXTURES OUT --prior PRIOR [--statistics TRAINING_STEMS]

writes OUT/<baseline>/<track>/<stem>.wav for
    mixture       every stem is the mixture, divided by the number of stems: SI-SDRi is 0, but
                  above it in windows where a stem rests, as scores reward quiet estimates there
    wiener-split  w_k = s_k^2 / sum_j s_j^2 in each MDCT band, with the levels s_k of a folder of
                  training stems as they are, or else those in the prior, measured on augmented ones
    oracle-mask   |S_k| / sum_j |S_j| of the true stems, on the mixture's STFT
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pending import is_done
from script import run
from torch import Tensor

from mgdm_audio import __version__
from mgdm_audio.audio.io import read, write
from mgdm_audio.audio.scoring import find_tracks
from mgdm_audio.checkpoint import LoadedPrior, load_prior
from mgdm_audio.errors import UserError
from mgdm_audio.networks.tf_unet import TFUNet

Baseline = Callable[[Tensor, Tensor, list[str]], Tensor]
"""(mixture [channel, time], true stems [stem, channel, time], their names) -> as the stems."""

N_FFT, HOP = 2048, 512


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
    return network.synthesis(share * network.analysis(mixture), mixture.shape[-1])


def training_levels(folder: Path, prior: LoadedPrior, network: TFUNet) -> Tensor:
    """rms of each (source, MDCT band) over the tracks of ``folder``, [source, band]."""
    tracks = find_tracks(folder)
    power = torch.zeros_like(network.scale)
    for files in tracks.values():
        for stem, path in files.items():
            spectrum = network.analysis(read(path).samples.mean(0))
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


def estimate_track(
    baseline: Baseline,
    files: dict[str, Path],
    mixture: Path,
    out: Path,
    settings: dict[str, object],
) -> None:
    """Write the folder ``out`` whole or not at all, unless it is up to date."""
    if is_done(out, mixture, settings):
        return
    audio = read(mixture)
    truth = torch.stack([read(path).samples for path in files.values()])
    begun = time.monotonic()
    estimates = baseline(audio.samples, truth, list(files))
    seconds = time.monotonic() - begun
    room = out.with_name(f".{out.name}.partial")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    for stem, samples in zip(files, estimates, strict=True):
        write(room / f"{stem}.wav", samples, audio.sample_rate, "FLOAT")
    record = settings | {
        "version": __version__,
        "sample_rate": audio.sample_rate,
        "samples": audio.samples.shape[-1],
        "seconds": round(seconds, 3),
    }
    (room / "separation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    room.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("mixtures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prior", required=True)
    parser.add_argument("--statistics", type=Path)
    options = parser.parse_args()
    prior = load_prior(options.prior)
    print(f"prior {options.prior}: {', '.join(prior.stems)} at {prior.sample_rate} Hz")
    baselines: dict[str, Baseline] = {"mixture": equal_shares, "oracle-mask": oracle_mask}
    if isinstance(prior.network, TFUNet):
        network, scale = prior.network, prior.network.scale
        if options.statistics is not None:
            scale = training_levels(options.statistics, prior, network)
        baselines["wiener-split"] = partial(wiener_split, prior=prior, network=network, scale=scale)
    for track, files in find_tracks(options.reference).items():
        if unknown := sorted(files.keys() - set(prior.stems)):
            known = ", ".join(prior.stems)
            raise UserError(f"{files[unknown[0]]}: the prior's stems are {known}")
        for name, baseline in baselines.items():
            settings: dict[str, object] = {"sampler": name}
            if name == "wiener-split":
                settings["prior_sha256"] = prior.sha256
                settings["statistics"] = str(options.statistics)
            mixture, out = options.mixtures / f"{track}.wav", options.out / name / track
            estimate_track(baseline, files, mixture, out, settings)


if __name__ == "__main__":
    with torch.no_grad():
        run(main)
