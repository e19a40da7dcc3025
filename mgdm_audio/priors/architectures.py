"""The architectures of priors over stems, by the ``model_type`` in a prior's config.json.

Users add architectures with ``ARCHITECTURES.register`` or an entry point, see
``mgdm_audio.registry``.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from mgdm_audio.diffusion.denoiser import Denoiser, EDMDenoiser
from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser
from mgdm_audio.networks.joint_unet_1d import JointUNet1d, JointUNet1dConfig
from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.registry import Registry


@dataclass(frozen=True)
class Architecture:
    """An ``Architecture`` builds the network and the denoiser of one ``model_type``."""

    config: type  # dataclass of the table "model"; has ``sources``, the number of stems
    build: Callable[[Any], nn.Module]  # makes the network from that config
    denoiser: Callable[[Any, dict[str, Any]], Denoiser]  # from the network and all of config.json
    gain: Literal["non-expansive", "own input", "unbounded"] = "unbounded"
    """A key of ``GAINS``: the bound on the denoiser's gain for any weights. ``priors verify
    --probe`` measures the gain of a trained one."""


GAINS = {
    "non-expansive": "|D(x) - D(x')| <= |x - x'|: repeated calls amplify no error",
    "own input": "at most 1 on a coefficient's own input; D may still be expansive",
    "unbounded": "not bounded by the architecture",
}


def _edm(network: Any, config: dict[str, Any]) -> Denoiser:
    limits = {"sigma_data": config["sigma_data"], "limit": config.get("limit")}
    for name, value in limits.items():
        if value is None and name == "limit":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"{name} = {value!r}: give a positive number")
    return EDMDenoiser(network, **limits)


def _given_mixture(network: Any, config: dict[str, Any]) -> Denoiser:
    fitted = config.get("calibration")
    calibration = None if fitted is None else Calibration.from_config(fitted)
    sources = network.config.sources
    if calibration is not None and calibration.factors.shape[-1] != sources:
        raise ValueError(f"calibration: of {calibration.factors.shape[-1]} sources, not {sources}")
    return MixtureDenoiser(network, calibration=calibration)


def _fault(value: Any) -> str | None:
    if not isinstance(value, Architecture) or not dataclasses.is_dataclass(value.config):
        return "is not an Architecture whose config is a dataclass"
    fields = [field.name for field in dataclasses.fields(value.config)]
    has_sources = "sources" in fields or hasattr(value.config, "sources")
    return None if has_sources else "has a config without sources, the number of stems"


_BUILT_IN = {
    "tf_unet": Architecture(TFUNetConfig, TFUNet, _given_mixture, gain="own input"),
    "unet_1d": Architecture(UNet1dConfig, UNet1d, _edm),
    "joint_unet_1d": Architecture(JointUNet1dConfig, JointUNet1d, _edm),
}
ARCHITECTURES = Registry("model_type", "mgdm_audio.priors.architectures", _fault, _BUILT_IN)
