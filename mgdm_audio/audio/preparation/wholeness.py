"""Whether a sound file holds every sample that its header promises.

Decoders go on where a file is cut short: libsndfile takes the length of a WAV file from what is
left of it. In a song to listen to that is welcome, in a true stem it is a silent error.
"""

import struct
from pathlib import Path

import soundfile

from mgdm_audio.audio.io import Audio, read
from mgdm_audio.errors import UserError

_UNKNOWN = 0x7FFFF000  # bytes; programs that write WAV to a pipe promise as much or more, or 0


def read_whole(path: Path) -> Audio:
    """``io.read``. Raises UserError too where as little as one sample is missing at the end."""
    audio = read(path)
    frames = audio.samples.shape[-1]
    promised = _promised(path)
    if frames < promised:
        raise UserError(f"{path}: cut short, {frames} of {promised} samples; fetch it again")
    return audio


def _promised(path: Path) -> int:
    """Samples a channel by the header; 0 where it does not say."""
    with open(path, "rb") as file:
        form = file.read(12)
        if form[:4] != b"RIFF" or form[8:] != b"WAVE":
            frames = soundfile.info(str(path)).frames
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
