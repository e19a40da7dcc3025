"""Numbers from the host reach a device without the host waiting for it.

The meta device stands for a GPU: what asks it for a value raises, and its copies are seen.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mgdm_audio import tensors as transfer
from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import SAMPLERS
from mgdm_audio.samplers.base import Sampler

META = torch.device("meta")
CASES: dict[str, dict[str, Any]] = {
    "daps": {"num_steps": 3, "langevin_steps": 2},
    "ddnm": {"num_steps": 3, "plus": False},
    "diffpir": {"num_steps": 3},
    "dps": {"num_steps": 3},
    "guess-and-guide": {"num_steps": 3, "fit_steps": 2},
    "mgdm": {"num_steps": 4},
    "mgdm-covariance": {"num_steps": 4, "project": True},
    "mgps": {"num_steps": 4},
    "msdm": {"num_steps": 3},
    "pgdm": {"num_steps": 3},
    "pnp-dm": {"num_steps": 3},
    "reddiff": {"num_steps": 3},
    "wiener": {"num_steps": 3},
}
SAMPLERS_TO_TRY = {name: SAMPLERS[name](**options) for name, options in CASES.items()}


class Copies(TorchDispatchMode):
    """Keeps of every copy from the host to the meta device whether it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        copy = func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        if copy and kwargs.get("device") == META:
            self.awaited.append(not kwargs.get("non_blocking", False))
        return func(*args, **kwargs)


@pytest.mark.parametrize("sampler", SAMPLERS_TO_TRY.values(), ids=SAMPLERS_TO_TRY)
def test_no_step_of_a_sampler_waits_for_the_device(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "NOT_AWAITED", {"meta"})

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma.reshape(-1, 1, 1) ** 2)

    prior = Prior(denoiser, NoiseSchedule.karras(), (4, 8))
    y = torch.zeros(2, 1, 8, device=META)
    likelihood = GaussianLikelihood(MixtureSum(4), y, 0.1)
    with Copies() as copies:
        x_0 = sampler.sample(prior, likelihood, generator=generator_for(0))
    assert x_0.device == META
    assert len(copies.awaited) > 2  # the noise and the coefficients
    assert not any(copies.awaited)


def test_the_weights_of_a_mixture_are_sent_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "NOT_AWAITED", {"meta"})
    operator = MixtureSum(3, [1.0, 0.5, 2.0])
    with Copies() as copies:
        operator.adjoint(operator(torch.zeros(2, 3, 8, device=META)))
        operator.wiener_gain(torch.zeros(2, 3, 8, device=META), 0.1)
    assert len(copies.awaited) >= 3
    assert not any(copies.awaited)


@pytest.mark.parametrize("device", ["mps", "cpu", "xpu"])
def test_where_memory_is_not_staged_the_host_waits(device: str) -> None:
    assert torch.device(device).type not in transfer.NOT_AWAITED
