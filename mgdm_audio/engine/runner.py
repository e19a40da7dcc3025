"""Draws many items with one preset on one prior: batches, memory, errors and provenance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.digest import hash_own_code
from mgdm_audio.engine.device import at_precision, choose_device, signal_device
from mgdm_audio.engine.memory import keep_freed_memory
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import Likelihood
from mgdm_audio.rng import Generators
from mgdm_audio.samplers import OnStep, Step
from mgdm_audio.samplers.presets import Preset
from mgdm_audio.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")
Draw = Callable[[Sequence[Item], Callable[[Step], None]], Sequence[Result]]
"""``draw(items, on_step)`` returns one result for each item of a batch, in order."""
Progress = Callable[[int, int], None]
"""A progress callback is called with (steps done, total steps)."""
UNITS = 1000  # progress steps per item, whatever its sampler's number of steps


class Runner:
    """Runs a preset on a prior, on a device and at a precision.

    ``prior``: the given prior at that precision; ``calls``: the counter of its network's calls;
    ``device_reason``: why ``device`` was chosen; ``signal_device``: where noise is drawn and
    signals are processed, so that a seed has other draws on a CUDA device than on the CPU;
    ``workers``: the number of batches drawn in parallel, on a CPU the number of torch's threads,
    else one.
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
        """Chooses device and precision. ``batch_size``: items per batch, halved if memory runs out.

        ``precision``: "float32", "bfloat16" (within the network alone) or "auto",
        the faster one on the device. Raises UserError for an unknown device or precision.
        """
        self.preset = preset
        self.device, self.device_reason = choose_device(str(device))
        self.signal_device = signal_device(self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.batch_size = batch_size
        self.workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.own_code_sha256 = hash_own_code(type(preset.sampler))  # None without user's code
        self.prior, self.calls, self.precision = at_precision(prior, self.device, precision)

    def sample(
        self,
        prior: Prior,
        likelihood: Likelihood | None,
        *,
        generator: Generators,
        x_T: Tensor | None = None,
        on_step: OnStep | None = None,
        start: Tensor | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Draws with the preset's sampler and decodes: ``[batch, *event]``.

        ``generator``, ``x_T``, ``on_step``: see ``Sampler.sample``; ``start``, if the preset has
        one: see ``Stepwise.sample``. Raises UserError for options that do not fit the prior or
        likelihood, and if the sampler diverges.
        """
        if self.preset.start is not None and start is None:
            raise UserError(
                f"sampler {self.preset.name} starts from the stems of {self.preset.start.name}, "
                "which are made for mixtures alone; set start_from=none to begin at noise"
            )
        sampler: Any = self.preset.sampler
        begin = {} if start is None else {"start": start}  # a sampler may lack this argument
        try:
            x: Tensor = sampler.sample(
                prior, likelihood, generator=generator, x_T=x_T, on_step=on_step, **begin
            )
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
        side_by_side: bool = False,
    ) -> Iterator[tuple[Item, Result]]:
        """Yields every item with its result, in order, batch by batch.

        A batch consists of consecutive items with equal ``alike(item)``. ``side_by_side``:
        ``workers`` batches are drawn in parallel, and ``draw`` and ``on_share`` are called from
        several threads. When memory runs out, batches are drawn one at a time, and then
        ``batch_size`` is halved, for later batches too. If memory runs out for one item, raises
        UserError with the message ``too_large`` or a default one. ``on_share`` is called with the
        fraction of the items that is done, in which finished steps count.
        """
        shares = _Shares(len(items), on_share)

        def tried(chunk: Sequence[Item], first: int) -> Sequence[Result] | None:
            return self._tried(draw, chunk, lambda step: shares.step(first, len(chunk), step))

        first, begun = 0, deque[tuple[Sequence[Item], int, Future[Sequence[Result] | None]]]()
        count = min(self.workers, -(-len(items) // self.batch_size)) if side_by_side else 1
        with Workers(count) as workers, shares:
            while first < len(items) or begun:
                # One more waits, so that no worker does while the caller uses a result.
                while first < len(items) and len(begun) < workers.count + (workers.count > 1):
                    chunk = self._chunk(items, first, alike)
                    begun.append((chunk, first, workers.submit(tried, chunk, first)))
                    first += len(chunk)
                chunk, at, future = begun.popleft()
                results = future.result()
                if results is not None:
                    yield from zip(chunk, results, strict=True)
                    continue
                wait([future for _, _, future in begun])
                begun.clear()
                first = at  # later batches are drawn again, with the same seeds
                self._make_room(len(chunk), workers, too_large)

    def _chunk(
        self, items: Sequence[Item], first: int, alike: Callable[[Item], object]
    ) -> Sequence[Item]:
        """Returns the batch that begins with item ``first``."""
        chunk = items[first : first + self.batch_size]
        kind = alike(chunk[0])
        same = [alike(item) == kind for item in chunk]
        return chunk[: same.index(False)] if False in same else chunk

    def _tried(
        self, draw: Draw[Item, Result], chunk: Sequence[Item], step: Callable[[Step], None]
    ) -> Sequence[Result] | None:
        """Returns the results, or None where memory ran out."""
        try:
            return draw(chunk, step)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _make_room(self, size: int, workers: Workers, too_large: str | None) -> None:
        """Reduces workers or batch size after a batch of ``size`` items ran out of memory."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
        if workers.count > 1:
            workers.count = self.workers = 1
        elif size > 1:
            self.batch_size = size // 2
        else:
            where = (
                f"out of memory on {self.device}; free some, or choose another device or sampler"
            )
            raise UserError(f"sampler {self.preset.name}: {too_large or where}")

    def provenance(self) -> dict[str, Any]:
        """Returns what a record states about the program, the sampler and the machine."""
        return {
            "version": __version__,
            "sampler": self.preset.name,
            "options": self.preset.options,
            "noise_std": self.preset.noise_std,
            "own_code_sha256": self.own_code_sha256,
            "batch_size": self.batch_size,
            "device": str(self.device),
            "device_reason": self.device_reason,
            "precision": self.precision,
        }


class _Shares:
    """Computes the fraction of items done from the steps of several batches in parallel."""

    def __init__(self, count: int, on_share: Callable[[float], None]) -> None:
        self.count, self.on_share = count, on_share
        self.done: dict[int, float] = {}  # by the first item of a batch
        self.lock, self.stopped = Lock(), False

    def step(self, first: int, size: int, step: Step) -> None:
        if self.stopped:
            raise InterruptedError("the other batches were stopped")
        with self.lock:
            self.done[first] = size * (step.index + 1) / step.total
            share = min(1.0, sum(self.done.values()) / self.count)
        self.on_share(share)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        """Stops batches that are still running, because another failed, at their next step."""
        self.stopped = True


def out_of_memory(error: BaseException) -> bool:
    """Returns whether the error is a failed allocation, on any device."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in text for word in words)


class Workers:
    """A pool of ``count`` threads; with one, ``submit`` calls in the caller's thread.

    torch releases Python's lock while it computes. An operation that is split over threads waits
    for the slowest of them, so that one busy core delays all; parallel batches do not wait.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Result], *arguments: object) -> Future[Result]:
        """``function(*arguments)``, whose exception is raised by the future's ``result``."""
        if self.count > 1:
            if self._pool is None:
                share = max(1, torch.get_num_threads() // self.count)
                self._pool = ThreadPoolExecutor(
                    self.count, initializer=torch.set_num_threads, initargs=(share,)
                )
            return self._pool.submit(function, *arguments)
        future: Future[Result] = Future()
        future.set_result(function(*arguments))
        return future

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yields ``function(item)`` in order, while up to ``count`` - 1 later items are computed.

        Raises the exception of an item in its turn.
        """
        begun = deque[Future[Result]]()
        for item in items:
            begun.append(self.submit(function, item))
            if len(begun) >= self.count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for running calls and cancels those that have not begun."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
