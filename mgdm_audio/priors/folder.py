"""Reads and writes prior folders: config.json, model.safetensors, README.md.

Only safetensors are read, and ``model_type`` is looked up among built-in, registered and installed
architectures: opening a prior from elsewhere never runs code from it.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mgdm_audio import atomic
from mgdm_audio.config import from_mapping, nearest
from mgdm_audio.diffusion.prior import Prior
from mgdm_audio.diffusion.schedule import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors.architectures import ARCHITECTURES, Architecture

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PRETRAINED = Path(__file__).parents[1] / "pretrained"
DEFAULT_PRIOR = "mini-slakh-v2"
IMAGES = "images"  # folder in PRETRAINED
IMAGE_MODELS = ("unet_2d",)  # model_type of priors over images, see priors/trained_images.py


@dataclass(frozen=True)
class PriorConfig:
    """The checked contents of a prior's config.json; the weights are not opened."""

    path: Path
    architecture: Architecture
    shape: Any  # the architecture's config
    schedule: NoiseSchedule
    stems: tuple[str, ...]
    sample_rate: int  # Hz
    mixture_rms: float  # the level of the training mixtures, linear
    segment: int  # samples
    config: dict[str, Any]  # the file's contents

    def networks(self) -> dict[Path, nn.Module]:
        """Returns weights file -> the network, without the weights."""
        return {self.path / WEIGHTS: self.architecture.build(self.shape)}


@dataclass(frozen=True)
class LoadedPrior:
    """A ``LoadedPrior`` is a prior over stems with what is needed to apply it to audio."""

    prior: Prior  # over events [stem, time]
    name: str  # of its folder
    stems: tuple[str, ...]  # names, in the order of the event's sources
    sample_rate: int  # Hz
    mixture_rms: float  # the level of the training mixtures, linear
    config: dict[str, Any]  # the contents of config.json
    path: Path  # the folder
    sha256: str  # of the weights

    @property
    def network(self) -> Any:
        """The network with its weights, without the denoiser that wraps it."""
        denoiser = self.prior.denoiser
        return getattr(denoiser, "network", getattr(denoiser, "net", denoiser))


def list_priors() -> list[str]:
    """Returns the names of the bundled priors over stems, sorted."""
    return _names(PRETRAINED)


def list_image_priors() -> list[str]:
    """Returns the names of the bundled priors over images, sorted."""
    return _names(PRETRAINED / IMAGES)


def is_image_prior(folder: Path) -> bool:
    """Returns whether config.json is that of an image prior; False if it cannot be read."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in IMAGE_MODELS


def bundled_folder(name: str) -> Path | None:
    """Returns the folder of the bundled prior of that name, over stems or images, or None."""
    if name in list_priors():
        return PRETRAINED / name
    return PRETRAINED / IMAGES / name if name in list_image_priors() else None


def _names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))


def find_prior(name_or_dir: str | Path) -> Path:
    """Returns the folder of a bundled prior or of one on disk. Raises UserError without one."""
    if bundled := bundled_folder(str(name_or_dir)):
        return bundled
    path = Path(name_or_dir)
    if (path / CONFIG).is_file():
        return path
    if path.is_dir():
        raise UserError(f"{path}: holds no {CONFIG}, so it is no prior directory")
    if path.is_file():
        raise UserError(f"{path}: is a file; a prior is a directory with {CONFIG} and {WEIGHTS}")
    raise UserError(
        f"no prior named {str(name_or_dir)!r}, nor such a folder"
        f"{nearest(str(name_or_dir), list_priors())}"
    )


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: missing; the prior directory is incomplete, fetch it again"
        ) from None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a safetensors file ({str(error).splitlines()[0]}); "
            "pickled weights are never opened, convert them to safetensors first"
        ) from None


def require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raises UserError for a weight that is not finite."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name!r} is not finite; the file is damaged, fetch it again")


def fill(
    network: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    otherwise: str = f"it does not fit {CONFIG}",
) -> None:
    """Fills a network with the tensors of ``path``, which must be finite and match it exactly.

    Raises UserError naming the first that is missing, unknown or misshapen; ``otherwise`` is the
    end of that message.
    """
    own = network.state_dict()
    missing, surplus = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = sorted(n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape)
    for what, names in (("lacks", missing), ("has unknown", surplus), ("has misshapen", shapes)):
        if names:
            raise UserError(f"{path}: {what} {names[0]!r} ({len(names)} in all); {otherwise}")
    require_finite(tensors, path)
    network.load_state_dict(tensors)


def load_weights(network: nn.Module, path: Path, sha256: str | None = None) -> str:
    """Fills a network from a safetensors file with exactly its tensors; returns the file's hash.

    Raises UserError, in one line, for a missing, damaged or pickled file, one whose hash is not
    ``sha256``, and one that does not fit.
    """
    tensors, found = _tensors(path), hash_file(path)
    if sha256 not in (None, found):
        raise UserError(
            f"{path}: hash {found[:12]} is not the {str(sha256)[:12]} of {CONFIG}; "
            "the file is damaged or not this prior's, fetch it again"
        )
    fill(network, tensors, path)
    return found


def check_details(stems: Sequence[str], sample_rate: int, mixture_rms: float, segment: int) -> None:
    """Raises ValueError for values that a prior cannot have; stems name files."""
    for stem in stems:
        if not re.fullmatch(r"\w[\w .+-]*", stem) or stems.count(stem) > 1:
            raise ValueError(f"stem {stem!r} is not a valid and unique name of a file")
    if not (0 < mixture_rms < float("inf") and sample_rate > 0 and segment > 0):
        raise ValueError("sample_rate, segment and mixture_rms must be positive")


def read_config(name_or_dir: str | Path) -> PriorConfig:
    """Reads config.json of a bundled prior or a prior folder. Raises UserError if it is invalid."""
    path = find_prior(name_or_dir)
    if is_image_prior(path):
        raise UserError(f"{name_or_dir}: a prior for images; give it to mgdm-audio restore")
    try:
        config = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path / CONFIG}: cannot be read as JSON ({error})") from None
    keys = ("model_type", "model", "schedule", "stems", "sample_rate", "mixture_rms")
    absent = [key for key in keys if not isinstance(config, dict) or key not in config]
    if absent:
        raise UserError(f"{path / CONFIG}: lacks {absent[0]!r}; it is no prior's config")
    try:
        architecture = ARCHITECTURES.find(config["model_type"])
    except UserError as error:
        raise UserError(f"{path / CONFIG}: {error}") from None
    if not isinstance(config["model"], dict):
        raise UserError(f"{path / CONFIG}: model is no table; it is no prior's config")
    shape: Any = from_mapping(architecture.config, config["model"], f"{path / CONFIG}: model")
    try:
        schedule = NoiseSchedule.from_config(config["schedule"])
        stems = tuple(str(stem) for stem in config["stems"])
        sample_rate, mixture_rms = int(config["sample_rate"]), float(config["mixture_rms"])
        segment = int(config.get("segment", 2**18))
        check_details(stems, sample_rate, mixture_rms, segment)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path / CONFIG}: {error}; the file is damaged, fetch it again") from None
    if len(stems) != shape.sources:
        raise UserError(
            f"{path / CONFIG}: {len(stems)} stems for {shape.sources} sources of the model"
        )
    return PriorConfig(
        path, architecture, shape, schedule, stems, sample_rate, mixture_rms, segment, config
    )


def load_prior(name_or_dir: str | Path, device: str | torch.device = "cpu") -> LoadedPrior:
    """Opens a bundled prior by name, or a prior folder, on ``device``.

    Raises UserError, in one line, for an unknown name, for a missing, damaged or pickled weights
    file, for weights whose hash differs from that in config.json, and for an invalid config.
    """
    read = read_config(name_or_dir)
    path, config = read.path, read.config
    network = read.architecture.build(read.shape)
    sha256 = load_weights(network, path / WEIGHTS, config.get("sha256"))
    network.to(device).eval().requires_grad_(False)
    try:
        denoiser = read.architecture.denoiser(network, config)
    except KeyError as error:
        raise UserError(
            f"{path / CONFIG}: lacks {error}, which a {config['model_type']} needs"
        ) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{path / CONFIG}: {error}; the file is damaged, fetch it again") from None
    return LoadedPrior(
        Prior(denoiser, read.schedule, (len(read.stems), read.segment)),
        path.resolve().name,
        read.stems,
        read.sample_rate,
        read.mixture_rms,
        config,
        path,
        sha256,
    )


def save_prior(
    folder: Path,
    network: nn.Module,
    shape: Any,
    model_type: str,
    details: dict[str, Any],
    *,
    half: bool = False,
) -> None:
    """Writes config.json and model.safetensors, each whole or not at all.

    ``shape``: the network's config dataclass; ``details``: the other keys of config.json
    (schedule, stems, sample_rate, mixture_rms, ...). ``half`` stores float16, which is loaded as
    float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: t.detach().cpu().contiguous() for n, t in network.state_dict().items()}
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}

    def write(partial: Path) -> None:
        try:
            save_file(weights, partial)  # unlike save, it needs no memory for a copy
        except SafetensorError as error:  # for example a full disk
            raise OSError(str(error).splitlines()[0]) from None

    # Between the two writes the hashes differ, and load_prior raises instead of mixing versions.
    atomic.write_by(folder / WEIGHTS, write)
    config = {
        "format": 1,
        "model_type": model_type,
        "model": dataclasses.asdict(shape),
        **details,
        "sha256": hash_file(folder / WEIGHTS),
    }
    atomic.write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
