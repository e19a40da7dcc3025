"""How well a network denoises examples that it was not trained on."""

from typing import Any

import torch
from torch import Tensor, nn

from mgdm_audio.rng import generator_for, randn


@torch.no_grad()
def validate(network: nn.Module, x_0: Tensor, sigmas: tuple[float, ...]) -> dict[str, Any]:
    """Denoising error over signal energy in dB, per sigma and source, without and with the mixture.

    x_0: [examples, sources, time]. Or pictures [examples, channels, height, width], by channel:
    they have no mixture, and that of one source is the source. The noise is the same at every call.
    """
    result: dict[str, Any] = {}
    mixed = x_0.ndim == 3 and x_0.shape[1] > 1
    for mode in ("prior", "given") if mixed else ("prior",):
        for sigma in sigmas:
            error, energy = x_0.new_zeros(x_0.shape[1]), x_0.new_zeros(x_0.shape[1])
            for i in range(0, len(x_0), 4):
                x = x_0[i : i + 4]
                noise = randn(x.shape, generator=generator_for(0, "validation", i)).to(x)
                mixture = [x.sum(1, keepdim=True)] if mode == "given" else []
                estimate = network(x + sigma * noise, torch.full((len(x),), sigma).to(x), *mixture)
                error += ((estimate - x) ** 2).flatten(2).sum((0, 2))
                energy += (x**2).flatten(2).sum((0, 2))
            ratio = torch.cat([(error.sum() / energy.sum())[None], error / energy])
            overall, *each = [round(v, 3) for v in (10 * ratio.log10()).tolist()]
            result[f"{mode}@{sigma:g}"] = {"all": overall, "sources": each}
    return result
