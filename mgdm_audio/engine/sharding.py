"""A share of many items for each of several processes that never speak to each other.

Every process sorts the same names and takes every N-th of them, beginning with its own number. What
is done already is not done again, so that any of them can be stopped, or run again alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Shard:
    """The ``index``-th, from 0, of ``count`` shares."""

    index: int = 0
    count: int = 1

    def of(self, names: Iterable[str]) -> list[str]:
        """This share of ``names``, sorted: the shares are disjoint, and together all of them."""
        return sorted(names)[self.index :: self.count]

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


def find_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """``text``, "I/N" with I from 1 to N; where it is empty, what ``environment`` says.

    That is the process of torchrun (RANK, WORLD_SIZE), the task of a Slurm array
    (SLURM_ARRAY_TASK_ID, _COUNT, _MIN, _STEP), a process of a task where it is both, else all.
    Raises UserError, in one line, for numbers that make no share.
    """
    if text:
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard {text!r}: write I/N with I from 1 to N, say 1/4")
        return Shard(int(match[1]) - 1, int(match[2]))
    rank, ranks = _torchrun(environment)
    task, tasks = _slurm_array(environment)
    return Shard(task * ranks + rank, tasks * ranks)


def _torchrun(environment: Mapping[str, str]) -> tuple[int, int]:
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return 0, 1
    rank, ranks = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if not 0 <= rank < ranks:
        raise UserError(f"RANK {rank}: is not below WORLD_SIZE {ranks}; name a --shard")
    return rank, ranks


def _slurm_array(environment: Mapping[str, str]) -> tuple[int, int]:
    """From 0. An array of evenly spaced tasks; of another one Slurm does not tell the others."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return 0, 1
    task, tasks, least = (
        _number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT", "MIN")
    )
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", "1")
    index, rest = divmod(task - least, max(step, 1))
    if rest or not 0 <= index < tasks:
        raise UserError(
            f"SLURM_ARRAY_TASK_ID {task}: the array's {tasks} tasks are not evenly spaced; "
            "name a --shard, or an array like 0-7"
        )
    return index, tasks


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    text = environment.get(name, default)
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise UserError(f"{name} is {text!r}, which is no number; name a --shard")
    return int(text)
