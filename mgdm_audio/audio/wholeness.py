"""Whether a sound file holds every sample that its header promises.

Decoders go on where a file is cut short: libsndfile takes the length of a WAV file from what is
left of it. In a song to listen to that is welcome, in a true stem it is a silent error.
"""

from dataclasses import dataclass
from pathlib import Path

import soundfile

from mgdm_audio.audio.ffmpeg import promised_samples
from mgdm_audio.audio.io import read_blocks
from mgdm_audio.audio.wav import wav_header
from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Extent:
    """How much sound a file holds."""

    frames: int
    channels: int
    sample_rate: int  # Hz


def measure(path: Path, stream: int = 0) -> Extent:
    """Decode one stream of sound of the file to its end, and keep nothing of it.

    Raises UserError for what ``io.read`` refuses, and where as little as one sample is missing at
    the end, or of a file that FFmpeg decodes, a millisecond.
    """
    frames = channels = sample_rate = 0
    for block in read_blocks(path, stream):
        channels, sample_rate = block.samples.shape[0], block.sample_rate
        frames += block.samples.shape[-1]
    promised = _promised(path, stream)
    if frames < promised:
        raise UserError(f"{path}: cut short, {frames} of {promised} samples; fetch it again")
    return Extent(frames, channels, sample_rate)


def _promised(path: Path, stream: int) -> int:
    """Samples a channel by the header; 0 where it does not say."""
    if header := wav_header(path):
        return header.frames or 0
    try:
        frames = soundfile.info(str(path)).frames
    except soundfile.LibsndfileError:
        return promised_samples(path, stream)
    return frames if frames < 2**62 else 0
