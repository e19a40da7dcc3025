"""PSLD on linear codecs, where its gradient is a matrix product, and on one that was learnt."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    LinearOperator,
    Mask,
    MixtureSum,
    Operator,
    SourceMatrix,
    Stacked,
    compose,
)
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import PSLD, Ancestral, Step
from tests.samplers.latent import LinearCodec, learnt_problem

EVENT = (4, 8)
SQUARE, NARROW = EVENT, (20,)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latent_prior(covariance: Tensor, latent_shape: tuple[int, ...]) -> Prior:
    """``covariance`` cut to the latents; the eigenvalues of a principal block stay positive."""
    size = torch.Size(latent_shape).numel()
    denoiser = GaussianDenoiser(covariance[:size, :size])
    codec = LinearCodec(EVENT, latent_shape)
    return Prior(denoiser, NoiseSchedule.karras(), latent_shape, codec)


def dense(linear: Any, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a linear map of events of that shape, by its effect on each unit event."""
    size = torch.Size(shape).numel()
    return linear(torch.eye(size, dtype=torch.float64).unflatten(1, shape)).flatten(1).T


def first_step(sampler: PSLD, prior: Prior, likelihood: Any, x_T: Tensor | None = None) -> Tensor:
    steps: list[Step] = []
    sampler.sample(prior, likelihood, generator=generator_for(0), x_T=x_T, on_step=steps.append)
    return steps[0].x_t


OPERATORS: dict[str, LinearOperator] = {
    "sum": MixtureSum(4),
    "weighted": MixtureSum(4, (1.0, -0.5, 2.0, 0.3)),
    "two mixtures": SourceMatrix(normal(2, 4, seed=5)),
    "mask": Mask(normal(*EVENT, seed=6) > 0),
    # No pinv of its own: conjugate gradients, which autograd would not differentiate exactly.
    "iterative": compose(  # type: ignore[dict-item]
        Stacked([MixtureSum(4), SourceMatrix(normal(2, 4, seed=7))]),
        Mask(normal(*EVENT, seed=6) > -1),
    ),
}


@pytest.mark.parametrize("latent_shape", [SQUARE, NARROW], ids=["square", "narrow"])
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_its_gradient_is_the_closed_form(
    covariance: Tensor, operator: LinearOperator, latent_shape: tuple[int, ...]
) -> None:
    """With dec(z) = Q z, enc(x) = Q^T x, r = y - A Q z_0 and u = z_0 - Q^T (Q z_0 + A^+ r):
    grad_{z_0} = -omega (A Q)^T r / |r| + gamma (I - Q^T Q + Q^T A^+ A Q)^T u / |u|, item by item.
    """
    prior = latent_prior(covariance, latent_shape)
    y = 0.2 * normal(*operator(torch.zeros(3, *EVENT, dtype=torch.float64)).shape, seed=1)
    likelihood = GaussianLikelihood(operator, y, 0.01)
    x_T = prior.sample_x_T(3, generator=generator_for(7), dtype=torch.float64)
    # The same noise without guidance: the difference of the two first steps is the gradient.
    plain = first_step(PSLD(3, omega=0, gamma=0), prior, likelihood, x_T)
    got = plain - first_step(PSLD(3, omega=0.7, gamma=0.2), prior, likelihood, x_T)

    t = prior.schedule.timesteps(3)[-1]
    m = dense(lambda z: prior.predict_x0(z, t), latent_shape)
    a, q = dense(operator, EVENT), prior.codec.q  # type: ignore[union-attr]
    pinv = torch.linalg.pinv(a)
    z_0 = x_T.flatten(1) @ m.T
    r = y.flatten(1) - z_0 @ (a @ q).T
    u = z_0 - (z_0 @ q.T + r @ pinv.T) @ q
    jacobian = torch.eye(len(m), dtype=torch.float64) - q.T @ q + q.T @ pinv @ a @ q
    want = -0.7 * (r / r.norm(dim=1, keepdim=True)) @ (a @ q)
    want = want + 0.2 * (u / u.norm(dim=1, keepdim=True)) @ jacobian
    want = (want @ m).unflatten(1, latent_shape)
    # 1e-16 of rounding, 1e-13 of the conjugate gradients, times their condition of some 100.
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10 * float(want.abs().max()))


def test_glued_is_the_nearest_event_that_meets_the_mixture(covariance: Tensor) -> None:
    """So an estimate that meets it already is glued to itself: only omega's gradient is left, and
    none where the residual is 0, although neither norm has a gradient there."""
    prior = latent_prior(covariance, SQUARE)
    likelihood = GaussianLikelihood(MixtureSum(4), torch.zeros(2, 1, 8, dtype=torch.float64), 0.01)
    x_T = torch.zeros(2, *SQUARE, dtype=torch.float64)
    plain = first_step(PSLD(3, omega=0, gamma=0), prior, likelihood, x_T)
    assert torch.equal(first_step(PSLD(3), prior, likelihood, x_T), plain)


def test_without_guidance_it_draws_decoded_events_from_the_prior(
    covariance: Tensor, likelihood: GaussianLikelihood
) -> None:
    prior = latent_prior(covariance, NARROW)
    got = PSLD(20, omega=0, gamma=0).sample(prior, likelihood, generator=generator_for(0))
    z_0 = Ancestral(20).sample(prior, likelihood, generator=generator_for(0))
    assert got.shape == (3, *EVENT)
    torch.testing.assert_close(got, prior.codec.decode(z_0), rtol=0, atol=1e-14)  # type: ignore


def test_what_it_reports_are_latents(covariance: Tensor, likelihood: GaussianLikelihood) -> None:
    prior, steps = latent_prior(covariance, NARROW), list[Step]()
    PSLD(8).sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    assert all(step.x_t.shape == step.x_0.shape == (3, *NARROW) for step in steps)
    assert [step.t for step in steps] == prior.schedule.timesteps(8)[-2:0:-1]


def test_it_separates_with_a_codec_that_was_learnt() -> None:
    """An exact draw errs by .015 of the prior mean's error, a draw of the prior by 2; PSLD by .025
    to .04 over seeds: within twice an exact draw's amplitude. omega and gamma are .1 of the
    configured ones, for events of 24 samples and not of a million."""
    problem = learnt_problem()
    prior, likelihood = problem.prior, problem.likelihood
    x = PSLD(500, omega=0.01, gamma=0.01).sample(prior, likelihood, generator=generator_for(0))
    assert problem.error(x) < 4 * problem.exact < 0.1
    z = Ancestral(100).sample(prior, likelihood, generator=generator_for(0))
    assert problem.error(prior.codec.decode(z)) > 1.5  # type: ignore[union-attr]


def test_a_wrong_pairing_names_both(prior: Prior, likelihood: GaussianLikelihood) -> None:
    with pytest.raises(PairingError, match=r"PSLD needs .* got a Prior without"):
        PSLD(3).sample(prior, likelihood, generator=generator_for(0))

    class Modulus(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x.abs()

    latent = Prior(prior.denoiser, prior.schedule, SQUARE, LinearCodec(EVENT, SQUARE))
    with pytest.raises(PairingError, match="PSLD needs a LinearOperator, got Modulus"):
        PSLD(3).sample(
            latent, GaussianLikelihood(Modulus(), likelihood.y, 0.01), generator=generator_for(0)
        )


@pytest.mark.parametrize(
    "options",
    [{"num_steps": 2}, {"omega": -1.0}, {"gamma": float("nan")}, {"eta": 1.5}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PSLD(**options)
