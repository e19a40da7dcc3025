"""Independent sources, each with a waveform U-Net of its own: ISDM, MSDM's weakly supervised model.

Mariani et al., arXiv 2302.02257, section 4: networks that were each trained on one source alone
(no two of them ever heard together) denoise their sources side by side. Preconditioned with one
sigma_data, it is the denoiser of ``diffusion.join``ed priors.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.ranges import Checked, filled


@dataclass(frozen=True)
class JointUNet1dConfig(Checked):
    """One ``UNet1dConfig`` a network, in the order of the sources; ValueError for none."""

    networks: Annotated[tuple[UNet1dConfig, ...], filled("{name}: give at least one")]

    @property
    def sources(self) -> int:
        return sum(network.sources for network in self.networks)


class JointUNet1d(nn.Module):
    """See the module's docstring. ``length_multiple``: time must be a multiple of it."""

    def __init__(self, config: JointUNet1dConfig):
        super().__init__()
        self.config = config
        networks = [UNet1d(network) for network in config.networks]
        self.length_multiple = math.lcm(*(network.length_multiple for network in networks))
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: [batch, sources, time], t = c_noise: [batch] -> [batch, sources, time].

        ValueError as of ``UNet1d``.
        """
        if x.shape[1] != self.config.sources:
            raise ValueError(f"{self.config.sources} sources are joined here, got {x.shape[1]}")
        blocks = x.split([network.sources for network in self.config.networks], 1)
        outputs = [net(block, t) for net, block in zip(self.networks, blocks, strict=True)]
        return torch.cat(outputs, 1)
