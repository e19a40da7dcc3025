"""A prior over stems and a preset, ready to run: what separating and generating share."""

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
    """Options of a ``StemRunner``."""

    device: str
    batch_size: int | None
    precision: str


class StemRunner(Runner):
    """A runner on a prior over stems."""

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
        super().__init__(
            loaded.prior, preset, device=device, batch_size=batch_size or 8, precision=precision
        )
        if self.device.type == "cpu":
            self.batch_size = 1
        self.loaded = loaded
        self.own_code_sha256 = hash_own_code(type(preset.sampler), type(loaded.network))
        self._config_sha256 = hash_json(loaded.config)
        # An architecture may take multiples of some length only.
        self.multiple = int(getattr(loaded.network, "length_multiple", 1))
        self.hop = int(getattr(loaded.network, "hop", 0))  # samples between its frames, if any

    @classmethod
    def from_pretrained(
        cls,
        prior: str | Path = DEFAULT_PRIOR,
        sampler: str | Path | None = None,
        *,
        overrides: Sequence[str] = (),
        **options: Unpack[RunnerOptions],
    ) -> Self:
        """A prior with a named preset (or a TOML file).

        ``prior``: a bundled one, a prior directory, or ``owner/name[@revision]`` of the Hugging
        Face hub.

        ``sampler``: by default ``PRESET``. ``overrides``: ``["num_steps=20", "draws=4"]``.
        ``options``: see the class. Raises UserError on unknown names.
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
        """The same prior on the same device, its calls counted together, with another preset."""
        other = copy.copy(self)
        other.preset = preset
        return other

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the stems, in order."""
        return self.loaded.stems

    def provenance(self) -> dict[str, Any]:
        """What a record says of the program, the prior, the sampler and the machine."""
        return {
            "prior": self.loaded.name,
            "prior_revision": self.loaded.revision,
            "prior_sha256": self.loaded.sha256,
            "prior_config_sha256": self._config_sha256,
            **super().provenance(),
        }
