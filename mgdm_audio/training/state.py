"""The state of a training run in one file, from which it goes on, and the lock of its folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgdm_audio import atomic
from mgdm_audio.engine.locks import lock
from mgdm_audio.errors import UserError
from mgdm_audio.priors.tensor_files import read_header, read_tensors, save_tensors
from mgdm_audio.reading import parse

STATE = "state.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that the run of a state was started or last gone on with.

    Empty where there is no state, or one from before they were kept. UserError if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        settings = parse(read_header(path)[1].get("settings", "{}"))
        if not isinstance(settings, dict):
            raise ValueError("its settings are no table")
        level = settings.get("mixture_rms", 1.0)
        if not isinstance(level, int | float) or not level > 0:
            raise ValueError(f"its mixture_rms is {level!r}")
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return settings


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
        """Whole or not at all. Raises UserError where ``path`` cannot be written."""
        tensors = {f"average.{n}": v for n, v in self.average.items()}
        for name, parameter in self.network.named_parameters():
            tensors[f"parameter.{name}"] = parameter.detach()
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"adamw.{key}.{name}"] = value
        persistent = self.network.state_dict()
        for name, buffer in self.network.named_buffers():
            if name in persistent:
                tensors[f"buffer.{name}"] = buffer
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        metadata = {"step": str(self.step), "elapsed": str(self.elapsed)}
        metadata["settings"] = json.dumps(self.settings)
        atomic.write_by(path, lambda partial: save_tensors(partial, tensors, metadata))

    def load(self, path: Path) -> None:
        """Go on from there. Raises UserError for what is no state of this network."""
        try:
            metadata, tensors = read_header(path)[1], read_tensors(path)
            step, elapsed = int(metadata["step"]), float(metadata.get("elapsed", 0))
            if step < 0 or not 0 <= elapsed < math.inf:
                raise ValueError(f"step {step}, {elapsed} seconds")
        except KeyError as error:
            raise _damaged(path, ValueError(f"lacks {error}")) from None
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None
        own = {f"parameter.{n}": v.shape for n, v in self.average.items()}
        saved = {n: v.shape for n, v in tensors.items() if n.startswith("parameter.")}
        if odd := sorted(n for n in own | saved if own.get(n) != saved.get(n)):
            raise UserError(
                f"{path}: was written by a network of another shape ({odd[0]!r} differs); "
                "restore the old [model] section or train in another folder"
            )
        self._require_rest(path, tensors)
        self.step, self.elapsed = step, elapsed
        self._load({n: tensors[f"parameter.{n}"] for n in self.average})
        self.average = {n: tensors[f"average.{n}"].to(v.device) for n, v in self.average.items()}
        for name, parameter in self.network.named_parameters():
            moments = {
                key: tensors[f"adamw.{key}.{name}"]
                for key in MOMENTS
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

    def _require_rest(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Raises UserError unless averages, moments and buffers belong to the parameters."""
        wanted = {f"average.{n}": v.shape for n, v in self.average.items()}
        for name, parameter in self.network.named_parameters():
            own = {f"adamw.{k}.{name}": parameter.shape for k in MOMENTS if k != "step"}
            own[f"adamw.step.{name}"] = torch.Size()
            if own.keys() & tensors.keys():  # none before the first step
                wanted |= own
        for name, buffer in self.network.named_buffers():
            if f"buffer.{name}" in tensors:
                wanted[f"buffer.{name}"] = buffer.shape
        for name, shape in wanted.items():
            if name not in tensors or tensors[name].shape != shape:
                raise _damaged(path, ValueError(f"{name!r} is missing or misshapen"))
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise _damaged(path, ValueError(f"{name!r} is not finite"))


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Keep the folder to this run.

    Of the processes of one run, the first one writes and has the lock. Raises UserError where
    another run has it, and where the folder cannot be written to.
    """
    if os.environ.get("RANK", "0") != "0":  # torchrun's
        yield
        return
    with lock(folder, "training there"):
        yield
