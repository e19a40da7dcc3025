"""One image restored: its draws, what they were made from, and the folder they are written to."""

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
    """Draws of one image given an observation, in [-1, 1]; ``report`` is ready for JSON."""

    draws: Tensor  # [draw, channel, height, width]
    y: Tensor  # [*observation]
    noise_std: float  # of y
    report: dict[str, Any]
    original: Tensor | None = None  # [channel, height, width], where y was made from it
    symmetries: ShiftsAndTurn | None = None  # of the operator that made it

    @property
    def mean(self) -> Tensor:
        """``[channel, height, width]``, the estimate of least squared error."""
        return self.draws.mean(0)

    @property
    def std(self) -> Tensor | None:
        """``[channel, height, width]``, N - 1 in the denominator; None of a single draw."""
        return self.draws.std(0) if len(self.draws) > 1 else None

    @property
    def _spread(self) -> Tensor | None:
        """``[1, height, width]``: ``std``, its root mean square over the channels."""
        return None if self.std is None else self.std.square().mean(0, keepdim=True).sqrt()

    @property
    def is_picture(self) -> bool:
        """Whether the observation can be looked at: one or three channels that keep the range.

        By more than 6 noise_std, noise does not leave it; a Fourier transform does.
        """
        within = bool((self.y.abs() <= 1 + 6 * self.noise_std).all())
        return self.y.ndim == 3 and self.y.shape[0] in (1, 3) and within

    def scores(self, lpips: Distance | None = None) -> dict[str, Any] | None:
        """``compare`` of the mean and of every draw with the original, where there is one.

        Where the operator cannot tell some images apart, draws may show different ones of them;
        their mean is then none of these.
        """
        if self.original is None:
            return None
        scores = [
            compare(x, self.original, lpips, self.symmetries) for x in (self.mean, *self.draws)
        ]
        return {"mean": scores[0], "draws": scores[1:]}

    def save(self, folder: str | Path, lpips: Distance | None = None) -> dict[str, Any]:
        """Write the images and report.json to a new folder; returns what the report holds.

        observation.npy is y as it was given to the sampler, observation.png what can be seen of
        it; std.png is white at the largest value, which the report has. Whole or not at all:
        raises UserError where the folder exists already or cannot be made.
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
        """Original, observation, draws, mean and spread side by side, those that there are."""
        size = self.draws.shape[-2:]
        images = [] if self.original is None else [self.original]
        if self.is_picture:
            seen = self.y[None].cpu().float()
            images.append(F.interpolate(seen, size, mode="nearest")[0])
        images += [*self.draws, self.mean]
        if self._spread is not None:
            images.append(_grey(self._spread))
        channels = max(len(image) for image in images)
        framed = [F.pad(image.expand(channels, -1, -1), (0, GAP), value=1.0) for image in images]
        return torch.cat(framed, -1)[..., :-GAP]


def is_restored(folder: Path, asked: Mapping[str, Any], y: Tensor, original: Tensor | None) -> bool:
    """Whether ``folder`` holds what restoring ``y`` would write.

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
    """White at the largest value, black at 0."""
    return 2 * spread / spread.max().clamp_min(1e-12) - 1
