"""What the commands on priors say of one, read from its config.json."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mgdm_audio.priors.folder import PriorConfig
    from mgdm_audio.priors.images.trained_images import TrainedConfig


def read(name: "str | Path") -> "PriorConfig | TrainedConfig":
    """Its config.json, whether of stems or of images."""
    from mgdm_audio.priors.folder import find_prior, is_image_prior, read_config
    from mgdm_audio.priors.images.trained_images import read_trained

    path = find_prior(name)
    return read_trained(path) if is_image_prior(path) else read_config(name)


def summary(prior: "PriorConfig | TrainedConfig") -> str:
    from mgdm_audio.priors.folder import PriorConfig

    if isinstance(prior, PriorConfig):
        return f"{', '.join(prior.stems)}; {size(prior)}, {prior.sample_rate} Hz"
    latent = "" if prior.autoencoder is None else ", in latents"
    return f"images of {pixels(prior)}{latent}; {size(prior)}"


def pixels(prior: "TrainedConfig") -> str:
    channels, height, width = prior.image_shape
    return f"{width} x {height} pixels, {'grey' if channels == 1 else f'{channels} channels'}"


def size(prior: "PriorConfig | TrainedConfig") -> str:
    """Parameters, counted without memory for them, and megabytes of the files."""
    import torch

    with torch.device("meta"):
        networks = prior.networks()
    count = sum(p.numel() for network in networks.values() for p in network.parameters())
    if missing := [path.name for path in networks if not path.is_file()]:
        return f"{count / 1e6:.1f} M parameters, no {missing[0]}"
    bytes_ = sum(path.stat().st_size for path in networks)
    return f"{count / 1e6:.1f} M parameters, {bytes_ / 1e6:.1f} MB"
