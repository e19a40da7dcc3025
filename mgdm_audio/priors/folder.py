"""Reads and writes prior folders: config.json, model.safetensors, README.md.

Only safetensors are read, and ``model_type`` is looked up among built-in, registered and installed
architectures: opening a prior from elsewhere never runs code from it.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mgdm_audio import atomic
from mgdm_audio.config import convert, from_mapping, nearest
from mgdm_audio.diffusion.prior import Prior
from mgdm_audio.diffusion.schedule import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors import hub
from mgdm_audio.priors.architectures import ARCHITECTURES, Architecture
from mgdm_audio.priors.tensor_files import CONFIG, WEIGHTS, open_network, outline, save_tensors
from mgdm_audio.reading import read_json

PRETRAINED = Path(__file__).parents[1] / "pretrained"
DEFAULT_PRIOR = "mini-slakh-v3"
IMAGES = "images"  # folder in PRETRAINED
HIGHEST_RATE, LONGEST = 2**20, 2**32  # Hz, and samples of a segment
IMAGE_MODELS = ("unet_2d",)  # model_type of priors over pictures: ``trained_images``


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
        """The network, without memory for its weights, by the file of these. UserError."""
        weights = self.path / WEIGHTS
        return {weights: outline(lambda: self.architecture.build(self.shape), weights)}


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
    revision: str | None = None  # the commit, where it is from the hub

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
        config = read_json(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in IMAGE_MODELS


def bundled_folder(name: str) -> Path | None:
    """Returns the folder of the bundled prior of that name, over stems or images, or None."""
    if name in list_priors():
        return PRETRAINED / name
    return PRETRAINED / IMAGES / name if name in list_image_priors() else None


def _names(folder: Path) -> list[str]:
    found = (path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    return sorted(name for name in found if name[0] != ".")


def find_prior(name_or_dir: str | Path) -> Path:
    """The directory of a bundled prior, of one on disk or of one on the hub (see ``hub``).

    Raises UserError where there is none.
    """
    if bundled := bundled_folder(str(name_or_dir)):
        return bundled
    path = hub.located(name_or_dir)
    atomic.recover(path)
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


def check_details(stems: Sequence[str], sample_rate: int, mixture_rms: float, segment: int) -> None:
    """Raises ValueError for values that a prior cannot have; stems name files."""
    for stem in stems:
        if not re.fullmatch(r"\w[\w .+-]*", stem) or stems.count(stem) > 1:
            raise ValueError(f"stem {stem!r} is not a valid and unique name of a file")
    if not (0 < mixture_rms < float("inf") and sample_rate > 0 and segment > 0):
        raise ValueError("sample_rate, segment and mixture_rms must be positive")
    if sample_rate > HIGHEST_RATE or segment > LONGEST:
        raise ValueError(f"sample_rate is at most {HIGHEST_RATE} Hz, segment {LONGEST} samples")


def read_config(name_or_dir: str | Path) -> PriorConfig:
    """Reads config.json of a bundled prior or a prior folder. Raises UserError if it is invalid."""
    path = find_prior(name_or_dir)
    if is_image_prior(path):
        raise UserError(f"{name_or_dir}: a prior for images; give it to mgdm-audio restore")
    try:
        config = read_json(path / CONFIG)
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
        stems = convert(tuple[str, ...], config["stems"], "stems")
        sample_rate = convert(int, config["sample_rate"], "sample_rate")
        mixture_rms = convert(float, config["mixture_rms"], "mixture_rms")
        segment = convert(int, config.get("segment", 2**18), "segment")
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
    """Open a bundled prior by name, a prior directory, or ``owner/name[@revision]`` of the hub.

    Raises UserError, in one line, for an unknown name, for a missing, damaged or pickled weights
    file, for weights whose hash differs from that in config.json, and for an invalid config.
    """
    read = read_config(name_or_dir)
    path, config = read.path, read.config
    network, sha256 = open_network(
        lambda: read.architecture.build(read.shape), path / WEIGHTS, config.get("sha256")
    )
    network.to(device).eval().requires_grad_(False)
    try:
        denoiser = read.architecture.denoiser(network, config)
    except KeyError as error:
        raise UserError(
            f"{path / CONFIG}: lacks {error}, which a {config['model_type']} needs"
        ) from None
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path / CONFIG}: {reason}; the file is damaged, fetch it again") from None
    name, revision = hub.origin(path) or (path.resolve().name, None)
    return LoadedPrior(
        Prior(denoiser, read.schedule, (len(read.stems), read.segment)),
        name,
        read.stems,
        read.sample_rate,
        read.mixture_rms,
        config,
        path,
        sha256,
        revision,
    )


def save_prior(
    folder: Path,
    network: nn.Module,
    shape: Any,
    model_type: str,
    details: dict[str, Any],
    *,
    half: bool = False,
    card: str | None = None,
) -> None:
    """Write config.json and model.safetensors: both take the place of older ones, or neither does.

    ``shape``: the network's config dataclass; ``details``: the other keys of config.json
    (schedule, stems, sample_rate, mixture_rms, ...). ``half`` stores float16, in half of the bytes;
    it is loaded as float32. ``card``: the text of README.md; None leaves one that is there. Files
    of other names in ``folder`` stay. Raises UserError where it cannot be written.
    """
    own = (CONFIG, WEIGHTS) if card is None else (CONFIG, WEIGHTS, hub.CARD)
    with atomic.replaced_folder(folder, own=own) as partial:
        write_files(partial, network, shape, model_type, details, half=half)
        if card is not None:
            (partial / hub.CARD).write_text(card, encoding="utf-8")


def write_files(
    folder: Path,
    network: nn.Module,
    shape: Any,
    model_type: str,
    details: dict[str, Any],
    *,
    half: bool = False,
) -> None:
    """The files of ``save_prior``, in a folder that nobody reads yet. Raises OSError."""
    folder.mkdir(exist_ok=True)
    weights = {n: t.detach().cpu().contiguous() for n, t in network.state_dict().items()}
    if half:
        weights = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    save_tensors(folder / WEIGHTS, weights)
    config = {
        "format": 1,
        "model_type": model_type,
        "model": dataclasses.asdict(shape),
        **details,
        "sha256": hash_file(folder / WEIGHTS),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
