"""Whether a network's reported variance is that of its errors, and what corrects it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser, Posterior
from mgdm_audio.errors import UserError
from mgdm_audio.rng import generator_for, randn

SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 20.0)

# Variances are counted by their logarithm, in bins of an eighth of an octave about the reference.
PER_OCTAVE = 8
OCTAVES = 64  # either way
POWERS = (0.25, 4.0)  # 1 + e of a Calibration, at least and at most


@dataclass(frozen=True)
class Residuals:
    """Errors of the mean, x_0 - mean, beside reported variances, in the network's own transform.

    Each ``[examples, 2, levels, sources]``, without the mixture and with it, over frames and bins:
    ``standardised``, the mean of error^2 / variance; ``error`` and ``variance``, the means of
    error^2 and of variance. Each ``[2, levels, sources, OCTAVES * 2 * PER_OCTAVE]``, float64, by
    how large the variance is, variance and error^2 taken over the reference of
    ``Calibration``: ``count``, ``total`` and ``log_u``, how many, the sum of their error^2 and
    the mean of their variances' logarithms (0 where there is none).
    """

    standardised: Tensor
    error: Tensor
    variance: Tensor
    count: Tensor
    total: Tensor
    log_u: Tensor

    @property
    def sums(self) -> Tensor:
        """The sum of error^2 over that of the variances: ``[2, levels, sources]``."""
        return self.error.sum(0) / self.variance.sum(0)


@torch.no_grad()
def measure_residuals(
    denoiser: MixtureDenoiser,
    x_0: Tensor,
    sigmas: Sequence[float] = SIGMAS,
    on_call: Callable[[], object] = lambda: None,
) -> Residuals:
    """Of x_0: [examples, sources, time], on the CPU. The noise is a function of level and example.

    ``on_call`` follows each of the 2 * levels * examples calls of the network.
    """
    shape = (2, len(sigmas), x_0.shape[1])
    means = torch.zeros(3, len(x_0), *shape)
    width = 2 * OCTAVES * PER_OCTAVE
    count, total, log_u = torch.zeros(3, *shape, width, dtype=torch.float64)
    for mode in range(2):
        for level, sigma in enumerate(sigmas):
            reference = denoiser.reference(torch.tensor(sigma))[0]
            for i, example in enumerate(x_0.split(1)):
                noise = randn(example.shape, generator=generator_for(0, "calibration", level, i))
                known = denoiser.given(example.sum(1, keepdim=True)) if mode else denoiser
                noisy = example + sigma * noise
                posterior = known.posterior(noisy, torch.tensor(sigma), "reported")
                assert isinstance(posterior, Posterior)
                error = posterior.transform.analysis(example - posterior.mean)[0].float() ** 2
                variance = posterior.variance[0]
                for row, x in zip(means, (error / variance, error, variance), strict=True):
                    row[i, mode, level] = x.mean((1, 2))
                log_ratio = (variance / reference).log().double()
                place = (PER_OCTAVE / math.log(2) * log_ratio).floor().long() + width // 2
                weights = (torch.ones_like(log_ratio), (error / reference).double(), log_ratio)
                for table, weight in zip((count, total, log_u), weights, strict=True):
                    table[mode, level] += _tally(place.clamp(0, width - 1), weight, width)
                on_call()
    standardised, squared, reported = means
    log_u /= count.clamp(min=1)
    return Residuals(standardised, squared, reported, count, total, log_u)


def _tally(place: Tensor, weight: Tensor, width: int) -> Tensor:
    """Sums of ``weight`` by ``place`` below ``width``, per source: [sources, ...] -> [., width]."""
    sources = len(place)
    cell = place.flatten(1) + width * torch.arange(sources)[:, None]
    summed = torch.bincount(cell.flatten(), weight.flatten(), sources * width)
    return summed.view(sources, width)


def calibrate(
    denoiser: MixtureDenoiser, residuals: Residuals, sigmas: Sequence[float]
) -> Calibration:
    """The correction under which two things, measured with what the denoiser has, would hold.

    The mean of error^2 / variance is 1, and the sum of error^2 is that of the variances: the first
    counts every frame and bin alike, so that most of it are those where a stem is all but silent,
    the second as loud as they are. With p = 1 + e, n_b variances at u_b times the reference and
    errors^2 r_b in all of them, factor and exponent solve sum_b r_b / (f u_b^p) = sum_b n_b and
    sum_b n_b f u_b^p = sum_b r_b. Without f that is G(p) = 0 for

        G(p) = log sum_b r_b u_b^-p + log sum_b n_b u_b^p - log sum_b n_b - log sum_b r_b,

    which is convex with G(0) = 0, so that it has one other root at most, above 0 where large errors
    are reported as large. It is sought within ``POWERS``; at their ends only the sums are right.
    Where the report is the same throughout, to within a bin, any p serves, and 1 is taken. Raises
    UserError where a stem has no errors at all.
    """
    if not bool((residuals.total.sum(-1) > 0).all()):
        raise UserError("calibration: a stem has no errors at all; give songs in which it plays")
    log_n, log_r, log_u = residuals.count.log(), residuals.total.log(), residuals.log_u

    def expected(p: Tensor) -> Tensor:
        """log sum_b n_b u_b^p"""
        return (log_n + p[..., None] * log_u).logsumexp(-1)

    def excess(p: Tensor) -> Tensor:
        """G(p)"""
        standardised = (log_r - p[..., None] * log_u).logsumexp(-1)
        return standardised + expected(p) - log_n.logsumexp(-1) - log_r.logsumexp(-1)

    low, high = (torch.full(log_n.shape[:-1], p, dtype=torch.float64) for p in POWERS)
    largest = torch.where(residuals.count > 0, log_u, -math.inf).amax(-1)
    smallest = torch.where(residuals.count > 0, log_u, math.inf).amin(-1)
    constant = largest - smallest < math.log(2) / PER_OCTAVE
    for _ in range(50):
        middle = (low + high) / 2
        above = excess(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    power = torch.where(constant, 1.0, (low + high) / 2)
    factor = (log_r.logsumexp(-1) - expected(power)).exp()
    levels = torch.tensor(sigmas)
    fitted = Calibration(levels, factor.float(), (power - 1).float())
    return fitted if denoiser.calibration is None else fitted.after(denoiser.calibration)
