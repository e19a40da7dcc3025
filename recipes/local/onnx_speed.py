"""Seconds that one call of the default's network takes in torch and in onnxruntime.

    python recipes/local/onnx_speed.py --prior mini-slakh-v3 --threads 1

Exports the prior and prints a table: for each runtime the median over ``--repeats`` calls, which
take turns, on a segment of ``--seconds``; the same as seconds a second of audio; and the largest
difference of its stems from those of torch in float32, over the peak. bfloat16 is there where the
processor is fast in it. The load of the machine stands below: it decides what seconds are worth.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from mgdm_audio.engine.device import fast_precision
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.priors.onnx import default_sigma, export_onnx

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def in_torch(loaded: LoadedPrior, autocast: bool) -> Run:
    sigma = torch.tensor(default_sigma(loaded))

    @torch.no_grad()
    def run(mixture: np.ndarray, noise: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            x = sigma * torch.from_numpy(noise)
            return loaded.network(x, sigma, torch.from_numpy(mixture)).numpy()

    return run


def in_onnxruntime(loaded: LoadedPrior, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(loaded, path := Path(folder) / "prior.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda mixture, noise: session.run(None, {"mixture": mixture, "noise": noise})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="mini-slakh-v3", help="bundled prior or prior folder")
    parser.add_argument("--seconds", type=float, default=12.0, help="of the segment")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="calls of each runtime")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loaded = load_prior(arguments.prior)
    runs = {"torch, float32": in_torch(loaded, autocast=False)}
    if fast_precision(torch.device("cpu")) == "bfloat16":  # else it is slower, and nobody's default
        runs["torch, bfloat16"] = in_torch(loaded, autocast=True)
    runs["onnxruntime, float32"] = in_onnxruntime(loaded, arguments.threads)
    hop = loaded.network.hop
    length = round(arguments.seconds * loaded.sample_rate / hop) * hop
    random = np.random.default_rng(0)
    mixture = loaded.mixture_rms * random.standard_normal((1, 1, length), dtype=np.float32)
    noise = random.standard_normal((1, len(loaded.stems), length), dtype=np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    stems = {name: run(mixture, noise) for name, run in runs.items()}  # and warm them up
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            begun = time.perf_counter()
            run(mixture, noise)
            seconds[name].append(time.perf_counter() - begun)
    reference = stems["torch, float32"]
    print("| runtime | s | s / s | fastest, s / s | difference |\n|---|---:|---:|---:|---:|")
    audio = length / loaded.sample_rate
    for name, taken in seconds.items():
        difference = np.abs(stems[name] - reference).max() / np.abs(reference).max()
        middle = statistics.median(taken)
        print(f"| {name} | {middle:.2f} | {middle / audio:.3f} | {min(taken) / audio:.3f} "
              f"| {difference:.1e} |")  # fmt: skip
    print(
        f"\ntorch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {arguments.threads} "
        f"thread(s), segment of {audio:.1f} s, load of the machine {os.getloadavg()[1]:.1f}"
    )


if __name__ == "__main__":
    main()
