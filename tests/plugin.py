"""A distribution outside the package, as an installer leaves it, with a name in each table."""

from collections.abc import Mapping
from pathlib import Path

NAMES = {
    "mgdm_audio.samplers": {"quarter": "extra_music.sampler:Quarter"},
    "mgdm_audio.priors.architectures": {"gain": "extra_music.network:GAIN"},
    "mgdm_audio.metrics": {"peak": "extra_music.metric:PEAK"},
}
SAMPLER = '''
from dataclasses import dataclass


@dataclass(frozen=True)
class Quarter:
    """The stems of the pseudo-inverse, times a factor: each is a quarter of a mixture of four."""

    factor: float = 1.0

    def sample(self, prior, likelihood, *, generator, x_T=None, on_step=None):
        return self.factor * likelihood.operator.pinv(likelihood.y)
'''
NETWORK = '''
from dataclasses import dataclass

import torch

from mgdm_audio.priors.architectures import Architecture


@dataclass(frozen=True)
class Config:
    sources: int = 4


class Gain(torch.nn.Module):
    """The best denoiser of white noise of variance 1."""

    def __init__(self, config):
        super().__init__()
        self.variance = torch.nn.Parameter(torch.ones(config.sources, 1))

    def forward(self, x, sigma):
        sigma = torch.as_tensor(sigma).to(x).reshape(-1, 1, 1)
        return x * self.variance / (self.variance + sigma**2)


GAIN = Architecture(Config, Gain, lambda network, config: network)
'''
METRIC = """
from mgdm_audio.evaluation.metric_registry import Metric


def peak(estimates, references, sample_rate, stems):
    values = (estimates - references).abs().amax((1, 2)).tolist()
    return {"peak": {**dict(zip(stems, values)), "all": max(values)}}


PEAK = Metric({"peak": "largest error"}, peak)
"""


def install(
    folder: Path,
    name: str = "extra-music",
    groups: Mapping[str, Mapping[str, str]] = NAMES,
    **files: str,
) -> Path:
    """Put a distribution into ``folder``: its metadata, and its modules in a package or beside it.

    ``groups``: {group: {name: "module:attribute"}}; ``files``: module -> text, with __ for the dot.
    """
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, text in files.items():
        path = folder / f"{module.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def install_all(folder: Path) -> Path:
    """The distribution of ``NAMES``."""
    package = {"extra_music__sampler": SAMPLER, "extra_music__network": NETWORK}
    return install(folder, **package, extra_music__metric=METRIC)
