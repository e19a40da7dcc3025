"""Distributes items over several processes without communication between them.

Every process sorts the same names and takes every N-th of them, beginning with its own number.
Finished items are skipped, so that any process can be stopped and run again alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Shard:
    """A shard is the ``index``-th, from 0, of ``count`` shares."""

    index: int = 0
    count: int = 1

    def of(self, names: Iterable[str]) -> list[str]:
        """Returns this share of the sorted ``names``; all shares together are a partition."""
        return sorted(names)[self.index :: self.count]

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


def find_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Returns the shard of ``text``, "I/N" with I from 1 to N, or else of ``environment``.

    The environment gives the process of torchrun (RANK, WORLD_SIZE), or else that of srun
    (SLURM_PROCID, SLURM_STEP_NUM_TASKS); the task of a Slurm array (SLURM_ARRAY_TASK_ID, _COUNT,
    _MIN, _STEP); a process of a task if both are set; or else all items. Raises UserError, in one
    line, for invalid numbers.
    """
    if text:
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard {text!r}: write I/N with I from 1 to N, say 1/4")
        return Shard(int(match[1]) - 1, int(match[2]))
    # A batch script has SLURM_NTASKS and SLURM_PROCID too, but runs once: srun sets the step's.
    torchrun, srun = ("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    rank, ranks = _process(environment, *(torchrun if "RANK" in environment else srun))
    task, tasks = _slurm_array(environment)
    return Shard(task * ranks + rank, tasks * ranks)


def _process(environment: Mapping[str, str], index: str, count: str) -> tuple[int, int]:
    """The index, from 0, and the number of processes, in the variables of these names."""
    if index not in environment or count not in environment:
        return 0, 1
    rank, ranks = _number(environment, index), _number(environment, count)
    if not 0 <= rank < ranks:
        raise UserError(f"{index} {rank}: is not below {count} {ranks}; name a --shard")
    return rank, ranks


def _slurm_array(environment: Mapping[str, str]) -> tuple[int, int]:
    """Returns index, from 0, and count of a Slurm array, whose tasks must be evenly spaced."""
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
