"""Opens priors over images in any supported format; each format has a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mgdm_audio.atomic import recover
from mgdm_audio.config import nearest
from mgdm_audio.digest import unchanged
from mgdm_audio.errors import UserError
from mgdm_audio.priors import hub
from mgdm_audio.priors.folder import CONFIG, bundled_folder, list_image_priors
from mgdm_audio.priors.images.diffusers import is_pipeline, load_pipeline
from mgdm_audio.priors.images.guided_diffusion import load_adm
from mgdm_audio.priors.images.image_prior import ImagePrior, require_size
from mgdm_audio.priors.images.trained_images import load_trained

__all__ = ["ImagePrior", "load_image_prior"]

FORMATS = (
    "a folder as diffusers saves them (unet/, scheduler/), a folder of this package (config.json), "
    "owner/name of such a one on the hub, or a checkpoint of guided-diffusion (.pt, .safetensors)"
)


def load_image_prior(
    path: str | Path, device: torch.device | str = "cpu", *, size: int | None = None
) -> ImagePrior:
    """Open a bundled prior for images by its name, or one on disk or on the hub, which says in
    which format.

    ``size``: edge of square images in pixels, by default that of training; the downsampling factor
    of autoencoder and network must divide it. Raises UserError for another size, and for a path
    that is not such a prior.
    """
    name = str(path)
    path = bundled_folder(name) or hub.located(path)
    recover(path)
    if path.is_file() and path.suffix in (".pt", ".safetensors"):
        with unchanged([path]):
            return load_adm(path, device, image_size=size)
    with unchanged(path.rglob("*.safetensors") if path.is_dir() else ()):
        if path.is_dir() and is_pipeline(path):
            opened = load_pipeline(path, device)
        elif (path / CONFIG).is_file():
            opened = load_trained(path, device)
        elif path.exists():
            raise UserError(f"{path}: contains no prior for images; give {FORMATS}")
        else:
            near = nearest(name, list_image_priors())
            raise UserError(f"{path}: no such prior for images{near}; or give {FORMATS}")
    if (found := hub.origin(path)) is not None:
        opened = replace(opened, name=found[0], revision=found[1])
    return opened if size is None else _resized(opened, size)


def _resized(opened: ImagePrior, size: int) -> ImagePrior:
    factor = opened.image_shape[1] // opened.prior.event_shape[1]
    require_size(opened.name, size, factor * opened.multiple)
    event_shape = (opened.prior.event_shape[0], size // factor, size // factor)
    return replace(
        opened,
        prior=opened.prior.with_event_shape(event_shape),
        image_shape=(opened.image_shape[0], size, size),
    )
