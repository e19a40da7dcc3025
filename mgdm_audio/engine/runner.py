"""Draws of many items with one preset on one prior: batches, memory, errors and provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.digest import hash_own_code
from mgdm_audio.engine.device import choose_device
from mgdm_audio.engine.precision import at_precision
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import Likelihood
from mgdm_audio.samplers import Step
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")
Draw = Callable[[Sequence[Item], Callable[[Step], None]], Sequence[Result]]
"""``draw(items, on_step)``: one result for each of the items of a batch, in their order."""
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""
UNITS = 1000  # of progress that an item counts, whatever its sampler's number of steps


class Runner:
    """A preset on a prior, on a device and in a precision.

    ``prior``: the given one at the precision asked for; ``calls``: how often its denoiser was
    called; ``device_reason``: why ``device`` was chosen.
    """

    def __init__(
        self,
        prior: Prior,
        preset: Preset,
        *,
        device: str | torch.device = "auto",
        batch_size: int = 1,
        precision: str = "auto",
    ) -> None:
        """``batch_size``: items that go through the network at once, halved where memory runs out.

        ``precision``: "float32", "bfloat16" (the network's matrix products only) or "auto", which
        is what is fast on the device. Raises UserError for an unknown device or precision.
        """
        self.preset = preset
        self.device, self.device_reason = choose_device(str(device))
        self.batch_size = batch_size
        self.prior, self.calls, self.precision = at_precision(prior, self.device, precision)

    def sample(
        self,
        prior: Prior,
        likelihood: Likelihood | None,
        *,
        decode: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> Tensor:
        """The sampler's draws, decoded. UserError for options that do not fit and if it diverges.

        ``options``: what the sampler takes beside prior and likelihood; ``start`` where the preset
        has one.
        """
        if self.preset.start is not None and options.get("start") is None:
            raise UserError(
                f"sampler {self.preset.name} starts from the stems of {self.preset.start.name}, "
                "which are made for mixtures alone; set start_from=none to begin at noise"
            )
        try:
            x: Tensor = self.preset.sampler.sample(prior, likelihood, **options)
        except ValueError as error:
            raise UserError(f"sampler {self.preset.name}: {error}") from error
        x = x if decode is None else decode(x)
        if not bool(x.isfinite().all()):
            raise UserError(f"sampler {self.preset.name} diverged; go back to its preset's options")
        return x

    def run(
        self,
        items: Sequence[Item],
        draw: Draw[Item, Result],
        *,
        alike: Callable[[Item], object] = lambda item: None,
        on_share: Callable[[float], None] = lambda share: None,
        too_large: str | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """Every item with its result, in order, batch by batch.

        A batch holds items that follow one another and of which ``alike`` gives the same. Where its
        memory runs out ``batch_size`` is halved, for the batches to come as well; where one item is
        too large, UserError says ``too_large``, by default that memory ran out on the device.
        ``on_share`` is called with the share of the items that is done, steps counted.
        """
        first = 0
        while first < len(items):
            chunk = items[first : first + self.batch_size]
            kind = alike(chunk[0])
            same = [alike(item) == kind for item in chunk]
            chunk = chunk[: same.index(False)] if False in same else chunk

            def step(record: Step, before: int = first, size: int = len(chunk)) -> None:
                on_share((before + size * (record.index + 1) / record.total) / len(items))

            results = self._tried(draw, chunk, step, too_large)
            if results is None:
                self.batch_size = len(chunk) // 2
                continue
            yield from zip(chunk, results, strict=True)
            first += len(chunk)

    def _tried(
        self,
        draw: Draw[Item, Result],
        chunk: Sequence[Item],
        step: Callable[[Step], None],
        too_large: str | None,
    ) -> Sequence[Result] | None:
        """The results; None where memory ran out, of more items than one."""
        try:
            return draw(chunk, step)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # The error is gone, and with it what it kept alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
        if len(chunk) == 1:
            where = (
                f"out of memory on {self.device}; free some, or choose another device or sampler"
            )
            raise UserError(f"sampler {self.preset.name}: {too_large or where}")
        return None

    def provenance(self) -> dict[str, Any]:
        """What a record says of the program, the sampler and the machine."""
        return {
            "version": __version__,
            "sampler": self.preset.name,
            "options": self.preset.options,
            "noise_std": self.preset.noise_std,
            "own_code_sha256": hash_own_code(type(self.preset.sampler)),  # of the user's, if any
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
