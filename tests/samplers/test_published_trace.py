"""The preset mgdm-code on the recorded noise of the published code: the same states, one by one.

The record, its names and shapes: data/README.md.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MGDM, PerStep, mgdm
from mgdm_audio.samplers.presets import load_preset

TRACE = Path(__file__).parent / "data/published_mgdm_trace.npz"
BRIDGE = sys.modules["mgdm_audio.diffusion.bridge"]  # the package's attribute is the function
PRIOR = sys.modules["mgdm_audio.diffusion.prior"]

# States are of order 1, and the two codes round in another order: they differ by up to 7e-13, with
# the machine. A change of a conditional is 1e-5 and more, see the last test.
CLOSE = 1e-10


class Replay:
    """Answers every draw of a run from the record, by name, and compares the state after it."""

    def __init__(self) -> None:
        with np.load(TRACE) as record:
            arrays = dict(record)
        names = arrays["noise_names"].tolist()
        self.noise = dict(zip(names, torch.from_numpy(arrays["noise"]), strict=True))
        states = zip(
            arrays["state_names"].tolist(), torch.from_numpy(arrays["states"]), strict=True
        )
        self.states = list(states)[::-1]
        self.s = torch.from_numpy(arrays["s"])
        self.result = torch.from_numpy(arrays["result"])
        y = torch.from_numpy(arrays["y"]).expand(2, -1, -1)
        self.likelihood = GaussianLikelihood(MixtureSum(4), y, float(arrays["noise_std"]))
        denoiser = GaussianDenoiser(torch.from_numpy(arrays["covariance"]))
        self.prior = Prior(denoiser, NoiseSchedule.karras(), (4, 16))
        # Where the run is, in the words of the record. The initial noise is of level -1.
        self.level, self.sweep, self.purpose, self.inner, self.count = -1, 0, "x_T", 0, 0

    def draw(self, *_: Any, **__: Any) -> Tensor:
        name = f"{self.level}/{self.sweep}/{self.purpose}/{self.inner}/{self.count}"
        assert name in self.noise, f"{name}: the published code draws nothing of that name (again)"
        self.count += 1
        return self.noise.pop(name)

    def draw_index(self, low: int, high: int, *, batch: int, **_: Any) -> Tensor:
        s = self.s[self.level].expand(batch)
        say = f"{self.level}: s = {int(s[0])} is not among {low}..{high - 1}"
        assert low <= int(s[0]) < high, say
        return s

    def compare(self, state: str, x: Tensor) -> None:
        name, expected = self.states.pop()
        assert f"{self.level}/{self.sweep}/{state}" == name
        error = float((x - expected).abs().max())
        assert error < CLOSE, f"{name}: off by {error:.1e}"

    def wrap(self, step: Callable[..., Tensor], purpose: str, state: str) -> Callable[..., Tensor]:
        """One conditional: its draws are for ``purpose``, and its result is ``state``."""

        def wrapped(*args: Any, **kwargs: Any) -> Tensor:
            self.purpose, self.inner, self.count = purpose, 0, 0
            x = step(*args, **kwargs)
            self.compare(state, x)
            return x

        return wrapped

    def enter_or_noise(self, step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The first bridge on a level enters it, from x_0 at level 0; the others are (c)."""

        def wrapped(schedule: NoiseSchedule, *args: Any, **kwargs: Any) -> Tensor:
            if self.purpose in ("x_T", "noising"):
                self.level, self.sweep = self.level + 1, 0
                return self.wrap(step, "enter", "x_t_entry")(schedule, *args, **kwargs)
            x = self.wrap(step, "noising", "x_t")(schedule, *args, **kwargs)
            self.sweep += 1
            return x

        return wrapped

    def inside_ddim(self, step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A step of (b); its draw is named after the level that it reaches."""

        def wrapped(*args: Any, **kwargs: Any) -> Tensor:
            t = args[4]
            self.inner, self.count = int(t[0]) if isinstance(t, Tensor) else t, 0
            return step(*args, **kwargs)

        return wrapped

    def run(self, sampler: MGDM, monkeypatch: pytest.MonkeyPatch) -> Tensor:
        """The sampler's result on the recorded noise."""
        fit = self.wrap(sampler._fit_and_draw, "vi", "x_s")
        denoise = self.wrap(sampler._denoise, "ddim", "x_0")
        monkeypatch.setattr(PRIOR, "randn", self.draw)
        monkeypatch.setattr(BRIDGE, "randn_like", self.draw)
        monkeypatch.setattr(mgdm, "randn_like", self.draw)
        monkeypatch.setattr(mgdm, "randint", self.draw_index)
        monkeypatch.setattr(MGDM, "_fit_and_draw", lambda _, *args: fit(*args))
        monkeypatch.setattr(MGDM, "_denoise", lambda _, *args: denoise(*args))
        for name in ("sample_bridge", "sample_forward"):
            monkeypatch.setattr(mgdm, name, self.enter_or_noise(getattr(mgdm, name)))
        monkeypatch.setattr(BRIDGE, "sample_bridge", self.inside_ddim(BRIDGE.sample_bridge))
        return sampler.sample(self.prior, self.likelihood, generator=generator_for(0))


@pytest.fixture
def published() -> MGDM:
    sampler = load_preset("mgdm-code", ["gibbs_steps=2"]).sampler  # R of the record
    assert isinstance(sampler, MGDM)
    return sampler


def test_every_state_is_that_of_the_published_code(
    published: MGDM, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay()
    assert (len(replay.noise), len(replay.states)) == (902, 119)
    result = replay.run(published, monkeypatch)
    assert not replay.noise, f"never drawn: {', '.join(replay.noise)}"
    assert not replay.states, f"never reached: {', '.join(name for name, _ in replay.states)}"
    torch.testing.assert_close(result, replay.result, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"eta": 0.999}, "^0/0/x_t_entry: off by"),
        ({"learning_rate": PerStep(0.00501)}, "^0/0/x_s: off by"),
        ({"vi_steps": PerStep(4, last=(10, 20))}, "^0/0/vi/0/4: the published code draws nothing"),
        ({"vi_steps": PerStep(3, last=(9, 20))}, "^10/0/x_s: off by"),
        ({"denoise_steps": 14}, "^0/0/ddim/404/0: the published code draws nothing"),
        ({"noising": "forward"}, "^0/0/x_t: off by"),
        ({"index_law": "fixed"}, "^0: s = 438 is not among"),
        ({"threshold": 0.4}, "^12: s = 183 is not among"),
        ({"gibbs_steps": 3}, "^0/2/vi/0/0: the published code draws nothing"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_a_change_of_any_conditional_is_seen(
    published: MGDM, change: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match=says):
        Replay().run(replace(published, **change), monkeypatch)
