"""Measures the calibration error of a network's reported variance, and fits a correction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser, Posterior
from mgdm_audio.errors import UserError
from mgdm_audio.rng import generator_for, randn

SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 20.0)

# Variances are binned by their logarithm, in bins of an eighth of an octave about the reference.
PER_OCTAVE = 8
OCTAVES = 64  # in each direction
POWERS = (0.25, 4.0)  # bounds of 1 + e of a Calibration


@dataclass(frozen=True)
class Residuals:
    """Statistics of the errors x_0 - mean and of reported variances, in the network's transform.

    The first three are means over frames and bins, ``[examples, 2, levels, sources]``, without and
    with the mixture. The others are a histogram by the size of the variance,
    ``[2, levels, sources, OCTAVES * 2 * PER_OCTAVE]``, float64; there error^2 and variance are
    divided by the reference of ``Calibration``.
    """

    standardised: Tensor  # mean of error^2 / variance
    error: Tensor  # mean of error^2
    variance: Tensor  # mean of variance
    count: Tensor  # number of coefficients in a bin of the histogram
    total: Tensor  # sum of their error^2
    log_u: Tensor  # mean logarithm of their variances, 0 in an empty bin

    @property
    def sums(self) -> Tensor:
        """The sum of error^2 divided by that of the variances: ``[2, levels, sources]``."""
        return self.error.sum(0) / self.variance.sum(0)


@torch.no_grad()
def measure_residuals(
    denoiser: MixtureDenoiser,
    x_0: Tensor,
    sigmas: Sequence[float] = SIGMAS,
    on_call: Callable[[], object] = lambda: None,
) -> Residuals:
    """Measures ``Residuals`` on x_0: [examples, sources, time], on the CPU.

    The noise is a function of level and example. ``on_call`` is called after each of the
    2 * levels * examples calls of the network.
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
    """Sums ``weight`` by ``place`` below ``width`` per source: [sources, ...] -> [., width]."""
    sources = len(place)
    cell = place.flatten(1) + width * torch.arange(sources)[:, None]
    summed = torch.bincount(cell.flatten(), weight.flatten(), sources * width)
    return summed.view(sources, width)


def calibrate(
    denoiser: MixtureDenoiser, residuals: Residuals, sigmas: Sequence[float]
) -> Calibration:
    """Fits the correction with which the reported variance satisfies two conditions.

    The mean of error^2 / variance is 1, and the sum of error^2 equals that of the variances. The
    first weights all frames and bins equally, most of which are nearly silent, the second by their
    power. With p = 1 + e, n_b variances at u_b times the reference and their sum of errors^2 r_b,
    factor and exponent solve sum_b r_b / (f u_b^p) = sum_b n_b and sum_b n_b f u_b^p = sum_b r_b.
    Eliminating f gives G(p) = 0 for

        G(p) = log sum_b r_b u_b^-p + log sum_b n_b u_b^p - log sum_b n_b - log sum_b r_b,

    which is convex with G(0) = 0, so that it has at most one other root. It is positive if larger
    errors have larger reported variances, and is sought within ``POWERS``; at their ends only the
    condition on the sums holds. If all reported variances lie within one bin, p is 1. A correction
    that the denoiser already has is included in the result. Raises UserError if a stem has no
    errors at all.
    """
    if not bool((residuals.total.sum(-1) > 0).all()):
        raise UserError("calibration: a stem has no errors at all; give songs in which it plays")
    log_n, log_r, log_u = residuals.count.log(), residuals.total.log(), residuals.log_u

    def expected(p: Tensor) -> Tensor:
        """Returns log sum_b n_b u_b^p."""
        return (log_n + p[..., None] * log_u).logsumexp(-1)

    def excess(p: Tensor) -> Tensor:
        """Returns G(p)."""
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
