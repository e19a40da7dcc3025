"""The waveform U-Net against the public implementation: same function, same weights, same count."""

import dataclasses
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.networks.unet_1d import (
    UNet1d,
    UNet1dConfig,
    convert_public_weights,
    from_patches,
    to_patches,
)

# Every kind of block at 1/32 of the width: stages of unequal width, factor and depth, with and
# without a transformer, and a factor of 2 and of 4 on both sides.
SMALL = UNet1dConfig(
    sources=4,
    channels=32,
    patch=4,
    multipliers=(1, 2, 3, 3),
    factors=(4, 2, 2),
    blocks=(1, 2, 2),
    attentions=(False, True, True),
    groups=8,
    heads=2,
    head_features=8,
    feed_forward=2,
)


@pytest.fixture(scope="module")
def public() -> ModuleType:
    return pytest.importorskip("audio_diffusion_pytorch")


def public_model(public: ModuleType, config: UNet1dConfig) -> Any:
    """The public AudioDiffusionModel of the same shape; its other options as MSDM sets them."""
    return public.AudioDiffusionModel(
        in_channels=config.sources,
        channels=config.channels,
        patch_factor=config.patch,
        patch_blocks=1,
        resnet_groups=config.groups,
        kernel_multiplier_downsample=2,
        kernel_sizes_init=[1, 3, 7],
        multipliers=list(config.multipliers),
        factors=list(config.factors),
        num_blocks=list(config.blocks),
        attentions=list(config.attentions),
        attention_heads=config.heads,
        attention_features=config.head_features,
        attention_multiplier=config.feed_forward,
        use_nearest_upsample=False,
        use_skip_scale=True,
        use_attention_bottleneck=True,
        diffusion_sigma_data=0.2,
    )


def randomise(model: torch.nn.Module) -> None:
    """Moves every parameter off its initial value: a gain of one would hide a misplaced name."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


@pytest.fixture(scope="module")
def pair(public: ModuleType) -> tuple[Any, UNet1d]:
    theirs = public_model(public, SMALL).eval()
    randomise(theirs)
    ours = UNet1d(SMALL).eval()
    ours.load_state_dict(convert_public_weights(theirs.state_dict()))
    return theirs, ours


def noisy(batch: int, time: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(time)
    sigma = torch.rand(batch, generator=generator) + 0.01
    return torch.randn(batch, 4, time, generator=generator), sigma.log() / 4


@pytest.mark.parametrize(("batch", "positions"), [(1, 1), (2, 3), (3, 16), (1, 65)])
def test_output_equals_the_public_implementation(
    pair: tuple[Any, UNet1d], batch: int, positions: int
) -> None:
    theirs, ours = pair
    x, t = noisy(batch, positions * ours.length_multiple)
    with torch.no_grad():
        expected, actual = theirs.unet(x, t), ours(x, t)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_gradient_equals_the_public_implementation(pair: tuple[Any, UNet1d]) -> None:
    """Guided samplers differentiate the network with respect to x."""
    x, t = noisy(2, 4 * pair[1].length_multiple)
    gradients = []
    for net in (pair[0].unet, pair[1]):
        x_in = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(net(x_in, t).square().mean(), x_in)[0])
    assert gradients[0].abs().max() > 1e-5
    scale = gradients[0].abs().max()
    torch.testing.assert_close(gradients[1] / scale, gradients[0] / scale, atol=1e-4, rtol=0)


def test_every_spelling_of_the_public_weights_converts(pair: tuple[Any, UNet1d]) -> None:
    theirs, ours = pair
    whole = theirs.state_dict()
    spellings = {
        "checkpoint": {f"model.{key}": value for key, value in whole.items()},
        "diffusion only": {k: v for k, v in whole.items() if k.startswith("diffusion.net.")},
        "bare": theirs.unet.state_dict(),
    }
    expected = ours.state_dict()
    for spelling, weights in spellings.items():
        converted = convert_public_weights(weights)
        assert converted.keys() == expected.keys(), spelling
        assert all(torch.equal(converted[key], expected[key]) for key in expected), spelling


def test_defaults_are_the_published_model() -> None:
    with torch.device("meta"):
        net = UNet1d()
    assert sum(p.numel() for p in net.parameters()) == 405_497_700
    assert 2 * len(net.state_dict()) == 868  # the public model holds each entry twice
    assert net.length_multiple == 8192


def test_published_weights_fit_the_defaults(public: ModuleType) -> None:
    with torch.device("meta"):
        theirs, ours = public_model(public, UNet1dConfig()), UNet1d()
    weights = theirs.state_dict()
    assert len(weights) == 868
    assert sum(p.numel() for p in theirs.parameters()) == 405_497_700
    shapes = {key: value.shape for key, value in convert_public_weights(weights).items()}
    assert shapes == {key: value.shape for key, value in ours.state_dict().items()}


def test_patches_keep_the_samples_of_a_channel_together() -> None:
    x = torch.arange(12.0).reshape(1, 2, 6)
    patches = to_patches(x, 3)
    assert patches.tolist() == [[[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]]]
    assert torch.equal(from_patches(patches, 3), x)


def test_items_of_a_batch_do_not_meet() -> None:
    torch.manual_seed(0)
    net = UNet1d(SMALL).eval()
    x, t = noisy(3, 2 * net.length_multiple)
    with torch.no_grad():
        alone = net(x[1:2], t[1:2])
        torch.testing.assert_close(net(x, t)[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 4, 100), (1, 3, 64)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 sources and a multiple of 64 samples"):
        UNet1d(SMALL)(torch.zeros(shape), torch.zeros(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": (1, 2)}, "stages"),
        ({"factors": (4, 3, 2)}, "even"),
        ({"patch": 5}, "must divide channels"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
