"""Whether a network's reported variance is that of its errors, and factors that make it so."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgdm_audio.diffusion.posterior import Calibration, MixtureDenoiser, Posterior
from mgdm_audio.rng import generator_for, randn

SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 20.0)


@torch.no_grad()
def squared_residuals(
    denoiser: MixtureDenoiser,
    x_0: Tensor,
    sigmas: Sequence[float] = SIGMAS,
    on_call: Callable[[], object] = lambda: None,
) -> Tensor:
    """Means of (x_0 - mean)^2 / variance over frames and bins: ``[examples, 2, levels, sources]``.

    x_0: [examples, sources, time]. Without the mixture and with it, in the network's own transform.
    Their mean over examples is 1 where the report is calibrated. The noise is a function of level
    and example alone. ``on_call`` follows each of the 2 * levels * examples calls of the network.
    """
    result = torch.zeros(len(x_0), 2, len(sigmas), x_0.shape[1])
    for mode in range(2):
        for level, sigma in enumerate(sigmas):
            for i, example in enumerate(x_0.split(1)):
                noise = randn(example.shape, generator=generator_for(0, "calibration", level, i))
                known = denoiser.given(example.sum(1, keepdim=True)) if mode else denoiser
                noisy = example + sigma * noise
                posterior = known.posterior(noisy, torch.tensor(sigma), "reported")
                assert isinstance(posterior, Posterior)
                error = posterior.transform.analysis(example - posterior.mean).float()
                result[i, mode, level] = (error**2 / posterior.variance).mean((0, 2, 3))
                on_call()
    return result


def calibrate(denoiser: MixtureDenoiser, residuals: Tensor, sigmas: Sequence[float]) -> Calibration:
    """The factors under which ``residuals``, measured with what the denoiser has, would be 1.

    residuals: [examples, 2, levels, sources], which count alike.
    """
    levels, factors = torch.tensor(sigmas), residuals.mean(0)
    if denoiser.calibration is not None:
        known = [denoiser.calibration(levels, given=bool(mode)) for mode in range(2)]
        factors = factors * torch.stack(known)
    return Calibration(levels, factors)
