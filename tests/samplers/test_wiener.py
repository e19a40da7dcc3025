"""Wiener guidance on priors that are Gaussian, where the right answer is a dense matrix away."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.diffusion.counting import counted
from mgdm_audio.diffusion.posterior import MixtureDenoiser
from mgdm_audio.measurement import GaussianLikelihood, KnownSources, MixtureSum
from mgdm_audio.samplers import Step, WienerGuidance, wiener
from tests.toys import tiny_network

SOURCES, TIME = 3, 8
SCHEDULE = NoiseSchedule.karras()
Double = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=Double)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class DiagonalNetwork:
    """The exact network of sources that are Gaussian and diagonal in an orthonormal basis of time.

    Basis and variances are random. With ``mixture`` it knows that the sources sum to it.
    """

    def __init__(self) -> None:
        self.basis = torch.linalg.qr(normal(TIME, TIME)).Q
        self.power = 0.1 + normal(SOURCES, TIME, seed=1) ** 2

    def analysis(self, x: Tensor) -> Tensor:
        return (x @ self.basis)[:, :, None]  # one frame

    def synthesis(self, coefficients: Tensor, time: int) -> Tensor:
        return coefficients[:, :, 0] @ self.basis.T

    def band_variance(self, sigma: Tensor) -> Tensor:
        noise = sigma.reshape(-1, 1, 1, 1) ** 2
        return noise * self.power[:, None] / (noise + self.power[:, None])

    def posterior(
        self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        variance = self.band_variance(sigma).expand(len(x), -1, -1, -1)
        mean = self.analysis(x) * variance / sigma.reshape(-1, 1, 1, 1) ** 2
        if mixture is not None:
            share = variance / variance.sum(1, keepdim=True)
            mean = mean + share * (self.analysis(mixture) - mean.sum(1, keepdim=True))
            variance = variance * (1 - share)
        return self.synthesis(mean, TIME), variance

    def __call__(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor:
        return self.posterior(x, sigma, mixture)[0]

    @property
    def covariance(self) -> Tensor:
        """[SOURCES * TIME, SOURCES * TIME] of x_0."""
        return torch.block_diag(
            *(self.basis @ torch.diag(power) @ self.basis.T for power in self.power)
        )


def dense_sum(weights: Sequence[float]) -> Tensor:
    """MixtureSum as a matrix, [TIME, SOURCES * TIME]."""
    return torch.cat([w * torch.eye(TIME, dtype=Double) for w in weights], 1)


def conditional(prior: Tensor, rows: Tensor, noise: Tensor, seen: Tensor) -> Tensor:
    """E[x_0 | rows x_0 + N(0, noise) = seen] for x_0 ~ N(0, prior); seen: [batch, observations]."""
    gain = prior @ rows.T @ torch.linalg.inv(rows @ prior @ rows.T + noise)
    return seen @ gain.T


@pytest.fixture
def network() -> DiagonalNetwork:
    return DiagonalNetwork()


def prior_of(network: Any) -> Prior:
    return Prior(MixtureDenoiser(network), SCHEDULE, (SOURCES, TIME))


@pytest.mark.parametrize("covariance", ["band", "reported"])
@pytest.mark.parametrize("noise_std", [1e-4, 0.5])
@pytest.mark.parametrize("weights", [None, (1.0, -0.5, 2.0)])
def test_a_step_is_the_gaussian_conditional(
    network: DiagonalNetwork, covariance: Any, noise_std: float, weights: Any
) -> None:
    # x_0 given both x_0 + sigma eps and y, in one go, without any of (*)'s algebra.
    sampler = WienerGuidance(num_steps=1, noise_max=0.8, covariance=covariance)
    level = SCHEDULE.nearest(0.8)
    sigma = float(SCHEDULE.noise_level[level])
    y, x_T = normal(2, 1, TIME, seed=2), normal(2, SOURCES, TIME, seed=3)
    operator = MixtureSum(SOURCES, weights)
    x_0 = sampler.sample(
        prior_of(network),
        GaussianLikelihood(operator, y, noise_std),
        generator=generator(),
        x_T=x_T,
    )
    z = (x_T * (SCHEDULE.noise_level[level] / SCHEDULE.sigma[-1])).flatten(1)
    size = SOURCES * TIME
    rows = torch.cat([torch.eye(size, dtype=Double), dense_sum(weights or (1,) * SOURCES)])
    noise = torch.diag(torch.tensor([sigma**2] * size + [noise_std**2] * TIME, dtype=Double))
    want = conditional(network.covariance, rows, noise, torch.cat([z, y.flatten(1)], 1))
    # The dense inverse has a condition of 1e8 at the smaller noise_std.
    assert (x_0.flatten(1) - want).abs().max() < 1e-7


def test_the_network_before_training_gives_the_gaussian_conditional() -> None:
    # With one scale for all bins of a source, the MDCT's half-cut frames at the ends matter not,
    # and x_0 ~ N(0, s_k^2 I) exactly.
    network = tiny_network(0, trained=False)
    scale = torch.tensor([0.02, 0.1, 0.05, 0.3])
    network.scale.copy_(scale[:, None].expand_as(network.scale))
    prior = Prior(MixtureDenoiser(network), SCHEDULE, (4, 300))
    sampler = WienerGuidance(num_steps=1, noise_max=0.1, covariance="reported")
    level = SCHEDULE.nearest(0.1)
    y, x_T = normal(1, 1, 300).float(), normal(1, 4, 300, seed=1).float()
    likelihood = GaussianLikelihood(MixtureSum(4), y, 0.01)
    x_0 = sampler.sample(prior, likelihood, generator=generator(), x_T=x_T)
    z = x_T.double() * float(SCHEDULE.noise_level[level] / SCHEDULE.sigma[-1])
    rows = torch.cat([torch.eye(4, dtype=Double), torch.ones(1, 4, dtype=Double)])
    sigma2 = float(SCHEDULE.noise_level[level]) ** 2
    noise = torch.diag(torch.tensor([sigma2] * 4 + [0.01**2], dtype=Double))
    seen = torch.cat([z, y.double()], 1)[0].T  # every sample of time is a problem of its own
    want = conditional(torch.diag(scale.double() ** 2), rows, noise, seen).T
    assert (x_0[0] - want).abs().max() < 1e-5  # float32, samples up to 4


@pytest.mark.parametrize("noise_std", [1e-4, 0.3])
def test_isotropic_guidance_takes_any_prior(noise_std: float) -> None:
    # x_0 = D + v A^T (v A A^T + sigma_y^2)^-1 (y - A D), and what is left of the residual is its
    # noise's share, sigma_y^2 / (K v + sigma_y^2): below noise_std wherever K v > sigma_y |r|.
    covariance = torch.block_diag(*(torch.eye(TIME) * s for s in (0.5, 1.0, 4.0))).double()
    denoiser = GaussianDenoiser(covariance)
    prior = Prior(denoiser, SCHEDULE, (SOURCES, TIME))
    y, x_T = normal(2, 1, TIME, seed=2), normal(2, SOURCES, TIME, seed=3)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), y, noise_std)
    sampler = WienerGuidance(num_steps=1, noise_max=0.8, covariance="isotropic")
    x_0 = sampler.sample(prior, likelihood, generator=generator(), x_T=x_T)
    level = SCHEDULE.nearest(0.8)
    sigma = SCHEDULE.noise_level[level]
    mean = denoiser(x_T * (sigma / SCHEDULE.sigma[-1]), sigma)
    v = float(sigma**2 / (1 + sigma**2))
    a = dense_sum((1, 1, 1))
    gain = v * a.T @ torch.linalg.inv(v * a @ a.T + noise_std**2 * torch.eye(TIME, dtype=Double))
    want = mean.flatten(1) + likelihood.residual(mean).flatten(1) @ gain.T
    assert (x_0.flatten(1) - want).abs().max() < 1e-12
    left = noise_std**2 / (SOURCES * v + noise_std**2)
    assert (likelihood.residual(x_0) - left * likelihood.residual(mean)).abs().max() < 1e-12


@pytest.mark.parametrize("covariance", ["band", "reported", "jacobian"])
def test_any_linear_operator_will_do(network: DiagonalNetwork, covariance: Any) -> None:
    """Two of three sources known, one step: the Gaussian conditional given them and x_t."""
    y, x_T = normal(2, 2, TIME, seed=2), normal(2, SOURCES, TIME, seed=3)
    likelihood = GaussianLikelihood(KnownSources([0, 2], SOURCES), y, 0.3)
    sampler = WienerGuidance(num_steps=1, noise_max=0.8, covariance=covariance)
    x_0 = sampler.sample(prior_of(network), likelihood, generator=generator(), x_T=x_T)
    level = SCHEDULE.nearest(0.8)
    sigma = float(SCHEDULE.noise_level[level])
    z = (x_T * (SCHEDULE.noise_level[level] / SCHEDULE.sigma[-1])).flatten(1)
    size = SOURCES * TIME
    rows = torch.eye(size, dtype=Double)
    known = torch.cat([rows[:TIME], rows[2 * TIME :]])
    noise = torch.diag(torch.tensor([sigma**2] * size + [0.3**2] * 2 * TIME, dtype=Double))
    seen = torch.cat([z, y.flatten(1)], 1)
    want = conditional(network.covariance, torch.cat([rows, known]), noise, seen)
    # Conjugate gradients to ten rounding errors; 16 unknowns, so 20 steps are enough.
    assert (x_0.flatten(1) - want).abs().max() < 1e-9


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, -2.0, 0.0)])
def test_the_gain_is_the_dense_one(weights: tuple[float, ...]) -> None:
    variance = 0.1 + normal(2, SOURCES, 5, 7) ** 2
    gain = MixtureSum(SOURCES, weights).wiener_gain(variance, 0.3**2)
    assert gain.shape == variance.shape
    a = torch.tensor([weights], dtype=Double)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(7)).tolist():
        b, f, k = index
        c = torch.diag(variance[b, :, f, k])
        want = c @ a.T @ torch.linalg.inv(a @ c @ a.T + 0.3**2)
        assert (gain[b, :, f, k] - want[:, 0]).abs().max() < 1e-12


def wiener_solution(network: DiagonalNetwork, y: Tensor, noise_std: float) -> Tensor:
    """E[x_0 | y], the static Wiener filter, [batch, SOURCES, TIME]."""
    noise = noise_std**2 * torch.eye(TIME, dtype=Double)
    x = conditional(network.covariance, dense_sum((1, 1, 1)), noise, y.flatten(1))
    return x.view(-1, SOURCES, TIME)


def test_without_noise_the_levels_lead_to_the_wiener_filter(
    network: DiagonalNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every step is affine in x_t, and E[x_0 | y] is its fixed point: (S^-1 + A^T A / sigma_y^2) w
    # = A^T y / sigma_y^2. The distance to it shrinks by s^2 / (s^2 + sigma^2) a step or more.
    monkeypatch.setattr(wiener, "randn_like", lambda x, generator: torch.zeros_like(x))
    y = normal(2, 1, TIME, seed=2)
    sampler = WienerGuidance(num_steps=12, noise_max=20.0, noise_min=2.0, covariance="band")
    x_0 = sampler.sample(
        prior_of(network),
        GaussianLikelihood(MixtureSum(SOURCES), y, 0.1),
        generator=generator(),
        x_T=torch.zeros(2, SOURCES, TIME, dtype=Double),
    )
    want = wiener_solution(network, y, 0.1)
    largest = float(network.power.max())
    first = SCHEDULE.noise_level[sampler.levels(prior_of(network))[0]]
    assert (x_0 - want).norm() < largest / (largest + float(first) ** 2) * want.norm()


def test_the_mean_of_many_draws_is_the_wiener_filter(network: DiagonalNetwork) -> None:
    draws = 4096
    y = normal(1, 1, TIME, seed=2)
    sampler = WienerGuidance(num_steps=8, noise_max=20.0, noise_min=0.05, covariance="band")
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), y.expand(draws, -1, -1), 0.1)
    x_0 = sampler.sample(prior_of(network), likelihood, generator=generator(1))
    error = x_0.mean(0) - wiener_solution(network, y, 0.1)[0]
    deviation = x_0.std(0)
    assert deviation.min() > 0.01  # they are draws
    # 24 means; beyond five standard errors by chance once in 70,000 runs. (And the start: 0.02.)
    assert (error.abs() / deviation * draws**0.5).max() < 5 + 0.02 * draws**0.5


@pytest.mark.parametrize("covariance", ["band", "reported"])
def test_spread_and_deviations_make_up_the_posterior_s_variance(
    network: DiagonalNetwork, covariance: Any
) -> None:
    """The law of total variance, from x_t that are draws given y."""
    draws, noise_std, level = 20_000, 0.1, SCHEDULE.nearest(0.8)
    y = normal(1, 1, TIME, seed=2)
    rows, c = dense_sum((1, 1, 1)), network.covariance
    gain = c @ rows.T @ torch.linalg.inv(rows @ c @ rows.T + noise_std**2 * torch.eye(TIME))
    doubt = c - gain @ rows @ c
    x = y[0, 0] @ gain.T + normal(draws, len(c), seed=4) @ torch.linalg.cholesky(doubt).T
    z = x + SCHEDULE.noise_level[level] * normal(draws, len(c), seed=5)
    steps: list[Step] = []
    x_0 = WienerGuidance(1, noise_max=0.8, covariance=covariance).sample(
        prior_of(network),
        GaussianLikelihood(MixtureSum(SOURCES), y.expand(draws, -1, -1), noise_std),
        generator=generator(),
        x_T=z.view(draws, SOURCES, TIME) * SCHEDULE.sigma[-1] / SCHEDULE.noise_level[level],
        on_step=steps.append,
    )
    deviation = steps[-1].deviation
    assert deviation is not None
    between, within = x_0.var(0).flatten(), deviation.square().mean(0).flatten()
    # Variances of 20,000 are good to 1 %; of 24 none errs by five times that. Neither part is all.
    assert ((between + within) / doubt.diagonal() - 1).abs().max() < 0.05
    assert (between / doubt.diagonal()).max() < 0.9
    assert (within / doubt.diagonal()).max() < 0.9


def test_a_deviation_is_reported_where_the_covariance_is_known(network: DiagonalNetwork) -> None:
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), normal(2, 1, TIME, seed=2), 0.1)
    for covariance, known in (("band", True), ("isotropic", False), ("jacobian", False)):
        steps: list[Step] = []
        sampler = WienerGuidance(num_steps=3, covariance=covariance)  # type: ignore[arg-type]
        x_0 = sampler.sample(
            prior_of(network), likelihood, generator=generator(), on_step=steps.append
        )
        assert [step.deviation is not None for step in steps] == [False, False, known]
        # Whether anyone listens changes nothing.
        assert torch.equal(
            x_0, sampler.sample(prior_of(network), likelihood, generator=generator())
        )


def test_a_draw_sums_to_the_mixture(network: DiagonalNetwork) -> None:
    y = normal(3, 1, TIME, seed=2)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), y, 1e-4)
    sampler = WienerGuidance(noise_min=0.05)
    prior = prior_of(network)
    x_0 = sampler.sample(prior, likelihood, generator=generator())
    # The residual that is left is sigma_y^2 / (sum v + sigma_y^2) of the denoiser's own, and
    # v > sigma^2 / 2 once sigma^2 is under the smallest power.
    last = float(SCHEDULE.noise_level[sampler.levels(prior)[-1]])
    left = 1e-4**2 / (SOURCES * last**2 / 2)
    assert likelihood.residual(x_0).norm() < left * 10 * y.norm()
    assert left * 10 * float(y.norm()) < 1e-4  # within noise_std, that is


def test_amortised_the_network_sees_the_mixture(network: DiagonalNetwork) -> None:
    y, x_T = normal(2, 1, TIME, seed=2), normal(2, SOURCES, TIME, seed=3)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), y, 1e-4)
    sampler = WienerGuidance(1, noise_max=0.8, covariance="reported", amortised=True)
    x_0 = sampler.sample(prior_of(network), likelihood, generator=generator(), x_T=x_T)
    sigma = SCHEDULE.noise_level[SCHEDULE.nearest(0.8)]
    # Its mean meets the mixture already, and the guidance finds nothing left to share.
    assert (x_0 - network(x_T * sigma / SCHEDULE.sigma[-1], sigma, y)).abs().max() < 1e-12
    plain = replace(sampler, amortised=False)
    other = plain.sample(prior_of(network), likelihood, generator=generator(), x_T=x_T)
    # For an exact network and prior the two are the same conditional, up to noise_std.
    assert (x_0 - other).abs().max() < 1e-6


def test_levels_run_from_noise_max_to_noise_min(network: DiagonalNetwork) -> None:
    prior = prior_of(network)
    levels = WienerGuidance(num_steps=7, noise_max=3.0, noise_min=0.01).levels(prior)
    assert len(levels) == 7
    assert levels == sorted(levels, reverse=True)
    assert (levels[0], levels[-1]) == (SCHEDULE.nearest(3.0), SCHEDULE.nearest(0.01))
    # Equal steps of sigma^(1 / rho), to a grid of 1000 levels whose neighbours are < 7 % apart.
    roots = SCHEDULE.noise_level[levels] ** 0.25
    steps = roots.diff()
    assert (steps / steps.mean() - 1).abs().max() < 0.1
    assert WienerGuidance(num_steps=1).levels(prior) == [SCHEDULE.nearest(3.0)]


def test_steps_are_reported_and_every_one_costs_a_call(network: DiagonalNetwork) -> None:
    prior, calls = counted(prior_of(network))
    steps: list[Step] = []
    sampler = WienerGuidance(num_steps=5)
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), normal(2, 1, TIME), 0.1)
    x_0 = sampler.sample(prior, likelihood, generator=generator(), on_step=steps.append)
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert {step.total for step in steps} == {5}
    assert [step.t for step in steps] == sampler.levels(prior)
    assert torch.equal(steps[-1].x_0, x_0)
    assert (calls.forward, calls.gradient) == (5, 0)
    # The state of the second step is the first's estimate, noised in full to its level.
    alpha, sigma = SCHEDULE.alpha[steps[1].t], SCHEDULE.sigma[steps[1].t]
    noise = (steps[1].x_t - alpha * steps[0].x_0) / sigma
    again = generator()
    prior.sample_x_T(2, generator=again, dtype=Double)
    want = torch.randn(noise.shape, generator=again, dtype=Double)
    assert (noise - want).abs().max() < 1e-12


def test_an_item_is_drawn_from_its_own_generator_alone(network: DiagonalNetwork) -> None:
    prior, y = prior_of(network), normal(3, 1, TIME, seed=2)
    sampler = WienerGuidance(num_steps=4, noise_min=0.05)
    operator = MixtureSum(SOURCES)
    before, kept = torch.get_rng_state(), y.clone()
    x_0 = sampler.sample(
        prior, GaussianLikelihood(operator, y, 0.1), generator=[generator(i) for i in range(3)]
    )
    for i in range(3):
        likelihood = GaussianLikelihood(operator, y[i : i + 1], 0.1)
        alone = sampler.sample(prior, likelihood, generator=generator(i))
        other = sampler.sample(prior, likelihood, generator=generator(i + 10))
        assert (x_0[i] - alone[0]).abs().max() < 1e-12
        assert (other[0] - alone[0]).abs().max() > 1e-3
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(y, kept)


def test_a_wrong_pairing_is_a_type_error_naming_both(network: DiagonalNetwork) -> None:
    known = GaussianLikelihood(KnownSources([0], SOURCES), normal(1, 1, TIME), 0.1)
    with pytest.raises(TypeError, match=r"\(amortised\) needs a MixtureSum, got KnownSources"):
        WienerGuidance(amortised=True).sample(prior_of(network), known, generator=generator())
    likelihood = GaussianLikelihood(MixtureSum(SOURCES), normal(1, 1, TIME), 0.1)
    blind = Prior(GaussianDenoiser(network.covariance), SCHEDULE, (SOURCES, TIME))
    with pytest.raises(
        TypeError, match=r"amortised.*trained with the mixture as input, got GaussianDenoiser"
    ):
        WienerGuidance(amortised=True).sample(blind, likelihood, generator=generator())


@pytest.mark.parametrize(
    "options",
    [{"num_steps": 0}, {"noise_min": 0.0}, {"noise_min": 4.0}, {"noise_max": -1.0}],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"num_steps|noise levels"):
        WienerGuidance(**options)
