import pytest
import torch

from mgdm_audio.measurement import GaussianLikelihood, MixtureSum


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
