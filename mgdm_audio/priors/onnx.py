"""The default separation as one ONNX graph: the network's mean of the stems given a mixture.

The graph is what the preset ``default`` computes in one draw at one speed (Wiener guidance with one
level and ``amortised``): at its noise level sigma, by default 20,

    stems = E[x_0 | x_0 + sigma eps = sigma noise, sum of x_0 = mixture]

with the MDCT by matrix products. Levels, segments, speeds and the mean over draws stay outside:
recipes/docs/onnx.md has a program of numpy that adds them.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mgdm_audio import atomic
from mgdm_audio.errors import UserError
from mgdm_audio.networks.mdct_matrices import MDCTMatrices
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import LoadedPrior
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.samplers.wiener import WienerGuidance
from mgdm_audio.version import __version__

OPSET = 18  # of ONNX: the one that torch's exporter writes without conversion
EXAMPLE = (2, 3)  # items and hops of the input that the graph is traced with


class MeanGivenMixture(nn.Module):
    """(mixture [batch, 1, time], noise [batch, sources, time]) -> stems like the noise.

    ``noise``: standard normal; ``time``: a multiple of the network's hop, in samples. Mixture and
    stems are at the level that the prior was trained on.
    """

    def __init__(self, network: TFUNet, sigma: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.mdct = cast(Any, MDCTMatrices(network.config.bins))
        self.sigma = sigma

    def forward(self, mixture: Tensor, noise: Tensor) -> Tensor:
        sigma = mixture.new_full((mixture.shape[0],), self.sigma)
        mean, _, _ = self.network.coefficients(self.sigma * noise, sigma, mixture)
        return self.network.mdct.inverse(mean)


def default_sigma(loaded: LoadedPrior) -> float:
    """Returns the noise level sigma / alpha of the single call of the preset ``default``."""
    sampler = load_preset("default").sampler
    assert isinstance(sampler, WienerGuidance)
    assert sampler.amortised
    (level,) = sampler.levels(loaded.prior)  # more calls are no single graph
    return float(loaded.prior.schedule.noise_level[level])


def export_onnx(loaded: LoadedPrior, path: str | Path) -> None:
    """Writes ``MeanGivenMixture`` of a prior to ``path`` in float32, whole or not at all.

    Any number of items and hops may be given to the graph. Its metadata say what goes in and comes
    out: ``stems`` (their names, by commas), ``sample_rate`` (Hz), ``mixture_rms`` (the level,
    linear), ``hop`` (samples), ``sigma``, ``prior``, ``sha256`` (of the prior's weights) and
    ``mgdm_audio`` (the version). Raises UserError for a network that is not shown the mixture,
    without the packages of ONNX, and where the file cannot be written.
    """
    path = Path(path)
    network = loaded.network
    if not isinstance(network, TFUNet):
        raise UserError(
            f"{loaded.path}: a {loaded.config['model_type']} is not shown the mixture, so that no "
            "single call separates; give a prior whose model_type is tf_unet"
        )
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise UserError("the export needs onnx and onnxscript: pip install 'mgdm_audio[onnx]'")
    if not path.parent.is_dir():  # the export takes a minute: say so before it
        raise UserError(f"{path}: folder {path.parent} does not exist; make it first")
    sigma = default_sigma(loaded)
    program = _traced(MeanGivenMixture(network, sigma).cpu().eval())
    program.model.metadata_props.update(
        {
            "stems": ",".join(loaded.stems),
            "sample_rate": str(loaded.sample_rate),
            "mixture_rms": str(loaded.mixture_rms),
            "hop": str(network.hop),
            "sigma": str(sigma),
            "prior": loaded.name,
            "sha256": loaded.sha256,
            "mgdm_audio": __version__,
        }
    )
    atomic.write_by(path, program.save)


def _traced(graph: MeanGivenMixture) -> Any:
    """Returns the graph as an ``ONNXProgram`` of torch, of any number of items and hops."""
    items, hops = EXAMPLE
    config = graph.network.config
    time = hops * config.bins
    inputs = (torch.zeros(items, 1, time), torch.zeros(items, config.sources, time))
    batch, time_ = torch.export.Dim("batch"), config.bins * torch.export.Dim("hops")
    shape = {0: batch, 2: time_}
    # Under no_grad the network takes a path with operations in place, which is no faster here.
    # onnxscript before 0.7 prints what it rewrote.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with torch.enable_grad(), warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")  # torch's own, on names of axes and coming versions
        return torch.onnx.export(
            graph,
            inputs,
            input_names=["mixture", "noise"],
            output_names=["stems"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"mixture": shape, "noise": shape},
            verbose=False,
        )
