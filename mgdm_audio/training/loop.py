"""Denoising score matching with an exponential moving average, on accelerate.

Every random draw of step n on process r is a function of (seed, n, r), so a run that is killed and
restarted goes through the same parameters as one that is not, and no reader state is kept. Two
settings depend on the clock, and such a run is not repeated exactly: ``schedule.seconds``, by which
the rate falls with time, and the command line's ``data.refresh``, which looks for new songs.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgdm_audio.engine.device import fast_precision
from mgdm_audio.errors import UserError
from mgdm_audio.rng import generator_for
from mgdm_audio.training.log import Log
from mgdm_audio.training.objective import Objective, gradient_groups, validate
from mgdm_audio.training.settings import NoiseLevels, OneCall, Schedule, Training
from mgdm_audio.training.state import STATE, State, read_settings, run_folder

Batches = Callable[[int, torch.Generator], Tensor]
Disturb = Callable[[Tensor, Tensor, torch.Generator], Tensor]
Export = Callable[[nn.Module, int], None]
Progress = Callable[[int, int, dict[str, float]], None]
Note = Callable[[str], None]


class Run:
    """A network in training on this process's device, from the state in ``folder`` if it has one.

    ``publish`` validates and exports the averaged weights; ``step`` does a step of training and all
    that falls due with it.
    """

    def __init__(
        self,
        network: nn.Module,
        validation: Tensor | None,
        folder: Path,
        noise: NoiseLevels,
        schedule: Schedule,
        config: Training,
        export: Export,
        settings: Mapping[str, Any] | None,
        note: Note,
    ) -> None:
        self.note = note
        self.network, self.validation, self.folder = network, validation, folder
        self.noise, self.schedule, self.config, self.export = noise, schedule, config, export
        self.accelerator = accelerator = _accelerator(config.precision)
        network.to(accelerator.device)
        self.optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=schedule.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )
        self.state = State(network, self.optimiser, settings)
        if (folder / STATE).is_file():
            self.state.load(folder / STATE)
        self.done = schedule.over(self.state.step, self.state.elapsed)
        self.written = self._log() if accelerator.is_main_process else None
        if config.compile:
            self.compiled = torch.compile(network.trunk, dynamic=False)  # type: ignore[arg-type]
            network.trunk = self.compiled  # type: ignore[assignment]
        self.objective = accelerator.prepare(Objective(network))
        self.groups = gradient_groups(network)
        # Since the last save: denoising, likelihood, denoising of the examples of [one_call], and
        # each group's norm of the gradient.
        self.sums = torch.zeros(3 + len(self.groups), device=accelerator.device)
        self.since = 0
        self.started, self.worked = time.monotonic(), time.process_time()
        self.begun = self.started - self.state.elapsed
        self.first, self.said = self.state.step, (self.started, self.state.step)

    def introduce(self) -> None:
        """Say what trains on what."""
        accelerator, asked = self.accelerator, self.config.precision
        device = str(accelerator.device)
        if accelerator.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(accelerator.device)})"
        if accelerator.num_processes > 1:
            device += f", {accelerator.num_processes} processes"
        precision = {"no": "float32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
        count = sum(p.numel() for p in self.network.parameters())
        why = "auto" if asked == "auto" else "asked for"
        self.note(
            f"device: {device}; precision {precision} ({why}); "
            f"{count:,} parameters; {self.schedule.steps - self.state.step:,} steps to do"
        )

    def report(self, loss: float) -> None:
        """Say how far the run is, the mean seconds of the steps since this was last said, with the
        saves and validations among them, and the time that is left at this pace."""
        now, step, schedule = time.monotonic(), self.state.step, self.schedule
        pace = (now - self.said[0]) / (step - self.said[1])
        self.said = (now, step)
        left = pace * (schedule.steps - step)
        if schedule.seconds:
            left = min(left, max(0.0, schedule.seconds - self.state.elapsed))
        self.note(
            f"step {step:,} of {schedule.steps:,}: loss {loss:.4g}, {pace:.3g} s a step, "
            f"{in_words(left)} left"
        )

    def elapsed(self) -> float:
        """The main process's, in all of them: they take the same steps at the same rates."""
        seconds = time.monotonic() - self.begun
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            shared = torch.tensor(seconds, dtype=torch.float64, device=self.accelerator.device)
            seconds = broadcast(shared).item()
        return seconds

    def _log(self) -> Log:
        earlier = read_settings(self.folder / STATE).get("training", {})
        every = earlier.get("validate_every", self.config.validate_every)
        return Log(self.folder, self.state.step, self.state.step % every == 0 and not self.done)

    def log(self, record: dict[str, Any]) -> None:
        if self.written is not None:
            self.written.write(self.state.step, record)

    def publish(self, validating: bool) -> None:
        with self.state.averaged(), self.accelerator.autocast():
            self.network.eval()
            self.network.__dict__.pop("trunk", None)  # other shapes: they would be compiled anew
            if validating and self.validation is not None:
                x_0 = self.validation.to(self.accelerator.device)
                errors = validate(self.network, x_0, self.config.validation_sigmas)
                self.log({"validation": errors})
            self.export(self.network, self.state.step)
            self.network.train()
            if self.config.compile:
                self.network.trunk = self.compiled  # type: ignore[assignment]

    def examples(self, batches: Batches, disturb: Disturb | None) -> tuple[Tensor, ...]:
        """The objective's arguments in this step and process."""
        rank, device = self.accelerator.process_index, self.accelerator.device
        generator = generator_for(self.config.seed, "train", self.state.step, rank)
        x_0 = batches(self.config.batch, generator).to(device)
        sigma, given = (v.to(device) for v in self.noise.draw(len(x_0), generator))
        own = generator_for(self.config.seed, "noise", self.state.step, rank, device=device)
        eps = torch.randn(x_0.shape, generator=own, device=device)
        weight = torch.ones_like(sigma)
        if disturb is not None:
            added = disturb(x_0, sigma, generator) / sigma.view(-1, *[1] * (x_0.ndim - 1))
            eps += added
            # By the noise there is in all: else the few that are most disturbed outweigh the rest.
            weight = 1 / (1 + added.flatten(1).square().mean(1))
        return x_0, sigma, eps, given, weight, weight

    def further_examples(self, one_call: OneCall, batches: Batches) -> tuple[Tensor, ...]:
        """The same for the examples of section [one_call]."""
        rank, device = self.accelerator.process_index, self.accelerator.device
        generator = generator_for(self.config.seed, "one_call", self.state.step, rank)
        x_0 = batches(one_call.batch, generator).to(device)
        own = generator_for(
            self.config.seed, "one_call noise", self.state.step, rank, device=device
        )
        one = torch.ones(len(x_0), device=device)
        eps = torch.randn(x_0.shape, generator=own, device=device)
        return x_0, self.noise.maximum * one, eps, one, one, one_call.variance * one

    def backward(self, examples: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Adds the examples' gradient; their denoising error and likelihood, detached."""
        with self.accelerator.autocast():
            denoising, likelihood = self.objective(*examples)
        self.accelerator.backward(denoising + likelihood)
        return denoising.detach(), likelihood.detach()

    def step(
        self,
        batches: Batches,
        disturb: Disturb | None,
        progress: Progress | None,
        one_call: tuple[OneCall, Batches] | None = None,
    ) -> bool:
        """A step; whether it was the last one. UserError on a non-finite loss."""
        state, schedule, config = self.state, self.schedule, self.config
        rate = schedule.at(state.step, state.elapsed)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        further = torch.zeros((), device=self.accelerator.device)
        if one_call is not None:
            with self.accelerator.no_sync(self.objective):  # processes share the sum of both
                further, _ = self.backward(self.further_examples(*one_call))
        denoising, likelihood = self.backward(self.examples(batches, disturb))
        norms = [nn.utils.clip_grad_norm_(g, config.gradient_clip) for g in self.groups.values()]
        self.sums += torch.stack([denoising, likelihood, further, *norms])
        saving = (state.step + 1) % config.save_every == 0 or state.step + 1 >= schedule.steps
        soon = state.step + 1 - self.first <= 2  # the pace is said early, of the second step too
        looking = saving or soon or (state.step + 1) % config.look_every == 0
        if looking and not torch.isfinite(self.sums).all():
            raise UserError(
                f"step {state.step}: the gradient is not finite; lower schedule.learning_rate"
            )
        if looking and schedule.seconds:  # the device has just been waited for
            state.elapsed = self.elapsed()
        done = schedule.over(state.step + 1, state.elapsed)
        self.optimiser.step()
        state.step += 1
        state.update_average(config.ema)
        self.since += 1
        main = self.accelerator.is_main_process
        if looking and main and progress is not None:
            progress(state.step, schedule.steps, {"loss": denoising.item(), "lr": rate})
        if main and (saving or done):
            self.save(rate)
        validating = state.step % config.validate_every == 0 or done
        if main and (saving or validating):
            self.publish(validating)
            self.started, self.worked = time.monotonic(), time.process_time()
        if main and (soon or saving or done):
            self.report(denoising.item())
        return done

    def save(self, rate: float) -> None:
        """The state, and a line of the log on the steps since the last one."""
        self.state.save(self.folder / STATE)
        loss, likelihood, further, *norms = (self.sums / self.since).tolist()
        seconds = (time.monotonic() - self.started) / self.since
        cpu_seconds = (time.process_time() - self.worked) / self.since
        self.log(
            {"loss": round(loss, 5), "nll": round(likelihood, 5), "lr": rate}
            | ({"one_call": round(further, 5)} if further else {})
            | {"gradient": {n: round(v, 5) for n, v in zip(self.groups, norms, strict=True)}}
            | {"step_s": round(seconds, 3), "cpu_s": round(cpu_seconds, 3)}
        )
        self.sums, self.since = torch.zeros_like(self.sums), 0
        self.started, self.worked = time.monotonic(), time.process_time()


def in_words(seconds: float) -> str:
    """``4 h 8 min``, ``12 min`` or ``45 s``"""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _accelerator(precision: str) -> Any:
    try:
        from accelerate import Accelerator, PartialState
        from accelerate.utils import parse_flag_from_env
    except ImportError:
        raise UserError("training needs accelerate: pip install 'mgdm_audio[train]'") from None
    # What the accelerator will have; it reads the variable too.
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
    return Accelerator(mixed_precision=mixed_precision(precision, device))


def mixed_precision(asked: str, device: torch.device) -> str:
    """accelerate's name of a precision: for "auto" that in which separation runs on the device."""
    if asked != "auto":
        return asked
    return {"bfloat16": "bf16", "float32": "no"}[fast_precision(device)]


def train(
    network: nn.Module,
    batches: Batches,
    validation: Tensor | None,
    folder: Path,
    noise: NoiseLevels,
    schedule: Schedule,
    config: Training,
    *,
    export: Export,
    disturb: Disturb | None = None,
    one_call: tuple[OneCall, Batches] | None = None,
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
    note: Note = lambda line: None,
) -> State:
    """Train until the schedule is over, from the state in ``folder`` if it holds one.

    batches(size, generator) -> x_0 [size, sources, time]. ``export(network, step)`` is called with
    the averaged weights at each save, each validation and the end. ``disturb(x_0, sigma,
    generator)``, of the shape of ``x_0``, is added to the noisy examples beside the noise.
    ``one_call``: the settings of that section, and what draws its examples.
    ``settings``: JSON values to keep in the state. ``note(line)``: device, precision and
    parameters, then the pace and the time left after the first two steps and at each save.
    ``folder`` gets log.jsonl and, where tensorboard is installed, the same numbers for it. Raises
    UserError on a non-finite loss, where ``folder`` cannot be written to, and where another process
    trains there.
    """
    with run_folder(folder):
        run = Run(network, validation, folder, noise, schedule, config, export, settings, note)
        if run.accelerator.is_main_process:
            run.introduce()
        if run.accelerator.is_main_process and run.done:
            run.publish(True)  # a run that was stopped between its last save and its export
        while not run.done:
            run.done = run.step(batches, disturb, progress, one_call)
        run.accelerator.wait_for_everyone()
        return run.state
