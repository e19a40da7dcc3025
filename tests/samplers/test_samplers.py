"""What every sampler owes its caller; listing a sampler in SAMPLERS puts it under these tests."""

import dataclasses
from typing import Any

import pytest
import torch

from mgdm_audio.config import from_mapping
from mgdm_audio.diffusion import Prior
from mgdm_audio.measurement import GaussianLikelihood, PoissonLikelihood
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import SAMPLERS
from mgdm_audio.samplers.base import Run, Sampler, Step, Stepwise
from tests.samplers.latent import LinearCodec


@pytest.fixture
def prior(prior: Prior) -> Prior:
    """With a codec, for the samplers that want one: a change of basis. The others ignore it."""
    return dataclasses.replace(prior, codec=LinearCodec(prior.event_shape, prior.event_shape))


def small(cls: type[Any], **options: Any) -> Stepwise:
    """The sampler's defaults but for ``options``, at ten steps at most."""
    sampler: Stepwise = cls(**options)
    if hasattr(sampler, "num_steps"):
        sampler = dataclasses.replace(sampler, num_steps=min(sampler.num_steps, 10))
    return sampler


COMBINATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ancestral, own levels": ("ancestral", {"noise_max": 3.0, "eta": 0.5}),
    "daps, own noise": ("daps", {"tau": 0.0, "langevin_steps": 5}),
    "ddnm, plain": ("ddnm", {"plus": False}),
    "ding, bridge": ("ding", {"noise": "bridge"}),
    "mgdm, isotropic": (
        "mgdm-covariance",
        {"covariance": "isotropic", "gauss_step": "variational", "gibbs_steps": 2},
    ),
    "mgdm, exact": (
        "mgdm-covariance",
        {"covariance": "reported", "gauss_step": "exact", "project": True, "gibbs_steps": 2},
    ),
    "mgdm, jacobian": (
        "mgdm-covariance",
        {"covariance": "jacobian", "gauss_step": "exact", "gibbs_steps": 1},
    ),
    "mgdm, mean": ("mgdm-mean", {"covariance": "reported", "gibbs_steps": 2}),
    "mgdm, draw": ("mgdm-mean", {"estimate": "draw", "gibbs_steps": 1}),
    "mgdm, code": ("mgdm", {"outer": "code", "noising": "bridge", "gibbs_steps": 2}),
    "msdm, gaussian": ("msdm", {"posterior": "gaussian"}),
    "pnp-dm, langevin": ("pnp-dm", {"likelihood_step": "langevin"}),
    "reddiff, ddpm": ("reddiff", {"levels": "ddpm"}),
    "wiener, reported": ("wiener", {"covariance": "reported"}),
}
"""Settings that take other paths than the defaults do: name -> (sampler, options)."""

CASES = {name: small(cls) for name, cls in SAMPLERS.items()}
CASES |= {name: small(SAMPLERS[key], **options) for name, (key, options) in COMBINATIONS.items()}
each = pytest.mark.parametrize("sampler", CASES.values(), ids=CASES)


def take(likelihood: GaussianLikelihood, items: slice, dtype: torch.dtype = torch.float64) -> Any:
    return dataclasses.replace(likelihood, y=likelihood.y[items].to(dtype))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_and_finiteness(
    sampler: Sampler, prior: Prior, likelihood: GaussianLikelihood, dtype: torch.dtype
) -> None:
    likelihood = take(likelihood, slice(None), dtype)
    x_0 = sampler.sample(prior, likelihood, generator=generator_for(0))
    assert x_0.shape == (3, *prior.event_shape)
    assert x_0.dtype == dtype
    assert bool(x_0.isfinite().all())
    assert not x_0.requires_grad


@each
def test_the_generator_decides_and_nothing_else(
    sampler: Sampler, prior: Prior, likelihood: GaussianLikelihood
) -> None:
    state = torch.get_rng_state()
    first = sampler.sample(prior, likelihood, generator=generator_for(0))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = sampler.sample(prior, likelihood, generator=generator_for(0))
    other = sampler.sample(prior, likelihood, generator=generator_for(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each
def test_an_item_does_not_depend_on_its_batch(
    sampler: Sampler, prior: Prior, likelihood: GaussianLikelihood
) -> None:
    together = sampler.sample(prior, likelihood, generator=[generator_for(i) for i in range(3)])
    for i in range(3):
        alone = sampler.sample(
            prior, take(likelihood, slice(i, i + 1)), generator=[generator_for(i)]
        )
        # Matrix products round differently for a batch of 1 and of 3: 1e-16 a call, grown by a
        # guidance whose gain is 1 / sigma_y^2 = 1e4. (MSDM's Gaussian diverges in ten steps.)
        size = max(1.0, float(alone.abs().max()))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-9 * size)


@each
def test_what_it_is_given_stays_as_it_was(
    sampler: Sampler, prior: Prior, likelihood: GaussianLikelihood
) -> None:
    generator = generator_for(0)
    x_T = prior.sample_x_T(3, generator=generator, dtype=torch.float64)
    y, noise = likelihood.y.clone(), x_T.clone()
    given = sampler.sample(prior, likelihood, generator=generator, x_T=x_T)
    assert torch.equal(likelihood.y, y)
    assert torch.equal(x_T, noise)
    # x_T stands for the first draw and for nothing else.
    drawn = sampler.sample(prior, likelihood, generator=generator_for(0))
    assert torch.equal(given, drawn)


TAKE_ANY = {
    "ancestral",
    "ancestral, own levels",
    "daps, own noise",
    "guess-and-guide",
    "mgdm",
    "mgdm, code",
    "mgps",
    "msdm",
    "msdm, gaussian",
    "pnp-dm, langevin",
    "psld",
}
"""Those that need no noise_std and no residual: a gradient of the log density, or y alone."""


@pytest.mark.parametrize("name", CASES)
def test_noise_that_is_not_gaussian_is_taken_or_refused_in_one_line(
    prior: Prior, likelihood: GaussianLikelihood, name: str
) -> None:
    counts = PoissonLikelihood(likelihood.operator, likelihood.y.abs(), 10.0)
    if name in TAKE_ANY:
        x_0 = CASES[name].sample(prior, counts, generator=generator_for(0))
        assert bool(x_0.isfinite().all())
        return
    with pytest.raises(TypeError, match="needs a GaussianLikelihood, got PoissonLikelihood"):
        CASES[name].sample(prior, counts, generator=generator_for(0))


@each
def test_it_reports_every_step_once(
    sampler: Sampler, prior: Prior, likelihood: GaussianLikelihood
) -> None:
    steps: list[Step] = []
    x_0 = sampler.sample(prior, likelihood, generator=generator_for(0), on_step=steps.append)
    total = steps[0].total
    assert [step.index for step in steps] == list(range(total))
    assert all(step.total == total for step in steps)
    assert [step.t for step in steps] == sorted((step.t for step in steps), reverse=True)
    assert all(step.x_t.shape == step.x_0.shape == x_0.shape for step in steps)


@each
def test_stepping_by_hand_is_sampling(
    sampler: Stepwise, prior: Prior, likelihood: GaussianLikelihood
) -> None:
    """The same bits and the same state of the generator, and no step changes after it was shown."""
    generator, state, steps, shown = generator_for(0), torch.get_rng_state(), [], []
    for step in sampler.steps(prior, likelihood, generator=generator):
        assert torch.is_grad_enabled()  # the caller's mode, as it was
        steps.append(step)
        shown.append((step.x_t.clone(), step.x_0.clone()))
    assert torch.equal(torch.get_rng_state(), state)
    for step, (x_t, x_0) in zip(steps, shown, strict=True):
        assert torch.equal(step.x_t, x_t)
        assert torch.equal(step.x_0, x_0)
        assert not step.x_t.requires_grad
        assert not step.x_0.requires_grad
    reported: list[Step] = []
    other = generator_for(0)
    x_0 = sampler.sample(prior, likelihood, generator=other, on_step=reported.append)
    assert torch.equal(generator.get_state(), other.get_state())
    assert all(step.result is None for step in steps[:-1])
    for mine, theirs in zip(steps, reported, strict=True):
        assert torch.equal(mine.x_t, theirs.x_t)
        assert torch.equal(mine.x_0, theirs.x_0)
    assert steps[-1].result is not None
    assert torch.equal(steps[-1].result, x_0)


@each
@pytest.mark.parametrize("enabled", [True, False])
def test_breaking_off_leaves_the_world_as_it_was(
    sampler: Stepwise, prior: Prior, likelihood: GaussianLikelihood, enabled: bool
) -> None:
    state = torch.get_rng_state()
    with torch.set_grad_enabled(enabled):
        run = sampler.steps(prior, likelihood, generator=generator_for(0))
        first = next(run)
        assert torch.is_grad_enabled() == enabled
        second = next(run)
        assert torch.is_grad_enabled() == enabled
        run.close()  # type: ignore[attr-defined]
        assert torch.is_grad_enabled() == enabled
        assert list(run) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.index, second.index) == (0, 1)


def test_the_result_is_what_the_paper_ends_on(prior: Prior, likelihood: GaussianLikelihood) -> None:
    """DPS denoises its last state and PSLD decodes it too; MGDM's last x_0 is the draw."""

    def last(name: str) -> Step:
        *_, step = CASES[name].steps(prior, likelihood, generator=generator_for(0))
        return step

    dps, psld, mgdm = last("dps"), last("psld"), last("mgdm")
    assert prior.codec is not None
    assert torch.equal(dps.result, prior.predict_x0(dps.x_t, dps.t))  # type: ignore[arg-type]
    decoded = prior.codec.decode(prior.predict_x0(psld.x_t, psld.t))
    assert torch.equal(psld.result, decoded)  # type: ignore[arg-type]
    assert torch.equal(mgdm.result, mgdm.x_0)  # type: ignore[arg-type]


def test_a_pairing_is_refused_before_the_first_step(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    counts = PoissonLikelihood(likelihood.operator, likelihood.y.abs(), 10.0)
    with pytest.raises(TypeError, match="DPS needs a GaussianLikelihood, got PoissonLikelihood"):
        CASES["dps"].steps(prior, counts, generator=generator_for(0))
    with pytest.raises(TypeError, match="MGDM needs a likelihood, got None"):
        CASES["mgdm"].steps(prior, generator=generator_for(0))


def test_an_error_in_a_step_restores_the_gradient_mode(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    calls = iter(range(3))
    denoiser = prior.denoiser

    def failing(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if next(calls) == 2:
            raise RuntimeError("out of memory")
        return denoiser(x, sigma)

    run = CASES["ancestral"].steps(
        dataclasses.replace(prior, denoiser=failing), likelihood, generator=generator_for(0)
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        list(run)
    assert torch.is_grad_enabled()


def test_an_algorithm_that_goes_on_after_its_last_step_is_a_mistake(
    prior: Prior, likelihood: GaussianLikelihood
) -> None:
    class Endless(Stepwise):
        def algorithm(self, prior: Any, likelihood: Any, x_T: torch.Tensor, generator: Any) -> Run:
            for i in range(3):
                yield Step(i, 2, 1, x_T, x_T)
            return x_T

    with pytest.raises(RuntimeError, match="step 2 of 2: the last step was taken already"):
        Endless().sample(prior, likelihood, generator=generator_for(0))


@each
def test_its_fields_are_its_configuration(sampler: Sampler) -> None:
    options = dataclasses.asdict(sampler)  # type: ignore[call-overload]
    options = {key: _without_none(value) for key, value in options.items()}
    assert from_mapping(type(sampler), options, "options") == sampler
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.num_steps = 3  # type: ignore[attr-defined]


def _without_none(value: Any) -> Any:
    """TOML has no null: an absent rule is left out."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v is not None}
    return value


CHOICES = [
    (cls, field.name)
    for cls in SAMPLERS.values()
    for field in dataclasses.fields(cls)
    if isinstance(field.default, str)
]


@pytest.mark.parametrize(("cls", "name"), CHOICES)
def test_a_word_that_is_no_choice_is_refused(cls: type[Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 'bnd': use one of"):
        cls(**{name: "bnd"})
