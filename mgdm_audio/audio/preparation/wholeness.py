"""Whether a sound file holds every sample that its header promises.

Decoders go on where a file is cut short: libsndfile takes the length of a WAV file from what is
left of it. In a song to listen to that is welcome, in a true stem it is a silent error.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import soundfile

from mgdm_audio.audio.ffmpeg import promised_samples
from mgdm_audio.audio.io import read_blocks
from mgdm_audio.errors import UserError

_UNKNOWN = 0x7FFFF000  # bytes; programs that write WAV to a pipe promise as much or more, or 0


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
    with open(path, "rb") as file:
        form = file.read(12)
        if form[:4] != b"RIFF" or form[8:] != b"WAVE":
            try:
                frames = soundfile.info(str(path)).frames
            except soundfile.LibsndfileError:
                return promised_samples(path, stream)
            return frames if frames < 2**62 else 0
        align = 0
        while len(header := file.read(8)) == 8:
            name, size = header[:4], struct.unpack("<I", header[4:])[0]
            if name == b"data":
                return size // align if align and size < _UNKNOWN else 0
            body = file.read(size + size % 2)
            if name == b"fmt " and len(body) >= 14:
                align = struct.unpack("<H", body[12:14])[0]
    return 0
