"""Guess & Guide (arXiv 2603.07860): few levels, and no gradient through the denoiser.

The authors describe two phases. Guess: at one fixed level t_*, repeatedly denoise, optimise the
estimate to fit y better, and noise it to t_* again. Guide: along a sparse grid from t_* down, at
each level denoise, optimise, and noise to the next level. The optimisation is over x_0 itself and
differentiates the operator only. No level above t_* is used.

The equations below interpret that summary; they have not been compared with the paper's full text:

    x_0 <- D_t(x_t)
    x_0 <- G steps of Adam from there on -log g(y | x_0)
    x_t <- q(x_s | x_0), the full forward noise of the next level

Only the small number of steps keeps x_0 near D_t(x_t). In the limit of many, and for a mixture of
equal weights, the result is D + A^+ (y - A D), the point with A x = y that is nearest to D. The
first x_t is pure noise of level t_*. The default values were chosen here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from mgdm_audio.diffusion import Prior, sample_forward
from mgdm_audio.measurement import Likelihood
from mgdm_audio.ranges import within
from mgdm_audio.rng import Generators
from mgdm_audio.samplers.adam import Adam
from mgdm_audio.samplers.base import Run, Step, Stepwise, likelihood_gradient
from mgdm_audio.samplers.options import Finite

_STEPS = "num_steps is at least 1, guess_steps and fit_steps at least 0"
_START = within("(0, 1]", "{name} lies in (0, 1]")


@dataclass(frozen=True)
class GuessAndGuide(Stepwise):
    """Samples by Guess & Guide; the operator must be differentiable."""

    num_steps: Annotated[int, within("[1, inf)", _STEPS)] = 20  # levels from t_* to the lowest
    guess_steps: Annotated[int, within("[0, inf)", _STEPS)] = 10  # steps at t_* before that
    start: Annotated[float, _START] = 0.4  # t_* divided by the number of levels
    fit_steps: Annotated[int, within("[0, inf)", _STEPS)] = 20  # G
    learning_rate: Finite = 0.01  # of Adam

    def levels(self, prior: Prior) -> list[int]:
        """Returns indices of ``prior.schedule``: t_* per guess step, then from t_* down, >= 1."""
        top = self.start * (prior.schedule.num_levels - 1)
        guide = [max(int(top * j / self.num_steps), 1) for j in range(self.num_steps, 0, -1)]
        return [guide[0]] * self.guess_steps + guide

    def algorithm(
        self, prior: Prior, likelihood: Likelihood, x_T: Tensor, generator: Generators
    ) -> Run:
        """Draws ``x_0: [batch, *event]`` given ``likelihood.y`` in guess_steps + num_steps calls.

        ``x_T`` is rescaled from the prior's noisiest level to t_*.
        """
        levels, sigma = self.levels(prior), prior.schedule.sigma
        x_t = x_T * float(sigma[levels[0]] / sigma[-1])
        for i, t in enumerate(levels):
            x_0 = self._fit(likelihood, prior.predict_x0(x_t, t))
            yield Step(i, len(levels), t, x_t, x_0)
            if i + 1 < len(levels):
                x_t = sample_forward(prior.schedule, x_0, 0, levels[i + 1], generator=generator)
        return x_0

    def _fit(self, likelihood: Likelihood, x_0: Tensor) -> Tensor:
        """Takes G Adam steps on -log g(y | x_0) from the denoised ``x_0: [batch, *event]``."""
        x_0 = x_0.clone()
        adam = Adam(x_0, self.learning_rate)
        for _ in range(self.fit_steps):
            adam.step(-likelihood_gradient(likelihood, x_0))
        return x_0
