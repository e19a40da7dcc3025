"""Denoising score matching with an exponential moving average, on accelerate.

Every random draw of step n on process r is a function of (seed, n, r), so a run that is killed and
restarted goes through the same parameters as one that is not, and no reader state is kept. Two
settings depend on the clock, and such a run is not repeated exactly: ``schedule.seconds``, by which
the rate falls with time, and the command line's ``data.refresh``, which looks for new songs.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, one_of, within
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.training.state import STATE, State

LOG, BOARD = "log.jsonl", "tensorboard"
Kind = Literal["cosine", "stable"]
Precision = Literal["bf16", "no"]


@dataclass(frozen=True)
class NoiseLevels:
    """How noise levels are drawn: log sigma normal around log(center), clamped to its bounds.

    A share ``given`` of the examples also shows the network the mixture. Those lean to larger
    sigma: the mixture already fixes much of x_0, so the open questions are decided earlier.
    """

    center: float = 0.067
    spread: float = 1.5
    given: float = 0.5
    given_center: float = 0.3
    given_spread: float = 2.0
    minimum: float = 5e-4
    maximum: float = 20.0

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(sigma, given), each [batch]. Stratified over the batch: less gradient noise."""
        given = (torch.rand(batch, generator=generator) < self.given).float()
        u = (
            torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)
        ) / batch
        normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.99999, 0.99999))
        center = math.log(self.center) + given * math.log(self.given_center / self.center)
        spread = self.spread + given * (self.given_spread - self.spread)
        return (center + spread * normal).exp().clamp(self.minimum, self.maximum), given


@dataclass(frozen=True)
class Schedule(Checked):
    """Learning rate over ``steps``: linear warm-up, then "cosine", or "stable" until the last
    ``decay`` steps, which fall linearly to zero (a stable run may be extended at any time).

    With ``seconds`` the rate falls by whichever of steps and time is further on. The time is the
    main process's, taken where the loss is looked at; a resumed run goes on with what is left."""

    steps: int = 10_000
    learning_rate: float = 2e-3
    warmup: int = 100
    kind: Annotated[Kind, one_of(*get_args(Kind))] = "cosine"
    decay: int = 1_000
    seconds: float = 0.0  # training ends after these if ``steps`` are not done, 0: never

    def at(self, step: int, elapsed: float = 0.0) -> float:
        """The rate of a step after ``elapsed`` seconds of training, interruptions not counted."""
        left: float = self.steps - step
        if self.seconds:
            left = min(left, self.steps * (1 - elapsed / self.seconds))
        left = max(0.0, left)
        rate = self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1))
        if self.kind == "cosine":
            return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (1 - left / self.steps))))
        return rate * min(1.0, left / max(self.decay, 1))

    def over(self, step: int, elapsed: float) -> bool:
        return step >= self.steps or 0 < self.seconds <= elapsed


_Count = Annotated[
    int,
    within("[1, inf)", "batch, save_every, validate_every and look_every are at least 1"),
]


@dataclass(frozen=True)
class Training(Checked):
    """Everything but the network and the data."""

    seed: int = 0
    batch: _Count = 6  # segments a step and process
    ema: float = 0.999
    weight_decay: float = 0.01
    gradient_clip: float = 1.0  # norm, of each of gradient_groups by itself
    # bf16 doubles the speed where the processor has it.
    precision: Annotated[Precision, one_of(*get_args(Precision))] = "bf16"
    compile: bool = False  # the trunk by torch.compile: for accelerators
    look_every: _Count = 1  # steps between looks at the loss: each waits for the device
    save_every: _Count = 200  # steps
    validate_every: _Count = 1_000
    validation_sigmas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)


class Denoising(Protocol):
    """What training asks of a network."""

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]: ...


class Objective(nn.Module):
    """The network's loss as a forward pass, which is what data-parallel wrappers can split."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        denoising, likelihood = self.network.loss(x_0, sigma, noise, given)  # type: ignore[operator]
        return (weight * denoising).mean(), (weight * likelihood).mean()


def gradient_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters by group, each of which has its gradient clipped by itself.

    A network may name submodules that train on a loss of their own, as ``heads``: how large their
    gradient is shall not change the step of the rest, the group "body".
    """
    heads = {n: list(network.get_submodule(n).parameters()) for n in getattr(network, "heads", ())}
    apart = {id(p) for group in heads.values() for p in group}
    return {"body": [p for p in network.parameters() if id(p) not in apart], **heads}


@torch.no_grad()
def validate(network: nn.Module, x_0: Tensor, sigmas: tuple[float, ...]) -> dict[str, Any]:
    """Denoising error over signal energy in dB, per sigma and source, without and with the mixture.

    x_0: [examples, sources, time]. Or pictures [examples, channels, height, width], by channel:
    they have no mixture, and that of one source is the source. The noise is the same at every call.
    """
    result: dict[str, Any] = {}
    mixed = x_0.ndim == 3 and x_0.shape[1] > 1
    for mode in ("prior", "given") if mixed else ("prior",):
        for sigma in sigmas:
            error, energy = x_0.new_zeros(x_0.shape[1]), x_0.new_zeros(x_0.shape[1])
            for i in range(0, len(x_0), 4):
                x = x_0[i : i + 4]
                noise = randn(x.shape, generator=generator_for(0, "validation", i)).to(x)
                mixture = [x.sum(1, keepdim=True)] if mode == "given" else []
                estimate = network(x + sigma * noise, torch.full((len(x),), sigma).to(x), *mixture)
                error += ((estimate - x) ** 2).flatten(2).sum((0, 2))
                energy += (x**2).flatten(2).sum((0, 2))
            ratio = torch.cat([(error.sum() / energy.sum())[None], error / energy])
            overall, *each = [round(v, 3) for v in (10 * ratio.log10()).tolist()]
            result[f"{mode}@{sigma:g}"] = {"all": overall, "sources": each}
    return result


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """{"a": {"b": 1, "c": [2, 3]}} -> {"a/b": 1, "a/c/0": 2, "a/c/1": 3}"""
    result: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, list):
            value = {str(i): v for i, v in enumerate(value)}
        inner = scalars(value) if isinstance(value, dict) else None
        result |= {name: value} if inner is None else {f"{name}/{k}": v for k, v in inner.items()}
    return result


def train(
    network: nn.Module,
    batches: Callable[[int, torch.Generator], Tensor],
    validation: Tensor | None,
    folder: Path,
    noise: NoiseLevels,
    schedule: Schedule,
    config: Training,
    *,
    export: Callable[[nn.Module, int], None],
    disturb: Callable[[Tensor, Tensor, torch.Generator], Tensor] | None = None,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> State:
    """Train until the schedule is over, from the state in ``folder`` if it holds one.

    batches(size, generator) -> x_0 [size, sources, time]. ``export(network, step)`` is called with
    the averaged weights at each save, each validation and the end. ``disturb(x_0, sigma,
    generator)``, of the shape of ``x_0``, is added to the noisy examples beside the noise.
    ``settings``: JSON values to keep in the state. ``folder`` gets log.jsonl and, where
    tensorboard is installed, the same numbers for it. Raises UserError on a non-finite loss.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import broadcast
    except ImportError:
        raise UserError("training needs accelerate: pip install 'mgdm_audio[train]'") from None
    accelerator = Accelerator(
        mixed_precision=config.precision,
        log_with="tensorboard" if find_spec("tensorboard") else None,
        project_dir=folder,
    )
    network.to(accelerator.device)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
    )
    state = State(network, optimiser, settings)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / STATE).is_file():
        state.load(folder / STATE)
    # What a killed run wrote after its last save is about to be written again.
    board = {"tensorboard": {"purge_step": state.step + 1}}
    accelerator.init_trackers(BOARD, init_kwargs=board)
    if config.compile:
        compiled = torch.compile(network.trunk, dynamic=False)  # type: ignore[arg-type]
        network.trunk = compiled  # type: ignore[assignment]
    objective = accelerator.prepare(Objective(network))
    rank, main = accelerator.process_index, accelerator.is_main_process
    groups = gradient_groups(network)
    # Denoising, likelihood, and each group's norm of the gradient.
    sums = torch.zeros(2 + len(groups), device=accelerator.device)
    since = 0
    started, worked = time.monotonic(), time.process_time()
    begun = started - state.elapsed

    def elapsed() -> float:
        """The main process's, in all of them: they take the same steps at the same rates."""
        seconds = time.monotonic() - begun
        if accelerator.num_processes > 1:
            shared = torch.tensor(seconds, dtype=torch.float64, device=accelerator.device)
            seconds = broadcast(shared).item()
        return seconds

    def log(record: dict[str, Any]) -> None:
        with open(folder / LOG, "a") as file:
            file.write(
                json.dumps({"step": state.step, "time": round(time.time(), 1)} | record) + "\n"
            )
        accelerator.log(scalars(record), state.step)

    def publish(validating: bool) -> None:
        with state.averaged(), accelerator.autocast():
            network.eval()
            network.__dict__.pop("trunk", None)  # other shapes: they would be compiled anew
            if validating and validation is not None:
                x_0 = validation.to(accelerator.device)
                log({"validation": validate(network, x_0, config.validation_sigmas)})
            export(network, state.step)
            network.train()
            if config.compile:
                network.trunk = compiled  # type: ignore[assignment]

    done = schedule.over(state.step, state.elapsed)
    if main and done:
        publish(True)  # a run that was stopped between its last save and its export
    while not done:
        generator = generator_for(config.seed, "train", state.step, rank)
        x_0 = batches(config.batch, generator).to(accelerator.device)
        sigma, given = (v.to(accelerator.device) for v in noise.draw(len(x_0), generator))
        own = generator_for(config.seed, "noise", state.step, rank, device=accelerator.device)
        eps = torch.randn(x_0.shape, generator=own, device=accelerator.device)
        weight = torch.ones_like(sigma)
        if disturb is not None:
            added = disturb(x_0, sigma, generator) / sigma.view(-1, *[1] * (x_0.ndim - 1))
            eps += added
            # By the noise there is in all: else the few that are most disturbed outweigh the rest.
            weight = 1 / (1 + added.flatten(1).square().mean(1))
        rate = schedule.at(state.step, state.elapsed)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with accelerator.autocast():
            denoising, likelihood = objective(x_0, sigma, eps, given, weight)
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(denoising + likelihood)
        norms = [nn.utils.clip_grad_norm_(g, config.gradient_clip) for g in groups.values()]
        sums += torch.stack([denoising.detach(), likelihood.detach(), *norms])
        saving = (state.step + 1) % config.save_every == 0 or state.step + 1 >= schedule.steps
        looking = saving or (state.step + 1) % config.look_every == 0
        if looking and not torch.isfinite(sums).all():
            raise UserError(
                f"step {state.step}: the gradient is not finite; lower schedule.learning_rate"
            )
        if looking and schedule.seconds:  # the device has just been waited for
            state.elapsed = elapsed()
        done = schedule.over(state.step + 1, state.elapsed)
        optimiser.step()
        state.step += 1
        state.update_average(config.ema)
        since += 1
        if looking and main and progress is not None:
            progress(state.step, schedule.steps, {"loss": denoising.item(), "lr": rate})
        if main and (saving or done):
            state.save(folder / STATE)
            loss, likelihood_loss, *norms_before = (sums / since).tolist()
            gradient = {n: round(v, 5) for n, v in zip(groups, norms_before, strict=True)}
            seconds = (time.monotonic() - started) / since
            cpu_seconds = (time.process_time() - worked) / since
            log(
                {"loss": round(loss, 5), "nll": round(likelihood_loss, 5), "lr": rate}
                | {"gradient": gradient}
                | {"step_s": round(seconds, 3), "cpu_s": round(cpu_seconds, 3)}
            )
            sums, since = torch.zeros_like(sums), 0
            started, worked = time.monotonic(), time.process_time()
        validating = state.step % config.validate_every == 0 or done
        if main and (saving or validating):
            publish(validating)
            started, worked = time.monotonic(), time.process_time()
    accelerator.wait_for_everyone()
    return state
