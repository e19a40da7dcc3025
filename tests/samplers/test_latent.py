"""Samplers that know nothing of latents, on a latent prior."""

from dataclasses import replace

import pytest
import torch

from mgdm_audio.diffusion import Prior
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MGDM, on_latents, require_codec
from mgdm_audio.samplers.base import likelihood_score
from tests.samplers.latent import LinearCodec, learnt_problem


def test_the_likelihood_of_a_latent_is_that_of_its_event(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """Of D(z) through the decoder: D^T Q^T A^T (y - A Q D z) / sigma_y^2."""
    codec = LinearCodec(prior.event_shape, prior.event_shape)
    prior = replace(prior, codec=codec)
    latent = on_latents(likelihood, prior)
    z = 0.1 * prior.sample_x_T(3, generator=generator_for(0), dtype=torch.float64)
    assert torch.equal(latent.log_prob(z), likelihood.log_prob(codec.decode(z)))
    residual = likelihood.residual(codec.decode(prior.predict_x0(z, 500)))
    pulled = codec.encode(residual.expand(-1, 4, -1)) / likelihood.noise_std**2
    want = prior.predict_x0(pulled, 500)  # D is symmetric
    got = likelihood_score(prior, latent, z, 500)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * float(want.abs().max()))


def test_mgdm_separates_in_the_latents_of_a_codec_that_was_learnt() -> None:
    """By .026 to .032 of the prior mean's error over seeds: within twice an exact draw's amplitude,
    whose error is .015. A draw of the prior errs by 2."""
    problem = learnt_problem()
    likelihood = on_latents(problem.likelihood, problem.prior)
    z = MGDM().sample(problem.prior, likelihood, generator=generator_for(0))
    x = require_codec(problem.prior, "this test").decode(z)
    assert problem.error(x) < 4 * problem.exact < 0.1


def test_a_prior_keeps_its_codec(prior: Prior) -> None:
    assert prior.codec is None
    codec = LinearCodec(prior.event_shape, prior.event_shape)
    latent = replace(prior, codec=codec)
    assert latent.with_event_shape((4, 16)).codec is codec
    assert counted(latent)[0].codec is codec
    assert require_codec(latent, "PSLD") is codec


def test_a_prior_without_latents_is_refused(prior: Prior, likelihood: GaussianLikelihood) -> None:
    with pytest.raises(PairingError, match="needs a latent Prior"):
        on_latents(likelihood, prior)
