"""The result of restoring one image: its draws and observation, and how they are saved."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import png, read_observation
from mgdm_audio.images.metrics import Distance, compare
from mgdm_audio.measurement import ShiftsAndTurn
from mgdm_audio.reading import read_json

RECORD, OBSERVATION = "report.json", "observation.npy"
WHERE = ("batch_size", "device", "device_reason")  # keys of the report that decide no pixel
GAP = 2  # pixels between the images of a sheet


@dataclass(frozen=True)
class Restoration:
    """A ``Restoration`` holds posterior draws of one image given an observation, in [-1, 1]."""

    draws: Tensor  # [draw, channel, height, width]
    y: Tensor  # the observation, [*observation]
    noise_std: float  # of y
    report: dict[str, Any]  # how the draws were made, as JSON values
    original: Tensor | None = None  # [channel, height, width], if y was simulated from it
    symmetries: ShiftsAndTurn | None = None  # of the forward operator

    @property
    def mean(self) -> Tensor:
        """The mean of the draws, ``[channel, height, width]``: the least squares estimate."""
        return self.draws.mean(0)

    @property
    def std(self) -> Tensor | None:
        """The standard deviation of the draws (N - 1 in the denominator); None for one draw."""
        return self.draws.std(0) if len(self.draws) > 1 else None

    @property
    def _spread(self) -> Tensor | None:
        """The root mean square of ``std`` over the channels: ``[1, height, width]``."""
        return None if self.std is None else self.std.square().mean(0, keepdim=True).sqrt()

    @property
    def is_picture(self) -> bool:
        """Returns whether the observation is an image: 1 or 3 channels within the range of images.

        Noise does not exceed the range by more than 6 noise_std; a Fourier transform does.
        """
        within = bool((self.y.abs() <= 1 + 6 * self.noise_std).all())
        return self.y.ndim == 3 and self.y.shape[0] in (1, 3) and within

    def scores(self, lpips: Distance | None = None) -> dict[str, Any] | None:
        """Compares the mean and every draw with the original, by ``compare``; None without one.

        If several images have the same observation, draws may differ in which of them they are, and
        their mean is none of them.
        """
        if self.original is None:
            return None
        scores = [
            compare(x, self.original, lpips, self.symmetries) for x in (self.mean, *self.draws)
        ]
        return {"mean": scores[0], "draws": scores[1:]}

    def save(self, folder: str | Path, lpips: Distance | None = None) -> dict[str, Any]:
        """Writes the images and report.json to a new folder and returns the report's contents.

        observation.npy is the y of the sampler, observation.png the same as an image if it is one;
        std.png is white at the largest value, ``std_white`` of the report. The folder is written
        whole or not at all. Raises UserError if it exists or cannot be made.
        """
        spread = self._spread
        white = None if spread is None else float(spread.max())
        record = self.report | {"scores": self.scores(lpips), "std_white": white}
        files = {f"restored_{i}.png": png(draw) for i, draw in enumerate(self.draws)}
        files |= {"mean.png": png(self.mean), "sheet.png": png(self.sheet())}
        if spread is not None:
            files["std.png"] = png(_grey(spread))
        if self.original is not None:
            files["original.png"] = png(self.original)
        if self.is_picture:
            files["observation.png"] = png(self.y)
        array = io.BytesIO()
        np.save(array, self.y.cpu().numpy(), allow_pickle=False)
        files[OBSERVATION] = array.getvalue()
        files[RECORD] = (json.dumps(record, indent=2) + "\n").encode()
        with atomic.new_folder(folder) as partial:
            for name, content in files.items():
                (partial / name).write_bytes(content)
        return record

    def sheet(self) -> Tensor:
        """Returns original, observation, draws, mean and spread in a row, those that exist."""
        size = self.draws.shape[-2:]
        images = [] if self.original is None else [self.original]
        if self.is_picture:
            observed = self.y[None].cpu().float()
            images.append(F.interpolate(observed, size, mode="nearest")[0])
        images += [*self.draws, self.mean]
        if self._spread is not None:
            images.append(_grey(self._spread))
        channels = max(len(image) for image in images)
        framed = [F.pad(image.expand(channels, -1, -1), (0, GAP), value=1.0) for image in images]
        return torch.cat(framed, -1)[..., :-GAP]


def is_restored(folder: Path, asked: Mapping[str, Any], y: Tensor, original: Tensor | None) -> bool:
    """Returns whether ``folder`` holds what restoring ``y`` would write.

    Its report has the settings ``asked`` for (``Restorer.asked``), and scores if there is an
    ``original``; its observation is ``y``, bit for bit.
    """
    try:
        report = read_json(folder / RECORD)
        observed = read_observation(folder / OBSERVATION, y.shape)
    except (OSError, ValueError, UserError):
        return False
    wanted = {k: v for k, v in json.loads(json.dumps(dict(asked))).items() if k not in WHERE}
    return (
        isinstance(report, dict)
        and all(k in report and report[k] == v for k, v in wanted.items())
        and (report.get("scores") is None) == (original is None)
        and torch.equal(observed, y.cpu().float())
    )


def _grey(spread: Tensor) -> Tensor:
    """Maps a spread to grey, white at the largest value and black at 0."""
    return 2 * spread / spread.max().clamp_min(1e-12) - 1
