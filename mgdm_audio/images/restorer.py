"""Draws posterior samples of an image from an observation by a known operator, under a prior."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mgdm_audio.engine.runner import UNITS, Progress, Runner
from mgdm_audio.errors import UserError
from mgdm_audio.images.restoration import Restoration
from mgdm_audio.images.tasks import TaskOptions, build_operator, option_hashes
from mgdm_audio.measurement import GaussianLikelihood
from mgdm_audio.priors.images import ImagePrior
from mgdm_audio.rng import generator_for, randn_like
from mgdm_audio.samplers import PSLD, ReSample, Step, on_latents
from mgdm_audio.samplers.presets import Preset

DECODES = (PSLD, ReSample)  # samplers that decode themselves and return images
_Draw = tuple[Tensor, str, int]
"""A draw is described by its observation, its image's name and its number."""


class Restorer(Runner):
    """Restores images by posterior sampling, given observations by one operator.

    The observations are ``y = A(x) + noise_std eps`` with the preset's ``noise_std``. The operator
    is a function of (seed, task, options), the noise and the draws of an image are functions of
    (seed, its name): results depend neither on other images nor on ``batch_size``.
    """

    def __init__(
        self,
        opened: ImagePrior,
        preset: Preset,
        task: str,
        options: TaskOptions | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        """Builds the operator of ``task`` for a prior that is on ``device``.

        ``batch_size``: draws in one network call, of one or several images, by default 1 on a CPU
        and 4 elsewhere. ``precision``: "float32", "bfloat16" (within the network
        alone) or "auto", the faster one on the device. Raises UserError for an unknown task and
        for an invalid option.
        """
        super().__init__(opened.prior, preset, device=device, precision=precision)
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 4)
        self.opened, self.seed = opened, seed
        self.task, self.options = task, options or TaskOptions()
        try:
            self.operator = build_operator(
                task, opened.image_shape, generator=generator_for(seed, "operator"), **self.options
            )
            blank = torch.zeros(1, *opened.image_shape, device=self.device)
            with torch.no_grad():
                self.observation_shape = tuple(self.operator(blank).shape[1:])
        except RuntimeError as error:  # for example too large for the memory
            reason = str(error).splitlines()[0]
            raise UserError(f"image task {task!r} with {self.options}: {reason}") from None
        self._option_hashes = option_hashes(self.options)

    @torch.no_grad()
    def observe(self, x: Tensor, name: str = "") -> Tensor:
        """Simulates a noisy observation of ``x: [channel, height, width]``: ``[*observation]``."""
        clean = self.operator(x[None].to(self.device))[0].cpu()
        noise = randn_like(clean[None], generator_for(self.seed, "noise", name))[0]
        return clean + self.preset.noise_std * noise

    def restore(
        self,
        y: Tensor,
        name: str = "",
        *,
        draws: int | None = None,
        original: Tensor | None = None,
        on_progress: Progress | None = None,
    ) -> Restoration:
        """Draws images given ``y: [*observation]``; ``original`` is stored for comparison.

        ``draws`` replaces the preset's number. Raises UserError if the sampler does not fit the
        prior or operator, or diverges.
        """
        originals = None if original is None else [original]
        return self.restore_all(
            [y], [name], draws=draws, originals=originals, on_progress=on_progress
        )[0]

    def restore_all(
        self,
        observations: Sequence[Tensor],
        names: Sequence[str],
        *,
        draws: int | None = None,
        originals: Sequence[Tensor] | None = None,
        on_progress: Progress | None = None,
    ) -> list[Restoration]:
        """Restores several images, with batches of draws of several of them.

        Each report has an equal share of the seconds, and the denoiser calls of all images, since a
        batch shares them.
        """
        started, before = time.monotonic(), (self.calls.forward, self.calls.gradient)
        draws = draws or self.preset.draws
        items = [(y, name, d) for y, name in zip(observations, names, strict=True)
                 for d in range(draws)]  # fmt: skip

        def share(done: float) -> None:
            if on_progress is not None:
                on_progress(int(UNITS * done * len(items)), UNITS * len(items))

        width = self.opened.image_shape[2]
        too_large = (
            f"out of memory at a size of {width} pixels; give a smaller one, or another device"
        )
        found = self.run(items, self._draw, on_share=share, too_large=too_large)
        restored = [x for _, x in found]
        seconds = (time.monotonic() - started) / max(len(names), 1)
        calls = {"forward": self.calls.forward - before[0],
                 "gradient": self.calls.gradient - before[1]}  # fmt: skip
        results = []
        for i, (y, name) in enumerate(zip(observations, names, strict=True)):
            report = self.asked(name, draws) | {
                "published": self.preset.stands_for(draws),
                "seconds": round(seconds, 3),
                "denoiser_calls": calls,
            }
            of_image = torch.stack(restored[i * draws : (i + 1) * draws])
            original = None if originals is None else originals[i]
            results.append(
                Restoration(
                    of_image, y, self.preset.noise_std, report, original, self.operator.symmetries
                )
            )
        return results

    def asked(self, name: str = "", draws: int | None = None) -> dict[str, Any]:
        """What the report of an image says before it is restored; ``draws`` as in ``restore``."""
        return self.provenance() | {
            "input": name or None,
            "draws": draws or self.preset.draws,
            "torch": torch.__version__,
            "task": self.task,
            "task_options": {k: _named(v) for k, v in self.options.items()},
            "task_files_sha256": self._option_hashes,
            "prior": self.opened.name,
            "prior_revision": self.opened.revision,
            "prior_sha256": dict(self.opened.sha256),
            "image_shape": list(self.opened.image_shape),
            "seed": self.seed,
        }

    @torch.no_grad()
    def _draw(self, items: Sequence[_Draw], on_step: Callable[[Step], None]) -> list[Tensor]:
        """Draws ``[channel, height, width]`` for every item, on the CPU."""
        observed = torch.stack([y for y, _, _ in items]).to(self.device, torch.float32)
        likelihood = GaussianLikelihood(self.operator, observed, self.preset.noise_std)
        codec = None if isinstance(self.preset.sampler, DECODES) else self.prior.codec
        if codec is not None:
            likelihood = on_latents(likelihood, self.prior)
        device = self.signal_device
        generators = [
            generator_for(self.seed, "draw", name, d, device=device) for _, name, d in items
        ]
        decode = None if codec is None else codec.decode
        x = self.sample(
            self.prior, likelihood, generator=generators, on_step=on_step, decode=decode
        )
        return list(x.float().cpu())


def _named(value: Any) -> Any:
    """Returns the name of a function or file, which JSON cannot store, or the value itself."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return getattr(value, "__qualname__", type(value).__name__) if callable(value) else value
