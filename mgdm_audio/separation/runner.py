"""The common base of separation and generation: a preset on a prior over stems."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypedDict, Unpack

from mgdm_audio.digest import hash_json, hash_own_code
from mgdm_audio.engine import Runner, choose_device
from mgdm_audio.priors.folder import DEFAULT_PRIOR, LoadedPrior, load_prior
from mgdm_audio.samplers.presets import Preset, load_preset


class RunnerOptions(TypedDict, total=False):
    """The keyword options of a ``StemRunner``."""

    device: str
    batch_size: int | None
    precision: str


class StemRunner(Runner):
    """Runs a preset on a prior over stems."""

    PRESET: ClassVar[str]  # the default preset

    def __init__(
        self,
        loaded: LoadedPrior,
        preset: Preset,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        """Chooses device and precision for a prior and a preset.

        ``batch_size``: draws in one network call on a GPU, by default 8. On a CPU it is always 1: a
        batch of 4 takes 1.5 times as long per draw there (its tensors exceed the caches), and the
        bytes of a draw would depend on the batch. ``precision``: "float32", "bfloat16" (within
        the network alone) or "auto".
        """
        super().__init__(
            loaded.prior, preset, device=device, batch_size=batch_size or 8, precision=precision
        )
        if self.device.type == "cpu":
            self.batch_size = 1
        self.loaded = loaded
        self.own_code_sha256 = hash_own_code(type(preset.sampler), type(loaded.network))
        self._config_sha256 = hash_json(loaded.config)
        # Some architectures need a length that is a multiple of this.
        self.multiple = int(getattr(loaded.network, "length_multiple", 1))
        self.hop = int(getattr(loaded.network, "hop", 0))  # samples between frames, 0 without

    @classmethod
    def from_pretrained(
        cls,
        prior: str | Path = DEFAULT_PRIOR,
        sampler: str | Path | None = None,
        *,
        overrides: Sequence[str] = (),
        **options: Unpack[RunnerOptions],
    ) -> Self:
        """Opens a prior with a named preset (or a TOML file).

        ``prior``: a bundled one, a prior's folder, or ``owner/name[@revision]`` of the Hugging
        Face hub. ``sampler``: the preset, by default ``PRESET``. ``overrides``: settings of the
        preset, such as ``["num_steps=20", "draws=4"]``. ``options``: those of the class. Raises
        UserError for unknown names, and for a prior or preset that cannot be read.
        """
        return cls(*cls._open(prior, sampler, overrides, options), **options)

    @classmethod
    def _open(
        cls,
        prior: str | Path,
        sampler: str | Path | None,
        overrides: Sequence[str],
        options: RunnerOptions,
    ) -> tuple[LoadedPrior, Preset]:
        preset = load_preset(sampler or cls.PRESET, overrides)
        return load_prior(prior, choose_device(options.get("device", "auto"))[0]), preset

    def with_preset(self, preset: Preset) -> Self:
        """Returns a runner with another preset that shares the prior, device and call counter."""
        other = copy.copy(self)
        other.preset = preset
        return other

    @property
    def stems(self) -> tuple[str, ...]:
        """The names of the stems, in order."""
        return self.loaded.stems

    def provenance(self) -> dict[str, Any]:
        """Returns what a record states about the program, prior, sampler and machine."""
        return {
            "prior": self.loaded.name,
            "prior_revision": self.loaded.revision,
            "prior_sha256": self.loaded.sha256,
            "prior_config_sha256": self._config_sha256,
            **super().provenance(),
        }
