"""The networks for pictures: what they are by construction, and that training moves them."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgdm_audio.networks.autoencoder_2d import Autoencoder2d, Autoencoder2dConfig
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig
from mgdm_audio.training.loop import train
from mgdm_audio.training.settings import NoiseLevels, Schedule, Training
from tests.images.toys import tiny_autoencoder, tiny_unet


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("patch", [1, 2])
def test_untrained_it_is_the_best_linear_denoiser(patch: int) -> None:
    network = UNet2d(UNet2dConfig(3, (8, 16), 1, patch, embedding=16, sigma_data=0.5))
    x, sigma = draw(2, 3, 8, 8), torch.tensor([0.1, 3.0])
    want = 0.25 / (0.25 + sigma.view(-1, 1, 1, 1) ** 2) * x  # Wiener's filter for N(0, .25 I)
    assert (network(x, sigma) - want).abs().max() < 1e-6  # float32


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (4, 6)])
@pytest.mark.parametrize(("patch", "widths"), [(1, (8, 8, 16)), (2, (8, 16))])
def test_pictures_of_any_size_come_back_item_by_item(
    size: tuple[int, int], patch: int, widths: tuple[int, ...]
) -> None:
    network = tiny_unet(3, widths=widths, patch=patch)
    x, sigma = draw(3, 3, *size), torch.tensor([0.1, 1.0, 5.0])
    together = network(x, sigma)
    assert together.shape == x.shape
    for i in range(3):
        alone = network(x[i : i + 1], sigma[i])
        assert (alone[0] - together[i]).abs().max() < 1e-5  # float32, batched in another order


def test_the_loss_is_the_error_over_c_out() -> None:
    network = tiny_unet(1, sigma_data=0.3)
    x_0, noise, sigma = draw(2, 1, 8, 8), draw(2, 1, 8, 8, seed=1), torch.tensor([0.2, 4.0])
    loss, likelihood = network.loss(x_0, sigma, noise, torch.zeros(2))
    for i in range(2):
        s = float(sigma[i])
        error = network(x_0[i : i + 1] + s * noise[i : i + 1], sigma[i]) - x_0[i]
        c_out = s * 0.3 / (s**2 + 0.3**2) ** 0.5
        assert float(loss[i]) == pytest.approx(float(error.square().mean()) / c_out**2, rel=1e-4)
    assert likelihood.tolist() == [0, 0]


def test_the_defaults_are_as_small_as_they_say() -> None:
    count = sum(p.numel() for p in UNet2d(UNet2dConfig()).parameters())
    assert round(count / 1e6, 1) == 1.3


def test_it_is_trained_like_any_other(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2d(UNet2dConfig(2, (8,), 1, embedding=16))
    ramp = torch.linspace(-1, 1, 8).view(1, 1, 8, 1).expand(4, 2, 8, 8)
    exported: list[int] = []
    train(
        network,
        lambda size, generator: ramp[:size],
        ramp,
        tmp_path,
        NoiseLevels(minimum=0.1, center=1.0),
        Schedule(steps=60, learning_rate=1e-2, warmup=1),
        Training(batch=4, precision="no", validate_every=60, validation_sigmas=(1.0,)),
        export=lambda net, step: exported.append(step),
    )
    assert exported == [60]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    validation = next(line["validation"] for line in log if "validation" in line)
    assert list(validation) == ["prior@1"]  # no mixture
    error = validation["prior@1"]
    assert len(error["sources"]) == 2
    # The picture is always the same; the linear denoiser of variance .25 is at -1.3 dB.
    assert error["all"] < -6


def test_an_autoencoder_halves_the_picture_once_a_level() -> None:
    network = Autoencoder2d(Autoencoder2dConfig(3, 5, (8, 8, 8)))
    z = network.encode(draw(2, 3, 16, 24))
    assert (z.shape, network.decode(z).shape) == ((2, 5, 2, 3), (2, 3, 16, 24))
    with pytest.raises(ValueError, match="give multiples of 8"):
        network.encode(draw(1, 3, 12, 16))


def test_an_autoencoder_learns_by_its_loss() -> None:
    network = tiny_autoencoder().requires_grad_(True)
    x = draw(8, 1, 8, 8).clamp(-1, 1)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    before = float(network.loss(x, generator).mean().detach())
    for _ in range(60):
        optimiser.zero_grad()
        network.loss(x, generator).mean().backward()
        optimiser.step()
    after = float(network.loss(x, generator).mean().detach())
    assert after < 0.6 * before  # half the numbers of the picture are in the latent


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (lambda: UNet2dConfig(widths=(12,)), "give multiples of 8"),
        (lambda: UNet2dConfig(sigma_data=0.0), "give a positive number"),
        (lambda: UNet2dConfig(blocks=0), "are at least 1"),
        (lambda: UNet2dConfig(patch=0), "are at least 1"),
        (lambda: Autoencoder2dConfig(widths=()), "give multiples of 8"),
        (lambda: Autoencoder2dConfig(latent_channels=0), "are at least 1"),
    ],
)
def test_shapes_that_make_no_network_are_refused(config: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config()  # type: ignore[operator]
