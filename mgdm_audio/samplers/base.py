"""What every sampler shares: its protocol, its steps, its needs, its schedules of parameters."""

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
    """A sampler's report after one of its outer steps, for progress bars and plots."""

    index: int  # 0 .. total-1
    total: int
    t: int  # level of x_t
    x_t: Tensor  # [batch, *event]; under a latent prior a latent, as x_0 is
    x_0: Tensor  # [batch, *event], the current estimate
    deviation: Tensor | None = None
    """[batch, *event], of the last step where x_0 is not a draw but a conditional mean, and its
    covariance known: a draw less the mean. Var(x_0 | y) is then that of x_0 over runs and the mean
    of these squares (the law of total variance)."""
    result: Tensor | None = None
    """[batch, *event], of the last step: what ``sample`` returns. It is ``x_0`` or what the method
    makes of it at its end, an event and no latent."""


OnStep = Callable[[Step], None]
Run = Generator[Step, None, Tensor]
"""A sampler's run: a ``Step`` after each of its outer steps, at the end its result."""


class Sampler(Protocol):
    """A posterior sampler: a frozen dataclass of its paper's hyper-parameters, with ``sample``."""

    def sample(
        self,
        prior: Prior,
        likelihood: Any,
        *,
        generator: Generators,
        x_T: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """A draw of ``x_0`` given ``y`` for every batch item: ``[batch, *event]``.

        ``x_T`` replaces the initial noise; the batch size is that of ``likelihood.y``. No input
        is changed, and torch's global random state is neither read nor written.
        """
        ...


@dataclass(frozen=True)
class Needs:
    """What a sampler needs beside a differentiable operator."""

    operator: type[Operator] | tuple[type[Operator], ...] = Operator  # one of these
    gaussian: bool = False  # a GaussianLikelihood
    codec: bool = False  # a latent Prior
    likelihood: bool = True  # False: the prior alone will do
    case: str = ""  # the setting that needs it, in messages

    def check(self, who: str, prior: Prior, likelihood: Any) -> None:
        """``PairingError``, naming both, where the sampler ``who`` lacks what it needs."""
        who = who + self.case
        if likelihood is None:
            if self.likelihood:
                raise PairingError(f"{who} needs a likelihood, got None")
            return
        if self.gaussian:
            require_gaussian(likelihood, who)
        if self.codec:
            require_codec(prior, who)
        kinds = self.operator if isinstance(self.operator, tuple) else (self.operator,)
        if not isinstance(likelihood.operator, kinds):
            require(likelihood.operator, kinds[0], who)


class Stepwise(Checked):
    """Gives a sampler ``steps`` and ``sample``; the sampler itself is its ``algorithm``."""

    @property
    def needs(self) -> Needs:
        """Checked before the first step."""
        return Needs()

    def algorithm(self, prior: Prior, likelihood: Any, x_T: Tensor, generator: Generators) -> Run:
        """The method of the paper: yields a ``Step`` after each outer step, returns the result.

        It runs without gradients, and changes no tensor that it has yielded.
        """
        raise NotImplementedError

    def refinement(
        self, prior: Prior, likelihood: Any, start: Tensor, x_T: Tensor, generator: Generators
    ) -> Run:
        """``algorithm`` from ``start: [batch, *event]``, an estimate of x_0, with ``x_T`` as noise.

        Of the samplers whose ``takes_start`` is true.
        """
        raise NotImplementedError

    @property
    def takes_start(self) -> bool:
        """Whether the sampler can begin at an estimate of x_0: see ``sample``."""
        return type(self).refinement is not Stepwise.refinement

    def check(self, prior: Prior, likelihood: Any) -> None:
        """``PairingError`` or ``ValueError`` where prior and likelihood do not fit the sampler."""
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
        """An iterator of the steps of ``sample``, to stop at, look at and go on with.

        The last ``Step`` alone carries the result. Between two steps the caller's own gradient mode
        holds; a run that is not resumed costs nothing more. Raises ``PairingError`` at once, and
        ``ValueError`` for a start of another shape than x_T.
        """
        self.check(prior, likelihood)
        if start is not None and not self.takes_start:
            raise PairingError(f"{type(self).__name__} begins at noise: it takes no start")
        if likelihood is None and x_T is None:
            raise TypeError(f"{type(self).__name__} needs x_T where no likelihood gives the batch")
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
        """A draw of ``x_0`` given ``y`` for every batch item: ``[batch, *event]``.

        ``x_T``: noise at the prior's noisiest level, by default drawn for every item of
        ``likelihood.y``. ``start: [batch, *event]``: an estimate of x_0 to begin at, with that
        noise, where the sampler ``takes_start``. ``likelihood`` is None only for a draw from the
        prior alone (``Ancestral``). ``on_step`` is called with each ``Step``. Raises
        ``PairingError`` where prior, likelihood or start do not fit the sampler.
        """
        result = None
        for step in self.steps(prior, likelihood, generator=generator, x_T=x_T, start=start):
            if on_step is not None:
                on_step(step)
            result = step.result
        assert result is not None, "the last step carries the result"
        return result


def _resumed(run: Run) -> Iterator[Step]:
    """The steps of ``run``, each computed without gradients; the last one with the result.

    A decorator on a generator would do the same for gradients; the last step must also wait for
    what comes after it, and no other step may.
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
    """What ``run`` returns after its last step."""
    try:
        step = next(run)
    except StopIteration as end:
        return cast(Tensor, end.value)
    raise RuntimeError(f"step {step.index} of {step.total}: the last step was taken already")


@dataclass(frozen=True)
class PerStep:
    """A hyper-parameter that may change with the outer step ``i = 0..n-1``.

    ``last``, ``first``, ``every`` override ``base`` in this order of precedence:
    ``last = (m, v)`` on the last m steps, ``first = (m, v)`` on the first m, ``every = (k, v)``
    where k divides i. In a preset: ``vi_steps = {base = 3, last = [5, 20]}``, or a bare number.
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
        """The value at step ``i`` of ``n``."""
        if self.last and i >= n - self.last[0]:
            return self.last[1]
        if self.first and i < self.first[0]:
            return self.first[1]
        if self.every and i % self.every[0] == 0:
            return self.every[1]
        return self.base

    @property
    def values(self) -> list[int | float]:
        """Every value the rule can take, for checks of range."""
        rules = (self.first, self.last, self.every)
        return [self.base, *(rule[1] for rule in rules if rule)]


def require(operator: Operator, kind: type[OperatorT], who: str) -> OperatorT:
    """``operator``, or ``PairingError`` when it lacks what the sampler ``who`` needs of it."""
    if not isinstance(operator, kind):
        raise PairingError(f"{who} needs a {kind.__name__}, got {type(operator).__name__}")
    return operator


def require_gaussian(likelihood: Any, who: str) -> GaussianLikelihood:
    """``likelihood``, or ``PairingError`` where the sampler ``who`` needs Gaussian noise."""
    if not isinstance(likelihood, GaussianLikelihood):
        raise PairingError(
            f"{who} needs a GaussianLikelihood, got {type(likelihood).__name__}; "
            "use a sampler that takes any, say mgdm"
        )
    return likelihood


def require_codec(prior: Prior, who: str) -> Codec:
    """The codec of ``prior``, or ``PairingError`` when the sampler ``who`` finds none."""
    if prior.codec is None:
        raise PairingError(
            f"{who} needs a latent Prior, one with a codec, got a Prior without; "
            "use a sampler that needs none, say mgdm"
        )
    return prior.codec


class Decoded(Operator):
    """``z -> A(decode(z))``: what is observed of the event behind a latent."""

    def __init__(self, operator: Operator, codec: Codec) -> None:
        self.operator, self.codec = operator, codec

    def __call__(self, z: Tensor) -> Tensor:
        return self.operator(self.codec.decode(z))


def on_latents(likelihood: LikelihoodT, prior: Prior) -> LikelihoodT:
    """``g(y | decode(z))``, the likelihood of a latent: takes any sampler to a latent prior.

    ``prior.codec.decode(MGDM().sample(prior, on_latents(likelihood, prior), generator=...))`` for
    samplers that need no more than a gradient of the operator.
    """
    operator = Decoded(likelihood.operator, require_codec(prior, "on_latents"))
    return cast(LikelihoodT, replace(cast(Any, likelihood), operator=operator))


def initial_state(
    prior: Prior,
    likelihood: Likelihood,
    generator: Generators,
    x_T: Tensor | None,
) -> Tensor:
    """``x_T``, or a draw of it for every item of ``likelihood.y``: ``[batch, *event]``."""
    if x_T is not None:
        return x_T
    y = likelihood.y
    return prior.sample_x_T(len(y), generator=generator, dtype=y.dtype, device=y.device)


@torch.no_grad()
def likelihood_gradient(likelihood: Likelihood, x: Tensor) -> Tensor:
    """``grad_x log g(y | x)``: ``[batch, *event]``.

    Closed form where y is linear in x and Gaussian. Else log densities are summed before
    differentiating, which gives every item its own gradient.
    """
    operator = likelihood.operator
    if isinstance(likelihood, GaussianLikelihood) and isinstance(operator, LinearOperator):
        return operator.adjoint(likelihood.residual(x) / likelihood.noise_std**2)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(likelihood.log_prob(x).sum(), x)[0]


def likelihood_score(prior: Prior, likelihood: Likelihood, x_t: Tensor, t: Level) -> Tensor:
    """``grad_{x_t} log g(y | D(x_t))``: ``[batch, *event]``, through the denoiser."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        x_0 = prior.predict_x0(x_t, t)
    pulled = likelihood_gradient(likelihood, x_0)
    return torch.autograd.grad(x_0, x_t, pulled)[0]
