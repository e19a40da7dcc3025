"""The runner that stems, generated music and images share: batches, memory and errors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Event, current_thread, main_thread
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.engine import Runner
from mgdm_audio.engine.device import signal_device
from mgdm_audio.engine.runner import Workers
from mgdm_audio.errors import UserError
from mgdm_audio.generation.generator import Generator
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.restorer import Restorer
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.priors.images import ImagePrior
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.separator import Separator

ERRORS = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
)


@dataclass(frozen=True)
class Step:
    index: int
    total: int


def half(x: Tensor, sigma: Tensor) -> Tensor:
    return x / 2


def runner(batch_size: int = 4) -> Runner:
    prior = Prior(half, NoiseSchedule.karras(), (1, 8))
    preset = load_preset("ancestral", ["num_steps=4"])
    return Runner(prior, preset, device="cpu", batch_size=batch_size)


def test_items_come_in_order_in_batches_of_a_kind() -> None:
    batches: list[list[int]] = []
    shares: list[float] = []

    def draw(items: Sequence[int], on_step: Callable[[Any], None]) -> list[int]:
        batches.append(list(items))
        on_step(Step(0, 2))
        on_step(Step(1, 2))
        return [10 * item for item in items]

    items = [1, 3, 5, 7, 2, 4, 9]
    found = list(runner(3).run(items, draw, alike=lambda i: i % 2, on_share=shares.append))
    assert found == [(item, 10 * item) for item in items]
    assert batches == [[1, 3, 5], [7], [2, 4], [9]]
    # Half of a batch's items and all of them, of seven.
    want = [1.5, 3, 3.5, 4, 5, 6, 6.5, 7]
    assert shares == pytest.approx([share / 7 for share in want])
    assert list(runner().run([], draw)) == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_is_halved_where_memory_runs_out(error: Exception) -> None:
    sizes = []

    def draw(items: Sequence[int], on_step: object) -> Sequence[int]:
        sizes.append(len(items))
        if len(items) > 2:
            raise error
        return items

    this = runner(9)
    assert [result for _, result in this.run(range(7), draw)] == list(range(7))
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert this.batch_size == 1
    # One item that is too large is one line; an error of another kind is a bug and stays itself.

    def never(items: Sequence[int], on_step: object) -> Sequence[int]:
        raise error

    with pytest.raises(UserError, match="sampler ancestral: out of memory on cpu; free some"):
        list(this.run([1], never))
    with pytest.raises(UserError, match="sampler ancestral: too wide"):
        list(this.run([1], never, too_large="too wide"))

    def broken(items: Sequence[int], on_step: object) -> Sequence[int]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(this.run([1], broken))


def test_batches_are_drawn_side_by_side_and_come_in_order() -> None:
    this, meeting, threads = runner(1), Barrier(2, timeout=60), []
    this.workers = 2

    def draw(items: Sequence[int], on_step: Callable[[Any], None]) -> list[int]:
        meeting.wait()  # passes only where two are under way at a time
        threads.append(torch.get_num_threads())
        on_step(Step(0, 1))
        return [10 * item for item in items]

    shares: list[float] = []
    found = list(this.run(range(4), draw, on_share=shares.append, side_by_side=True))
    assert found == [(item, 10 * item) for item in range(4)]
    assert max(shares) == 1
    assert threads == [max(1, torch.get_num_threads() // 2)] * 4


@pytest.mark.parametrize("count", [1, 3])
def test_a_map_is_in_order_and_takes_items_no_further_ahead_than_it_has_workers(count: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(7):
            taken.append(item)
            yield item

    with Workers(count) as workers:
        for number, result in enumerate(workers.map(lambda item: 10 * item, items())):
            assert result == 10 * number
            assert len(taken) == min(7, number + count)


def test_a_map_raises_the_error_of_an_item_in_its_turn() -> None:
    def broken(item: int) -> int:
        return 1 // item

    with Workers(2) as workers:
        results = workers.map(broken, [1, 2, 0, 3])
        assert [next(results), next(results)] == [1, 0]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_where_memory_runs_out_side_by_side_draws_are_one_at_a_time() -> None:
    this, calls = runner(1), []
    this.workers = 3

    def draw(items: Sequence[int], on_step: object) -> Sequence[int]:
        calls.append(current_thread() is main_thread())
        if this.workers > 1 and items[0] == 1:
            raise MemoryError
        return items

    assert [result for _, result in this.run(range(6), draw, side_by_side=True)] == list(range(6))
    assert this.workers == 1
    assert calls[-5:] == [True] * 5  # from item 1 on, by the caller


def test_an_error_side_by_side_stops_the_others_at_their_next_step() -> None:
    this, begun, stopped = runner(1), Event(), []
    this.workers = 2

    def draw(items: Sequence[int], on_step: Callable[[Any], None]) -> Sequence[int]:
        if items[0] == 0:
            begun.wait(60)
            raise ValueError("broken")
        begun.set()
        try:
            while True:
                on_step(Step(0, 2))
        except InterruptedError:
            stopped.append(items[0])
            raise

    with pytest.raises(ValueError, match="broken"):
        list(this.run(range(4), draw, side_by_side=True))
    # The worker of item 0 may have begun with item 2 before the error was seen.
    assert sorted(stopped) in ([1], [1, 2])


def test_stems_do_not_depend_on_the_workers(tiny_prior: Path) -> None:
    mixture = 0.1 * torch.randn(2, 3 * 22050, generator=torch.Generator().manual_seed(0))

    def stems(workers: int) -> dict[str, Tensor]:
        made = Separator.from_pretrained(tiny_prior, device="cpu", segment=1, overlap=0.1)
        made.workers = workers
        return dict(made.separate(mixture, 22050).stems)

    one, three = stems(1), stems(3)
    assert all(torch.equal(one[stem], three[stem]) for stem in one)


class Full:
    """A sampler for which there is never room."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def sample(self, *_: object, **__: object) -> Tensor:
        raise self.error


def full(preset: Preset, error: Exception) -> Preset:
    object.__setattr__(preset, "sampler", Full(error))
    return preset


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_is_one_line_in_all_front_ends(tiny_prior: Path, error: Exception) -> None:
    loaded = load_prior(tiny_prior)
    separator = Separator(loaded, full(load_preset("wiener"), error), device="cpu")
    with pytest.raises(UserError, match="out of memory on cpu; free some"):
        separator.separate(0.1 * torch.ones(2048), 22050)
    generator = Generator(loaded, load_preset("ancestral"), device="cpu")
    generator.sample = Full(error).sample  # type: ignore[method-assign]
    with pytest.raises(UserError, match="out of memory on cpu; free some"):
        next(iter(generator.generate(0.1)))
    prior = Prior(half, NoiseSchedule.linear(), (1, 8, 8))
    preset = full(load_image_preset("dps", "denoising"), error)
    restorer = Restorer(ImagePrior(prior, "toy", (1, 8, 8), {}), preset, "denoising")
    with pytest.raises(UserError, match="out of memory at a size of 8 pixels; give a smaller"):
        restorer.restore(torch.zeros(1, 8, 8))


def test_noise_and_signals_are_on_a_cuda_device_or_the_cpu() -> None:
    for name, want in (("cuda:1", "cuda:1"), ("cpu", "cpu"), ("mps", "cpu")):
        assert signal_device(torch.device(name)) == torch.device(want)
