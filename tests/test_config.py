from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgdm_audio.config import ConfigError, apply_overrides, from_mapping, load_toml
from mgdm_audio.errors import UserError
from mgdm_audio.samplers.base import PerStep


@dataclass(frozen=True)
class Options:
    size: int
    rate: float = 0.5
    name: str = "x"
    flag: bool = False
    law: Literal["fixed", "uniform"] = "fixed"
    rule: PerStep = PerStep(3)
    shape: tuple[int, ...] = ()
    table: dict[str, Any] = field(default_factory=dict)
    function: Callable[[int], int] = abs

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is negative")


def test_every_kind_of_value_arrives_typed() -> None:
    mapping = {
        "size": 2,
        "rate": 1,
        "flag": True,
        "law": "uniform",
        "rule": {"base": 3, "last": [5, 20]},
        "shape": [1, 2],
        "table": {"a": 1},
        "function": max,
    }
    options = from_mapping(Options, mapping, "file.toml")
    rule = PerStep(3, last=(5, 20))
    assert options == Options(2, 1.0, "x", True, "uniform", rule, (1, 2), {"a": 1}, max)
    assert type(options.rate) is float
    assert type(options.rule.base) is int  # a count stays a count


def test_a_bare_value_stands_for_a_table_with_one_required_key() -> None:
    assert from_mapping(Options, {"size": 1, "rule": 90}, "f").rule == PerStep(90)


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"size": 1, "rat": 2}, "unknown key 'rat'; did you mean rate"),
        ({"size": 1, "zzzz": 2}, "known: flag, function, law"),
        ({}, "missing key 'size'"),
        ({"size": 1.5}, "size: 1.5 is not a whole number"),
        ({"size": True}, "size: True is not a whole number"),
        ({"size": "1"}, "size: '1' is not a whole number"),
        ({"size": 1, "rate": "fast"}, "rate: 'fast' is not a number"),
        ({"size": 1, "flag": 1}, "flag: 1 is not true or false"),
        ({"size": 1, "law": "unifrom"}, "law: unknown value 'unifrom'; did you mean uniform"),
        ({"size": 1, "rule": {"bas": 1}}, "rule: unknown key 'bas'; did you mean base"),
        ({"size": 1, "rule": {"base": 1, "last": [1, 2, 3]}}, "rule: last"),
        ({"size": 1, "rule": {"base": "a"}}, "rule: base: 'a' is not a number"),
        ({"size": 1, "rule": {"base": 1, "last": "a"}}, "rule: last: 'a' is not"),
        ({"size": 1, "shape": [1, "a"]}, "shape: 'a'"),
        ({"size": 1, "function": "abs"}, "function: 'abs' is not a function"),
        ({"size": -1}, "size is negative"),
    ],
)
def test_a_mistake_is_named_in_one_line(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Options, mapping, "file.toml")
    message = str(caught.value)
    assert message.startswith("file.toml: ")
    assert says in message
    assert "\n" not in message
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)


def test_overrides_write_into_a_copy() -> None:
    original = {"options": {"eta": 1.0}, "noise_std": 1.0}
    overrides = [
        "options.eta=0.5",
        "options.rule.last = [5, 20]",
        "noise_std=1e-3",
        "law=mu*",
        "x=.5",
    ]
    assert apply_overrides(original, overrides) == {
        "options": {"eta": 0.5, "rule": {"last": [5, 20]}},
        "noise_std": 1e-3,
        "law": "mu*",
        "x": 0.5,
    }
    assert original == {"options": {"eta": 1.0}, "noise_std": 1.0}


@pytest.mark.parametrize("override", ["eta", "=3", "a..b=3", "noise_std.x=3"])
def test_a_malformed_override_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError, match="'"):
        apply_overrides({"noise_std": 1.0}, [override])


toml_values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(-(2**31), 2**31)),
)


@given(toml_values)
def test_an_override_reads_what_toml_would(value: Any) -> None:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    result = apply_overrides({}, [f"key={text}"])["key"]
    assert result == value
    assert type(result) is type(value)


@given(st.text("ab1.=+-\n\"'[]{},#\\ "))
def test_an_override_never_fails_on_its_value(text: str) -> None:
    result = apply_overrides({}, [f"key={text}"])
    assert set(result) == {"key"}  # nor does a line break smuggle in a second key


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.toml: cannot be read"):
        load_toml(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = \nb = 2")
    with pytest.raises(ConfigError, match=r"broken.toml: not TOML: .*line 1"):
        load_toml(broken)
    broken.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"broken.toml: not TOML"):
        load_toml(broken)
