"""Ranges of settings, declared beside their fields and checked by one function.

    @dataclass(frozen=True)
    class DPS(Stepwise):  # a Checked
        num_steps: Annotated[int, at_least(3)] = 1000
        eta: Share = 1.0
        law: Literal["a", "b"] = "a"

A setting is checked wherever its dataclass is made: in Python, and from a TOML file by ``config``.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mgdm_audio.errors import UserError


class SettingError(UserError, ValueError):
    """A setting out of its range, in one line naming it and the remedy."""


@dataclass(frozen=True)
class Rule:
    """What a field's values satisfy, as metadata of its ``Annotated`` type; None always does.

    ``otherwise``: the message for a value that does not. It may use {name}, {value} (of a tuple
    {values}, in the brackets of TOML), {of} for the dataclass, and {names} for all its fields that
    have this rule, with {are} and {lie}.
    """

    admits: Callable[[Any], bool]
    otherwise: str

    def refusal(self, settings: Any, name: str, names: list[str]) -> SettingError:
        """For the field ``name``; ``names``: of those that have this rule."""
        value, several = getattr(settings, name), len(names) > 1
        text = self.otherwise.format(
            name=name,
            value=value,
            values=list(value) if isinstance(value, tuple) else value,
            of=settings,
            names=f"{', '.join(names[:-1])} and {names[-1]}" if several else name,
            are="are" if several else "is",
            lie="lie" if several else "lies",
        )
        return SettingError(text)


class Checked:
    """Base of dataclasses whose fields declare their ranges.

    One with conditions on several fields adds them in a ``__post_init__`` that calls this one.
    """

    def __post_init__(self) -> None:
        """``SettingError`` for the first field outside its ``Literal`` words or its ``Rule``."""
        declared = _declared(type(self))  # type: ignore[arg-type]  # a class is hashable
        for name, (words, rules) in declared.items():
            value = getattr(self, name)
            if words and not rules and value not in words:  # a rule has a message of its own
                known = ", ".join(str(word) for word in words if word is not None)
                raise SettingError(f"{name} = {value!r}: use one of {known}")
            for rule in rules:
                if value is not None and not rule.admits(value):
                    alike = [other for other, (_, own) in declared.items() if rule in own]
                    raise rule.refusal(self, name, alike)


def within(interval: str, otherwise: str | None = None, *, step: int | None = None) -> Rule:
    """Numbers in an interval, say "(0, 1]"; of a tuple, each. ``step``: whole multiples of it."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    with_low, with_high = interval[0] == "[", interval[-1] == "]"

    def admits(value: Any) -> bool:
        if isinstance(value, tuple):
            return all(map(admits, value))
        above = low <= value if with_low else low < value
        below = value <= high if with_high else value < high
        return bool(above and below) and (step is None or value % step == 0)

    return Rule(admits, otherwise or f"{{name}} = {{value}}: give a number in {interval}")


def at_least(low: int) -> Rule:
    """Numbers from ``low`` on."""
    return within(f"[{low}, inf)", f"{{name}} = {{value}}: give at least {low}")


def positive(say: str = "") -> Rule:
    """Finite numbers above 0; ``say``: one to suggest."""
    return within("(0, inf)", "{name} = {value}: give a positive number" + (say and f", say {say}"))


def not_negative(say: str = "") -> Rule:
    """Finite numbers from 0 on; ``say``: one to suggest."""
    return within("[0, inf)", "{name} = {value}: give a number >= 0" + (say and f", say {say}"))


def one_of(*words: str) -> Rule:
    """The words of a ``Literal``, with a message that lists them all quoted."""
    listed = " or ".join(map(repr, words))
    return Rule(words.__contains__, f"{{name}} = {{value!r}}: use {listed}")


def filled(otherwise: str) -> Rule:
    """A tuple or mapping that is not empty."""
    return Rule(bool, otherwise)


@cache
def _declared(cls: Any) -> dict[str, tuple[tuple[Any, ...], tuple[Rule, ...]]]:
    """Of each field that declares something: its words, if it has nothing but words, and rules."""
    found = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        parts = [hint, *get_args(hint)]
        rules = [m for part in parts for m in getattr(part, "__metadata__", ())]
        words, own = _words(hint), tuple(rule for rule in rules if isinstance(rule, Rule))
        if words or own:
            found[name] = (words, own)
    return found


def _words(hint: Any) -> tuple[Any, ...]:
    """The values of a ``Literal``, or of a union of such and None; () of any other type."""
    if hint is types.NoneType:
        return (None,)
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) is Annotated:
        return _words(hint.__origin__)
    if get_origin(hint) in (Union, types.UnionType):
        each = [_words(part) for part in get_args(hint)]
        return tuple(word for words in each for word in words) if all(each) else ()
    return ()


Count = Annotated[int, at_least(1)]
Positive = Annotated[float, positive()]
Share = Annotated[float, within("[0, 1]")]
