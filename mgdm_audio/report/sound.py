"""Encodes the sound of a page as FLAC, which all browsers decode, block by block.

It takes a twentieth of the time of MP3 and, at the depth of ``STEPS``, half as many bytes again.
"""

from __future__ import annotations

import base64
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from mgdm_audio.atomic import writing
from mgdm_audio.audio.encoding.writer import by_libsndfile
from mgdm_audio.audio.resampling import half_width, resample_span, resampled_length

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, that browsers play
STEPS = 2**12  # of the samples up to the next power of two above the track's peak
_LEVEL = 0.4  # of libsndfile's compression from 0 to 1: the next one takes half as long again
_PIECE = 3 * 2**16  # bytes that are coded as text at a time


def playable_rate(sample_rate: int) -> int:
    """Returns the rate of a page's sound: the next one of ``RATES``, or 48 kHz above them."""
    return next((r for r in RATES if r >= sample_rate), RATES[-1])


class Playable:
    """Converts [channel, time] to one or two channels at ``playable_rate``, block by block.

    ``time``: how many samples there will be. More channels than two are averaged to one.
    ``length``: how many samples it gives, at ``rate`` Hz.
    """

    def __init__(self, time: int, sample_rate: int) -> None:
        self.rate = playable_rate(sample_rate)
        self.length = resampled_length(time, sample_rate, self.rate)
        self._time, self._from, self._came, self._gave = time, sample_rate, 0, 0
        self._held, self._start = torch.zeros(0), 0
        common = math.gcd(sample_rate, self.rate)
        self._reach = half_width(sample_rate // common, self.rate // common) + 1

    def add(self, samples: Tensor) -> Tensor:
        """Takes the samples that follow, [channel, any]; returns those that are converted."""
        if len(samples) > 2:
            samples = samples.mean(0, keepdim=True)
        if self.rate == self._from:
            return samples
        self._came += samples.shape[-1]
        self._held = torch.cat([self._held, samples], -1) if len(self._held) else samples
        ready = self.length
        if self._came < self._time:
            ready = max(self._gave, (self._came - self._reach) * self.rate // self._from)
        found = samples.new_zeros(len(samples), 0)
        if ready > self._gave:
            span = (self._gave, ready)
            found = resample_span(self._read, self._time, self._from, self.rate, *span)
        self._gave = ready
        return found

    def _read(self, start: int, stop: int) -> Tensor:
        """What is before ``start`` is read no more."""
        self._held, self._start = self._held[:, start - self._start :], start
        return self._held[:, : stop - start]


def step_below(peak: float) -> float:
    """Returns the step of samples that reach ``peak``: a power of two, from 2^-15 to 1 / STEPS.

    FLAC stores as many bits of 16 as it needs for multiples of it.
    """
    exponent = math.ceil(math.log2(peak)) if peak > 0 else 0
    return float(min(1 / STEPS, max(2.0**exponent / STEPS, 2.0**-15)))


class Flac:
    """A FLAC file of [channel, time] within full scale, in an unnamed temporary file.

    ``page``: the file that it is for, beside which it is, and which errors name. ``step``: see
    ``step_below``. Equal samples give equal bytes. Raises UserError where the disk is full.
    """

    def __init__(self, page: Path, channels: int, sample_rate: int, step: float) -> None:
        self._page, self._step = page, step
        with writing(page):
            self._file = _Checked(page.parent)
        self._sound = soundfile.SoundFile(
            self._file,
            "w",
            sample_rate,
            channels,
            "PCM_16",
            format="FLAC",
            compression_level=_LEVEL,
        )

    def add(self, samples: Tensor) -> None:
        """Takes the samples that follow: [channel, any]."""
        scale = 1 / self._step  # a power of two: float32 is exact
        steps = (samples * scale).round_().clamp_(-scale, scale - 1)
        data = (steps * (2**15 * self._step)).to(torch.int16).T.contiguous().numpy()
        with writing(self._page), by_libsndfile(self._page):
            self._sound.write(data)

    def text(self) -> Iterator[bytes]:
        """Ends the file; yields it in base64."""
        with writing(self._page):
            self._sound.close()
            self._file.check()
            self._file.seek(0)
            with open(self._file.number, "rb", closefd=False) as file:
                while data := file.read(_PIECE):
                    yield base64.b64encode(data)

    def close(self) -> None:
        """Gives the disk space back."""
        self._sound.close()
        self._file.close()


class _Checked:
    """An unnamed temporary file for libsndfile, which drops the errors of its last bytes."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115  (see ``close``)
        self._error: OSError | None = None
        self.number = self._file.fileno()
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close
        self.read = self._file.read

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.number, rest) :]
        except OSError as error:  # raised in a callback, it would be printed and lost
            self._error = error
        return len(data) - len(rest)

    def check(self) -> None:
        """Raises the error that a ``write`` met."""
        if self._error is not None:
            raise self._error
