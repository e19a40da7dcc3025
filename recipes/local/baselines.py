"""What a sampler must beat, and what masks could reach: estimates that need no sampling.

    python baselines.py REFERENCE MIXTURES OUT --prior PRIOR [--statistics TRAINING_STEMS]

writes OUT/<baseline>/<track>/<stem>.wav for ``mgdm_audio.evaluation.benchmark.baselines``. The
levels of wiener-split are those of a folder of training stems as they are, or else the prior's.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from pending import is_done
from script import run

from mgdm_audio import __version__
from mgdm_audio.atomic import replaced_folder, write_text
from mgdm_audio.audio.io import read, write
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.baselines import Baseline, baselines, training_levels
from mgdm_audio.evaluation.folders import find_tracks
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import load_prior


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
    audio = read(mixture, damaged="refuse")
    truth = torch.stack([read(path, damaged="refuse").samples for path in files.values()])
    begun = time.monotonic()
    estimates = baseline(audio.samples, truth, list(files))
    seconds = time.monotonic() - begun
    record = settings | {
        "version": __version__,
        "sample_rate": audio.sample_rate,
        "samples": audio.samples.shape[-1],
        "seconds": round(seconds, 3),
    }
    with replaced_folder(out) as partial:
        for stem, samples in zip(files, estimates, strict=True):
            write(partial / f"{stem}.wav", samples, audio.sample_rate, "FLOAT")
        record["files"] = {file.name: hash_file(file) for file in sorted(partial.iterdir())}
        write_text(partial / "separation.json", json.dumps(record, indent=2) + "\n")


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
    scale = None
    if options.statistics is not None and isinstance(prior.network, TFUNet):
        scale = training_levels(options.statistics, prior, prior.network)
    found = baselines(prior, scale)
    for track, files in find_tracks(options.reference).items():
        if unknown := sorted(files.keys() - set(prior.stems)):
            known = ", ".join(prior.stems)
            raise UserError(f"{files[unknown[0]]}: the prior's stems are {known}")
        for name, baseline in found.items():
            settings: dict[str, object] = {"sampler": name}
            if name == "wiener-split":
                settings["prior_sha256"] = prior.sha256
                settings["statistics"] = str(options.statistics)
            mixture, out = options.mixtures / f"{track}.wav", options.out / name / track
            estimate_track(baseline, files, mixture, out, settings)


if __name__ == "__main__":
    with torch.no_grad():
        run(main)
