"""What a training run is told: how noise is drawn, how the rate falls, and everything else."""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor

from mgdm_audio.config import from_mapping
from mgdm_audio.ranges import (
    Checked,
    SettingError,
    at_least,
    not_negative,
    one_of,
    positive,
    within,
)
from mgdm_audio.training.augmentation import UNCHANGED, Augmentation

Kind = Literal["cosine", "stable"]
Precision = Literal["auto", "bf16", "no"]
_Share = Annotated[float, within("[0, 1]")]
_Positive = Annotated[float, positive()]
_NotNegative = Annotated[float, not_negative()]
_Steps = Annotated[int, at_least(0)]


@dataclass(frozen=True)
class NoiseLevels(Checked):
    """How noise levels are drawn: log sigma normal around log(center), clamped to its bounds.

    A share ``given`` of the examples also shows the network the mixture. Those lean to larger
    sigma: the mixture already fixes much of x_0, so the open questions are decided earlier.
    """

    center: _Positive = 0.067  # median of sigma where the mixture is not shown
    spread: _NotNegative = 1.5  # standard deviation of log sigma there
    given: _Share = 0.5  # share of the examples that also show the mixture
    given_center: _Positive = 0.3  # median of sigma in these
    given_spread: _NotNegative = 2.0  # standard deviation of log sigma in these
    minimum: _Positive = 5e-4  # least sigma
    maximum: _Positive = 20.0  # largest sigma

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minimum > self.maximum:
            raise SettingError(f"minimum = {self.minimum:g}: is over maximum = {self.maximum:g}")

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(sigma, given), each [batch]. Stratified over the batch: less gradient noise."""
        given = (torch.rand(batch, generator=generator) < self.given).float()
        u = (
            torch.randperm(batch, generator=generator) + torch.rand(batch, generator=generator)
        ) / batch
        normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.99999, 0.99999))
        center = math.log(self.center) + given * math.log(self.given_center / self.center)
        spread = self.spread + given * (self.given_spread - self.spread)
        return (center + spread * normal).exp().clamp(self.minimum, self.maximum), given


_Count = Annotated[int, at_least(1)]


@dataclass(frozen=True)
class OneCall(Checked):
    """Section [one_call]: further examples of every step, made as the preset ``default`` calls the
    network, with the mixture given and sigma at ``noise.maximum``.

    Their stems may be another separator's, which sum to a real recording: the network then learns
    to give in one call what the other gives (distillation). Such stems are estimates, on whose
    errors ``variance`` should not be trained.
    """

    train: str = ""  # songs as in data.train; empty: no such examples
    train_split: str = "train"  # of prepared data
    segment: _Count = 2**17  # samples
    batch: _Count = 2  # segments a step and process
    variance: bool = True  # train the reported variance on them too
    # A section of its own, with the settings of data.augment: what it does not give is off.
    augment: dict[str, Any] = field(default_factory=dict)

    def augmentation(self, where: str) -> Augmentation:
        """The section ``augment``. Raises ConfigError, which begins with ``where``."""
        return from_mapping(Augmentation, asdict(UNCHANGED) | self.augment, where)


@dataclass(frozen=True)
class Schedule(Checked):
    """Learning rate over ``steps``: linear warm-up, then "cosine", or "stable" until the last
    ``decay`` steps, which fall linearly to zero (a stable run may be extended at any time).

    With ``seconds`` the rate falls by whichever of steps and time is further on. The time is the
    main process's, taken where the loss is looked at; a resumed run goes on with what is left."""

    steps: Annotated[int, at_least(1)] = 10_000  # of the optimiser
    learning_rate: _NotNegative = 2e-3  # its largest value
    warmup: _Steps = 100  # steps
    # How the learning rate falls.
    kind: Annotated[Kind, one_of(*get_args(Kind))] = "cosine"
    decay: _Steps = 1_000  # steps of the fall of a stable run
    seconds: _NotNegative = 0.0  # training ends after these if ``steps`` are not done, 0: never

    def at(self, step: int, elapsed: float = 0.0) -> float:
        """The rate of a step after ``elapsed`` seconds of training, interruptions not counted."""
        left: float = self.steps - step
        if self.seconds:
            left = min(left, self.steps * (1 - elapsed / self.seconds))
        left = max(0.0, left)
        rate = self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1))
        if self.kind == "cosine":
            return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (1 - left / self.steps))))
        return rate * min(1.0, left / max(self.decay, 1))

    def over(self, step: int, elapsed: float) -> bool:
        return step >= self.steps or 0 < self.seconds <= elapsed


@dataclass(frozen=True)
class Training(Checked):
    """Everything but the network and the data."""

    seed: int = 0  # of the initial weights and of every draw
    batch: _Count = 6  # segments a step and process
    ema: _Share = 0.999  # decay of the average over the weights
    weight_decay: _NotNegative = 0.01  # of AdamW
    # Norm, of each of gradient_groups by itself.
    gradient_clip: Annotated[float, within("(0, inf]")] = 1.0
    # Of the network's matrix products, in validation of more of it: auto is bf16 where the device
    # is faster in it, else "no", float32. A CPU without instructions for bf16 is several times
    # slower in it.
    precision: Annotated[Precision, one_of(*get_args(Precision))] = "auto"
    compile: bool = False  # the trunk by torch.compile: for accelerators
    look_every: _Count = 1  # steps between looks at the loss: each waits for the device
    save_every: _Count = 200  # steps
    validate_every: _Count = 1_000  # steps
    # Noise levels.
    validation_sigmas: Annotated[tuple[float, ...], positive()] = (0.01, 0.03, 0.1, 0.3, 1.0)
    licence: str = ""  # of the weights, for the model card: an identifier of the hub, or any text
