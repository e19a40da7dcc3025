"""Markdown tables in GitHub's format: https://github.github.com/gfm/#tables-extension-."""

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "---:"}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Returns a whole table without a newline at the end; see ``head`` and ``row``."""
    return "\n".join([head(heads, align), *map(row, rows)])


def head(heads: Sequence[str], align: str = "") -> str:
    """Returns the two lines above the rows, for a table that is printed row by row.

    ``align`` has an l (left) or r (right) for every column; by default the first column, of names,
    is left and the others, of numbers, are right.
    """
    rules = [RULES[side] for side in align or "l" + "r" * (len(heads) - 1)]
    if len(rules) != len(heads):
        raise ValueError(f"{len(heads)} columns, but align is {align!r}")
    return f"{row(heads)}\n|{'|'.join(rules)}|"


def row(cells: Sequence[str]) -> str:
    """Returns one line, with escaped bars in cells."""
    return "|" + "|".join(f" {cell} ".replace("|", r"\|") if cell else " " for cell in cells) + "|"


def aligned(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """Returns rows as lines of text: numbers, in the middle columns, are flush right."""
    first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(f"{a:<{first}}  {b:>{second}}  {c:>{third}}  {d}" for a, b, c, d in rows)
