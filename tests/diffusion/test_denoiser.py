import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import (
    CallCounter,
    Denoiser,
    EDMDenoiser,
    EpsDenoiser,
    GaussianDenoiser,
    NoiseSchedule,
    Prior,
    SampleDenoiser,
    VDenoiser,
)

SCHEDULE = NoiseSchedule.karras()
TABLE = SCHEDULE.noise_level[1:]  # condition n stands for level n + 1
SIGMA_DATA = 0.1


def covariance() -> Tensor:
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return root @ root.T / 600


EXACT = GaussianDenoiser(covariance())


def column(x: Tensor) -> Tensor:
    return x[:, None, None]


def edm_net(x: Tensor, c_noise: Tensor) -> Tensor:
    """The F for which EDM's formula gives the exact denoiser: solved for F, not for D."""
    sigma = column((4 * c_noise).exp())
    total = (sigma**2 + SIGMA_DATA**2).sqrt()
    z = x * total
    return (EXACT(z, sigma) - (SIGMA_DATA / total) ** 2 * z) / (sigma * SIGMA_DATA / total)


def eps_net(x_t: Tensor, n: Tensor) -> Tensor:
    """E[eps | x_t] of the Gaussian, in variance-preserving coordinates."""
    sigma = column(TABLE[n])
    x = x_t * (1 + sigma**2).sqrt()
    return (x - EXACT(x, sigma)) / sigma


def v_net(x_t: Tensor, n: Tensor) -> Tensor:
    """E[alpha eps - sigma x_0 | x_t]."""
    sigma = column(TABLE[n])
    alpha = (1 + sigma**2).rsqrt()
    return alpha * eps_net(x_t, n) - alpha * sigma * EXACT(x_t / alpha, sigma)


def sample_net(x_t: Tensor, n: Tensor) -> Tensor:
    """E[x_0 | x_t]."""
    sigma = column(TABLE[n])
    return EXACT(x_t * (1 + sigma**2).sqrt(), sigma)


ADAPTERS: dict[str, Denoiser] = {
    "edm": EDMDenoiser(edm_net, SIGMA_DATA),
    "eps": EpsDenoiser(eps_net, TABLE),
    "v": VDenoiser(v_net, TABLE),
    "sample": SampleDenoiser(sample_net, TABLE),
}


@pytest.mark.parametrize("denoiser", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("levels", [3, 400, 1000, (1, 52, 700)], ids=str)
def test_every_adapter_is_the_denoiser_its_network_stands_for(
    denoiser: Denoiser, levels: int | tuple[int, ...]
) -> None:
    sigma = SCHEDULE.noise_level[torch.tensor(levels)]
    x = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # At sigma = 5e-4 a network's F, eps and v carry the answer divided by sigma: 1e-16 / 5e-4.
    torch.testing.assert_close(denoiser(x, sigma), EXACT(x, sigma), rtol=1e-11, atol=1e-11)


def test_a_limit_clamps_the_estimate_and_its_gradient() -> None:
    x = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x.requires_grad_()
    sigma, limit = torch.tensor(0.2, dtype=torch.float64), 0.05
    free = ADAPTERS["edm"](x, sigma)
    limited = EDMDenoiser(edm_net, SIGMA_DATA, limit)(x, sigma)
    outside = free.abs() > limit
    assert 0 < outside.sum() < outside.numel()  # both cases occur
    assert torch.equal(limited, free.clamp(-limit, limit))
    assert not torch.autograd.grad(limited[outside].sum(), x)[0].any()


def test_the_gaussian_denoiser_is_the_conditional_mean() -> None:
    c, sigma = covariance(), torch.tensor(0.2, dtype=torch.float64)
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = c + sigma**2 * torch.eye(6, dtype=torch.float64)
    gain = torch.linalg.solve(total, c)  # (C + sigma^2 I)^-1 C, symmetric
    # Two factorisations of a matrix whose condition number is near 10.
    torch.testing.assert_close(EXACT(x, sigma).flatten(1), x.flatten(1) @ gain, rtol=0, atol=1e-14)


def test_off_the_table_the_nearest_condition_is_taken() -> None:
    asked = []

    def net(x: Tensor, n: Tensor) -> Tensor:
        asked.append(n.tolist())
        return x

    levels = torch.tensor([1.0, 10.0, 100.0])
    EpsDenoiser(net, levels)(torch.zeros(3, 1), torch.tensor([0.01, 3.0, 4.0]))
    assert asked == [[0, 0, 1]]  # by ratio: sqrt(10) = 3.16 is the border


def test_calls_are_counted_by_whether_a_gradient_goes_back() -> None:
    counter = CallCounter(EXACT)
    x, sigma = torch.zeros(5, 2, 3), torch.tensor(1.0)
    counter(x, sigma)
    counter(x.clone().requires_grad_(), sigma)
    with torch.no_grad():
        counter(x.clone().requires_grad_(), sigma)
    assert (counter.forward, counter.gradient) == (2, 1)


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_prior_speaks_variance_preserving(t: int) -> None:
    prior = Prior(EXACT, SCHEDULE, (2, 3))
    x_t = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = SCHEDULE.alpha[t], SCHEDULE.sigma[t]
    x_0, eps = prior.predict_x0(x_t, t), prior.predict_eps(x_t, t)
    torch.testing.assert_close(alpha * x_0 + sigma * eps, x_t, rtol=1e-12, atol=1e-14)
    c = covariance()
    total = alpha**2 * c + sigma**2 * torch.eye(6, dtype=torch.float64)
    exact = x_t.flatten(1) @ torch.linalg.solve(total, alpha * c)
    torch.testing.assert_close(x_0.flatten(1), exact, rtol=0, atol=1e-12)


def test_the_prior_at_level_0_is_the_identity() -> None:
    prior = Prior(EXACT, SCHEDULE, (2, 3))
    x = torch.ones(1, 2, 3)
    assert prior.predict_x0(x, 0) is x


def test_the_initial_state_has_the_top_level_s_noise() -> None:
    prior = Prior(EXACT, SCHEDULE, (2, 3)).with_event_shape((2, 5000))
    x = prior.sample_x_T(2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert x.shape == (2, 2, 5000)
    sigma = float(SCHEDULE.sigma[1000])
    assert float(x.std()) == pytest.approx(sigma, rel=4 / (2 * x.numel()) ** 0.5)  # 4 std. errors
