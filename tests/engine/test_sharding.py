import pytest

from mgdm_audio.engine.sharding import Shard, find_shard
from mgdm_audio.errors import UserError

NAMES = [f"Track{number:05d}" for number in (1876, 7, 1900, 12, 2098, 99, 3)]


def slurm(task: int, count: int, least: int = 0, **more: str) -> dict[str, str]:
    numbers = {"ID": task, "COUNT": count, "MIN": least}
    return {f"SLURM_ARRAY_TASK_{key}": str(n) for key, n in numbers.items()} | more


def step(rank: int, ranks: int) -> dict[str, str]:
    """What srun of Slurm 22.05 gives a process, ``srun --ntasks=RANKS``."""
    counts = {"SLURM_NTASKS": str(ranks), "SLURM_STEP_NUM_TASKS": str(ranks)}
    own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_ID": "0"}
    return counts | own


# What a batch script has that asks for two tasks: it runs once, on the first node.
BATCH = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_shares_are_disjoint_complete_and_even(count: int) -> None:
    shares = [Shard(index, count).of(NAMES) for index in range(count)]
    assert sorted(name for share in shares for name in share) == sorted(NAMES)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    # Every process finds the names in an order of its own.
    assert [Shard(index, count).of(reversed(NAMES)) for index in range(count)] == shares


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, (0, 1)),
        ("1/1", {}, (0, 1)),
        ("3/4", {}, (2, 4)),
        ("", {"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ("", {"WORLD_SIZE": "4"}, (0, 1)),
        ("", slurm(0, 4), (0, 4)),
        ("", slurm(4, 4, least=1), (3, 4)),
        ("", slurm(9, 3, least=1, SLURM_ARRAY_TASK_STEP="4"), (2, 3)),
        ("", slurm(3, 1, least=3), (0, 1)),  # one task of an array, again
        ("", slurm(2, 3) | {"RANK": "1", "WORLD_SIZE": "4"}, (9, 12)),
        ("1/2", slurm(2, 3) | {"RANK": "1", "WORLD_SIZE": "4"}, (0, 2)),
        ("", step(1, 2), (1, 2)),
        ("", slurm(2, 2, least=1) | step(1, 2), (3, 4)),
        ("", BATCH, (0, 1)),
        ("", slurm(1, 3) | BATCH, (1, 3)),
        ("", step(1, 2) | {"RANK": "5", "WORLD_SIZE": "8"}, (5, 8)),  # torchrun counts all nodes
    ],
)
def test_who_says_which_share(
    text: str, environment: dict[str, str], expected: tuple[int, int]
) -> None:
    shard = find_shard(text, environment)
    assert (shard.index, shard.count) == expected
    assert find_shard(str(shard), {}) == shard


def test_torchrun_in_an_array_makes_every_share_once() -> None:
    processes = [
        slurm(task, 3, least=1) | {"RANK": str(rank), "WORLD_SIZE": "2"}
        for task in (1, 2, 3)
        for rank in (0, 1)
    ]
    shards = {find_shard("", environment) for environment in processes}
    assert shards == {Shard(index, 6) for index in range(6)}


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "1/", "-1/4", "a/b", "1/4/2", "²/4"])
def test_no_share(text: str) -> None:
    with pytest.raises(UserError, match=r"shard '.*': write I/N with I from 1 to N"):
        find_shard(text, {})


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK 4: is not below WORLD_SIZE 4"),
        ({"RANK": "x", "WORLD_SIZE": "4"}, "RANK is 'x'"),
        (step(2, 2), "SLURM_PROCID 2: is not below SLURM_STEP_NUM_TASKS 2; name a --shard"),
        (slurm(6, 3, least=1, SLURM_ARRAY_TASK_STEP="4"), "SLURM_ARRAY_TASK_ID 6: the array's 3"),
        (slurm(9, 3, least=1), "SLURM_ARRAY_TASK_ID 9: the array's 3 tasks are not evenly"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is ''"),
    ],
)
def test_environments_that_make_no_share(environment: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        find_shard("", environment)
    assert "\n" not in str(error.value)
