import pytest
import torch

from mgdm_audio.diffusion import Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    LinearOperator,
    MixtureSum,
    Operator,
    SpectralOperator,
)
from mgdm_audio.samplers import PerStep, require
from mgdm_audio.samplers.base import likelihood_gradient, likelihood_score
from tests.samplers.toys import OPERATORS, normal


def test_every_published_schedule_is_a_rule() -> None:
    audio = PerStep(3, last=(10, 20))  # 20 if k >= N - 10 else 3
    assert [audio.at(k, 20) for k in range(17)] == [3] * 10 + [20] * 7
    faces = PerStep(0.03, first=(11, 0.01))  # .01 if i <= 10 else .03
    assert [faces.at(i, 100) for i in (0, 10, 11)] == [0.01, 0.01, 0.03]
    latent = PerStep(3, last=(30, 20), every=(10, 20))  # 20 if i >= N - 30 or i % 10 == 0 else 3
    assert [latent.at(i, 100) for i in (0, 1, 10, 69, 70)] == [20, 3, 20, 3, 20]
    assert latent.values == [3, 20, 20]


def test_a_wrong_pairing_names_both_sides() -> None:
    class Modulus(Operator):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x.abs()

    operator = MixtureSum(2)
    assert require(operator, SpectralOperator, "DDRM") is operator  # type: ignore[type-abstract]
    with pytest.raises(PairingError, match="DDNM needs a LinearOperator, got Modulus") as caught:
        require(Modulus(), LinearOperator, "DDNM")  # type: ignore[type-abstract]
    assert isinstance(caught.value, TypeError)


class Hidden(Operator):
    """A linear map that does not say so."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator(x)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_the_gradient_in_closed_form_is_autograd_s(
    operator: LinearOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = normal(2, 4, 8), operator(normal(2, 4, 8, seed=1))
    asked = likelihood_gradient(GaussianLikelihood(Hidden(operator), y, 1e-2), x)
    with monkeypatch.context() as patch:  # no graph is made
        patch.setattr(torch.autograd, "grad", None)
        gradient = likelihood_gradient(GaussianLikelihood(operator, y, 1e-2), x)
    # A handful of products and sums in another order.
    torch.testing.assert_close(gradient, asked, rtol=0, atol=1e-14 * float(asked.abs().max()))
    assert not gradient.requires_grad


@pytest.mark.parametrize("t", [1, 500, torch.tensor([1, 500, 1000])], ids=["1", "500", "each"])
def test_the_score_of_the_potential_is_the_chain_rule(
    prior: Prior, likelihood: GaussianLikelihood, t: int | torch.Tensor
) -> None:
    """D is linear for a Gaussian prior: the score is D^T A^T (y - A D x) / sigma_y^2."""
    x = 0.1 * prior.sample_x_T(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    residual = likelihood.residual(prior.predict_x0(x, t))
    pulled = likelihood.operator.adjoint(residual) / likelihood.noise_std**2  # type: ignore
    expected = prior.predict_x0(pulled, t)  # D is symmetric
    with torch.no_grad():  # as inside every sampler
        score = likelihood_score(prior, likelihood, x, t)
    torch.testing.assert_close(score, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert not score.requires_grad
