"""Strict TOML into frozen dataclasses: a misspelt key is an error, never a silent default."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from mgdm_audio.errors import UserError
from mgdm_audio.reading import read_bytes

T = TypeVar("T")


class ConfigError(UserError, ValueError):
    """A configuration that cannot be read, in one line naming the file, the key and the remedy."""


def load_toml(path: str | Path) -> dict[str, Any]:
    """The table in the file ``path``. Raises ``ConfigError`` naming the file (and the line)."""
    try:
        text = read_bytes(Path(path)).decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValueError as error:  # no regular file
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {' '.join(str(error).split())}") from error


def apply_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of ``mapping`` with ``["a.b=3", ...]`` written over it.

    A value is read as TOML (``3``, ``true``, ``[5, 20]``, ``"text"``) and, failing that, taken as
    a bare string, so that ``index_law=mu*`` needs no quotes.
    """
    result = deepcopy(dict(mapping))
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = [key.strip() for key in dotted.split(".")]
        if not equals or not all(keys):
            raise ConfigError(f"'{override}': write an override as key=value, say options.eta=0.5")
        table = result
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"'{override}': {key} is a value, not a table")
        table[keys[-1]] = _parse_value(text.strip())
    return result


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """``cls(**mapping)`` with every key and type checked against the fields of dataclass ``cls``.

    ``where`` opens every message (a file, say). A nested dataclass is a table; one with a single
    required field may also be written as that field's bare value, so ``vi_steps = 3`` stands for
    ``vi_steps = {base = 3}``. Raises ``ConfigError`` for an unknown key (naming the nearest known
    one), a missing key, a wrong type, or a value that ``cls`` itself refuses by ``ValueError``.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'{nearest(key, fields)}")
    if missing := [name for name, f in fields.items() if _required(f) and name not in mapping]:
        raise ConfigError(f"{where}: missing key '{missing[0]}'")
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {key: convert(hints[key], value, f"{where}: {key}") for key, value in mapping.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the known words nearest to ``word``, or all if none is near."""
    known = sorted(known)
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known: {', '.join(known)}"


def _required(field: dataclasses.Field[Any]) -> bool:
    absent = dataclasses.MISSING
    return field.default is absent and field.default_factory is absent


def _parse_value(text: str) -> Any:
    try:
        # TOML wants .5 written 0.5; nobody types that on a command line.
        table = tomllib.loads(f"value = {'0' + text if text.startswith('.') else text}")
    except (ValueError, RecursionError):  # no TOML, or a number too long for Python
        return text
    return table["value"] if len(table) == 1 else text


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the type ``hint``, or ``ConfigError``, whose message ``where`` opens."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        words = typing.get_origin(args[0]) is Literal  # the range of the field names them
        return value if words else convert(args[0], value, where)
    if origin is Literal:
        if value in args:
            return value
        known = [str(a) for a in args]
        raise ConfigError(f"{where}: unknown value {_shown(value)}{nearest(str(value), known)}")
    if origin in (typing.Union, types.UnionType):
        return _convert_union(args, value, where)
    if dataclasses.is_dataclass(hint):
        return _convert_dataclass(hint, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        items = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(items) == len(value):
            return tuple(convert(h, v, where) for h, v in zip(items, value, strict=True))
    elif origin is Callable and callable(value):
        return value
    elif origin is dict and isinstance(value, Mapping):
        return dict(value)
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where}: {_shown(value)} is not {_describe(hint)}")


def _convert_union(members: tuple[Any, ...], value: Any, where: str) -> Any:
    failure = ConfigError(f"{where}: {_shown(value)} is not allowed")
    for member in members:
        try:
            return convert(member, value, where)
        except ConfigError as error:
            # Of `int | float` the wider type speaks; of `X | None`, X (TOML has no null).
            failure = failure if member is types.NoneType else error
    raise failure


def _convert_dataclass(cls: Any, value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return from_mapping(cls, value, where)
    required = [f.name for f in dataclasses.fields(cls) if _required(f)]
    if len(required) != 1:
        raise ConfigError(f"{where}: {_shown(value)} is not a table")
    return from_mapping(cls, {required[0]: value}, where)


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())  # an array's representation goes over several lines


def _describe(hint: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}
    if typing.get_origin(hint) is Callable:
        return "a function; give one, from Python"
    return names.get(hint) or str(hint).replace("typing.", "")
