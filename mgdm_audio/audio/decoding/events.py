"""What decoders give: blocks of samples, and what is missing between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """Some samples in a row."""

    samples: np.ndarray  # [channel, time] float32, channels in the order of ``mask``'s bits
    rate: int  # Hz
    subtype: str  # libsndfile's name (PCM_16, ...) or FFmpeg's codec
    mask: int  # of speakers, see ``speakers``; 0: nobody said which they are


class Loss(NamedTuple):
    """Sound that was in the file and cannot be decoded, after the blocks so far."""

    seconds: float | None  # how much; None where nothing tells
    why: str
    at_end: bool = False  # the file ends before its sound does


class Total(NamedTuple):
    """The seconds that the file has by its header, which is exact; the last event."""

    seconds: float


Event = Block | Loss | Total


@dataclass(frozen=True)
class Missing:
    """A loss in sound that was read: ``at`` so many seconds of what was read."""

    at: float
    seconds: float | None
    why: str

    def __str__(self) -> str:
        much = "an unknown part" if self.seconds is None else f"{self.seconds:.2f} s"
        return f"{much} missing at {self.at:.1f} s ({self.why})"
