"""Safetensors files: written, read and compared with a network, every failure in one line."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mgdm_audio.digest import hash_file, unchanged
from mgdm_audio.errors import UserError, described
from mgdm_audio.reading import require_regular

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
MOST = 5_000  # tensors of a network whose file of weights is not at hand
SPARE = 1000  # that the file may lack, and the first of them be named: they take no time
_DAMAGED = (SafetensorError, OSError, ArithmeticError, AttributeError, LookupError, MemoryError,
            RuntimeError, TypeError, ValueError)  # fmt: skip
Shapes = dict[str, tuple[int, ...]]
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write ``path``, which is not there before. Raises OSError, for a full disk say."""
    try:
        save_file(tensors, path, metadata=metadata)  # unlike save, it needs no memory for a copy
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise OSError(str(error).splitlines()[0]) from None
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def read_header(path: Path) -> tuple[Shapes, dict[str, str]]:
    """Shape of each tensor, and the metadata. Raises OSError or ValueError, in one line."""
    try:
        with safe_open(require_regular(path), "pt") as file:
            shapes = {}
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                part = file.get_slice(name)
                if part.get_dtype() not in TYPES:
                    raise ValueError(f"{name!r} holds values of type {part.get_dtype()}")
                shapes[name] = tuple(part.get_shape())
            return shapes, dict(file.metadata() or {})
    except FileNotFoundError:
        raise
    except _DAMAGED as error:  # of a file that is none the library raises one or another
        raise ValueError(_first_line(error)) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor. Raises OSError or ValueError, in one line."""
    read_header(path)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except _DAMAGED as error:
        raise ValueError(_first_line(error)) from None
    return tensors


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or described(error)).splitlines()[0]


def _not_tensors(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: missing; the prior directory is incomplete, fetch it again")
    return UserError(
        f"{path}: not a safetensors file ({error}); "
        "pickled weights are never opened, convert them to safetensors first"
    )


def require_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises UserError where a weight is no number."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name!r} is not finite; the file is damaged, fetch it again")


def require_fit(own: Shapes, found: Shapes, path: Path, otherwise: str) -> None:
    """Raises UserError for the first tensor of ``path`` that is missing, unknown or misshapen."""
    missing, surplus = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & found.keys() if own[n] != found[n])
    for what, names in (("lacks", missing), ("has unknown", surplus), ("has misshapen", shapes)):
        if names:
            raise UserError(f"{path}: {what} {names[0]!r} ({len(names)} in all); {otherwise}")


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    otherwise: str = f"it does not fit {CONFIG}",
) -> None:
    """Give a network the tensors of ``path``, which must be exactly its own, and finite.

    Raises UserError naming the first that is missing, unknown or misshapen: ``otherwise`` says
    what that means.
    """
    require_fit(_shapes(network.state_dict()), _shapes(tensors), path, otherwise)
    floats = {name: tensor.is_floating_point() for name, tensor in network.state_dict().items()}
    for name, tensor in tensors.items():  # else whole numbers would be taken for weights
        if tensor.is_floating_point() != floats[name]:
            raise UserError(f"{path}: {name!r} holds {tensor.dtype}; {otherwise}")
    require_finite(tensors, path)
    network.load_state_dict(tensors)


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def load_weights(network: nn.Module, path: Path, sha256: str | None = None) -> str:
    """Fill a network from a safetensors file that holds exactly its tensors; returns its hash.

    Raises UserError, in one line, for a missing, damaged or pickled file, one whose hash is not
    ``sha256``, and one that does not fit.
    """
    try:
        with unchanged([path]):
            tensors = read_tensors(path)
            found = hash_file(path)
    except (OSError, ValueError) as error:
        raise _not_tensors(path, error) from None
    if sha256 not in (None, found):
        raise UserError(
            f"{path}: hash {found[:12]} is not the {str(sha256)[:12]} of {CONFIG}; "
            "the file is damaged or not this prior's, fetch it again"
        )
    fill(network, tensors, path)
    return found


def outline(build: Callable[[], nn.Module], weights: Path) -> nn.Module:
    """The network that ``build`` makes for the file ``weights``, without memory for its numbers.

    Operations on tensors without values import torch's compiler, which takes more than a second:
    a network had better compute none of its tables then.

    However large the numbers are that ``build`` was given, it is stopped where the network has more
    tensors than the file. Raises UserError for that, and for what makes no network.
    """
    try:
        found = len(read_header(weights)[0]) if weights.is_file() else MOST
    except (OSError, ValueError) as error:
        raise _not_tensors(weights, error) from None
    where = f"{weights.parent / CONFIG}: model"
    try:
        with torch.device("meta"), _at_most(found + SPARE):
            return build()
    except _TooMany:
        raise UserError(
            f"{where}: describes far more than the {found} tensors of {weights.name}; the file "
            "is damaged, fetch it again"
        ) from None
    except (*_DAMAGED, AssertionError) as error:
        raise UserError(f"{where}: makes no network ({_first_line(error)})") from None


def open_network(
    build: Callable[[], NetworkT], weights: Path, sha256: str | None
) -> tuple[NetworkT, str]:
    """The network with the weights of a file, and the file's hash. Raises UserError.

    The shapes are compared before there is memory for any of them.
    """
    try:
        found = read_header(weights)[0]
    except (OSError, ValueError) as error:
        raise _not_tensors(weights, error) from None
    own = _shapes(outline(build, weights).state_dict())
    require_fit(own, found, weights, f"it does not fit {CONFIG}")
    network = build()
    return network, load_weights(network, weights, sha256)


class _TooMany(Exception):
    pass


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """Modules that are built in the block, by this thread, have so many parameters at most."""
    mine, seen = threading.get_ident(), 0

    def count(module: nn.Module, name: str, parameter: object) -> None:
        nonlocal seen
        seen += threading.get_ident() == mine
        if seen > tensors and threading.get_ident() == mine:
            raise _TooMany

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
