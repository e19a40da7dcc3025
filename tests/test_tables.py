"""Markdown tables as GitHub's parser reads them: every cell comes back, in its column."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgdm_audio import tables

CELL = st.text(st.sampled_from("ab |*-"), max_size=6).map(str.strip)
ROWS = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n)))


def cells(line: str) -> list[str]:
    """Split at the bars that no backslash escapes, as the specification says."""
    first, *found, last = re.split(r"(?<!\\)\|", line)
    assert first == last == ""
    return [cell.strip().replace(r"\|", "|") for cell in found]


@settings(deadline=None)
@given(ROWS)
def test_every_cell_comes_back(rows: list[list[str]]) -> None:
    heads = [str(i) for i in range(len(rows[0]) if rows else 3)]
    first, rule, *lines = tables.table(heads, rows).splitlines()
    assert cells(first) == heads
    assert cells(rule) == ["---", *["---:"] * (len(heads) - 1)]
    assert [cells(line) for line in lines] == rows


def test_a_table_by_hand() -> None:
    assert tables.table(["", "n", "why"], [["p(y | x)", "1", ""]], "lrl") == (
        "| | n | why |\n|---|---:|---|\n| p(y \\| x) | 1 | |"
    )


def test_as_many_sides_as_columns() -> None:
    with pytest.raises(ValueError, match="2 columns, but align is 'lrr'"):
        tables.head(["a", "b"], "lrr")
