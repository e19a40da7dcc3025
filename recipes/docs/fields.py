"""The fields of a dataclass as a table, with the comment that stands beside each in its source."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from typing import Any


def fields_table(cls: type) -> str:
    """Name, type, default and meaning of every field, those of its bases first."""
    rows = {name: row for base in reversed(cls.__mro__) for name, row in _own_fields(base).items()}
    if not rows:
        return ""
    lines = ["| name | type | default | meaning |", "|---|---|---|---|", *rows.values()]
    return "\n".join(lines) + "\n"


def _own_fields(cls: type) -> dict[str, str]:
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
    rows = {}
    for node, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        default = "" if node.value is None else f"`{_default(node.value)}`"
        meaning = [comments.get(node.lineno, "")]
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            meaning.append(inspect.cleandoc(str(following.value.value)))
        cells = [f"`{node.target.id}`", f"`{ast.unparse(node.annotation)}`", default,
                 " ".join(" ".join(meaning).split())]  # fmt: skip
        rows[node.target.id] = (
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        )
    return rows


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
