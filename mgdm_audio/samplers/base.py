"""The base of all samplers: protocol, steps, requirements and per-step parameters."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from mgdm_audio.diffusion import Codec, Level, Prior
from mgdm_audio.errors import PairingError
from mgdm_audio.measurement import GaussianLikelihood, Likelihood, LinearOperator, Operator
from mgdm_audio.ranges import Checked
from mgdm_audio.rng import Generators

OperatorT = TypeVar("OperatorT", bound=Operator)
LikelihoodT = TypeVar("LikelihoodT", bound=Likelihood)


@dataclass(frozen=True)
class Step:
    """A ``Step`` holds a sampler's state after one of its outer steps, for progress and plots."""

    index: int  # 0 .. total-1
    total: int  # the number of outer steps
    t: int  # the level of x_t
    x_t: Tensor  # [batch, *event]; a latent under a latent prior, as is x_0
    x_0: Tensor  # [batch, *event], the current estimate
    deviation: Tensor | None = None
    """[batch, *event]: a posterior sample minus its conditional mean x_0. Only the last step has
    it, and only of samplers whose x_0 is a conditional mean with known covariance. Var(x_0 | y) is
    then the variance of x_0 over runs plus the mean of these squares (law of total variance)."""
    result: Tensor | None = None
    """[batch, *event]: the return value of ``sample``, in the last step only. It is an event, not
    a latent: ``x_0`` after any final operation of the method."""


OnStep = Callable[[Step], None]
Run = Generator[Step, None, Tensor]
"""A generator that yields a ``Step`` after each outer step and returns the sampler's result."""


class Sampler(Protocol):
    """A sampler is a frozen dataclass of its paper's hyper-parameters with a method ``sample``."""

    def sample(
        self,
        prior: Prior,
        likelihood: Any,
        *,
        generator: Generators,
        x_T: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Draws ``x_0`` given ``y`` for every batch item: ``[batch, *event]``.

        ``x_T`` replaces the initial noise; the batch size is that of ``likelihood.y``. No input
        is changed, and torch's global random state is neither read nor written.
        """
        ...


@dataclass(frozen=True)
class Needs:
    """``Needs`` lists a sampler's requirements of operator, likelihood and prior."""

    operator: type[Operator] | tuple[type[Operator], ...] = Operator  # an instance of one of these
    gaussian: bool = False  # whether it needs a GaussianLikelihood
    codec: bool = False  # whether it needs a latent Prior
    likelihood: bool = True  # False: it also runs on the prior alone
    case: str = ""  # the setting with these requirements, for messages

    def check(self, who: str, prior: Prior, likelihood: Any) -> None:
        """Raises ``PairingError`` if a requirement of the sampler named ``who`` is not met."""
        who = who + self.case
        if likelihood is None and not self.likelihood:
            return
        if likelihood is None:
            raise PairingError(f"{who} needs a likelihood, got None")
        if self.gaussian:
            require_gaussian(likelihood, who)
        if self.codec:
            require_codec(prior, who)
        kinds = self.operator if isinstance(self.operator, tuple) else (self.operator,)
        if not isinstance(likelihood.operator, kinds):
            require(likelihood.operator, kinds[0], who)


class Stepwise(Checked):
    """Base class that adds ``steps`` and ``sample`` to a sampler that defines ``algorithm``."""

    @property
    def needs(self) -> Needs:
        """The requirements that are checked before the first step."""
        return Needs()

    def algorithm(self, prior: Prior, likelihood: Any, x_T: Tensor, generator: Generators) -> Run:
        """Runs the paper's method: yields a ``Step`` after each outer step, returns the result.

        It runs without gradients and does not change a tensor that it has yielded.
        """
        raise NotImplementedError

    def refinement(
        self, prior: Prior, likelihood: Any, start: Tensor, x_T: Tensor, generator: Generators
    ) -> Run:
        """Runs ``algorithm`` from ``x_T`` and an estimate of x_0, ``start``; not all define it."""
        raise NotImplementedError

    @property
    def takes_start(self) -> bool:
        """Returns whether the sampler can start from an estimate of x_0: see ``sample``."""
        return type(self).refinement is not Stepwise.refinement

    def check(self, prior: Prior, likelihood: Any) -> None:
        """Raises ``PairingError`` or ``ValueError`` if prior or likelihood do not fit."""
        self.needs.check(type(self).__name__, prior, likelihood)

    def steps(
        self,
        prior: Prior,
        likelihood: Any = None,
        *,
        generator: Generators,
        x_T: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Iterator[Step]:
        """Returns an iterator over the steps of ``sample``, which computes each when it is asked.

        The last ``Step`` alone carries the result. Between two steps the caller's own gradient mode
        holds; a run that is not resumed costs nothing more. Raises ``PairingError`` at once, and
        ``ValueError`` for a start of another shape than x_T.
        """
        self.check(prior, likelihood)
        if start is not None and not self.takes_start:
            raise PairingError(f"{type(self).__name__} begins at noise: it takes no start")
        if likelihood is None and x_T is None:
            raise TypeError(f"{type(self).__name__} without a likelihood needs x_T")
        x_T = initial_state(prior, likelihood, generator, x_T)
        if start is not None:
            if start.shape != x_T.shape:
                shapes = f"{tuple(start.shape)}: give {tuple(x_T.shape)}"
                raise ValueError(f"start has the shape {shapes}, [batch, *event]")
            return _resumed(self.refinement(prior, likelihood, start, x_T, generator))
        return _resumed(self.algorithm(prior, likelihood, x_T, generator))

    def sample(
        self,
        prior: Prior,
        likelihood: Any = None,
        *,
        generator: Generators,
        x_T: Tensor | None = None,
        start: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Draws ``x_0`` given ``y`` for every batch item: ``[batch, *event]``.

        ``x_T``: noise at the prior's noisiest level, by default drawn for every item of
        ``likelihood.y``. ``start: [batch, *event]``: an estimate of x_0 to start from, with that
        noise, if the sampler ``takes_start``. ``likelihood`` is None only for a draw from the
        prior alone (``Ancestral``). ``on_step`` is called with each ``Step``. Raises
        ``PairingError`` if prior, likelihood or start do not fit the sampler.
        """
        result = None
        for step in self.steps(prior, likelihood, generator=generator, x_T=x_T, start=start):
            if on_step is not None:
                on_step(step)
            result = step.result
        assert result is not None, "the last step has the result"
        return result


def _resumed(run: Run) -> Iterator[Step]:
    """Yields the steps of ``run``, each computed without gradients, the last one with the result.

    The code after the last ``yield`` of ``run`` is executed before that step is yielded; the code
    between other steps only when the next one is requested.
    """
    while True:
        with torch.no_grad():
            step = next(run)
            last = step.index + 1 == step.total
            if last:
                step = replace(step, result=_result(run))
        yield step
        if last:
            return


def _result(run: Run) -> Tensor:
    """Finishes ``run`` after its last step and returns its result."""
    try:
        step = next(run)
    except StopIteration as end:
        return cast(Tensor, end.value)
    raise RuntimeError(f"step {step.index} of {step.total}: the last step was taken already")


@dataclass(frozen=True)
class PerStep:
    """A ``PerStep`` is a hyper-parameter that may change with the outer step ``i = 0..n-1``.

    It is ``base`` unless ``last = (m, v)`` sets v on the last m steps, else ``first = (m, v)`` on
    the first m, else ``every = (k, v)`` where k divides i. A preset writes ``vi_steps =
    {base = 3, last = [5, 20]}`` or a bare number. Raises ``ValueError`` for m < 0 and k < 1.
    """

    base: int | float
    first: tuple[int, int | float] | None = None
    last: tuple[int, int | float] | None = None
    every: tuple[int, int | float] | None = None

    def __post_init__(self) -> None:
        for rule, least in ((self.first, 0), (self.last, 0), (self.every, 1)):
            if rule is not None and rule[0] < least:
                raise ValueError(f"a rule over {rule[0]} steps; give at least {least}")

    def at(self, i: int, n: int) -> int | float:
        """Returns the value at step ``i`` of ``n``."""
        if self.last and i >= n - self.last[0]:
            return self.last[1]
        if self.first and i < self.first[0]:
            return self.first[1]
        if self.every and i % self.every[0] == 0:
            return self.every[1]
        return self.base

    @property
    def values(self) -> list[int | float]:
        """All values that it can take, for checks of range."""
        rules = (self.first, self.last, self.every)
        return [self.base, *(rule[1] for rule in rules if rule)]


def require(operator: Operator, kind: type[OperatorT], who: str) -> OperatorT:
    """Returns ``operator``; raises ``PairingError`` naming ``who`` if it is not a ``kind``."""
    if not isinstance(operator, kind):
        raise PairingError(f"{who} needs a {kind.__name__}, got {type(operator).__name__}")
    return operator


def require_gaussian(likelihood: Any, who: str) -> GaussianLikelihood:
    """Returns ``likelihood``; raises ``PairingError`` naming ``who`` if it is not Gaussian."""
    if not isinstance(likelihood, GaussianLikelihood):
        raise PairingError(
            f"{who} needs a GaussianLikelihood, got {type(likelihood).__name__}; "
            "use a sampler for any likelihood, such as mgdm"
        )
    return likelihood


def require_codec(prior: Prior, who: str) -> Codec:
    """Returns the codec of ``prior``; raises ``PairingError`` naming ``who`` if there is none."""
    if prior.codec is None:
        raise PairingError(
            f"{who} needs a latent Prior, one with a codec, got a Prior without; "
            "use a sampler that needs no codec, such as mgdm"
        )
    return prior.codec


class Decoded(Operator):
    """The operator ``z -> A(decode(z))`` observes the decoded event of a latent z."""

    def __init__(self, operator: Operator, codec: Codec) -> None:
        self.operator, self.codec = operator, codec

    def __call__(self, z: Tensor) -> Tensor:
        return self.operator(self.codec.decode(z))


def on_latents(likelihood: LikelihoodT, prior: Prior) -> LikelihoodT:
    """Returns the likelihood of a latent, ``g(y | decode(z))``, for samplers of events.

    It needs a sampler that uses only gradients of the operator:
    ``prior.codec.decode(MGDM().sample(prior, on_latents(likelihood, prior), generator=...))``.
    Raises ``PairingError`` for a prior without a codec.
    """
    operator = Decoded(likelihood.operator, require_codec(prior, "on_latents"))
    return cast(LikelihoodT, replace(cast(Any, likelihood), operator=operator))


def initial_state(
    prior: Prior,
    likelihood: Likelihood,
    generator: Generators,
    x_T: Tensor | None,
) -> Tensor:
    """Returns ``x_T`` or draws it for every item of ``likelihood.y``: ``[batch, *event]``."""
    if x_T is not None:
        return x_T
    y = likelihood.y
    return prior.sample_x_T(len(y), generator=generator, dtype=y.dtype, device=y.device)


@torch.no_grad()
def likelihood_gradient(likelihood: Likelihood, x: Tensor) -> Tensor:
    """Returns ``grad_x log g(y | x)``: ``[batch, *event]``.

    It has a closed form where y is linear in x and Gaussian. Otherwise the sum of all items' log
    densities is differentiated, whose gradient is that of every item.
    """
    operator = likelihood.operator
    if isinstance(likelihood, GaussianLikelihood) and isinstance(operator, LinearOperator):
        return operator.adjoint(likelihood.residual(x) / likelihood.noise_std**2)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(likelihood.log_prob(x).sum(), x)[0]


def likelihood_score(prior: Prior, likelihood: Likelihood, x_t: Tensor, t: Level) -> Tensor:
    """Returns ``grad_{x_t} log g(y | D(x_t))``: ``[batch, *event]``, through the denoiser."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        x_0 = prior.predict_x0(x_t, t)
    gradient = likelihood_gradient(likelihood, x_0)
    return torch.autograd.grad(x_0, x_t, gradient)[0]
