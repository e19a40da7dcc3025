"""Types of the options that several samplers share, with their ranges."""

from __future__ import annotations

from typing import Annotated

from mgdm_audio.ranges import Rule, within
from mgdm_audio.samplers.base import PerStep


def at_each_step(rule: Rule) -> Rule:
    """Returns the rule that every value of a ``PerStep`` satisfies ``rule``."""
    return Rule(lambda steps: all(map(rule.admits, steps.values)), rule.otherwise)


POSITIVE_AND_FINITE = within("(0, 1e6)", "{name} is positive and finite")

Shares = Annotated[float, within("[0, 1]", "{names} {lie} in [0, 1]")]
Finite = Annotated[float, POSITIVE_AND_FINITE]
FitRate = Annotated[PerStep, at_each_step(POSITIVE_AND_FINITE)]
FitSteps = Annotated[
    PerStep, at_each_step(within("[0, inf)", "{name} are whole numbers >= 0", step=1))
]
