from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from mgdm_audio.diffusion import CallCounter, GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import (
    GaussianLikelihood,
    KnownSources,
    MixtureSum,
    SourceMatrix,
    Stacked,
)
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import DDRM, Step
from mgdm_audio.samplers.presets import load_preset
from tests.samplers.toys import EVENT, Known, normal

SCHEDULE = NoiseSchedule.karras(sigma_max=5.0)


# Singular values 3, .3, .03 and a null space.
MATRIX = SourceMatrix(
    torch.diag(torch.tensor([3.0, 0.3, 0.03]).double()) @ torch.linalg.qr(normal(4, 4)).Q[:3]
)
# With sigma_y = .3 ybar has the noise .1, 1, 10: levels fall below the first two, and never reach
# the last, where the start is that of the null space.
NOISE_STD = 0.3


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (0.5, 0.7), (0.0, 0.0)])
def test_its_states_follow_the_recursion_of_every_singular_value(eta: float, eta_b: float) -> None:
    """Under a Gaussian prior diagonal in V's basis, coordinates never meet: D multiplies each by
    c / (c + sigma^2). One coordinate at a time, in scalars, from the paper's three cases."""
    variances = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)
    v = MATRIX.V(torch.eye(4, dtype=torch.float64))  # columns: sources of each coordinate
    covariance = torch.kron(v @ torch.diag(variances) @ v.T, torch.eye(8, dtype=torch.float64))
    prior = Prior(GaussianDenoiser(covariance), SCHEDULE, EVENT)
    y = MATRIX(normal(2, *EVENT)) + NOISE_STD * normal(2, 3, 8, seed=1)
    x_T = prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64)
    steps: list[Step] = []
    x_0 = DDRM(num_steps=12, eta=eta, eta_b=eta_b).sample(
        prior,
        GaussianLikelihood(MATRIX, y, NOISE_STD),
        generator=generator_for(1),
        x_T=x_T,
        on_step=steps.append,
    )
    levels = SCHEDULE.timesteps(12)[::-1]
    generator = generator_for(1)
    noise = [randn((2, *EVENT), generator=generator, dtype=torch.float64) for _ in levels[1:]]
    u_y, xi = MATRIX.U_T(y), MATRIX.V_T(x_T) / SCHEDULE.sigma[-1]
    regimes = set()
    for k, (s, c) in enumerate(
        zip(MATRIX.singular_values[:, 0].tolist(), variances.tolist(), strict=True)
    ):
        top = float(SCHEDULE.noise_level[levels[0]])
        z = top * xi[:, k]
        if s > 0 and top > NOISE_STD / s:
            z = u_y[:, k] / s + (top**2 - NOISE_STD**2 / s**2) ** 0.5 * xi[:, k]
        for (t, t_next), draw, step in zip(pairwise(levels), noise, steps, strict=True):
            old, new = float(SCHEDULE.noise_level[t]), float(SCHEDULE.noise_level[t_next])
            f, keep = c / (c + old**2) * z, (1 - eta**2) ** 0.5
            if s == 0:
                regimes.add("null")
                z = f + keep * new * (z - f) / old + eta * new * draw[:, k]
            elif new < NOISE_STD / s:
                regimes.add("below")
                told = (u_y[:, k] / s - f) / (NOISE_STD / s)
                z = f + keep * new * told + eta * new * draw[:, k]
            else:
                regimes.add("above")
                std = (new**2 - NOISE_STD**2 / s**2 * eta_b**2) ** 0.5
                z = (1 - eta_b) * f + eta_b * u_y[:, k] / s + std * draw[:, k]
            state = MATRIX.V_T(step.x_t / SCHEDULE.alpha[t_next])[:, k]
            # States of up to 100 (ybar where s = .03), over twelve steps.
            assert float((state - z).abs().max()) < 1e-11
        assert float((MATRIX.V_T(x_0)[:, k] - z).abs().max()) < 1e-11
    assert regimes == {"null", "below", "above"}


def test_the_preset_takes_the_steps_of_ddnm_plus_s_published_code(prior: Prior) -> None:
    """From every state of a run to the next, by the recursion of that code: for a singular value s,
    x' = a x_c + V (d_1 xi + d_2 eps), a, sigma = alpha, sigma of the next level, with

        x_c = D - lambda A^+ (A D - y),   lambda = 1, d_1^2 = sigma^2 - (a sigma_y / s)^2, d_2 = 0

    where sigma covers a sigma_y / s, else lambda = s sigma sqrt(1 - eta^2) / (a sigma_y), d_1 = eta
    sigma, d_2 = 0; and d_1 = eta sigma, d_2 = sqrt(1 - eta^2) sigma where s = 0.
    """
    preset = load_preset("ddrm", ["num_steps=12"])
    y = MATRIX(normal(2, *EVENT)) + NOISE_STD * normal(2, 3, 8, seed=1)
    prior, eta, steps = replace(prior, schedule=SCHEDULE), preset.options["eta"], list[Step]()
    preset.sampler.sample(
        prior, GaussianLikelihood(MATRIX, y, NOISE_STD), generator=generator_for(1),
        x_T=prior.sample_x_T(2, generator=generator_for(0), dtype=torch.float64),
        on_step=steps.append,
    )  # fmt: skip
    generator = generator_for(1)
    noise = [randn((2, *EVENT), generator=generator, dtype=torch.float64) for _ in steps]
    s, covers = MATRIX.singular_values, set()
    for before, after, xi in zip(steps, steps[1:], noise[1:], strict=False):
        a, sigma = float(SCHEDULE.alpha[after.t]), float(SCHEDULE.sigma[after.t])
        x_0, eps = prior.predict_x0(before.x_t, before.t), prior.predict_eps(before.x_t, before.t)
        y_std = a * NOISE_STD / s  # inf where s = 0
        covered, keep = sigma >= y_std, (1 - eta**2) ** 0.5 * sigma
        weight = torch.where(covered, 1, keep / y_std)
        d_1 = torch.where(covered, (sigma**2 - y_std**2).clamp(min=0).sqrt(), eta * sigma)
        d_2 = torch.where(s == 0, keep, 0 * s)
        x_c = x_0 - MATRIX.V(weight * MATRIX.V_T(MATRIX.pinv(MATRIX(x_0) - y)))
        expected = a * x_c + MATRIX.V(d_1 * xi + d_2 * MATRIX.V_T(eps))
        # States of up to 100 (A^+ y where s = .03), one step.
        torch.testing.assert_close(after.x_t, expected, rtol=0, atol=1e-12)
        covers |= set(covered.flatten().tolist())
    assert covers == {False, True}


@pytest.mark.parametrize(("eta", "eta_b"), [(0.85, 1.0), (0.5, 0.7)])
def test_every_level_has_the_marginal_of_the_forward_process(eta: float, eta_b: float) -> None:
    """Proposition 3.1: if D = x_0, then x_t / alpha_t ~ N(x_0, noise_t^2 I) once y is drawn too."""
    draws, x_0 = 4000, normal(1, *EVENT)
    y = MATRIX(x_0) + NOISE_STD * normal(draws, 3, 8, seed=1)
    steps: list[Step] = []
    # x_T has no signal: the null space and ybar's with too much noise start as N(x_0, .) only here.
    shifted = MATRIX.V_T(x_0) * (NOISE_STD / MATRIX.singular_values >= SCHEDULE.noise_level[999])
    x_T = SCHEDULE.sigma[-1] * (
        normal(draws, *EVENT, seed=2) + MATRIX.V(shifted) / SCHEDULE.noise_level[999]
    )
    DDRM(num_steps=8, eta=eta, eta_b=eta_b).sample(
        Prior(Known(x_0), SCHEDULE, EVENT),
        GaussianLikelihood(MATRIX, y, NOISE_STD),
        generator=generator_for(3),
        x_T=x_T,
        on_step=steps.append,
    )
    for step in steps[:-1]:
        z = MATRIX.V_T(step.x_t / SCHEDULE.alpha[step.t] - x_0) / SCHEDULE.noise_level[step.t]
        z = z.transpose(1, 2).flatten(0, 1)  # [draws of one coordinate, 4]
        # 32000 draws of ten variances and covariances: five standard errors, sqrt(2 / 32000) each.
        assert float((z.T @ z / len(z) - torch.eye(4)).abs().max()) < 0.04
        assert float(z.mean(0).abs().max()) < 5 / len(z) ** 0.5
    # Level 0 is the denoiser.
    torch.testing.assert_close(steps[-1].x_t, x_0.expand(draws, -1, -1), rtol=0, atol=1e-12)


def test_the_result_fits_y(prior: Prior, likelihood: GaussianLikelihood) -> None:
    x_0 = DDRM(num_steps=200).sample(prior, likelihood, generator=generator_for(0))
    # The denoiser's estimate at the lowest levels, whose noise is below that of y.
    assert float(likelihood.residual(x_0).square().mean().sqrt()) < 2 * likelihood.noise_std


def test_it_costs_one_call_a_step_and_no_gradient(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    counter = CallCounter(prior.denoiser)
    counted = Prior(counter, prior.schedule, prior.event_shape)
    DDRM(num_steps=7).sample(counted, likelihood, generator=generator_for(0))
    assert (counter.forward, counter.gradient) == (6, 0)


def test_it_needs_a_decomposition(prior: Prior) -> None:
    operator = Stacked([MixtureSum(4), KnownSources([1], 4)])
    likelihood = GaussianLikelihood(operator, normal(1, 2, 8), 0.01)
    with pytest.raises(PairingError, match="DDRM needs a SpectralOperator, got Stacked"):
        DDRM().sample(prior, likelihood, generator=generator_for(0))


def test_the_default_is_the_preset() -> None:
    assert load_preset("ddrm").sampler == DDRM()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"num_steps": 1}, "at least 2"), ({"eta": 1.1}, "eta and eta_b"), ({"eta_b": -1.0}, "eta_b")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DDRM(**options)
