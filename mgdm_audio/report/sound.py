"""Encodes sound as MP3, which all browsers decode."""

import io

import numpy as np
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.resampling import resample
from mgdm_audio.errors import UserError

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, of MPEG-1, 2 and 2.5
QUALITY = 0.2  # LAME's V2, about 190 kbit/s of stereo at 44.1 kHz


def playable(samples: Tensor, sample_rate: int) -> tuple[Tensor, int]:
    """Converts [channel, time] to one or two channels at one of ``RATES``, which MP3 supports.

    More channels are averaged to one; a rate is raised to the next one, or lowered to 48 kHz.
    """
    rate = next((r for r in RATES if r >= sample_rate), RATES[-1])
    if len(samples) > 2:
        samples = samples.mean(0, keepdim=True)
    return resample(samples, sample_rate, rate), rate


def to_mp3(samples: Tensor, sample_rate: int) -> bytes:
    """Encodes [channel, time] as MP3 with the exact number of samples in its header.

    Equal samples give equal bytes. Raises UserError where libsndfile is too old for MP3.
    """
    if "MP3" not in soundfile.available_formats():
        version = soundfile.__libsndfile_version__
        raise UserError(f"libsndfile {version} writes no MP3; pip install --upgrade soundfile")
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer,
        "w",
        sample_rate,
        len(samples),
        "MPEG_LAYER_III",
        format="MP3",
        compression_level=QUALITY,
        bitrate_mode="VARIABLE",
    ) as file:
        file.write(np.ascontiguousarray(samples.to(torch.float32).T.numpy()))
    return buffer.getvalue()
