"""What the presets and the training take on a GPU, in eight minutes at most.

    python egs/speed/local/accelerator.py --results egs/speed/ACCELERATOR.md

Prints each figure as soon as it is there: MGDM on 11.89 s under MSDM's network at its published
width (random weights, which take as long) first, whose time on a GPU is not published; then MGDM
and the default under the bundled prior, and training examples a second. A measurement that would
exceed what is left of --budget is left out, and its row says so. With --tiny all networks and
lengths are small, for a test on a CPU.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.engine import choose_device
from mgdm_audio.engine.device import fast_precision
from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.priors.folder import DEFAULT_PRIOR, load_prior, save_prior
from mgdm_audio.rng import generator_for
from mgdm_audio.separation.separator import Separator
from mgdm_audio.tables import table

RATE = 22050
LENGTH = 2**18  # samples, 11.89 s: the paper's segment
SONG = 60  # seconds of stereo at 44,100 Hz
EXAMPLE = 131072  # samples of a training example
HEAD = ("measurement", "seconds", "per second of sound", "device busy")
STEMS = ("bass", "drums", "guitar", "piano")
SMALL_UNET = {
    "channels": 32, "patch": 4, "multipliers": (1, 1), "factors": (4,), "blocks": (1,),
    "attentions": (False,),
}  # fmt: skip
SMALL_TF = {"bins": 64, "channels": (16, 32), "blocks": (1, 2), "mixing": 4, "mixing_hidden": 16}


def noise(*shape: int, device: torch.device) -> Tensor:
    return 0.1 * torch.randn(shape, generator=generator_for(0, "noise")).to(device)


class Enough(Exception):
    """Ends a run that is only to show its pace."""


class Clock:
    """Times functions on a device, as long as a budget lasts."""

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device, self.end = device, time.monotonic() + budget
        self.rows: list[tuple[str, str, str, str]] = []

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], Any]) -> float:
        self.wait()
        start = time.monotonic()
        run()
        self.wait()
        return time.monotonic() - start

    def measure(
        self, name: str, run: Callable[[], Any], sound: float | None, expected: float = 0.0
    ) -> float | None:
        """Adds a row, unless ``expected`` seconds are more than are left. ``sound``: seconds."""
        left = self.end - time.monotonic()
        if expected > left:
            self._row(name, f"left out: about {expected:.0f}, {left:.0f} were left", "", "")
            return None
        busy = None
        if self.device.type == "cuda":
            with torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True
            ) as profile:
                taken = self.seconds(run)
            # On one stream, so that kernels do not overlap.
            kernels = sum(event.self_device_time_total for event in profile.key_averages())
            busy = kernels / 1e6 / taken
        else:
            taken = self.seconds(run)
        per_second = "" if sound is None else f"{taken / sound:.3g}"
        self._row(name, f"{taken:.3g}", per_second, "" if busy is None else f"{busy:.0%}")
        return taken

    def _row(self, *cells: str) -> None:
        self.rows.append(cells)  # type: ignore[arg-type]
        print(": ".join(cells[:2]), *cells[2:], flush=True)


def random_prior(folder: Path, kind: str, tiny: bool) -> Path:
    """A prior folder with random weights: MSDM's network ("unet_1d"), or a small "tf_unet"."""
    torch.manual_seed(0)
    network: UNet1d | TFUNet = TFUNet(TFUNetConfig(**SMALL_TF))
    if kind == "unet_1d":
        network = UNet1d(UNet1dConfig(**SMALL_UNET) if tiny else UNet1dConfig())
    details = {
        "schedule": {"kind": "karras", "sigma_min": 1e-4, "sigma_max": 1.0},
        "stems": list(STEMS), "sample_rate": RATE, "mixture_rms": 0.1, "segment": LENGTH,
        **({"sigma_data": 0.2, "limit": 1.0} if kind == "unet_1d" else {}),
    }  # fmt: skip
    save_prior(folder, network, network.config, kind, details)
    return folder


def samplers(clock: Clock, prior: str | Path, tiny: bool) -> None:
    """MGDM at the paper's two settings; the first levels of each say what the rest will take."""
    length = 2**12 if tiny else LENGTH
    mixture = noise(1, 1, length, device=clock.device)
    options = {"device": str(clock.device), "segment": length / RATE, "overlap": 0.0}
    for preset in ("mgdm-r1-g90", "mgdm"):
        overrides = ["num_steps=4", "denoise_steps=2", "vi_steps=1"] if tiny else []
        separator = Separator.from_pretrained(prior, preset, overrides=overrides, **options)
        begun = time.monotonic()
        shares: list[float] = []

        def first(done: int, total: int, begun: float = begun, shares: Any = shares) -> None:
            clock.wait()
            shares[:] = [done / total, time.monotonic() - begun]
            if done:
                raise Enough  # after one of the outer steps

        with suppress(Enough):
            separator.separate_batch(mixture, draws=1, on_progress=first)
        expected, before = shares[1] / max(shares[0], 1e-3), separator.calls.counts

        def run(separator: Separator = separator) -> None:
            separator.separate_batch(mixture, draws=1)

        clock.measure(f"{preset}, {Path(prior).name}, one draw", run, length / RATE, expected)
        calls = {way: n - before[way] for way, n in separator.calls.counts.items()}
        print("  calls:", ", ".join(f"{count} {way}" for way, count in calls.items()), flush=True)


def default(clock: Clock, prior: str | Path, tiny: bool) -> None:
    """The default on stereo, after a first run for the kernels and the allocator."""
    seconds = 1 if tiny else SONG
    separator = Separator.from_pretrained(prior, device=str(clock.device))
    song = noise(2, 44100 * seconds, device=torch.device("cpu"))
    separator.separate(song[:, : 44100 * min(2, seconds)], 44100, draws=1)
    draws = 1 if tiny else None
    clock.measure(
        f"default, {Path(prior).name}, stereo of {seconds} s",
        lambda: separator.separate(song, 44100, draws=draws),
        seconds,
    )


def training(clock: Clock, prior: str | Path, tiny: bool) -> None:
    """Steps of denoising score matching with the network of ``prior``."""
    shape = load_prior(prior).network.config
    network = TFUNet(shape).to(clock.device).train()
    optimiser = torch.optim.AdamW(network.parameters())
    dtype = torch.bfloat16 if fast_precision(clock.device) == "bfloat16" else torch.float32
    batch, length, steps = (2, 4096, 2) if tiny else (32, EXAMPLE, 20)
    x_0 = noise(batch, shape.sources, length, device=clock.device)
    sigma = torch.full((batch,), 0.1, device=clock.device)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(clock.device.type, dtype, enabled=dtype != torch.float32):
            parts = network.loss(x_0, sigma, torch.randn_like(x_0), torch.ones_like(sigma))
        sum(part.mean() for part in parts).backward()
        optimiser.step()

    step()
    sound = steps * batch * length / RATE
    name = f"training, {steps} steps of {batch} x {length / RATE:.1f} s, {dtype}"
    taken = clock.measure(name, lambda: [step() for _ in range(steps)], sound)
    if taken is not None:
        print(f"  {steps * batch / taken:.3g} examples a second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--budget", type=float, default=450, help="seconds, less the start")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    device, why = choose_device(options.device)
    clock = Clock(device, options.budget)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{device} ({why}), {machine}, torch {torch.__version__}", flush=True)
    tiny = options.tiny
    with tempfile.TemporaryDirectory() as folder:
        msdm = random_prior(Path(folder) / "msdm-random", "unet_1d", tiny)
        own = random_prior(Path(folder) / "small", "tf_unet", tiny) if tiny else DEFAULT_PRIOR
        samplers(clock, msdm, tiny)
        default(clock, own, tiny)
        samplers(clock, own, tiny)
        training(clock, own, tiny)
    text = f"{machine}, torch {torch.__version__}\n\n{table(HEAD, clock.rows)}\n"
    print(text, end="")
    if options.results is not None:
        options.results.write_text(text)


if __name__ == "__main__":
    main()
