"""Pickles read as data: of what they name, nothing is imported and nothing is called.

Numbers, strings, lists, tuples, dictionaries and torch's tensors come out as they were. Any other
class or function is replaced by a class that does nothing and keeps its name, so that the rest of
the file can still be read. ``torch.load`` takes this module as its ``pickle_module``. torch's own
weights-only reader would not do: it stops at classes that are filled like a list or a dictionary,
at pickles of protocol 4 and later, and at some modules whatever their names are replaced by.
"""

import pickle
from collections.abc import Callable
from typing import IO, Any, ClassVar

import torch
from torch import Tensor


def _ignore(*_: Any) -> None:
    """Serves a class, where pickle calls it unbound, as well as an object."""


class Inert:
    """Stands for a class or function that a pickle names, and for whatever comes out of it.

    It takes every step of unpickling: to be made, called, given a state, items or attributes. It
    keeps nothing but ``name``, "module.name" of what it stands for.
    """

    name: ClassVar[str] = ""
    dump_patches = False  # torch.load asks for it of a class that was saved before torch 1.6

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any) -> "Inert":
        return self

    def __repr__(self) -> str:
        return f"Inert({self.name!r})"

    __setstate__ = __setitem__ = append = extend = add = _ignore


class Entries(dict[Any, Any]):
    """An OrderedDict of the pickle, without the attributes that it had."""

    __slots__ = ()
    __setstate__ = _ignore


class Known:
    """A function of torch that may be called: no pickle can change it, unlike a bare function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    __setstate__ = _ignore


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, metadata: Any = None
) -> Tensor:
    """Without its hooks, which may be anything; ``metadata`` says whether it is negated."""
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {}, metadata)  # type: ignore[no-any-return]


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _with_attributes(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    return function(*arguments)  # all that a pickle can reach here does no harm when it is called


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Entries,
    ("torch._utils", "_rebuild_tensor_v2"): Known(_tensor),
    ("torch._utils", "_rebuild_parameter"): Known(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Known(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Known(_with_attributes),
}
"""The storages of tensors are looked up by ``torch.load`` itself, by name."""


class Unpickler(pickle.Unpickler):
    """Imports nothing: ``find_class`` is the one place where pickle would."""

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        return type("Inert", (Inert,), {"name": f"{module}.{name}"}) if known is None else known


def load(file: IO[bytes], *, encoding: str = "ASCII") -> Any:
    """The next object in ``file``, as ``pickle.load``; ``encoding``: of Python 2's strings."""
    return Unpickler(file, encoding=encoding).load()
