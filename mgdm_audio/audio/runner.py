"""A prior and a sampler, ready to run on a device: what separating and generating share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from mgdm_audio import __version__
from mgdm_audio.audio.autocast import at_precision
from mgdm_audio.audio.device import choose_device
from mgdm_audio.checkpoint import DEFAULT_PRIOR, LoadedPrior, load_prior
from mgdm_audio.diffusion import Prior
from mgdm_audio.digest import hash_json
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import Likelihood
from mgdm_audio.samplers.presets import Preset, load_preset


class Runner:
    """``prior``: the loaded one at the precision asked for; ``calls``: how often it was asked."""

    PRESET: ClassVar[str]  # by default

    def __init__(
        self,
        loaded: LoadedPrior,
        preset: Preset,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        """``batch_size``: draws in one network call on a GPU, by default 8. A CPU takes one at a
        time whatever is asked: there a batch of 4 costs half as much again a draw (large tensors
        overrun its caches), and alone a draw has the same bytes on every computer's settings.

        ``precision``: "float32", "bfloat16" (the network's matrices only) or "auto".
        """
        self.loaded, self.preset = loaded, preset
        self.device, self.device_reason = choose_device(device)
        # An architecture may take multiples of some length only.
        self.multiple = int(getattr(loaded.network, "length_multiple", 1))
        self.hop = int(getattr(loaded.network, "hop", 0))  # samples between its frames, if any
        self.batch_size = 1 if self.device.type == "cpu" else batch_size or 8
        self.prior, self.calls, self.precision = at_precision(loaded.prior, self.device, precision)

    @classmethod
    def from_pretrained(
        cls,
        prior: str | Path = DEFAULT_PRIOR,
        sampler: str | Path | None = None,
        *,
        overrides: Sequence[str] = (),
        device: str = "auto",
        **options: Any,
    ) -> Self:
        """A bundled prior (or a prior directory) with a named preset (or a TOML file).

        ``sampler``: by default ``PRESET``. ``overrides``: ``["num_steps=20", "draws=4"]``. Raises
        UserError on unknown names.
        """
        preset = load_preset(sampler or cls.PRESET, overrides)
        loaded = load_prior(prior, choose_device(device)[0])
        return cls(loaded, preset, device=device, **options)

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in order."""
        return self.loaded.stems

    def sample(self, prior: Prior, likelihood: Likelihood | None, **options: Any) -> Tensor:
        """The sampler's draws. Raises UserError for options that do not fit, and if it diverges."""
        try:
            x: Tensor = self.preset.sampler.sample(prior, likelihood, **options)
        except ValueError as error:
            raise UserError(f"sampler {self.preset.name}: {error}") from error
        if not x.isfinite().all():
            raise UserError(f"sampler {self.preset.name} diverged; go back to its preset's options")
        return x

    def provenance(self) -> dict[str, Any]:
        """What a record says of the prior, the sampler and the machine."""
        return {
            "version": __version__,
            "prior": self.loaded.name,
            "prior_sha256": self.loaded.sha256,
            "prior_config_sha256": hash_json(self.loaded.config),
            "sampler": self.preset.name,
            **self.preset.settings,
            "batch_size": self.batch_size,
            "device": str(self.device),
            "device_reason": self.device_reason,
            "precision": self.precision,
        }


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on any device."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in text for word in words)
