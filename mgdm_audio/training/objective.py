"""What training minimises, by which parameters, and what validation measures."""

from typing import Any

import torch
from torch import Tensor, nn

from mgdm_audio.rng import generator_for, randn


class Objective(nn.Module):
    """``network.loss(x_0, sigma, noise, given)`` as a forward pass, which is what data-parallel
    wrappers can split."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(
        self,
        x_0: Tensor,
        sigma: Tensor,
        noise: Tensor,
        given: Tensor,
        weight: Tensor,
        variance: Tensor,
    ) -> tuple[Tensor, Tensor]:
        denoising, likelihood = self.network.loss(x_0, sigma, noise, given)  # type: ignore[operator]
        return (weight * denoising).mean(), (variance * likelihood).mean()


def gradient_groups(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters by group, each of which has its gradient clipped by itself.

    A network may name submodules that train on a loss of their own, as ``heads``: how large their
    gradient is shall not change the step of the rest, the group "body".
    """
    heads = {n: list(network.get_submodule(n).parameters()) for n in getattr(network, "heads", ())}
    apart = {id(p) for group in heads.values() for p in group}
    return {"body": [p for p in network.parameters() if id(p) not in apart], **heads}


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
