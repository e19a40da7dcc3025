"""Distance of log-mel spectrograms."""

import math
import warnings

import torch
from torch import Tensor

BANDS = 80
WINDOW = 2048 / 22050  # seconds; the hop is a quarter of it
FLOOR = 1e-8  # of power: -80 dB


def log_mel(samples: Tensor, sample_rate: int) -> Tensor:
    """Log-mel spectrogram in dB: [..., time] -> [..., frame, band], float32.

    Power of an STFT (Hann windows of 93 ms every 23 ms, zeros around the ends) over the square of
    the window's sum: a sine of amplitude 1 has a peak of -6 dB. The bins are summed over 80
    triangles of height 1 on Slaney's mel scale from 0 Hz to half the rate; less than -80 dB is -80.
    """
    from torchaudio.functional import melscale_fbanks

    length = round(WINDOW * sample_rate)
    window = torch.hann_window(length)
    spectrum = torch.stft(
        samples.float(),
        length,
        max(1, length // 4),
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = (spectrum / window.sum()).abs().square()
    with warnings.catch_warnings():
        # Below 2 kHz the lowest triangles hold no bin; they are at the floor in both sounds.
        warnings.simplefilter("ignore", UserWarning)
        triangles = melscale_fbanks(
            length // 2 + 1, 0.0, sample_rate / 2, BANDS, sample_rate, mel_scale="slaney"
        )
    return 10 * (power.mT @ triangles).clamp(min=FLOOR).log10()


def mel_centres(sample_rate: int) -> Tensor:
    """Where the triangles of ``log_mel`` peak, in Hz: [band], float64."""
    top = sample_rate / 2  # Slaney: linear to 1 kHz, logarithmic above
    mel = 15 + 27 * math.log(top / 1000) / math.log(6.4) if top > 1000 else top * 3 / 200
    points = torch.linspace(0, mel, BANDS + 2, dtype=torch.float64)[1:-1]
    return torch.where(points < 15, points * 200 / 3, 1000 * 6.4 ** ((points - 15) / 27))


def log_mel_l1(estimates: Tensor, references: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of ``log_mel`` in dB: [stem, channel, time] twice -> [stem].

    The mean is over channels, frames and bands; lower is better, 0 is perfect to the ear down to
    the floor. Silent sounds are at the floor, and scored like others.
    """
    stems = []
    for e, s in zip(estimates, references, strict=True):
        # A channel at a time: spectrograms of a whole track are large.
        parts = [
            (log_mel(x, sample_rate) - log_mel(y, sample_rate)).abs().double().mean()
            for x, y in zip(e, s, strict=True)
        ]
        stems.append(torch.stack(parts).mean())
    return torch.stack(stems)
