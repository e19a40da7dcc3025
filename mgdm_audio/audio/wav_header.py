"""What the header of a WAV file says of the sound behind it: RIFF, and RF64 beyond 4 GB."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

# Bytes of sound. Programs that write into a pipe cannot know them: FFmpeg then writes 2^32 - 1, SoX
# 2^31 - 4096, others 0. Nobody means a length of exactly that.
OPEN_FROM = 0x7FFF0000


@dataclass(frozen=True)
class WavHeader:
    """Of one file. ``promised``: bytes of sound, None where the length was left open."""

    start: int  # of the sound, bytes into the file
    align: int  # bytes of a frame, 0 where no format came before the sound
    promised: int | None

    @property
    def frames(self) -> int | None:
        """Samples a channel that are promised; None where that is not said."""
        return self.promised // self.align if self.promised is not None and self.align else None


def wav_header(path: Path) -> WavHeader | None:
    """The header of the file; None where it is no WAV file, or holds no chunk of sound.

    RIFF WAVE (Microsoft and IBM 1991) and RF64 (EBU Tech 3306), whose ``ds64`` chunk holds the
    length. Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        form = file.read(12)
        if form[:4] not in (b"RIFF", b"RF64") or form[8:] != b"WAVE":
            return None
        align, long_length = 0, None
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                if form[:4] == b"RF64" and length == 0xFFFFFFFF and long_length is not None:
                    return WavHeader(file.tell(), align, long_length)
                known = 0 < length < OPEN_FROM
                return WavHeader(file.tell(), align, length if known else None)
            after = file.tell() + length + length % 2
            if name == b"fmt " and len(body := file.read(min(length, 16))) >= 14:
                align = struct.unpack("<H", body[12:14])[0]
            elif name == b"ds64" and len(body := file.read(min(length, 16))) == 16:
                long_length = struct.unpack("<Q", body[8:16])[0]
            file.seek(after, os.SEEK_SET)
    return None
