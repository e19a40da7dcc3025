"""Training: resumed runs equal unbroken ones, schedules have their values, refusals one line."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mgdm_audio.errors import UserError
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import load_prior, save_prior
from mgdm_audio.rng import generator_for
from mgdm_audio.training.log import BOARD, LOG
from mgdm_audio.training.loop import train
from mgdm_audio.training.objective import gradient_groups, validate
from mgdm_audio.training.settings import NoiseLevels, OneCall, Schedule, Training
from mgdm_audio.training.state import STATE, State, differences, read_settings
from tests.killing import full_disk, killed_at_every_moment, leftovers
from tests.toys import STEMS, TINY, tiny_network

pytest.importorskip("accelerate")

LENGTH = 4 * TINY.bins
DETAILS = {"schedule": {"kind": "karras"}, "stems": list(STEMS), "sample_rate": 22050,
           "mixture_rms": 0.08, "segment": LENGTH}  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equality bit for bit is asked of one device."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def tones(size: int, generator: torch.Generator) -> Tensor:
    """[size, 4, LENGTH]: each source a tone of its own pitch, with a random phase and level."""
    t = torch.arange(LENGTH)
    pitch = torch.tensor([0.05, 0.2, 0.7, 1.9])[:, None]
    phase = 2 * math.pi * torch.rand(size, 4, 1, generator=generator)
    level = 0.05 + 0.1 * torch.rand(size, 4, 1, generator=generator)
    return level * torch.sin(pitch * t + phase)


class Run:
    """A short training run in a folder, with everything that is usually the command line's."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.noise = settings.pop("noise", NoiseLevels())
        self.schedule = Schedule(**{"steps": 7, "warmup": 3, **settings.pop("schedule", {})})
        self.settings = Training(
            **{
                "batch": 2,
                "ema": 0.9,
                "precision": "no",
                "save_every": 2,
                "validate_every": 3,
                **settings,
            }
        )
        self.exported: list[tuple[int, Tensor]] = []

    def export(self, network: nn.Module, step: int) -> None:
        """Nothing more."""

    def __call__(
        self,
        network: nn.Module,
        batches: Callable[[int, torch.Generator], Tensor] = tones,
        stop: int | None = None,
        validation: Tensor | None = None,
        settings: dict[str, Any] | None = None,
        one_call: OneCall | None = None,
    ) -> State:
        def export(net: nn.Module, step: int) -> None:
            self.exported.append((step, next(net.parameters()).clone()))
            self.export(net, step)

        def progress(step: int, total: int, values: dict[str, float]) -> None:
            assert total == self.schedule.steps
            if step == stop:
                raise KeyboardInterrupt

        return train(
            network.requires_grad_(True),
            batches,
            validation,
            self.folder,
            self.noise,
            self.schedule,
            self.settings,
            export=export,
            one_call=None if one_call is None else (one_call, batches),
            progress=progress,
            settings=settings,
        )

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / LOG).read_text().splitlines()]


@pytest.mark.parametrize("stops", [(1,), (2, 3, 6)])
def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path: Path, stops: tuple[int, ...]) -> None:
    whole = Run(tmp_path / "whole")
    whole(tiny_network(0, trained=False))
    broken = Run(tmp_path / "broken")
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            broken(tiny_network(0, trained=False), stop=stop)
    # What is resumed comes from the state alone: the network may be any of its shape.
    other = tiny_network(0, trained=False)
    if stops[-1] >= broken.settings.save_every:
        other = tiny_network(5)
        other.scale.mul_(2)
    state = broken(other)
    assert state.step == 7
    a, b = (load_file(run.folder / STATE) for run in (whole, broken))
    assert a.keys() == b.keys()
    for kind in ("parameter.", "average.", "buffer.scale", "adamw.exp_avg.", "adamw.exp_avg_sq."):
        assert any(name.startswith(kind) for name in a), kind
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert torch.equal(a["adamw.step.enter.weight"], torch.tensor(7.0))
    assert [step for step, _ in whole.exported] == [2, 3, 4, 6, 7]  # saved or validated
    assert torch.equal(whole.exported[-1][1], broken.exported[-1][1])


class Recorded(TFUNet):
    """Keeps the arguments of its loss."""

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.__dict__.setdefault("seen", []).append((len(x_0), sigma, given))
        return super().loss(x_0, sigma, noise, given)


def test_examples_of_one_call_show_the_mixture_at_the_largest_sigma(tmp_path: Path) -> None:
    network = Recorded(TINY)
    run = Run(tmp_path, schedule={"steps": 3}, noise=NoiseLevels(maximum=7.0))
    run(network, one_call=OneCall("songs", batch=3))
    seen = network.__dict__["seen"]
    assert [size for size, _, _ in seen] == [3, 2] * 3
    for _, sigma, given in seen[::2]:
        assert torch.equal(sigma, torch.full((3,), 7.0))
        assert torch.equal(given, torch.ones(3))
    records = [record for record in run.records if "loss" in record]
    assert all(record["one_call"] > 0 for record in records)


def test_the_gradients_of_both_kinds_of_examples_are_summed(tmp_path: Path) -> None:
    """AdamW's first moment after one step is .1 of the gradient, if nothing is clipped."""
    moments = {}
    for name, one_call, rate in (
        ("both", OneCall("songs"), 1e-9),
        ("plain", None, 1e-9),
        ("estimated", OneCall("songs", variance=False), 1e-9),
    ):
        schedule = {"steps": 1, "learning_rate": rate}
        run = Run(tmp_path / name, schedule=schedule, gradient_clip=math.inf)
        run(tiny_network(0), one_call=one_call)
        state = load_file(tmp_path / name / STATE)
        moments[name] = {k: v for k, v in state.items() if k.startswith("adamw.exp_avg.")}
    network = tiny_network(0).requires_grad_(True)
    generator = generator_for(0, "one_call", 0, 0)
    x_0 = tones(2, generator)
    noise = torch.randn(x_0.shape, generator=generator_for(0, "one_call noise", 0, 0))
    one = torch.ones(2)
    denoising, likelihood = network.loss(x_0, 20.0 * one, noise, one)
    names = [name for name, _ in network.named_parameters()]
    parameters = list(network.parameters())
    for name, loss in (
        ("both", denoising.mean() + likelihood.mean()),
        ("estimated", denoising.mean()),
    ):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for parameter, gradient in zip(names, gradients, strict=True):
            key = f"adamw.exp_avg.{parameter}"
            added = moments[name][key] - moments["plain"][key]
            # Float32: two sums of gradients in another order, relative to the largest of them.
            most = float(moments[name][key].abs().max()) + 1e-12
            assert float((added - 0.1 * gradient).abs().max()) <= 1e-4 * most, (name, parameter)


def test_a_stopped_run_with_examples_of_one_call_goes_on(tmp_path: Path) -> None:
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    one_call = OneCall("songs", batch=1)
    whole(tiny_network(0, trained=False), one_call=one_call)
    with pytest.raises(KeyboardInterrupt):
        broken(tiny_network(0, trained=False), stop=4, one_call=one_call)
    broken(tiny_network(0, trained=False), one_call=one_call)
    a, b = (load_file(run.folder / STATE) for run in (whole, broken))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_tensorboard_shows_what_the_log_holds_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(tmp_path)
    x_0 = tones(2, torch.Generator().manual_seed(0))
    with pytest.raises(KeyboardInterrupt):
        # Killed at step 4, before the save of it: validated at 3, saved at 2.
        run(tiny_network(0, trained=False), stop=4, validation=x_0)
    for file in (tmp_path / BOARD).iterdir():
        file.rename(str(file).replace("tfevents.", "tfevents.0"))  # as if from another second
    run(tiny_network(0, trained=False), validation=x_0)
    board = EventAccumulator(str(tmp_path / BOARD)).Reload()
    want = {r["step"]: r["loss"] for r in run.records if "loss" in r}
    assert [e.step for e in board.Scalars("loss")] == [2, 4, 6, 7]
    assert {e.step: e.value for e in board.Scalars("loss")} == pytest.approx(want)
    validated = [e.step for e in board.Scalars("validation/given@0.3/sources/3")]
    assert validated == [3, 6, 7]
    last = [r["validation"] for r in run.records if "validation" in r][-1]
    (*_, event) = board.Scalars("validation/given@0.3/all")
    assert event.value == pytest.approx(last["given@0.3"]["all"])
    (*_, event) = board.Scalars("validation/given@0.3/sources/3")
    assert event.value == pytest.approx(last["given@0.3"]["sources"][3])


def test_training_does_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgdm_audio.training.log.find_spec", lambda name: None)
    run = Run(tmp_path, schedule={"steps": 2})
    run(tiny_network(0, trained=False))
    assert [r["step"] for r in run.records] == [2]
    assert not (tmp_path / BOARD).exists()


def test_the_seed_decides(tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        Run(tmp_path / name, seed=seed, schedule={"steps": 2})(tiny_network(0, trained=False))
        states.append(load_file(tmp_path / name / STATE)["parameter.enter.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_finished_run_exports_again_and_trains_no_further(tmp_path: Path) -> None:
    # It may have been stopped between its last save and its export.
    run = Run(tmp_path, schedule={"steps": 2})
    run(tiny_network(0, trained=False))
    before = load_file(tmp_path / STATE)
    (_, exported), run.exported = run.exported[-1], []
    run(tiny_network(3, trained=False))
    ((step, again),) = run.exported
    assert step == 2
    assert torch.equal(again, exported)
    after = load_file(tmp_path / STATE)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_exported_is_the_moving_average(tmp_path: Path) -> None:
    network = tiny_network(0, trained=False)
    seen: list[Tensor] = []

    def parameter() -> Tensor:
        return next(network.parameters()).detach().clone()

    def batches(size: int, generator: torch.Generator) -> Tensor:
        seen.append(parameter())  # after as many steps as batches before this one
        return tones(size, generator)

    run = Run(tmp_path, schedule={"steps": 30, "learning_rate": 1e-2})
    run(network, batches)
    average = seen[0].double()
    for step, value in enumerate([*seen[1:], parameter()], 1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    step, exported = run.exported[-1]
    assert step == 30
    assert (exported - average).abs().max() < 1e-6  # float32 interpolations of values near 0.3
    assert (exported - parameter()).abs().max() > 1e-3


class Loud(TFUNet):
    """The likelihood of its variances counts ``weight`` times."""

    weight = 1.0

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        denoising, likelihood = super().loss(x_0, sigma, noise, given)
        return denoising, self.weight * likelihood


def test_the_likelihood_of_the_variances_leaves_the_mean_alone(tmp_path: Path) -> None:
    # Three steps: AdamW's first has the size of the rate whatever the gradient is.
    states, gradients = [], []
    for weight in (1.0, 1000.0):
        network = Loud(TINY)
        network.load_state_dict(tiny_network(0).state_dict())
        network.weight = weight
        run = Run(tmp_path / str(weight), schedule={"steps": 3}, gradient_clip=0.01, save_every=3)
        run(network)
        states.append(load_file(run.folder / STATE))
        gradients.append(run.records[0]["gradient"])
    names = [name for name, _ in network.named_parameters()]
    changed = [n for n in names if not torch.equal(*(s[f"parameter.{n}"] for s in states))]
    assert changed
    assert all(name.startswith("log_variance.") for name in changed)
    # The norms before they are clipped are in the log.
    assert [set(g) for g in gradients] == [{"body", "log_variance"}] * 2
    assert gradients[0]["body"] == gradients[1]["body"] > 0.01
    assert gradients[1]["log_variance"] > 100 * gradients[0]["log_variance"] > 0


def test_a_gradient_is_clipped_to_its_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, float]] = []

    def step(self: torch.optim.AdamW) -> None:
        groups = gradient_groups(network).items()
        norms = {n: torch.cat([p.grad.flatten() for p in g]).norm() for n, g in groups}  # type: ignore[union-attr]
        seen.append({n: float(norm) for n, norm in norms.items()})

    network = tiny_network(0)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    Run(tmp_path, schedule={"steps": 1}, gradient_clip=0.01)(network)
    # clip_grad_norm_ divides by the norm plus 1e-6.
    assert seen == [
        {"body": pytest.approx(0.01, rel=1e-4), "log_variance": pytest.approx(0.01, rel=1e-4)}
    ]


def test_the_average_is_borrowed_and_given_back() -> None:
    network = tiny_network(0).requires_grad_(True)
    state = State(network, torch.optim.AdamW(network.parameters()))
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    for value in state.average.values():
        value.add_(1)

    def look() -> None:
        with state.averaged():
            for name, parameter in network.named_parameters():
                assert torch.equal(parameter, before[name] + 1)
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters())


def instruments(size: int, generator: torch.Generator) -> Tensor:
    """[size, 4, LENGTH]: each source either silent or white noise of rms 0.14."""
    plays = torch.rand(size, 4, 1, generator=generator) < 0.5
    return plays * 0.14 * torch.randn(size, 4, LENGTH, generator=generator)


def test_a_toy_set_is_learned(tmp_path: Path) -> None:
    # The static filter takes every source for half as strong, -3 dB at sigma = 0.1. A network that
    # finds which sources play removes silence altogether and filters the rest better: -4.8 dB.
    network = tiny_network(0, trained=False)
    x_0 = instruments(16, torch.Generator().manual_seed(0))
    network.measure(x_0)
    before = validate(network, x_0, (0.1,))
    assert before["prior@0.1"]["all"] == pytest.approx(-3, abs=0.3)
    run = Run(
        tmp_path,
        batch=8,
        noise=NoiseLevels(center=0.1, spread=0.5, given_center=0.1, given_spread=0.5),
        schedule={"steps": 60, "learning_rate": 5e-3, "warmup": 5},
        validate_every=1000,
        save_every=20,
        validation_sigmas=(0.1,),
    )
    run(network, instruments, validation=x_0)
    *losses, last = run.records
    assert last["validation"]["prior@0.1"]["all"] < before["prior@0.1"]["all"] - 0.4
    assert last["validation"]["given@0.1"]["all"] < before["given@0.1"]["all"] - 0.4
    assert [r["step"] for r in losses] == [20, 40, 60]
    assert losses[-1]["loss"] < losses[0]["loss"] - 0.05
    assert losses[-1]["nll"] < losses[0]["nll"] - 0.05
    assert losses[-1]["lr"] == run.schedule.at(59)


class Constant(nn.Module):
    """The input times a number; what it is told besides is kept."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.mixtures = factor, list[Tensor | None]()

    def forward(self, x: Tensor, sigma: Tensor, mixture: Tensor | None = None) -> Tensor:
        self.mixtures.append(mixture)
        return self.factor * x


def test_validation_measures_error_over_signal() -> None:
    x_0 = tones(5, torch.Generator().manual_seed(0))
    silent = validate(Constant(0.0), x_0, (0.1, 1.0))
    assert silent.keys() == {"prior@0.1", "prior@1", "given@0.1", "given@1"}
    for record in silent.values():
        assert record == {"all": 0.0, "sources": [0.0] * 4}
    network = Constant(1.0)
    unchanged = validate(network, x_0, (0.1,))
    assert unchanged == validate(Constant(1.0), x_0, (0.1,))
    energy = (x_0**2).sum((0, 2))
    # What is left is the noise: 5 x 256 values a source, whose mean square is 1 within 4 %.
    want = 10 * (0.01 * 5 * LENGTH / energy).log10()
    got = torch.tensor(unchanged["prior@0.1"]["sources"])
    assert (got - want).abs().max() < 5 * 10 / math.log(10) * math.sqrt(2 / (5 * LENGTH))
    mixtures = [m for m in network.mixtures if m is not None]
    assert torch.equal(torch.cat(mixtures), x_0.sum(1, keepdim=True))
    assert len(mixtures) * 2 == len(network.mixtures)


def test_one_source_has_no_mixture() -> None:
    x_0 = tones(2, torch.Generator().manual_seed(0))[:, :1]
    assert set(validate(Constant(0.0), x_0, (0.1,))) == {"prior@0.1"}


def test_cosine_has_its_values() -> None:
    schedule = Schedule(steps=1000, learning_rate=2.0, warmup=10, kind="cosine")
    assert schedule.at(0) == pytest.approx(0.2)  # warm-up: (step + 1) / 10
    assert schedule.at(4) == pytest.approx(1.0, rel=1e-4)
    assert schedule.at(9) == pytest.approx(2.0, rel=1e-3)
    assert schedule.at(500) == pytest.approx(2.0 * (0.01 + 0.99 / 2))
    assert schedule.at(1000) == schedule.at(2000) == pytest.approx(0.02)  # a hundredth is left
    rates = [schedule.at(i) for i in range(9, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_stable_is_level_and_then_falls_to_zero() -> None:
    schedule = Schedule(steps=1000, learning_rate=2.0, warmup=10, kind="stable", decay=100)
    assert schedule.at(0) == pytest.approx(0.2)
    assert {schedule.at(i) for i in range(9, 901)} == {2.0}
    assert schedule.at(950) == pytest.approx(1.0)
    assert schedule.at(999) == pytest.approx(0.02)
    assert schedule.at(1000) == schedule.at(1001) == 0
    assert Schedule(warmup=0, kind="stable", learning_rate=2.0).at(0) == 2.0
    # A longer run is the same until the shorter one's decay.
    longer = Schedule(steps=5000, learning_rate=2.0, warmup=10, kind="stable", decay=100)
    assert all(longer.at(i) == schedule.at(i) for i in range(901))


def test_unknown_schedules_and_precisions_are_refused() -> None:
    with pytest.raises(UserError, match=r"'linear': use 'cosine' or 'stable'"):
        Schedule(kind="linear")
    with pytest.raises(ValueError, match="use 'auto' or 'bf16' or 'no'"):
        Training(precision="fp4")
    for name in ("batch", "save_every", "validate_every"):
        with pytest.raises(ValueError, match="at least 1"):
            replace(Training(), **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [0.0, 1.0])
def test_noise_levels_are_log_normal_and_stratified(given: float) -> None:
    levels = NoiseLevels(given=given, minimum=1e-30, maximum=1e30)
    center, spread = (0.3, 2.0) if given else (0.067, 1.5)
    sigma, shown = levels.draw(1000, torch.Generator().manual_seed(0))
    assert torch.equal(shown, torch.full((1000,), given))
    normal = torch.distributions.Normal(math.log(center), spread)
    quantile = normal.cdf(sigma.log()).sort().values
    # One draw in each thousandth of the distribution (float32 rounds a few across the border).
    middle = (torch.arange(1000) + 0.5) / 1000
    assert (quantile - middle).abs().max() < 0.5 / 1000 + 2e-5
    assert sigma.median().log().item() == pytest.approx(math.log(center), abs=spread * 3e-3)
    order = sigma.argsort()
    assert not torch.equal(order, order.sort().values)  # but in no order


def test_noise_levels_stay_within_their_bounds_and_belong_to_their_generator() -> None:
    levels = NoiseLevels(minimum=0.05, maximum=0.2, given=0.3)
    sigma, given = levels.draw(2000, torch.Generator().manual_seed(0))
    assert sigma.min() == pytest.approx(0.05)
    assert sigma.max() == pytest.approx(0.2)
    assert set(given.tolist()) == {0.0, 1.0}
    # A binomial share: five standard deviations.
    assert abs(float(given.mean()) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 2000)
    again = levels.draw(2000, torch.Generator().manual_seed(0))
    other = levels.draw(2000, torch.Generator().manual_seed(1))
    assert torch.equal(sigma, again[0])
    assert torch.equal(given, again[1])
    assert not torch.equal(sigma, other[0])


@pytest.mark.parametrize(
    "change", [{"blocks": (2, 2)}, {"blocks": (1, 1)}, {"channels": (16, 48)}, {"mixing": 8}]
)
def test_a_state_of_another_shape_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = Run(tmp_path, schedule={"steps": 2})
    run(tiny_network(0, trained=False))
    other = tiny_network(0, trained=False, config=replace(TINY, **change))
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(UserError, match="another shape") as caught:
        run(other)
    assert str(tmp_path / STATE) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / STATE).read_bytes() == before


def test_settings_are_kept_in_the_state(tmp_path: Path) -> None:
    run = Run(tmp_path, schedule={"steps": 2})
    settings = {"stems": ["bass"], "noise": {"given": 0.5}}
    run(tiny_network(0, trained=False), settings=settings)
    assert read_settings(tmp_path / STATE) == settings
    assert read_settings(tmp_path / "none") == {}
    # A state of before they were kept is as good.
    tensors = {name: tensor.clone() for name, tensor in load_file(tmp_path / STATE).items()}
    save_file(tensors, tmp_path / STATE, {"step": "2"})
    assert read_settings(tmp_path / STATE) == {}
    assert run(tiny_network(1, trained=False)).step == 2


def test_differences_are_named_and_what_is_new_is_none() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": True, "e": 0.5}}
    new = {"a": 1, "b": {"c": (1, 3), "d": True, "e": 0.5, "f": 0}, "g": 1}
    assert differences(old, new) == {"b.c": "[1, 2] -> [1, 3]"}
    assert differences(old, {"a": 2}) == {
        "a": "1 -> 2",
        "b": '{"c": [1, 2], "d": true, "e": 0.5} -> null',
    }
    assert differences({}, new) == {}


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_damaged_state_is_refused(tmp_path: Path, keep: int) -> None:
    run = Run(tmp_path, schedule={"steps": 2})
    run(tiny_network(0, trained=False))
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:keep])
    with pytest.raises(UserError, match="no training state") as caught:
        run(tiny_network(0, trained=False))
    assert str(tmp_path / STATE) in str(caught.value)
    assert "\n" not in str(caught.value)


def with_metadata(**values: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file(load_file(path), path, metadata={**metadata, **values})

    return change


def with_tensor(name: str, value: Tensor | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        tensors = load_file(path)
        assert name in tensors
        tensors.pop(name)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file(tensors if value is None else tensors | {name: value}, path, metadata=metadata)

    return change


@pytest.mark.parametrize(
    "change",
    [
        with_metadata(step="x"),
        with_metadata(step="-1"),
        with_metadata(step="1" * 5000),
        with_metadata(elapsed="nan"),
        with_metadata(elapsed="-1"),
        with_metadata(settings="["),
        with_metadata(settings="[]"),
        with_metadata(settings='{"mixture_rms": "loud"}'),
        with_tensor("average.enter.weight", None),
        with_tensor("average.enter.weight", torch.zeros(2)),
        with_tensor("adamw.exp_avg.enter.weight", torch.zeros(2)),
        with_tensor("adamw.exp_avg_sq.enter.weight", None),
        with_tensor("adamw.step.enter.weight", torch.zeros(3)),
        with_tensor("buffer.scale", torch.zeros(1)),
        with_tensor("buffer.scale", torch.full((4, 64), math.nan)),
    ],
)
def test_a_state_with_a_wrong_part_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run = Run(tmp_path, schedule={"steps": 2})
    run(tiny_network(0, trained=False))
    change(tmp_path / STATE)

    def read() -> None:
        read_settings(tmp_path / STATE)
        network = tiny_network(0)
        State(network, torch.optim.AdamW(network.parameters())).load(tmp_path / STATE)

    with pytest.raises(UserError, match="no training state") as caught:
        read()
    assert str(tmp_path / STATE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, value: float) -> None:
    run = Run(tmp_path, save_every=1)

    def batches(size: int, generator: torch.Generator) -> Tensor:
        x = tones(size, generator)
        return x * value if (tmp_path / STATE).exists() else x

    with pytest.raises(UserError, match=r"^step 1: .*not finite") as caught:
        run(tiny_network(0, trained=False), batches)
    assert "\n" not in str(caught.value)
    state = load_file(tmp_path / STATE)  # the last good step's
    assert all(tensor.isfinite().all() for tensor in state.values())


class Clock:
    """Stands in for the time module: a step takes ``step`` seconds, by the batches drawn."""

    def __init__(self, step: float) -> None:
        self.step, self.now = step, 100.0

    def monotonic(self) -> float:
        return self.now

    time = process_time = monotonic

    def batches(self, size: int, generator: torch.Generator) -> Tensor:
        self.now += self.step
        return tones(size, generator)


def test_time_ends_a_run_and_is_counted_over_its_resumptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {"steps": 100, "seconds": 5.0}

    def start(run: Run, stop: int | None = None) -> State:
        clock = Clock(1.0)
        monkeypatch.setattr("mgdm_audio.training.loop.time", clock)
        return run(tiny_network(0, trained=False), clock.batches, stop)

    whole, broken = (Run(tmp_path / name, schedule=ends) for name in ("whole", "broken"))
    assert start(whole).step == 5
    with pytest.raises(KeyboardInterrupt):
        start(broken, stop=3)  # the last second goes with its step: saved after 2
    assert start(broken).step == 5
    a, b = (load_file(run.folder / STATE) for run in (whole, broken))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    rates = [r["lr"] for r in whole.records if "lr" in r]  # of the steps at 1, 3 and 4 seconds
    assert rates == [whole.schedule.at(step, float(step)) for step in (1, 3, 4)]
    # A finished run trains no further, and exports again; a longer one goes on.
    whole.exported.clear()
    assert start(whole).step == 5
    assert [step for step, _ in whole.exported] == [5]
    assert start(Run(tmp_path / "whole", schedule=ends | {"seconds": 7.0})).step == 7


def test_time_is_looked_at_with_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr("mgdm_audio.training.loop.time", clock)
    run = Run(tmp_path, schedule={"steps": 100, "seconds": 5.0}, look_every=4, save_every=1000)
    assert run(tiny_network(0, trained=False), clock.batches).step == 8


class Seen(nn.Module):
    """Keeps the noise that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.noise = nn.Parameter(torch.ones(())), list[Tensor]()

    def loss(
        self, x_0: Tensor, sigma: Tensor, noise: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        self.noise.append(noise.clone())
        return self.weight * sigma, self.weight * sigma


def test_every_step_draws_noise_of_its_own(tmp_path: Path) -> None:
    network = Seen()
    Run(tmp_path, schedule={"steps": 3})(network)
    assert len(network.noise) == 3
    cosines = torch.corrcoef(torch.stack([noise.flatten() for noise in network.noise]))
    # Of independent ones the correlation is 0 with a deviation of 1 / sqrt(values): 5 of them.
    assert (cosines - torch.eye(3)).abs().max() < 5 / network.noise[0].numel() ** 0.5


def test_a_log_that_was_cut_short_becomes_that_of_a_run_that_was_not(tmp_path: Path) -> None:
    x_0 = tones(2, torch.Generator().manual_seed(0))
    run = Run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_network(0, trained=False), stop=4, validation=x_0)
    # Saved at step 2, validated at 3; the line after that was cut short by the kill.
    with open(tmp_path / LOG, "a") as file:
        file.write('{"step": 4, "lo')
    run(tiny_network(0, trained=False), validation=x_0)
    steps = [(r["step"], "validation" in r) for r in run.records]
    whole = Run(tmp_path / "whole")
    whole(tiny_network(0, trained=False), validation=x_0)
    assert steps == [(r["step"], "validation" in r) for r in whole.records]
    # Done again, it exports again, and says no more.
    run(tiny_network(0, trained=False), validation=x_0)
    assert [(r["step"], "validation" in r) for r in run.records] == steps


def test_a_longer_schedule_takes_the_validation_of_its_end_back(tmp_path: Path) -> None:
    """An unbroken run would not have it."""
    x_0 = tones(2, torch.Generator().manual_seed(0))
    for steps in (4, 5):
        run = Run(tmp_path, schedule={"steps": steps}, validate_every=3)
        settings = {"training": {"validate_every": 3}}
        run(tiny_network(0, trained=False), validation=x_0, settings=settings)
    assert [r["step"] for r in run.records if "validation" in r] == [3, 5]


@pytest.mark.parametrize("full_from", [1, 2, 3, 4, 5])
def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_from: int
) -> None:
    """At the first save, or at one that replaces another: what is there stays whole."""

    def save(net: nn.Module, step: int) -> None:
        save_prior(tmp_path / "prior", net, TINY, "tf_unet", DETAILS | {"step": step})

    run = Run(tmp_path, schedule={"steps": 4})
    monkeypatch.setattr(run, "export", save)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk(full_from, []))
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make"):
            run(tiny_network(0, trained=False))
    assert leftovers(tmp_path) == []
    if (tmp_path / "prior").is_dir():
        load_prior(tmp_path / "prior")
    assert run(tiny_network(0, trained=False)).step == 4
    assert [r["step"] for r in run.records if "loss" in r][-1] == 4
    assert load_prior(tmp_path / "prior").config["step"] == 4


def test_a_run_that_is_killed_while_it_saves_can_be_used_at_every_moment(tmp_path: Path) -> None:
    network = tiny_network(0)
    state = State(network, torch.optim.AdamW(network.parameters()))

    def save(step: int) -> None:
        state.step = step
        state.save(tmp_path / STATE)
        save_prior(tmp_path / "prior", network, TINY, "tf_unet", DETAILS | {"step": step})

    found = []
    for _ in killed_at_every_moment(lambda: save(2), tmp_path, lambda: save(1)):
        read = State(network, torch.optim.AdamW(network.parameters()))
        read.load(tmp_path / STATE)
        found.append((read.step, load_prior(tmp_path / "prior").config["step"]))
    assert found == sorted(found)  # never back, and the prior is never before the state
    assert {*found} == {(1, 1), (2, 1), (2, 2)}
    save(1)
    assert leftovers(tmp_path) == []


def test_a_run_killed_while_it_saves_goes_on_from_the_save_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_network(0, trained=False), stop=3)

    def killed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mgdm_audio.training.state.save_tensors", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_network(0, trained=False))
    assert run(tiny_network(0, trained=False)).step == 7
    assert [r["step"] for r in run.records if "loss" in r] == [2, 4, 6, 7]


WORKER = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
import mgdm_audio.training.loop
from tests.training.test_loop import Clock, Run
from tests.toys import tiny_network

rank, room = int(os.environ["RANK"]), Path(sys.argv[1])
for name, schedule in (("steps", {"steps": 3}), ("seconds", {"steps": 100, "seconds": 3.0})):
    clock = mgdm_audio.training.loop.time = Clock(1.0 + 9 * rank)  # the second process's is ahead
    network = tiny_network(0, trained=False)
    state = Run(room / name, schedule=schedule)(network, clock.batches)
    tensors = {n: p.detach().contiguous() for n, p in network.named_parameters()}
    save_file(tensors | {f"average.{n}": v for n, v in state.average.items()},
              room / f"{name}{rank}.safetensors")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_end_at_one_step_with_equal_parameters(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launch, "--nproc-per-node", "2", str(tmp_path / "worker.py"), str(tmp_path)],
        env=environment | {"OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # a deadlock should fail, not hang
    )
    assert done.returncode == 0, done.stderr
    alone = tiny_network(0, trained=False)
    Run(tmp_path / "alone", schedule={"steps": 3})(alone)
    for name in ("steps", "seconds"):
        first, second = (load_file(tmp_path / f"{name}{rank}.safetensors") for rank in (0, 1))
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
        # They drew different examples: one process alone ends elsewhere.
        assert not torch.equal(first["enter.weight"], alone.get_parameter("enter.weight"))
        # And only one of them wrote, when the first one's time was over.
        records = [json.loads(s) for s in (tmp_path / name / LOG).read_text().splitlines()]
        assert [r["step"] for r in records] == [2, 3]
