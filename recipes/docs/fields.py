"""The fields of a dataclass as a table, with the comment that stands beside each in its source."""

from __future__ import annotations

import ast
import inspect
import io
import re
import textwrap
import tokenize
import typing
from typing import Any

from mgdm_audio import tables
from mgdm_audio.ranges import Rule

NO_RANGE = re.compile(
    r".*: (give |use )?|^give |^{names?} ({are}|{lie}|is|are|lies|must be) |, got .*"
)
"""What a message says beside the range."""


def fields_table(cls: type) -> str:
    """Name, type, default, range and meaning of every field, those of its bases first."""
    rows = {name: row for base in reversed(cls.__mro__) for name, row in _own_fields(base).items()}
    if not rows:
        return ""
    lines = ["| name | type | default | range | meaning |", "|---|---|---|---|---|", *rows.values()]
    return "\n".join(lines) + "\n"


def _own_fields(cls: Any) -> dict[str, str]:
    """Field -> row of the table, of those that the source of ``cls`` itself declares."""
    if "__dataclass_fields__" not in vars(cls):
        return {}
    source = textwrap.dedent(inspect.getsource(cls))
    body: Any = ast.parse(source).body[0]
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    types = typing.get_type_hints(cls)
    declared = typing.get_type_hints(cls, include_extras=True)
    rows = {}
    for node, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        meaning = _comment(node, source, comments)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            meaning += " " + inspect.cleandoc(str(following.value.value))
        default = "" if node.value is None else f"`{_default(node.value)}`"
        cells = [f"`{name}`", f"`{_named(types[name])}`", default, _range(declared[name]), meaning]
        rows[name] = tables.row([" ".join(cell.split()) for cell in cells])
    return rows


def _comment(node: ast.AnnAssign, source: str, comments: dict[int, str]) -> str:
    """What stands beside a field, or in whole lines above it."""
    above, lines, line = [], source.splitlines(), node.lineno - 1
    while line in comments and lines[line - 1].strip().startswith("#"):
        above.insert(0, comments[line])
        line -= 1
    beside = [comments[n] for n in range(node.lineno, (node.end_lineno or 0) + 1) if n in comments]
    return " ".join([*above, *beside])


def _default(value: ast.expr) -> str:
    """The source of a default, or of what its factory returns."""
    if (
        isinstance(value, ast.Call)
        and value.keywords
        and value.keywords[0].arg == "default_factory"
    ):
        factory = value.keywords[0].value
        if isinstance(factory, ast.Lambda):
            return ast.unparse(factory.body)
        return {"dict": "{}"}.get(ast.unparse(factory), f"{ast.unparse(factory)}()")
    return ast.unparse(value)


def _named(hint: Any) -> str:
    """A type without the modules of its parts."""
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)
    return re.sub(r"Union\[Literal\[(.*?)\], Literal\[(.*?)\]\]", r"Literal[\1, \2]", text)


def _range(hint: Any) -> str:
    """What the values of a declared field satisfy, from the message for those that do not."""
    parts = (hint, *typing.get_args(hint))
    rules = [m for part in parts for m in getattr(part, "__metadata__", ()) if isinstance(m, Rule)]
    found = {NO_RANGE.sub("", rule.otherwise) for rule in rules}
    return "; ".join(sorted(found))
