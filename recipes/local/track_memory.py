"""Peak memory of separating noise of several lengths into files, each in a process of its own.

    python recipes/local/track_memory.py --prior DIR --seconds 60 600

Prints the length in seconds, the peak resident set in MiB and the ratio to the first length. Stereo
at 44.1 kHz, the sampler ``wiener`` with two draws of one step, whose own memory is small.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import soundfile
import torch

from mgdm_audio.separation.separator import Separator

RATE = 44100


def peak_mib(prior: str, seconds: int) -> float:
    """Of this process, after it has separated a track."""
    with tempfile.TemporaryDirectory() as name:
        folder, generator = Path(name), torch.Generator().manual_seed(0)
        with soundfile.SoundFile(folder / "noise.wav", "w", RATE, 2, "PCM_16") as file:
            for _ in range(seconds):
                file.write((0.1 * torch.randn(RATE, 2, generator=generator)).numpy())
        options = ["num_steps=1", "draws=2"]
        separator = Separator.from_pretrained(prior, "wiener", overrides=options, device="cpu")
        with separator.separate(folder / "noise.wav", folder=folder) as found:
            found.save(folder / "out")
    unit = 1024 if sys.platform == "darwin" else 1  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="mini-slakh-v3", help="bundled prior or prior folder")
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 600])
    arguments = parser.parse_args()
    first = None
    for seconds in arguments.seconds:
        # Spawned: the peak of a forked process would be its parent's.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(peak_mib, (arguments.prior, seconds))
        first = first or peak
        print(f"{seconds:6d} s  {peak:7.0f} MiB  {peak / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
