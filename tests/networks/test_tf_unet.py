"""The 2-D U-Net: exactly the Gaussian conditional before training, and what holds after it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mgdm_audio.networks.tf_layers import (
    Block,
    FullBand,
    TimeAttention,
    alike,
    all_equal,
    attended,
    is_fast_bfloat16,
    merge,
    rotate,
    split,
)
from mgdm_audio.networks.tf_unet import SCALE_FLOOR, TFUNet, TFUNetConfig
from tests.toys import ATTENDING, TINY, tiny_network

BINS = TINY.bins
# Coefficients near 0.05 with float32's 6e-8, a few tens of roundings deep.
ROUNDING = 1e-6


def normal(*shape: int, seed: int = 0, std: float = 1.0) -> Tensor:
    return std * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def untrained() -> TFUNet:
    return tiny_network(1, trained=False)


@pytest.fixture
def trained() -> TFUNet:
    return tiny_network(1)


def conditional(scale: Tensor, z: Tensor, sigma: float, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variances of x_0 ~ N(0, diag(s^2)) given x_0 + sigma eps = z and sum(x_0) = y.

    By the textbook formula with dense matrices in float64, one (frame, bin) after the other.
    scale: [sources, bins]; z: [sources, frames, bins]; y: [frames, bins].
    """
    sources, frames, bins = z.shape
    mean, variance = torch.zeros(z.shape).double(), torch.zeros(z.shape).double()
    observe, noise = torch.eye(sources).double(), sigma**2 * torch.eye(sources).double()
    if y is not None:
        observe = torch.cat([observe, torch.ones(1, sources).double()])
        noise = torch.block_diag(noise, torch.zeros(1, 1).double())
    for b in range(bins):
        prior = torch.diag(scale[:, b].double() ** 2)
        gain = prior @ observe.T @ torch.linalg.inv(observe @ prior @ observe.T + noise)
        for f in range(frames):
            seen = z[:, f, b] if y is None else torch.cat([z[:, f, b], y[None, f, b]])
            mean[:, f, b] = gain @ seen.double()
            variance[:, f, b] = (prior - gain @ observe @ prior).diag()
    return mean, variance


@pytest.mark.parametrize("sigma", [0.003, 0.05, 2.0])
@pytest.mark.parametrize("given", [False, True])
def test_untrained_it_is_the_gaussian_conditional(
    untrained: TFUNet, sigma: float, given: bool
) -> None:
    x, y = normal(1, 4, 3 * BINS, std=0.1), normal(1, 1, 3 * BINS, std=0.1, seed=1)
    mean, log_variance, band = untrained.coefficients(
        x, torch.tensor([sigma]), y if given else None
    )
    z, mixture = untrained.mdct(x)[0][0], untrained.mdct(y)[0][0, 0]
    want, variance = conditional(untrained.scale, z, sigma, mixture if given else None)
    assert (mean[0] - want).abs().max() < ROUNDING
    assert (
        log_variance[0].exp() / variance - 1
    ).abs().max() < 1e-4  # a difference of two variances
    unconditional = conditional(untrained.scale, z, sigma, None)[1]
    assert (band[0] / unconditional[:, :1] - 1).abs().max() < 1e-5
    torch.testing.assert_close(band, untrained.band_variance(torch.tensor(sigma)))
    # And as waveforms.
    out, reported = untrained.posterior(x, torch.tensor(sigma), y if given else None)
    assert (out - untrained.mdct.inverse(want)).abs().max() < ROUNDING
    torch.testing.assert_close(reported, log_variance.exp())


def test_each_item_may_or_may_not_see_the_mixture(trained: TFUNet) -> None:
    x, y = normal(2, 4, 2 * BINS, std=0.1), normal(2, 1, 2 * BINS, std=0.1, seed=1)
    sigma = torch.tensor([0.1, 0.2])
    mixed = trained.coefficients(x, sigma, y, torch.tensor([0.0, 1.0]))
    without, both = trained.coefficients(x, sigma), trained.coefficients(x, sigma, y)
    for got, no, yes in zip(mixed[:2], without[:2], both[:2], strict=True):
        assert (got[0] - no[0]).abs().max() < 1e-5  # logarithms of up to 16
        assert (got[1] - yes[1]).abs().max() < 1e-5
        assert (no[1] - yes[1]).abs().max() > 1e-3  # the mixture matters


@pytest.mark.parametrize("sigma", [0.003, 0.05, 2.0])
def test_sources_sum_to_a_mixture_it_is_given(trained: TFUNet, sigma: float) -> None:
    x, y = normal(2, 4, 500, std=0.1), normal(2, 1, 500, std=0.1, seed=1)
    out = trained(x, torch.tensor(sigma), y)
    # The largest term that cancels is a correction of some 0.1.
    assert (out.sum(1, keepdim=True) - y).abs().max() < ROUNDING
    assert (trained(x, torch.tensor(sigma)).sum(1, keepdim=True) - y).abs().max() > 1e-2


@pytest.mark.parametrize("time", [1, BINS - 1, BINS, BINS + 1, 1000])
def test_any_length_is_that_of_zeros_appended(trained: TFUNet, time: int) -> None:
    x, y, sigma = normal(2, 4, time, std=0.1), normal(2, 1, time, std=0.1), torch.tensor(0.1)
    more = (0, -time % BINS)
    padded = trained(nn.functional.pad(x, more), sigma, nn.functional.pad(y, more))
    out, variance = trained.posterior(x, sigma, y)
    assert out.shape == x.shape
    assert variance.shape == (2, 4, -(-time // BINS) + 1, BINS)
    torch.testing.assert_close(out, padded[..., :time])
    z = trained.analysis(x)
    assert z.shape == variance.shape
    assert abs(z.norm() / x.norm() - 1) < ROUNDING
    assert (trained.synthesis(z, time) - x).abs().max() < ROUNDING


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("expanded", [True, False])
def test_the_form_for_inference_is_the_same_network(
    trained: TFUNet, batch: int, expanded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, TINY.sources, 4 * TINY.bins, generator=generator)
    sigma, mixture = torch.tensor(0.3).expand(batch), x.sum(1, keepdim=True)
    sigma = sigma if expanded else sigma.clone()
    plain = trained.posterior(x, sigma, mixture)  # gradients are on
    monkeypatch.delattr(Block, "forward")
    with torch.no_grad():
        fused = trained.posterior(x, sigma, mixture)
    for a, b in zip(plain, fused, strict=True):
        # Two orders of the same float32 sums, over some ten layers: 1e-7 each.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6 * float(a.detach().abs().max()))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("shape", [TINY, ATTENDING])
def test_the_form_for_inference_rounds_little_more_in_bfloat16(
    shape: TFUNetConfig, batch: int
) -> None:
    """Its sums over blocks are in bfloat16, too, those of the plain form in float32."""
    network = tiny_network(1, config=shape)
    x, y = normal(batch, 4, 8 * BINS, std=0.1), normal(batch, 1, 8 * BINS, std=0.1)
    exact = network(x, torch.tensor(2.0), y)
    with torch.autocast("cpu", torch.bfloat16):
        plain = network(x, torch.tensor(2.0), y)  # gradients are on
        with torch.no_grad():
            fused = network(x, torch.tensor(2.0), y)
    assert not torch.equal(plain, fused)
    # Both round each layer's inputs, weights and results; this one the sum of every block besides.
    assert (fused - exact).norm() < 2 * (plain - exact).norm()


def test_the_form_for_inference_is_for_one_level_without_gradients() -> None:
    one, two = torch.ones(1, 4), torch.tensor([[1.0], [2.0]]).expand(2, 4)
    assert not alike(one)  # gradients are on
    with torch.no_grad():
        assert alike(one)
        assert not alike(two)


def test_numbers_are_equal_if_they_are_known_to_be() -> None:
    one, two = torch.ones(1), torch.tensor([1.0, 2.0])
    assert all_equal(one, one.expand(3), torch.ones(3))
    assert not all_equal(one, two)
    assert all_equal(torch.empty(1, device="meta").expand(3))  # a device that compares nothing
    assert not all_equal(torch.empty(3, device="meta"))


def test_split_undoes_merge_which_stacks_four_neighbours() -> None:
    x = normal(2, 8, 3, 5)
    merged = merge(x)
    assert merged.shape == (2, 2, 3, 20)
    assert torch.equal(merged[1, 1, 2].view(4, 5), x[1, 4:8, 2])
    assert torch.equal(split(merged), x)
    assert torch.equal(merge(split(merged)), merged)


def test_the_variance_head_trains_without_touching_the_mean(trained: TFUNet) -> None:
    trained.requires_grad_(True)
    x_0, eps = normal(3, 4, 4 * BINS, std=0.05), normal(3, 4, 4 * BINS, seed=1)
    sigma, given = torch.tensor([0.02, 0.1, 1.0]), torch.tensor([1.0, 0.0, 1.0])

    def gradients(with_likelihood: bool) -> dict[str, Tensor | None]:
        denoising, likelihood = trained.loss(x_0, sigma, eps, given)
        trained.zero_grad()
        (denoising + likelihood * with_likelihood).mean().backward()
        return {n: p.grad for n, p in trained.named_parameters()}

    without, both = gradients(False), gradients(True)
    for name, gradient in both.items():
        before = without[name]
        assert gradient is not None, name
        if name.startswith("log_variance"):
            assert before is None or before.count_nonzero() == 0
            assert gradient.count_nonzero() > 0
        else:
            assert before is not None, name
            assert torch.equal(gradient, before), name


def test_at_bin_weight_one_the_loss_is_that_in_standard_deviations(untrained: TFUNet) -> None:
    """Before training the reported variance is v_k: the likelihood is half of error^2 / v_k."""
    network = TFUNet(replace(untrained.config, bin_weight=1.0), untrained.scale)
    network.load_state_dict(untrained.state_dict())
    x_0, eps = normal(2, 4, 4 * BINS, std=0.05), normal(2, 4, 4 * BINS, seed=1)
    denoising, likelihood = network.loss(x_0, torch.tensor([0.1, 1.0]), eps, torch.zeros(2))
    # Sums of a thousand terms in float32, of which one has log v_k added and taken off again.
    torch.testing.assert_close(denoising, 2 * likelihood, rtol=1e-5, atol=0)


def test_before_training_the_likelihood_is_that_of_its_own_gaussian(untrained: TFUNet) -> None:
    # E[(x_0 - mean)^2 / v] = 1, so the negative log-likelihood, less log v_k / 2, is 1/2 on
    # average. 4 x 300 x 64 errors: half of a chi^2's standard deviation sqrt(2 / n) is 0.0026;
    # five of them, and two of 301 frames, at the ends, that are cut in half.
    frames = 300
    c = untrained.scale[None, :, None] * normal(1, 4, frames + 1, BINS)
    x_0, eps = untrained.mdct.inverse(c), normal(1, 4, frames * BINS, seed=1)
    for sigma in (0.01, 0.3):
        _, likelihood = untrained.loss(x_0, torch.tensor([sigma]), eps, torch.zeros(1))
        assert abs(float(likelihood) - 0.5) < 0.013 + 2 / 301
    # Given the mixture, three of four sources' worth of variance is left: log det falls too.
    _, given = untrained.loss(x_0, torch.tensor([0.3]), eps, torch.ones(1))
    assert float(given) < 0.4


def test_a_shift_by_a_frame_is_a_shift_by_a_frame(trained: TFUNet) -> None:
    x, sigma = normal(1, 4, 40 * BINS, std=0.1), torch.tensor(0.1)
    shifted = torch.cat([torch.zeros(1, 4, BINS), x], -1)
    # Convolutions along time reach 1 (down) + 1 + 2 (bottom) + 1 (up) frames, a frame 2 hops.
    reach = (1 + 1 + 2 + 1 + 2) * BINS
    a, b = trained(x, sigma), trained(shifted, sigma)[..., BINS:]
    inner = slice(reach, -reach)
    assert (a[..., inner] - b[..., inner]).abs().max() < 1e-5
    assert (a - b).abs().max() > 1e-4  # near the ends the padding is heard


@pytest.mark.parametrize("given", [False, True])
def test_items_of_a_batch_are_alone(trained: TFUNet, given: bool) -> None:
    x, y = normal(3, 4, 300, std=0.1), normal(3, 1, 300, std=0.1, seed=1)
    sigma = torch.tensor([0.01, 0.1, 1.0])
    together = trained.posterior(x, sigma, y if given else None)
    for i in range(3):
        alone = trained.posterior(x[i : i + 1], sigma[i], y[i : i + 1] if given else None)
        for a, b in zip(together, alone, strict=True):
            assert (a[i] - b[0]).abs().max() < 1e-5  # matrix products of another height


def test_silence_and_thunder_stay_finite(trained: TFUNet) -> None:
    # A sampler on a bad path can bring anything; normalised inputs are clamped.
    x, y = torch.zeros(1, 4, 200), torch.zeros(1, 1, 200)
    for sigma in (5e-4, 20.0):
        for level in (0.0, 1e6):
            mean, variance = trained.posterior(x + level, torch.tensor(sigma), y + level)
            assert mean.isfinite().all()
            assert variance.isfinite().all()
            assert (variance > 0).all()


def test_measure_takes_the_rms_of_every_source_and_bin(untrained: TFUNet) -> None:
    x_0 = normal(11, 4, 5 * BINS, std=0.05)  # more than the eight of a pass
    x_0[:, 2] = 0
    untrained.measure(x_0)
    want = untrained.mdct(x_0.double())[0].square().mean((0, 2)).sqrt()
    want[2] = SCALE_FLOOR
    assert (untrained.scale / want - 1).abs().max() < 1e-5  # float32 sums of 66 squares


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": (1, 1)},
        {"blocks": (0, 3)},
        {"blocks": (1, 4), "mixings": 3, "attention": 2},
        {"blocks": (1, 2), "mixings": 2},
    ],
)
def test_every_parameter_is_used(change: dict[str, Any]) -> None:
    # A parameter without a gradient stops data-parallel training.
    network = tiny_network(0, config=replace(TINY, **change)).requires_grad_(True)
    x_0 = normal(1, 4, 2 * BINS, std=0.05)
    torch.cat(network.loss(x_0, torch.ones(1), x_0, torch.ones(1))).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_the_full_band_layer_joins_all_positions_of_a_frame_and_no_others() -> None:
    torch.manual_seed(0)
    layer = FullBand(channels=16, positions=4, rank=2, hidden=8)
    nn.init.ones_(layer.widen.weight)
    x = normal(1, 4, 5, 16).requires_grad_()
    layer(x)[0, 0, 2].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().amax(-1) > 0  # [positions, frames]
    assert torch.equal(reached, (torch.arange(5) == 2).expand(4, 5))


def test_attention_over_time_knows_distances_alone() -> None:
    torch.manual_seed(0)
    layer = TimeAttention(channels=16, heads=2)
    nn.init.normal_(layer.project.weight)
    # One query and one key at all pairs of frames: their product is a function of the distance.
    query, key = normal(1, 1, 1, 8, seed=1), normal(1, 1, 1, 8, seed=2)
    turned = [rotate(v.expand(1, 1, 40, 8)) for v in (query, key)]
    scores = turned[0] @ turned[1].transpose(-1, -2)
    for distance in range(-39, 40):
        diagonal = scores[0, 0].diagonal(distance)
        assert (diagonal - diagonal[0]).abs().max() < 1e-5  # float32, angles up to 40
    assert scores.std() > 0.1
    # Each position attends to its own frames alone, to all of them.
    x = normal(2, 3, 7, 16).requires_grad_()
    layer(x)[0, 1, 4].square().sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().amax(-1) > 0
    want = torch.zeros(2, 3, 7, dtype=torch.bool)
    want[0, 1] = True
    assert torch.equal(reached, want)


@pytest.mark.parametrize(
    "change",
    [
        {"mixings": 3},
        {"group_width": 32},
        {"mixings": 0},
        {"attention": 3},
        {"attention": 32},
        {"channels": ()},
        {"channels": (16,)},
        {"channels": (16, 40)},
        {"blocks": (1, 0)},
        {"bins": 72},
        {"patch": 0},
    ],
)
def test_shapes_that_do_not_divide_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"channels|bins|mixings"):
        replace(TINY, **change)  # type: ignore[arg-type]


def test_the_default_shape_is_sound() -> None:
    network = TFUNet(TFUNetConfig())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.7e6, rel=0.05)


@pytest.mark.parametrize("given", [False, True])
def test_in_units_of_its_scale_it_knows_no_level(trained: TFUNet, given: bool) -> None:
    # Inputs, outputs and the mixture are normalised by the prior's spectrum; only the embedding of
    # log sigma sees an absolute level. Without it all scales with the scale. A power of two rounds
    # nothing, so that the rest is exact up to the order of sums.
    for module in trained.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.modulation.weight)
            nn.init.zeros_(module.modulation.bias)
    x, y = normal(2, 4, 300, std=0.1), normal(2, 1, 300, std=0.1, seed=1)
    sigma = torch.tensor([0.05, 0.5])
    mean, variance = trained.posterior(x, sigma, y if given else None)
    trained.scale.mul_(4)
    louder, wider = trained.posterior(4 * x, 4 * sigma, 4 * y if given else None)
    torch.testing.assert_close(louder, 4 * mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(wider, 16 * variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigma", [0.003, 0.05, 2.0])
def test_the_gain_on_its_input_is_at_most_one(untrained: TFUNet, sigma: float) -> None:
    """However large the mask that the layers ask for, D does not enlarge what comes in.

    Offsets are 0 here, so that mean_k = gain z_k; the input stays where it is not clamped.
    """
    masks = untrained.leave.bias.view(3, 4, -1)
    masks[1] = 1e4
    deviation = (sigma**2 + untrained.scale**2).sqrt()
    z = deviation[:, None] * normal(4, 4, BINS).clamp(-3, 3)
    x = untrained.mdct.inverse(z)[None]
    z = untrained.mdct(x)[0]
    mean, _, _ = untrained.coefficients(x, torch.tensor([sigma]))
    assert (mean - z).abs().max() < ROUNDING * float(deviation.max()) / 0.05
    # A mask below the bound is as it was: half of it, between the Wiener filter and the identity.
    masks[1] = 0.5 * (sigma / untrained.scale).amin()
    mean, _, _ = untrained.coefficients(x, torch.tensor([sigma]))
    band = untrained.band_variance(torch.tensor(sigma))
    gain = (band / sigma**2) + band.sqrt() / deviation[None, :, None] * masks[1, 0, 0]
    assert float(gain.max()) < 1
    assert (mean - gain * z).abs().max() < ROUNDING * float(deviation.max()) / 0.05


def test_a_pivoted_network_does_not_see_the_noise_of_the_sum(trained: TFUNet) -> None:
    """Given a noiseless sum, the same noise in every source tells nothing of x_0."""
    network = tiny_network(1, config=replace(TINY, pivot=True))
    x, y = normal(1, 4, 2 * BINS, std=0.1), normal(1, 1, 2 * BINS, std=0.1, seed=1)
    same, sigma = normal(1, 1, 2 * BINS, std=0.1, seed=2), torch.tensor(0.1)
    moved = network(x + same, sigma, y) - network(x, sigma, y)
    assert moved.abs().max() < ROUNDING
    assert (trained(x + same, sigma, y) - trained(x, sigma, y)).abs().max() > 100 * ROUNDING
    # Without the mixture it is a function of all of x.
    assert torch.equal(network(x, sigma), trained(x, sigma))


def test_a_pivot_does_not_move_the_gaussian_conditional(untrained: TFUNet) -> None:
    """p(x_0 | x, y) is p(x_0 | zero-sum part of x, y): Gaussian sources, noiseless y."""
    pivoted = tiny_network(1, trained=False, config=replace(TINY, pivot=True))
    x, y = normal(1, 4, 2 * BINS, std=0.1), normal(1, 1, 2 * BINS, std=0.1, seed=1)
    for sigma in (0.003, 0.05, 2.0):
        want, variance = untrained.posterior(x, torch.tensor(sigma), y)
        mean, same = pivoted.posterior(x, torch.tensor(sigma), y)
        assert (mean - want).abs().max() < ROUNDING
        assert torch.equal(same, variance)


@pytest.mark.skipif(not is_fast_bfloat16(torch.zeros(1, dtype=torch.bfloat16)), reason="no AVX-512")
def test_attention_in_bfloat16_is_that_in_float32() -> None:
    q, k, v = (normal(3, 2, 7, 8, seed=seed).bfloat16() for seed in range(3))
    plain = attended(*(x.float() for x in (q, k, v)))
    with torch.no_grad():
        found = attended(q, k, v)
    # Scores of size 1, their softmax and the result are rounded to 2^-8 of themselves.
    assert (found - plain).norm() < 2**-6 * plain.norm()
