"""Reads pickles as data, without importing or calling anything that they name.

Numbers, strings, lists, tuples, dictionaries and torch's tensors are restored. Any other class or
function is replaced by a class that does nothing and keeps its name, so that the rest of the file
can be read. ``torch.load`` takes this module as its ``pickle_module``. torch's own weights-only
reader is too strict: it fails on classes filled like a list or a dictionary, on pickles of protocol
4 and later, and on some modules whatever replaces their names.
"""

import os
import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, ClassVar

import torch
from torch import Tensor


def _ignore(*_: Any) -> None:
    """Does nothing, as a method or, where pickle calls it unbound, as a function."""


class Inert:
    """Replaces a class or function that a pickle names, and its instances and results.

    It accepts every step of unpickling: construction, calls, a state, items and attributes. It
    keeps only ``name``, "module.name" of the original.
    """

    name: ClassVar[str] = ""
    dump_patches = False  # torch.load reads this attribute of classes saved before torch 1.6

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
    """An OrderedDict of the pickle, without its attributes."""

    __slots__ = ()
    __setstate__ = _ignore


class Known:
    """A function of torch that a pickle may call but, unlike a bare function, cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    __setstate__ = _ignore


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, metadata: Any = None
) -> Tensor:
    """Restores a tensor without its hooks; ``metadata`` includes whether it is negated."""
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {}, metadata)  # type: ignore[no-any-return]


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _with_attributes(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    return function(*arguments)  # every function that a pickle can name here is harmless


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Entries,
    ("torch._utils", "_rebuild_tensor_v2"): Known(_tensor),
    ("torch._utils", "_rebuild_parameter"): Known(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Known(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Known(_with_attributes),
}
"""The functions and classes that are not replaced; ``torch.load`` itself looks up storages."""


class Unpickler(pickle.Unpickler):
    """An unpickler that imports nothing, since only ``find_class`` could.

    Storages, which ``torch.load`` makes by ``persistent_load``, may not be longer than the file,
    nor may a place of the memo be beyond its length: memory is allocated up to it.
    """

    def __init__(self, file: IO[bytes], *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self._file = file
        self._size: int | None = None  # bytes of the file, where it is one
        with suppress(OSError, AttributeError):
            self._size = os.fstat(file.fileno()).st_size

    def load(self) -> Any:
        start = self._file.tell()
        for code, place, at in pickletools.genops(self._file):
            if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(place or 0) > (at or 0):
                raise pickle.UnpicklingError(f"place {place} of the memo at byte {at}")
        self._file.seek(start)
        return super().load()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "persistent_load":
            value = self._bounded(value)
        super().__setattr__(name, value)

    def _bounded(self, load: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def bounded(given: Any) -> Any:
            count = given[4] if given[:1] == ("storage",) and len(given) > 4 else 0
            if self._size is not None and count > self._size:
                raise pickle.UnpicklingError(f"a storage of {count} numbers exceeds the file")
            return load(given)

        return bounded

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        return type("Inert", (Inert,), {"name": f"{module}.{name}"}) if known is None else known


def load(file: IO[bytes], *, encoding: str = "ASCII") -> Any:
    """Loads the next object in ``file``, as ``pickle.load``; ``encoding``: of Python 2 strings."""
    return Unpickler(file, encoding=encoding).load()
