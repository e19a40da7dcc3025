#!/usr/bin/env python3
"""MSDM at its published width: convert a checkpoint, compare it with the public module, time it.

The weights are random: this shows that the public ones would convert and what they would cost, and
says nothing about how they separate. Each stage is a process of its own, so that its peak memory,
the mapped files included, is its own. About 4 GB of disk; needs audio-diffusion-pytorch 0.0.43:

    pip install --no-deps audio-diffusion-pytorch==0.0.43 einops einops-exts
    python egs/slakh2100/msdm/local/full_width.py [--folder FOLDER] [--threads 1] [--device cpu]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.priors.convert_msdm import convert
from mgdm_audio.priors.folder import load_prior

PARAMETERS = 405_497_700
COMPARED, TIMED = 2**16, 2**18  # samples
SIGMA, C_NOISE = 0.2, -0.4  # a noise level, and near log(0.2) / 4, as the network is told it
TOLERANCE = 1e-5  # of float32 outputs near 1, added in another order
SETTINGS: dict[str, Any] = {
    "in_channels": 4,
    "channels": 256,
    "patch_factor": 16,
    "patch_blocks": 1,
    "resnet_groups": 8,
    "kernel_multiplier_downsample": 2,
    "kernel_sizes_init": [1, 3, 7],
    "multipliers": [1, 2, 4, 4, 4, 4, 4],
    "factors": [4, 4, 4, 2, 2, 2],
    "num_blocks": [2, 2, 2, 2, 2, 2],
    "attentions": [False, False, False, True, True, True],
    "attention_heads": 8,
    "attention_features": 128,
    "attention_multiplier": 2,
    "use_nearest_upsample": False,
    "use_skip_scale": True,
    "use_attention_bottleneck": True,
    "diffusion_sigma_data": 0.2,
    "diffusion_dynamic_threshold": 0.0,
}


def noise(time_: int) -> Tensor:
    generator = torch.Generator().manual_seed(time_)
    return torch.randn(1, SETTINGS["in_channels"], time_, generator=generator)


@torch.no_grad()
def make(folder: Path, seed: int, device: str) -> None:
    """A checkpoint as Lightning writes it, and what the public module makes of some noise."""
    import audio_diffusion_pytorch as public

    torch.manual_seed(seed)
    model = public.AudioDiffusionModel(**SETTINGS).eval()
    for parameter in model.parameters():
        if parameter.ndim < 2 or parameter.shape[0] == 1:
            # Off its initial zero or one, which would hide a gain or a bias in a wrong place.
            parameter += 0.1 * torch.randn_like(parameter)
    levels = public.LogNormalDistribution(mean=-3.0, std=1.0)
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    print(f"public module: {len(tensors)} entries")
    torch.save(
        {
            "epoch": 0,
            "pytorch-lightning_version": "1.7.7",
            "state_dict": tensors,
            "hyper_parameters": SETTINGS | {"diffusion_sigma_distribution": levels},
        },
        folder / "msdm.ckpt",
    )
    torch.save(model.unet(noise(COMPARED), torch.tensor([C_NOISE])), folder / "expected.pt")


def convert_it(folder: Path, seed: int, device: str) -> None:
    (network,) = convert(folder / "msdm.ckpt", folder / "prior")
    count = sum(value.numel() for value in network.tensors.values())
    print(f"converted: {count:,} parameters in {len(network.tensors)} tensors")
    if count != PARAMETERS:
        raise SystemExit(f"error: the published network has {PARAMETERS:,}")


def check(folder: Path, seed: int, device: str) -> None:
    network = load_prior(folder / "prior").network
    expected = torch.load(folder / "expected.pt", weights_only=True)
    actual = network(noise(COMPARED), torch.tensor([C_NOISE]))
    error = float((actual - expected).abs().max())
    spread = float(expected.std())
    print(f"[1, 4, {COMPARED}]: largest difference {error:.1e}, outputs of deviation {spread:.2f}")
    if not error < TOLERANCE:
        raise SystemExit(f"error: more than {TOLERANCE}")


def load(folder: Path, seed: int, device: str) -> None:
    begun = time.perf_counter()
    load_prior(folder / "prior", device)
    print(f"loaded in {time.perf_counter() - begun:.1f} s")


def forward(folder: Path, seed: int, device: str) -> None:
    denoiser = load_prior(folder / "prior", device).prior.denoiser
    x, sigma = noise(TIMED).to(device), torch.tensor(SIGMA)
    with torch.no_grad():
        for attempt in ("first", "second"):
            begun, used = time.perf_counter(), time.process_time()
            denoiser(x, sigma).cpu()
            seconds, cpu = time.perf_counter() - begun, time.process_time() - used
            print(f"[1, 4, {TIMED}]: {seconds:.1f} s ({cpu:.1f} of CPU), {attempt} forward pass")


def run(stage: Callable[[Path, int, str], None], threads: int, *arguments: Any) -> None:
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    stage(*arguments)
    # In kilobytes on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    taken = time.perf_counter() - begun
    print(f"    {stage.__name__}: {taken:.1f} s, peak memory {peak:.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to keep the files (default: nowhere)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the timed passes; memory is the CPU's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.device}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for stage in (make, convert_it, check, load, forward):
            process = multiprocessing.get_context("spawn").Process(
                target=run, args=(stage, options.threads, folder, options.seed, options.device)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"error: {stage.__name__} failed, see above")


if __name__ == "__main__":
    main()
