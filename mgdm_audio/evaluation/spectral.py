"""Distances between spectrograms, which compare magnitudes and ignore phases."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

MEL_BANDS = 80
MEL_WINDOW = 2048 / 22050  # seconds; the hop is a quarter of it
MEL_FLOOR = 1e-8  # the least power, -80 dB
_MEL_FRAMES = 64  # the number of frames whose spectra are in memory at a time


def log_mel(samples: Tensor, sample_rate: int) -> Tensor:
    """Returns the log-mel spectrogram in dB: [..., time] -> [..., frame, band], float32.

    The power of an STFT (Hann windows of 93 ms every 23 ms, zero padding at the ends) is divided by
    the square of the window's sum: a sine of amplitude 1 has a peak of -6 dB. Its bins are summed
    over 80 triangles of height 1 on Slaney's mel scale from 0 Hz to half the rate and clamped at
    -80 dB.
    """
    length, hop = mel_lengths(sample_rate)
    frames = F.pad(samples.float(), (length // 2, length - length // 2)).unfold(-1, length, hop)
    # Some at a time, because the spectra of a whole track are large.
    power = [mel_power(part, sample_rate) for part in frames.split(_MEL_FRAMES, -2)]
    return 10 * torch.cat(power, -2).clamp(min=MEL_FLOOR).log10()


def mel_lengths(sample_rate: int) -> tuple[int, int]:
    """Returns the length and the hop of the frames of ``log_mel`` in samples."""
    length = round(MEL_WINDOW * sample_rate)
    return length, max(1, length // 4)


def mel_power(frames: Tensor, sample_rate: int) -> Tensor:
    """Returns the power in the bands of ``log_mel``: [..., frame, sample] -> [..., frame, band]."""
    window, triangles = _mel_filters(sample_rate)
    bins = torch.fft.rfft(frames * window)
    return torch.addcmul(bins.real.square(), bins.imag, bins.imag) @ triangles


@lru_cache(maxsize=4)
def _mel_filters(sample_rate: int) -> tuple[Tensor, Tensor]:
    """Returns a window [sample] with the sum 1 and the triangles [bin, band]."""
    from torchaudio.functional import melscale_fbanks

    length, _ = mel_lengths(sample_rate)
    window = torch.hann_window(length)
    with warnings.catch_warnings():
        # At rates below 2 kHz the lowest triangles contain no bin and are at the floor.
        warnings.simplefilter("ignore", UserWarning)
        triangles = melscale_fbanks(
            length // 2 + 1, 0.0, sample_rate / 2, MEL_BANDS, sample_rate, mel_scale="slaney"
        )
    return window / window.sum(), triangles


def mel_centres(sample_rate: int) -> Tensor:
    """Returns the centre frequencies of ``log_mel`` in Hz: [band], float64."""
    top = sample_rate / 2  # Slaney: linear to 1 kHz, logarithmic above
    mel = 15 + 27 * math.log(top / 1000) / math.log(6.4) if top > 1000 else top * 3 / 200
    points = torch.linspace(0, mel, MEL_BANDS + 2, dtype=torch.float64)[1:-1]
    return torch.where(points < 15, points * 200 / 3, 1000 * 6.4 ** ((points - 15) / 27))


def log_mel_l1(estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
    """Returns the mean absolute difference of ``log_mel`` in dB: [stem, channel, time] -> [stem].

    The mean is over channels, frames and bands. Lower is better; 0 means equal magnitudes down to
    the floor of -80 dB. Silent sounds are at the floor and are scored like others.
    """
    stems = []
    for e, s in zip(estimates, references, strict=True):
        # One channel at a time, because spectrograms of a whole track are large.
        parts = [
            (log_mel(x, sample_rate) - log_mel(y, sample_rate)).abs().double().mean()
            for x, y in zip(e, s, strict=True)
        ]
        stems.append(torch.stack(parts).mean())
    return torch.stack(stems)


RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT, hop, window: samples
FRAMES = 4096  # the number of frames in memory at a time


def multi_resolution_stft(estimates: Tensor, references: Tensor) -> Tensor:
    """Returns the multi-resolution STFT distance (arXiv 1910.11480, eq. 3 to 6): [stem], float64.

    estimates, references: [stem, channel, time]. It is the mean over channels and ``RESOLUTIONS``
    of

        |S - E| / |S| + mean |ln S - ln E|

    where S and E are magnitudes of a whole channel (Hann windows, reflected at the ends, at least
    1e-4, the square root of auraloss' 1e-8) and |.| is the Frobenius norm. 0 is perfect, a silent
    estimate has at least 1, a silent reference NaN. Of the metrics without a network it agrees best
    with listeners on generated stems (Bereuter et al. 2025, arXiv 2507.11427).
    """
    values = []
    for e, s in zip(estimates.double(), references.double(), strict=True):
        each = [
            _distance(x, y, *resolution)
            for x, y in zip(e, s, strict=True)
            for resolution in RESOLUTIONS
        ]
        values.append(torch.stack(each).mean() if bool(s.any()) else e.new_tensor(math.nan))
    return torch.stack(values)


def _distance(estimate: Tensor, reference: Tensor, size: int, hop: int, length: int) -> Tensor:
    """Computes the distance of two signals [time] at one resolution, in blocks of frames."""
    window = F.pad(torch.hann_window(length, dtype=estimate.dtype), _around(size, length))
    frames = [_frames(x, size, hop) for x in (estimate, reference)]
    error = power = logs = estimate.new_zeros(())
    count = len(frames[0])
    for first in range(0, count, FRAMES):
        e, s = (
            torch.fft.rfft(window * x[first : first + FRAMES]).abs().clamp_min(1e-4) for x in frames
        )
        error = error + (s - e).square().sum()
        power = power + s.square().sum()
        logs = logs + (s.log() - e.log()).abs().sum()
    return (error / power).sqrt() + logs / (count * (size // 2 + 1))


def _around(size: int, length: int) -> tuple[int, int]:
    """Returns the zeros before and after a window of ``length`` in a frame of ``size``."""
    before = (size - length) // 2
    return before, size - length - before


def _frames(x: Tensor, size: int, hop: int) -> Tensor:
    """Returns a view of [time] as [frame, size]; the first frame is centred on sample 0."""
    half = size // 2
    x = F.pad(x, (0, max(0, half + 1 - len(x))))  # the reflection needs half + 1 samples
    return F.pad(x[None], (half, half), mode="reflect")[0].unfold(0, size, hop)
