"""Converts the public checkpoints of MSDM to prior folders.

MSDM: Mariani et al., "Multi-Source Diffusion Models for Simultaneous Music Generation and
Separation", arXiv 2302.02257. Its repository has one network of four sources and, for ISDM (the
paper's weakly supervised model), four networks of one source each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mgdm_audio import atomic
from mgdm_audio.diffusion.schedule import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.networks.joint_unet_1d import JointUNet1d, JointUNet1dConfig
from mgdm_audio.networks.unet_1d import UNet1d
from mgdm_audio.priors.folder import check_details, write_files
from mgdm_audio.priors.public_network import PublicNetwork, read_network

STEMS = ("bass", "drums", "guitar", "piano")
SAMPLE_RATE, SEGMENT = 22050, 2**18  # Hz, samples
# MSDM was trained on the mixtures of Slakh2100 without a gain. The active frames of a stem have a
# root mean square of about 0.045 there, and the powers of four independent stems add up.
MIXTURE_RMS = 0.09

CARD = """# {name}

A diffusion prior over the stems {stems}: {kind}, {millions:.1f} M parameters, {rate:,} Hz mono,
converted from public weights of MSDM (Mariani et al., arXiv 2302.02257).

Licence: its authors', see github.com/gladia-research-group/multi-source-diffusion-models

## Sources

{sources}

## Settings

- sigma_data = {sigma_data}, and the denoiser's result is clamped to [-1, 1], as in training.
- Noise levels: 1000 from 5e-4 to 20 with rho = 3, those of MGDM (arXiv 2502.03332) with MSDM.
- Mixtures are scaled to a root mean square of {mixture_rms}; MSDM's own code applies no gain, and
  neither does `mgdm-audio separate --level none`.
"""


def convert(
    checkpoint: Path,
    folder: Path,
    *,
    stems: Sequence[str] = STEMS,
    mixture_rms: float = MIXTURE_RMS,
    average: bool = True,
) -> list[PublicNetwork]:
    """Converts a checkpoint of all sources to ``folder``, a prior of model_type unet_1d.

    Returns the network that was read. ``average``: use the averaged weights (EMA) if there are any.
    ``mixture_rms``: linear. Raises UserError, in one line, for a checkpoint or values that do not
    fit; ``folder`` is then not written.
    """
    _check(folder, stems, mixture_rms)
    network = read_network(checkpoint, average)
    if network.config.sources != len(stems):
        raise UserError(
            f"{checkpoint}: has {network.config.sources} sources for {len(stems)} stems, "
            f"{', '.join(stems)}; name its own, or give a checkpoint for each as STEM=CHECKPOINT"
        )
    with torch.device("meta"):
        module = UNet1d(network.config)
    module.load_state_dict(network.tensors, assign=True)
    _write(folder, module, "unet_1d", stems, mixture_rms, [network])
    return [network]


def convert_independent(
    checkpoints: Mapping[str, Path],
    folder: Path,
    *,
    mixture_rms: float = MIXTURE_RMS,
    average: bool = True,
) -> list[PublicNetwork]:
    """Converts a checkpoint per stem to ``folder``, a prior of model_type joint_unet_1d: ISDM.

    See ``convert``; the networks must have been trained with the same sigma_data.
    """
    stems = list(checkpoints)
    _check(folder, stems, mixture_rms)
    networks = [read_network(path, average) for path in checkpoints.values()]
    for stem, network in zip(stems, networks, strict=True):
        if network.config.sources != 1:
            raise UserError(
                f"{network.path}: has {network.config.sources} sources, where {stem} is one; "
                "give it alone, without STEM="
            )
        if network.sigma_data != networks[0].sigma_data:
            raise UserError(
                f"{network.path}: sigma_data is {network.sigma_data}, but {networks[0].sigma_data} "
                f"in {networks[0].path}; give networks with the same sigma_data"
            )
    with torch.device("meta"):
        module = JointUNet1d(JointUNet1dConfig(tuple(network.config for network in networks)))
    for part, network in zip(module.networks, networks, strict=True):
        part.load_state_dict(network.tensors, assign=True)
    _write(folder, module, "joint_unet_1d", stems, mixture_rms, networks)
    return networks


def _check(folder: Path, stems: Sequence[str], mixture_rms: float) -> None:
    """Raises UserError for invalid arguments before gigabytes are read."""
    atomic.require_new(folder)
    try:
        check_details(stems, SAMPLE_RATE, mixture_rms, SEGMENT)
    except ValueError as error:
        raise UserError(f"{error}; choose other values") from None


def _write(
    folder: Path,
    module: nn.Module,
    model_type: str,
    stems: Sequence[str],
    mixture_rms: float,
    networks: Sequence[PublicNetwork],
) -> None:
    sources = [
        {
            "file": network.path.name,
            "sha256": hash_file(network.path),
            "weights": "averaged" if network.averaged else "plain",
            "assumed": list(network.assumed),
        }
        for network in networks
    ]
    details = {
        "schedule": NoiseSchedule.karras().to_config(),
        "stems": list(stems),
        "sample_rate": SAMPLE_RATE,
        "mixture_rms": mixture_rms,
        "segment": SEGMENT,
        "sigma_data": networks[0].sigma_data,
        "limit": 1.0,  # of the public denoiser
        "source": sources,
    }
    card = CARD.format(
        name=folder.name,
        stems=", ".join(stems),
        kind="a waveform U-Net" if len(networks) == 1 else "a waveform U-Net for each",
        millions=sum(parameter.numel() for parameter in module.parameters()) / 1e6,
        rate=SAMPLE_RATE,
        sources="\n".join(_source(source) for source in sources),
        sigma_data=networks[0].sigma_data,
        mixture_rms=mixture_rms,
    )
    with atomic.new_folder(folder) as partial:
        write_files(partial, module, module.config, model_type, details)
        atomic.write_text(partial / "README.md", card)


def _source(source: dict[str, Any]) -> str:
    line = f"- `{source['file']}`, {source['weights']} weights, sha256 {source['sha256']}"
    if source["assumed"]:
        line += f"; it lacks {', '.join(source['assumed'])}, for which the published value is used"
    return line
