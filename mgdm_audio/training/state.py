"""The state of a training run in one file, from which it goes on as if it had not stopped."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mgdm_audio.errors import UserError

STATE = "state.safetensors"


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that the run of a state was started or last gone on with.

    Empty where there is no state, or one from before they were kept. UserError if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        settings = json.loads(_metadata(path).get("settings", "{}"))
    except ValueError as error:
        raise _damaged(path, error) from None
    return settings if isinstance(settings, dict) else {}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """{"noise.given": "0.5 -> 0.7"}: what differs of two tables of JSON values.

    A key that ``old`` lacks does not count: the program has learned of it since.
    """
    result: dict[str, str] = {}
    for key, before in old.items():
        after = new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            inner = differences(before, after)
            result |= {f"{key}.{name}": change for name, change in inner.items()}
        elif json.dumps(before) != json.dumps(after):
            result[key] = f"{json.dumps(before)} -> {json.dumps(after)}"
    return result


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            found: dict[str, str] | None = file.metadata()
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None
    return found or {}


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: no training state ({str(error).splitlines()[0]}); "
        "remove it to train from the start"
    )


class State:
    """Parameters, their moving average, AdamW's moments and the step, in one safetensors file.

    ``elapsed``: seconds of training so far where the schedule counts them, else 0. ``settings``:
    JSON values that are kept in the file, see ``read_settings``."""

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.AdamW,
        settings: Mapping[str, Any] | None = None,
    ):
        self.network, self.optimiser, self.step, self.elapsed = network, optimiser, 0, 0.0
        self.settings = dict(settings or {})
        self.average = {name: p.detach().clone() for name, p in network.named_parameters()}

    def update_average(self, decay: float) -> None:
        # The first steps count little: the average forgets its random start as fast as it can.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            parameters = [p.detach() for p in self.network.parameters()]
            torch._foreach_lerp_(list(self.average.values()), parameters, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network holds the averaged parameters inside the block."""
        kept = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        self._load(self.average)
        try:
            yield
        finally:
            self._load(kept)

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.network.named_parameters():
            parameter.copy_(values[name])

    def save(self, path: Path) -> None:
        tensors = {f"average.{n}": v for n, v in self.average.items()}
        for name, parameter in self.network.named_parameters():
            tensors[f"parameter.{name}"] = parameter.detach()
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"adamw.{key}.{name}"] = value
        persistent = self.network.state_dict()
        for name, buffer in self.network.named_buffers():
            if name in persistent:
                tensors[f"buffer.{name}"] = buffer
        partial = path.with_suffix(".partial")
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        metadata = {"step": str(self.step), "elapsed": str(self.elapsed)}
        metadata["settings"] = json.dumps(self.settings)
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        metadata = _metadata(path)
        try:
            self.step, self.elapsed = int(metadata["step"]), float(metadata.get("elapsed", 0))
            tensors = load_file(path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise _damaged(path, error) from None
        own = {f"parameter.{n}": v.shape for n, v in self.average.items()}
        saved = {n: v.shape for n, v in tensors.items() if n.startswith("parameter.")}
        if odd := sorted(n for n in own | saved if own.get(n) != saved.get(n)):
            raise UserError(
                f"{path}: was written by a network of another shape ({odd[0]!r} differs); "
                "restore the old [model] section or train in another folder"
            )
        self._load({n: tensors[f"parameter.{n}"] for n in self.average})
        self.average = {n: tensors[f"average.{n}"].to(v.device) for n, v in self.average.items()}
        for name, parameter in self.network.named_parameters():
            moments = {
                key: tensors[f"adamw.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"adamw.{key}.{name}" in tensors
            }
            if moments:
                self.optimiser.state[parameter] = {
                    k: v if k == "step" else v.to(parameter.device) for k, v in moments.items()
                }
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                if f"buffer.{name}" in tensors:
                    buffer.copy_(tensors[f"buffer.{name}"])
