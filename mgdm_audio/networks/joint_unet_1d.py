"""One waveform U-Net per independent source: ISDM, MSDM's weakly supervised model.

Mariani et al., arXiv 2302.02257, section 4: each network was trained on one source alone and
denoises only that source. Preconditioned with one sigma_data, it is the denoiser of
``diffusion.join``ed priors.
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
    """One ``UNet1dConfig`` per network, in the order of the sources. Raises ValueError for none."""

    networks: Annotated[tuple[UNet1dConfig, ...], filled("{name}: give at least one")]

    @property
    def sources(self) -> int:
        return sum(network.sources for network in self.networks)


class JointUNet1d(nn.Module):
    """One waveform U-Net per source; time must be a multiple of ``length_multiple``."""

    def __init__(self, config: JointUNet1dConfig):
        super().__init__()
        self.config = config
        networks = [UNet1d(network) for network in config.networks]
        self.length_multiple = math.lcm(*(network.length_multiple for network in networks))
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Maps x: [batch, sources, time] and t = c_noise: [batch] to [batch, sources, time].

        Raises ValueError for another number of sources or length, as ``UNet1d``.
        """
        if x.shape[1] != self.config.sources:
            raise ValueError(f"{self.config.sources} sources are joined here, got {x.shape[1]}")
        blocks = x.split([network.sources for network in self.config.networks], 1)
        outputs = [net(block, t) for net, block in zip(self.networks, blocks, strict=True)]
        return torch.cat(outputs, 1)
