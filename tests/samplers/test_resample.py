"""ReSample on linear codecs, where each of its moves is known, and on a codec that was learnt."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum, Operator
from mgdm_audio.rng import generator_for, randn_like
from mgdm_audio.samplers import Ancestral, ReSample, Step
from tests.samplers.latent import LinearCodec, learnt_problem

EVENT, LATENT = (4, 8), (20,)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def latent_prior(covariance: Tensor) -> Prior:
    denoiser = GaussianDenoiser(covariance[:20, :20])
    return Prior(denoiser, NoiseSchedule.karras(), LATENT, LinearCodec(EVENT, LATENT))


@pytest.mark.parametrize(("t", "t_prev"), [(999, 946), (500, 490), (20, 10)])
@pytest.mark.parametrize("gamma", [40.0, 0.5])
def test_resampling_is_the_product_of_two_gaussians(
    latent_prior: Prior, t: int, t_prev: int, gamma: float
) -> None:
    """N(z; alpha z_0, 1 - alpha^2) N(z; z', s): precisions add, means are weighted by them; with
    s = gamma (1 - a_p) / (1 - a_t) (1 - a_t / a_p) and a = alpha^2."""
    z_0, z = normal(2, *LATENT), normal(2, *LATENT, seed=1)
    a_t, a_p = (float(latent_prior.schedule.alpha[i]) ** 2 for i in (t, t_prev))
    s = gamma * (1 - a_p) / (1 - a_t) * (1 - a_t / a_p)
    precision = 1 / (1 - a_p) + 1 / s
    mean = (a_p**0.5 * z_0 / (1 - a_p) + z / s) / precision
    got = ReSample(gamma=gamma)._resample(latent_prior, z_0, z, t, t_prev, generator_for(0))
    want = mean + precision**-0.5 * randn_like(z, generator_for(0))
    # 1 - a_p loses up to six digits to cancellation in this test's own formula.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [0.02, 0.2, 1.0])
def test_a_fit_in_event_space_meets_the_mixture_within_its_noise(scale: float) -> None:
    """The gradient of |y - A x|^2 / 2 is the same for every source of a sum, and so is the move."""
    likelihood = GaussianLikelihood(MixtureSum(4), scale * normal(3, 1, 8), 0.01)
    start = 0.1 * normal(3, *EVENT, seed=1)
    x = ReSample()._fit(likelihood, start, 0.01)
    rms = likelihood.residual(x).square().mean((1, 2)).sqrt()
    assert bool((rms <= 0.01).all())
    # It ends where the noise begins: the last step of Adam is no longer than some 0.04 in A x.
    assert bool((rms > 0.001).all())
    moved = x - start
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-12)
    # What is met already stays as it is.
    assert torch.equal(ReSample()._fit(likelihood, x, 0.01), x)


def test_a_fit_of_one_item_does_not_wait_for_another() -> None:
    y = torch.cat([0.02 * normal(1, 1, 8), normal(1, 1, 8, seed=1)])  # some 5 and 60 steps away
    operator, start = MixtureSum(4), torch.zeros(2, *EVENT, dtype=torch.float64)
    together = ReSample()._fit(GaussianLikelihood(operator, y, 0.01), start, 0.01)
    for i in range(2):
        likelihood = GaussianLikelihood(operator, y[i : i + 1], 0.01)
        alone = ReSample()._fit(likelihood, start[i : i + 1], 0.01)
        assert torch.equal(together[i], alone[0])
    assert torch.equal(start, torch.zeros_like(start))


def test_the_gradient_step_is_the_closed_form(
    latent_prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """- guidance alpha_t^2 grad_z |y - A Q z_0(z)|, z_0(z) = (z - sigma eps) / alpha, eps fixed:
    + guidance alpha_t (A Q)^T r / |r|."""
    x_T = latent_prior.sample_x_T(3, generator=generator_for(7), dtype=torch.float64)

    def first(guidance: float) -> Step:
        steps: list[Step] = []
        ReSample(3, guidance=guidance).sample(
            latent_prior, likelihood, generator=generator_for(0), x_T=x_T, on_step=steps.append
        )
        return steps[0]

    guided, plain = first(0.3), first(0.0)
    codec, t = latent_prior.codec, latent_prior.schedule.timesteps(3)[-1]
    z_0 = latent_prior.predict_x0(x_T, t)
    assert torch.equal(plain.x_0, z_0)
    r = likelihood.residual(codec.decode(z_0))  # type: ignore[union-attr]
    pulled = codec.encode(r.expand(-1, 4, -1)) / r.flatten(1).norm(dim=1)[:, None]  # type: ignore
    want = 0.3 * float(latent_prior.schedule.alpha[t]) * pulled
    torch.testing.assert_close(guided.x_t - plain.x_t, want, rtol=0, atol=1e-13)


def test_without_a_fit_it_draws_decoded_events_from_the_prior(
    latent_prior: Prior, likelihood: GaussianLikelihood
) -> None:
    sampler = ReSample(20, every=20, guidance=0, fit_steps=0)
    got = sampler.sample(latent_prior, likelihood, generator=generator_for(0))
    z_0 = Ancestral(20).sample(latent_prior, likelihood, generator=generator_for(0))
    want = latent_prior.codec.decode(z_0)  # type: ignore[union-attr]
    assert got.shape == (3, *EVENT)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-14)


def test_the_levels_and_the_space_of_its_fits(
    latent_prior: Prior, likelihood: GaussianLikelihood, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N = 30, every fifth: of i = 29 .. 2, C is 20 (2 N / 3), 15, 10 in event space, 5 in latent
    space, which then ends the chain too. Each fit looks five steps ahead, or as many as are left.
    """
    prior, calls = counted(latent_prior)
    spaces: list[tuple[str, tuple[int, ...]]] = []

    def record(self: ReSample, likelihood: Any, x: Tensor, learning_rate: float) -> Tensor:
        assert learning_rate == (0.01 if x.ndim == 3 else 0.005)
        spaces.append((type(likelihood.operator).__name__, tuple(x.shape[1:])))
        return x

    monkeypatch.setattr(ReSample, "_fit", record)
    steps: list[Step] = []
    sampler = ReSample(30, every=5)
    sampler.sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    assert spaces == [("MixtureSum", EVENT)] * 3 + [("Decoded", LATENT)] * 2
    # 28 steps, 5 looks ahead from t_19, t_14 and t_9, 4 from t_4, and the last estimate.
    assert (calls.forward, calls.gradient) == (28 + 15 + 4 + 1, 0)
    assert [step.t for step in steps] == prior.schedule.timesteps(30)[-2:0:-1]
    assert all(step.x_t.shape == step.x_0.shape == (3, *LATENT) for step in steps)


@pytest.mark.parametrize("guidance", [0.0, 0.03])
def test_it_separates_with_a_codec_that_was_learnt(guidance: float) -> None:
    """An exact draw errs by .015 of the prior mean's error, a draw of the prior by 2; ReSample by
    .010 to .014 over seeds, less than a draw since its fits are point estimates: within twice an
    exact draw's amplitude. The configured guidance, 0.5, is for larger events."""
    problem = learnt_problem()
    prior, likelihood = problem.prior, problem.likelihood
    sampler = ReSample(100, guidance=guidance)
    x = sampler.sample(prior, likelihood, generator=generator_for(0))
    assert problem.error(x) < 4 * problem.exact < 0.1
    rms = likelihood.residual(x).square().mean((1, 2)).sqrt()
    # The last fit ends at the noise; a few of the 64 mixtures lie off what the decoder can make.
    assert float((rms <= likelihood.noise_std).double().mean()) > 0.8
    z = Ancestral(100).sample(prior, likelihood, generator=generator_for(0))
    assert problem.error(prior.codec.decode(z)) > 1.5  # type: ignore[union-attr]


def test_any_differentiable_operator_will_do(latent_prior: Prior) -> None:
    class Modulus(Operator):
        def __call__(self, x: Tensor) -> Tensor:
            return x.sum(1, keepdim=True).abs()

    likelihood = GaussianLikelihood(Modulus(), 0.2 * normal(3, 1, 8).abs(), 0.01)
    sampler = ReSample(30, every=5, guidance=0.03)
    x = sampler.sample(latent_prior, likelihood, generator=generator_for(0))
    assert float(likelihood.residual(x).square().mean().sqrt()) < 0.02  # .2 before


def test_a_wrong_pairing_names_both(prior: Prior, likelihood: GaussianLikelihood) -> None:
    with pytest.raises(PairingError, match=r"ReSample needs .* got a Prior without"):
        ReSample(3).sample(prior, likelihood, generator=generator_for(0))


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 2},
        {"every": 0},
        {"gamma": 0.0},
        {"lookahead": -1},
        {"fit_steps": -1},
        {"event_learning_rate": float("inf")},
        {"latent_learning_rate": 0.0},
        {"guidance": -0.1},
        {"eta": 1.5},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ReSample(**options)
