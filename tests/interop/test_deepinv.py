"""deepinv's physics and denoisers as this package's, and back: maps, adjoints, solves, draws."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import EDMDenoiser, NoiseSchedule, Prior
from mgdm_audio.errors import UserError
from mgdm_audio.interop.deepinv import (
    denoiser_of,
    likelihood_of,
    module_of,
    noise_std_of,
    operator_of,
    physics_of,
    prior_of,
)
from mgdm_audio.measurement import (
    Blur,
    Clip,
    Downsampling,
    GaussianLikelihood,
    LinearOperator,
    Mask,
    PoissonLikelihood,
    Separable,
    SeparableBlur,
)
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers.diffpir import DiffPIR
from mgdm_audio.samplers.dps import DPS

deepinv = pytest.importorskip("deepinv")
physics = deepinv.physics

SHAPE = (2, 8, 6)  # channels, height, width
KERNEL = torch.tensor([[0.0, 0.1, 0.05], [0.05, 0.6, 0.1], [0.0, 0.05, 0.05]]).double()
FILTER = KERNEL.flip(0, 1)[None, None]  # deepinv convolves, this package correlates
SUM = Separable({-3: torch.ones(1, 2)})  # over the channels
MASK = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) < 0.6
# float64 products and sums of some hundred terms, by FFT or directly.
ROUNDING = 1e-12


def draw(*shape: int, seed: int = 0) -> Tensor:
    return randn(shape, generator=generator_for(seed), dtype=torch.float64)


def linear() -> dict[str, Any]:
    """Physics in float64, and this package's operator of the same map."""
    down = FILTER.new_full((1, 1, 2, 2), 0.25)
    return {
        "blur": (physics.Blur(filter=FILTER, padding="circular"),
                 Blur(KERNEL, SHAPE[1:], padding="circular")),
        "blur by FFT": (physics.BlurFFT(SHAPE, filter=FILTER),
                        Blur(KERNEL, SHAPE[1:], padding="circular")),
        "inpainting": (physics.Inpainting(SHAPE, mask=MASK.double()), Mask(MASK)),
        "downsampling": (physics.Downsampling(SHAPE, filter=down, factor=2, padding="valid"),
                         Downsampling(2, SHAPE[1:])),
        "denoising": (physics.Denoising(physics.GaussianNoise(0.2)), Mask(torch.ones(SHAPE))),
        "no adjoint": (physics.LinearPhysics(A=lambda x: x.sum(1, keepdim=True)), SUM),
    }  # fmt: skip


@pytest.fixture(params=linear())
def pair(request: pytest.FixtureRequest) -> tuple[LinearOperator, LinearOperator]:
    """Theirs brought over, and ours."""
    theirs, ours = linear()[request.param]
    operator = operator_of(theirs, SHAPE)
    assert isinstance(operator, LinearOperator)
    return operator, ours


def close(got: Tensor, want: Tensor, atol: float = ROUNDING) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def test_their_map_and_adjoint_are_ours(pair: tuple[LinearOperator, LinearOperator]) -> None:
    theirs, ours = pair
    x = draw(3, *SHAPE)
    y = draw(*ours(x).shape, seed=1)
    close(theirs(x), ours(x))
    close(theirs.adjoint(y), ours.adjoint(y))
    # <A x, y> = <x, A^T y>, by the maps that were brought over alone
    close((theirs(x) * y).sum(), (x * theirs.adjoint(y)).sum())


def test_what_is_solved_with_theirs(pair: tuple[LinearOperator, LinearOperator]) -> None:
    theirs, _ = pair
    n = SHAPE[0] * SHAPE[1] * SHAPE[2]
    a = theirs(torch.eye(n, dtype=torch.float64).reshape(n, *SHAPE)).flatten(1).T
    b, rho = draw(3, *SHAPE), torch.tensor([0.1, 1.0, 10.0])
    y = theirs(draw(3, *SHAPE, seed=1))
    for i in range(3):
        normal = a.T @ a + rho[i].double() * torch.eye(n, dtype=torch.float64)
        want = torch.linalg.solve(normal, b[i].flatten()).reshape(SHAPE)
        # Conjugate gradients stop at ten rounding errors of a matrix of condition 10 at most.
        close(theirs.solve(b, rho)[i], want, 1e-10)
        close(theirs.solve(b[i : i + 1], float(rho[i]))[0], want, 1e-10)
    close(theirs.damped_pinv(y, rho), theirs.solve(theirs.adjoint(y), rho), 1e-10)
    close(theirs.pinv(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(a).T, 1e-10)


OURS: dict[str, LinearOperator] = {
    "blur": Blur(KERNEL, SHAPE[1:]),
    "blur by axes": SeparableBlur(torch.tensor([0.2, 0.6, 0.2]), SHAPE[1:]),
    "downsampling": Downsampling(2, SHAPE[1:]),
    "mask": Mask(MASK),
    "sum": SUM,
}


@pytest.mark.parametrize("operator", OURS.values(), ids=OURS)
def test_our_operator_is_a_linear_physics(operator: LinearOperator) -> None:
    theirs = physics_of(operator)
    assert isinstance(theirs, physics.LinearPhysics)
    x, z = draw(3, *SHAPE), draw(3, *SHAPE, seed=2)
    y = draw(*operator(x).shape, seed=1)
    close(theirs(x), operator(x))  # no noise
    # deepinv's own test: a relative error, by random vectors
    assert float(theirs.adjointness_test(u=x)) < ROUNDING
    for gamma in (0.5, 20.0):
        for step in (gamma, torch.full((3,), gamma), torch.full((3, 1, 1, 1), gamma)):
            found = theirs.prox_l2(z, y, step)
            # 0 is the gradient of gamma |A x - y|^2 / 2 + |x - z|^2 / 2 at its minimum
            gradient = gamma * operator.adjoint(operator(found) - y) + found - z
            close(gradient, torch.zeros_like(z), 1e-11)  # conjugate gradients' ten roundings
    close(theirs.prox_l2(None, y, 0.5), theirs.prox_l2(torch.zeros_like(z), y, 0.5))
    close(operator(theirs.A_dagger(operator(x))), operator(x))


def nonlinear() -> dict[str, Any]:
    return {
        "modulus": physics.PhaseRetrieval(physics.Blur(filter=FILTER, padding="circular")),
        "function": physics.Physics(A=lambda x: torch.tanh(3 * x)),
    }


@pytest.mark.parametrize("name", nonlinear())
def test_a_physics_that_is_not_linear(name: str) -> None:
    theirs = nonlinear()[name]
    operator = operator_of(theirs, SHAPE)
    assert not isinstance(operator, LinearOperator)
    x = draw(3, *SHAPE).requires_grad_()
    assert torch.equal(operator(x), theirs.A(x))
    y = draw(3, *SHAPE, seed=1)
    (got,) = torch.autograd.grad((operator(x) * y).sum(), x)
    close(got, theirs.A_vjp(x.detach(), y))


def test_our_operator_that_is_not_linear() -> None:
    theirs = physics_of(Clip(-0.5, 0.5), 0.1, generator=torch.Generator().manual_seed(0))
    assert not isinstance(theirs, physics.LinearPhysics)
    x = draw(3, *SHAPE)
    assert torch.equal(theirs.A(x), x.clamp(-0.5, 0.5))
    noise = theirs(x) - theirs.A(x)
    # The standard deviation of 288 normal numbers is within a fifth of theirs by 4 of its errors.
    assert float(noise.std()) == pytest.approx(0.1, rel=0.2)


def test_noise_levels() -> None:
    # float32's rounding of what deepinv keeps
    assert noise_std_of(physics.Denoising(physics.GaussianNoise(0.2))) == pytest.approx(0.2)
    assert noise_std_of(physics_of(Mask(MASK), 0.3)) == pytest.approx(0.3)
    for noise, says in {
        physics.ZeroNoise(): "ZeroNoise: is not Gaussian; give noise_std",
        physics.GaussianNoise(torch.tensor([0.1, 0.2])): "sigma is 0.1, 0.2; a likelihood has one",
        physics.PoissonNoise(torch.tensor([1.0, 2.0])): "gain is 1, 2; a likelihood has one",
    }.items():
        theirs = physics.Denoising()
        theirs.noise_model = noise
        with pytest.raises(UserError, match=says):
            likelihood_of(theirs, torch.zeros(1, *SHAPE), SHAPE)
        assert likelihood_of(theirs, torch.zeros(1, *SHAPE), SHAPE, noise_std=0.5).y.shape[0] == 1


@pytest.mark.parametrize("name", ["blur", "inpainting", "downsampling"])
def test_a_likelihood_of_images_in_the_other_range(name: str) -> None:
    """Its density at x is that of the residual of u = (x + 1) / 2 in the physics' own units."""
    theirs = linear()[name][0]
    theirs.noise_model = physics.GaussianNoise(torch.tensor(0.2, dtype=torch.float64))
    u = torch.rand(3, *SHAPE, dtype=torch.float64, generator=generator_for(0))
    y = theirs(u)
    found = likelihood_of(theirs, y, SHAPE)
    assert isinstance(found.operator, LinearOperator)
    own = -(y - theirs.A(u)).square().flatten(1).sum(1) / (2 * 0.2**2)
    close(found.log_prob(2 * u - 1), own, 1e-10)
    close(likelihood_of(theirs, y, SHAPE, unit_range=False).log_prob(u), own, 1e-10)


def test_a_likelihood_that_is_not_linear() -> None:
    theirs = nonlinear()["function"]
    u, y = draw(3, *SHAPE), draw(3, *SHAPE, seed=1)
    own = -(y - torch.tanh(3 * u)).square().flatten(1).sum(1) / (2 * 0.2**2)
    close(likelihood_of(theirs, y, SHAPE, noise_std=0.2).log_prob(2 * u - 1), own, 1e-9)


@pytest.mark.parametrize("normalize", [True, False])
def test_counts(normalize: bool) -> None:
    theirs = physics.Denoising(physics.PoissonNoise(0.25, normalize=normalize))
    counts = torch.tensor([0.0, 3.0, 8.0]).double().reshape(1, 1, 1, 3)
    u = torch.tensor([0.1, 0.5, 0.9]).double().reshape(1, 1, 1, 3)
    found = likelihood_of(theirs, 0.25 * counts if normalize else counts, (1, 1, 3))
    assert isinstance(found, PoissonLikelihood)
    want = torch.distributions.Poisson(u / 0.25).log_prob(counts).sum()
    other = torch.distributions.Poisson(1 - u).log_prob(counts).sum()  # at u' = (1 - u) / 4
    difference = found.log_prob(2 * u - 1) - found.log_prob(2 * (1 - u) / 4 - 1)
    close(difference, (want - other).reshape(1), 1e-6)  # a float32 gain


def tiny_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact one of pixels N(0, 1/4), squashed: different at every level and value."""
    return EDMDenoiser(lambda x, c: torch.tanh(x) * c.reshape(-1, 1, 1, 1).cos(), 0.5)(x, sigma)


class TheirDenoiser(torch.nn.Module):
    """The exact denoiser of pixels N(1/2, 1/16) in [0, 1], in deepinv's way of calling."""

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        return 0.5 + (x - 0.5) * (1 / 16) / (1 / 16 + level**2)


def test_their_denoiser_is_called_in_its_own_units() -> None:
    """u ~ N(1/2, 1/16) is x = 2 u - 1 ~ N(0, 1/4), whose denoiser is x / (1 + 4 sigma^2)."""
    x, sigma = draw(3, *SHAPE), torch.tensor([0.1, 1.0, 5.0]).double()
    want = x / (1 + 4 * sigma.reshape(-1, 1, 1, 1) ** 2)
    close(denoiser_of(TheirDenoiser())(x, sigma), want)
    close(denoiser_of(TheirDenoiser())(x, sigma[0])[0], want[0])
    same = denoiser_of(TheirDenoiser(), unit_range=False)(x, sigma)
    assert torch.equal(same, TheirDenoiser()(x, sigma))


def test_a_denoiser_there_and_back() -> None:
    x, sigma = draw(3, *SHAPE), torch.tensor([0.1, 1.0, 5.0]).double()
    module = module_of(tiny_denoiser)
    assert isinstance(module, deepinv.models.Denoiser)
    close(denoiser_of(module)(x, sigma), tiny_denoiser(x, sigma))
    unscaled = module_of(tiny_denoiser, unit_range=False)
    assert torch.equal(denoiser_of(unscaled, unit_range=False)(x, sigma), tiny_denoiser(x, sigma))
    back = module_of(denoiser_of(TheirDenoiser()))
    close(back(x, 0.3), TheirDenoiser()(x, 0.3))
    close(back(x, sigma), TheirDenoiser()(x, sigma))
    with pytest.raises(ValueError, match="give a noise level above 0"):
        module(x, 0.0)


def test_a_published_denoiser() -> None:
    """DRUNet, random weights: what D gives is what the module gives, pixel by pixel rescaled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = deepinv.models.DRUNet(2, 2, nc=(4, 4, 4, 4), nb=1, pretrained=None).eval()
    x, sigma = draw(2, 2, 16, 16).float(), torch.tensor([0.1, 0.4])
    with torch.no_grad():
        got = prior_of(net, (2, 16, 16), NoiseSchedule.linear()).denoiser(x, sigma)
        want = 2 * net((x + 1) / 2, sigma / 2) - 1
    assert torch.equal(got, want)


@pytest.mark.parametrize("sampler", [DiffPIR(num_steps=12), DPS(num_steps=12, step_size=0.3)])
@pytest.mark.parametrize("name", ["blur", "inpainting", "downsampling"])
def test_a_sampler_on_their_physics_draws_what_it_draws_on_our_operator(
    sampler: DiffPIR | DPS, name: str
) -> None:
    theirs, ours = linear()[name]
    u = torch.rand(2, *SHAPE, dtype=torch.float64, generator=generator_for(0))
    y = ours(u) + 0.05 * draw(*ours(u).shape, seed=3)
    prior = Prior(tiny_denoiser, NoiseSchedule.linear(), SHAPE)
    own = GaussianLikelihood(ours, 2 * y - ours(torch.ones_like(u[:1])), 2 * 0.05)
    brought = likelihood_of(theirs, y, SHAPE, noise_std=0.05)
    a, b = (sampler.sample(prior, g, generator=generator_for(7)) for g in (own, brought))
    # Rounding of sums in another order, carried through a dozen steps.
    close(a, b, 1e-9)
    # And back in their module, through both conversions of the denoiser.
    again = prior_of(module_of(tiny_denoiser), SHAPE, NoiseSchedule.linear())
    close(sampler.sample(again, brought, generator=generator_for(7)), a, 1e-9)
    assert float((a - (2 * u - 1)).abs().mean()) < 1  # it is a picture, nothing that diverged


@pytest.mark.parametrize(
    ("make", "shape", "says"),
    [
        (lambda: torch.nn.Identity(), SHAPE, "Identity: is no deepinv.physics.Physics"),
        (lambda: physics.Inpainting(SHAPE, mask=MASK.float()), (3, 8, 7), "does not take an event"),
        (lambda: physics.Denoising().stack(physics.Denoising()), SHAPE, "measurement.Stacked"),
        (lambda: physics.LinearPhysics(A=lambda x: torch.fft.fft(x), A_adjoint=lambda y: y), SHAPE,
         "its observation is complex"),
        (lambda: physics.LinearPhysics(A=lambda x: x, A_adjoint=lambda y: y[:, :1]), SHAPE,
         "its adjoint gives"),
    ],
)  # fmt: skip
def test_what_cannot_be_brought_over_is_refused_in_one_line(
    make: Any, shape: tuple[int, ...], says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        operator_of(make(), shape)
    assert "\n" not in str(caught.value)


def test_a_sensor_model_is_no_gaussian_noise() -> None:
    theirs = physics.Denoising(physics.GaussianNoise(0.1))
    theirs.sensor_model = lambda y: y.clamp(0, 1)
    with pytest.raises(UserError, match="sensor model changes the noise"):
        likelihood_of(theirs, torch.zeros(1, *SHAPE), SHAPE)


def test_without_deepinv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepinv.physics", None)
    with pytest.raises(UserError, match="pip install deepinv"):
        physics_of(Mask(MASK))
