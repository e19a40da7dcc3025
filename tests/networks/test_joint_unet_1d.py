"""Independent waveform U-Nets: the output of each depends on its own sources alone."""

from dataclasses import replace

import pytest
import torch

from mgdm_audio.networks.joint_unet_1d import JointUNet1d, JointUNet1dConfig
from mgdm_audio.networks.unet_1d import UNet1dConfig

ONE = UNet1dConfig(
    sources=1,
    channels=16,
    patch=4,
    multipliers=(1, 1),
    factors=(2,),
    blocks=(1,),
    attentions=(False,),
)


def test_every_network_gets_its_sources_alone() -> None:
    config = JointUNet1dConfig(
        (ONE, replace(ONE, sources=2, factors=(4,)), replace(ONE, factors=(6,)))
    )
    assert config.sources == 4
    torch.manual_seed(0)
    network = JointUNet1d(config).eval()
    assert network.length_multiple == 48  # of 4 * 2, 4 * 4 and 4 * 6
    x, t = torch.randn(2, 4, 48), torch.tensor([-0.5, 0.1])
    with torch.no_grad():
        whole = network(x, t)
        blocks = zip(network.networks, x.split([1, 2, 1], 1), strict=True)
        assert torch.equal(whole, torch.cat([net(block, t) for net, block in blocks], 1))


def test_a_wrong_number_of_sources_is_named() -> None:
    network = JointUNet1d(JointUNet1dConfig((ONE, ONE)))
    with pytest.raises(ValueError, match="2 sources are joined here, got 3"):
        network(torch.zeros(1, 3, 48), torch.zeros(1))


def test_there_is_at_least_one_network() -> None:
    with pytest.raises(ValueError, match="at least one"):
        JointUNet1dConfig(())
