import pytest
import torch

from mgdm_audio.rng import generator_for, randint, randn, randn_like


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_an_item_is_drawn_from_its_generator_alone() -> None:
    batch = randn((3, 2, 5), generator=generators([0, 1, 2]))
    alone = randn((1, 2, 5), generator=generators([1]))
    assert torch.equal(batch[1], alone[0])


def test_integers_are_drawn_per_item_too() -> None:
    batch = randint(0, 10**6, batch=3, generator=generators([0, 1, 2]))
    alone = randint(0, 10**6, batch=1, generator=generators([2]))
    assert batch.shape == (3,)
    assert batch.dtype == torch.int64
    assert batch[2] == alone[0]


def test_one_generator_serves_a_whole_batch() -> None:
    x = randn((4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert x.shape == (4, 3)
    assert x.dtype == torch.float64
    n = randint(3, 5, batch=200, generator=torch.Generator().manual_seed(0))
    assert set(n.tolist()) == {3, 4}  # high is exclusive; 200 draws miss a value w.p. 2^-199


def test_generators_must_fit_the_batch() -> None:
    with pytest.raises(ValueError, match="one per item"):
        randn((3, 2), generator=generators([0, 1]))


def test_draws_follow_the_tensor_in_hand() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert randn_like(x, torch.Generator().manual_seed(0)).dtype == torch.float64


def test_a_seed_and_its_keys_name_one_stream_for_ever() -> None:
    def first(*keys: int | str) -> int:
        return int(torch.randint(2**31, (), generator=generator_for(*keys)))  # type: ignore[arg-type]

    # A constant, so that a change of the hash (and of every result ever published) is noticed.
    assert generator_for(0, "track", 3).initial_seed() == 1382569091087467360
    assert len({first(0), first(1), first(0, 1), first(0, "1"), first(0, 1, 0)}) == 5


def test_the_global_state_is_neither_read_nor_written() -> None:
    before = torch.get_rng_state()
    a = randn((2, 2), generator=generator_for(5))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    b = randn((2, 2), generator=generator_for(5))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)
