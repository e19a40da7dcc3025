import pytest
import torch

from mgdm_audio.measurement import GaussianLikelihood, Mask, MixtureSum, PoissonLikelihood


def problem(dtype: torch.dtype = torch.float64) -> tuple[GaussianLikelihood, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(3, 1, 5, generator=generator, dtype=dtype)
    x = torch.randn(3, 4, 5, generator=generator, dtype=dtype)
    return GaussianLikelihood(MixtureSum(4), y, 0.1), x


def test_log_prob_is_the_normal_density_up_to_its_constant() -> None:
    likelihood, x = problem()
    normal = torch.distributions.Normal(likelihood.operator(x), 0.1)
    constant = 5 * normal.log_prob(normal.mean)[:, 0, 0]
    expected = normal.log_prob(likelihood.y).sum((1, 2)) - constant
    assert likelihood.log_prob(x).shape == (3,)
    torch.testing.assert_close(likelihood.log_prob(x), expected, rtol=1e-12, atol=0)


def test_its_gradient_is_the_adjoint_of_the_residual() -> None:
    likelihood, x = problem()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.log_prob(x).sum(), x)
    expected = MixtureSum(4).adjoint(likelihood.residual(x)) / 0.1**2
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=0)


def test_items_have_their_own_density() -> None:
    likelihood, x = problem()
    alone = GaussianLikelihood(MixtureSum(4), likelihood.y[1:2], 0.1).log_prob(x[1:2])
    assert torch.equal(likelihood.log_prob(x)[1:2], alone)


@pytest.mark.parametrize("noise_std", [0.0, -1.0, float("nan")])
def test_noise_must_be_positive(noise_std: float) -> None:
    with pytest.raises(ValueError, match="noise_std"):
        GaussianLikelihood(MixtureSum(4), torch.zeros(1, 1, 2), noise_std)


def counts(rate: float) -> tuple[PoissonLikelihood, torch.Tensor]:
    """Counts of intensities around 1 (a mixture of four), some of them 0, and another ``x``."""
    generator = torch.Generator().manual_seed(0)
    operator = MixtureSum(4)
    x = torch.rand(3, 4, 50, generator=generator, dtype=torch.float64) / 2
    y = torch.poisson(rate * operator(x), generator=generator) / rate
    other = torch.rand(3, 4, 50, generator=generator, dtype=torch.float64) / 2
    return PoissonLikelihood(operator, y, rate), other


@pytest.mark.parametrize("rate", [2.0, 100.0])
def test_counts_have_the_poisson_density_up_to_its_constant(rate: float) -> None:
    likelihood, x = counts(rate)
    assert (rate > 2) or bool((likelihood.y == 0).any())

    def expected(x: torch.Tensor) -> torch.Tensor:
        poisson = torch.distributions.Poisson(rate * likelihood.operator(x))
        return poisson.log_prob((rate * likelihood.y).round()).sum((1, 2))

    reference = torch.full_like(x, 0.25)  # the constant of y cancels in a difference
    got = likelihood.log_prob(x) - likelihood.log_prob(reference)
    assert got.shape == (3,)
    # Differences of sums of 50 terms of up to 300.
    torch.testing.assert_close(got, expected(x) - expected(reference), rtol=0, atol=1e-10)


def test_the_poisson_score_is_the_adjoint_of_the_relative_residual() -> None:
    likelihood, x = counts(20.0)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.log_prob(x).sum(), x)
    ratio = likelihood.y / likelihood.operator(x) - 1
    expected = 20 * likelihood.operator.adjoint(ratio)  # type: ignore[attr-defined]
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [0.0, 0.005, 0.01, 3.0])
def test_beyond_the_floor_the_log_density_is_finite_and_concave(count: float) -> None:
    floor, rate = 0.01, 10.0
    y = torch.full((401, 1), count, dtype=torch.float64)
    intensity = torch.linspace(-1, 3, 401, dtype=torch.float64)[:, None].requires_grad_()
    likelihood = PoissonLikelihood(Mask(torch.ones(1)), y, rate, floor)
    (slope,) = torch.autograd.grad(likelihood.log_prob(intensity).sum(), intensity)
    outside = intensity[:, 0] < floor
    expected = max(rate * (count / floor - 1), 0.0)  # back to the domain, never away from it
    torch.testing.assert_close(slope[outside], torch.full_like(slope[outside], expected))
    assert bool((slope.diff(dim=0) <= 1e-12).all())
    values = likelihood.log_prob(intensity.detach())
    assert bool(torch.isfinite(values).all())
    # Concave: no value is below the mean of its neighbours, to rounding.
    assert bool((values[1:-1] - (values[2:] + values[:-2]) / 2 >= -1e-12).all())


def test_what_cannot_be_counted_is_refused() -> None:
    y = torch.zeros(1, 1, 2)
    for rate, floor, name in [(0.0, 1.0, "rate"), (float("nan"), 1.0, "rate"), (1.0, 0.0, "floor")]:
        with pytest.raises(ValueError, match=name):
            PoissonLikelihood(MixtureSum(4), y, rate, floor)
    for value in (-0.5, float("nan")):
        with pytest.raises(ValueError, match="counts are 0 or more"):
            PoissonLikelihood(MixtureSum(4), y + value, 1.0)
