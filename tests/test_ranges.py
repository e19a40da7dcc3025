"""Ranges that dataclasses declare beside their fields."""

import ast
import inspect
import textwrap
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgdm_audio.config import ConfigError, from_mapping
from mgdm_audio.errors import UserError
from mgdm_audio.ranges import Checked, Count, Rule, Share, at_least, filled, one_of, within
from mgdm_audio.samplers import SAMPLERS

ENDS = [0.0, 0.5, 1.0, 1e6, float("inf")]
_TOGETHER = within("[0, 1]", "{names} {lie} in [0, 1]")
_WORD = one_of("one", "two")
_PARTS = filled("{of.name}: {name} are missing")


@dataclass(frozen=True)
class Settings(Checked):
    name: str = "it"
    count: Count = 1
    batch: Count | None = None
    share: Share = 0.5
    pair: Annotated[tuple[float, ...], within("(0, 1)", "pair = {values}")] = ()
    widths: Annotated[tuple[int, ...], within("[8, inf)", step=8)] = (8,)
    parts: Annotated[tuple[str, ...], _PARTS] = ("a",)
    low: Annotated[float, _TOGETHER] = 0.0
    high: Annotated[float, _TOGETHER] = 1.0
    law: Literal["a", "b"] = "a"
    more: Literal["a"] | Literal["c"] | None = None
    word: Annotated[Literal["one", "two"], _WORD] = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError("low is above high")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count = 0: give at least 1"),
        ({"count": float("inf")}, "count = inf: give at least 1"),
        ({"batch": 0}, "batch = 0: give at least 1"),
        ({"share": -0.1}, "share = -0.1: give a number in [0, 1]"),
        ({"share": float("nan")}, "share = nan: give a number in [0, 1]"),
        ({"pair": (0.5, 1.0)}, "pair = [0.5, 1.0]"),  # as TOML writes it
        ({"widths": (8, 12)}, "widths = (8, 12): give a number in [8, inf)"),
        ({"parts": ()}, "it: parts are missing"),
        ({"high": 2.0}, "low and high lie in [0, 1]"),  # all that have this message
        ({"law": "c"}, "law = 'c': use one of a, b"),
        ({"more": "b"}, "more = 'b': use one of a, c"),
        ({"word": "three"}, "word = 'three': use 'one' or 'two'"),
        ({"low": 1.0, "high": 0.5}, "low is above high"),
    ],
)
def test_what_is_outside_is_refused_in_python_and_from_a_file(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared whole
        Settings(**options)
    assert str(caught.value) == says
    assert isinstance(caught.value, UserError) or says == "low is above high"
    if isinstance(next(iter(options.values())), str) and "word" not in options:
        return  # words in a file are those of test_config.py, unless their rule has a message
    if options != {"count": float("inf")}:  # which is no whole number in a file
        with pytest.raises(ConfigError) as caught:
            from_mapping(Settings, options, "file.toml")
        assert str(caught.value) == f"file.toml: {says}"


def test_what_is_inside_passes_in_python_and_from_a_file() -> None:
    inside = {"count": 3, "batch": 2, "pair": [0.1, 0.9], "widths": [8, 16], "word": "two"}
    read = from_mapping(Settings, inside, "file.toml")
    assert read == Settings(count=3, batch=2, pair=(0.1, 0.9), widths=(8, 16), word="two")
    assert replace(read, batch=None, more="c").batch is None


@given(
    st.sampled_from("[("),
    st.sampled_from("])"),
    st.sampled_from(ENDS[:-1]),
    st.sampled_from(ENDS),
    st.sampled_from([-1.0, *ENDS, 0.25, 2.0]),
)
def test_an_interval_has_the_ends_that_its_brackets_say(
    left: str, right: str, low: float, high: float, value: float
) -> None:
    above = value > low or (left == "[" and value == low)
    below = value < high or (right == "]" and value == high)
    assert within(f"{left}{low}, {high}{right}").admits(value) == (above and below)


def test_a_subclass_has_the_ranges_of_its_base_and_its_own() -> None:
    @dataclass(frozen=True)
    class More(Settings):
        extra: Annotated[int, at_least(2)] = 2

    with pytest.raises(ValueError, match="count = 0"):
        More(count=0)
    with pytest.raises(ValueError, match="extra = 1: give at least 2"):
        More(extra=1)


def test_a_rule_of_ones_own_names_its_field() -> None:
    @dataclass(frozen=True)
    class Odd(Checked):
        size: Annotated[int, Rule(lambda size: size % 2 == 1, "{name} {value} is even")] = 1

    with pytest.raises(ValueError, match="size 2 is even"):
        Odd(2)


@pytest.mark.parametrize("cls", SAMPLERS.values())
def test_a_sampler_checks_no_single_option_by_hand(cls: type[Any]) -> None:
    """What ``__post_init__`` still compares is a condition on several options."""
    own = vars(cls).get("__post_init__")
    if own is None:
        return
    names = {field.name for field in fields(cls)}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(own)))):
        if isinstance(node, ast.If):
            used = {n.attr for n in ast.walk(node.test) if isinstance(n, ast.Attribute)}
            assert len(used & names) >= 2, ast.unparse(node.test)
