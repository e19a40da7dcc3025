"""WAV files: what a header says of the sound behind it, and a writer in constant memory."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import soundfile
from torch import Tensor

from mgdm_audio.audio.pcm import storable
from mgdm_audio.errors import UserError

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


_RIFF_LIMIT = 2**32 - 2**16  # bytes; the length field of WAV has 32 bits
_HEAD = 256  # bytes; the chunks before the samples take less


class WavWriter:
    """``write`` takes [channel, time] as often as one likes; the file is whole after ``close``.

    ``samples``: how many there will be, over all channels. ``subtype``: PCM_16, PCM_24 or FLOAT, as
    in ``io.write``. Raises UserError for samples that are not finite and what WAV cannot hold, and
    OSError where the file cannot be written.
    """

    def __init__(
        self, path: Path, channels: int, samples: int, sample_rate: int, subtype: str
    ) -> None:
        self.path, self.subtype, self._samples, self._done = path, subtype, samples, 0
        self._file = open(path, "xb+")  # noqa: SIM115  (closed by ``close``)
        try:
            # A descriptor, which stays ours: the data can be made to reach the disk.
            self._sound = soundfile.SoundFile(
                self._file.fileno(),
                "w",
                sample_rate,
                channels,
                subtype,
                format=wav_form(samples),
                closefd=False,
            )
        except soundfile.LibsndfileError:
            self._file.close()
            raise UserError(
                f"{path.name}: WAV cannot hold {channels} channels at {sample_rate} Hz"
            ) from None

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._sound.close()
            self._file.close()

    def write(self, samples: Tensor) -> None:
        """[channel, time], the samples that follow."""
        samples = samples.detach().cpu()
        if not samples.isfinite().all():
            wrong = samples[~samples.isfinite()][0].item()
            raise UserError(f"{self.path.name}: a sample is {wrong}; nothing is written")
        try:
            self._sound.write(storable(samples, self.subtype))
        except (soundfile.LibsndfileError, AssertionError):  # it loses the reason: a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from None
        self._done += samples.numel()

    def close(self) -> None:
        """Raises OSError where the file is not whole."""
        self._sound.close()
        with self._file as file:
            width = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[self.subtype]
            file.seek(0, os.SEEK_END)
            if self._done != self._samples or file.tell() < width * self._samples:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            if self.subtype == "FLOAT":
                file.seek(0)
                head = bytearray(file.read(_HEAD))
                forget_time(memoryview(head))
                file.seek(0)
                file.write(head)
            file.flush()
            os.fsync(file.fileno())


def wav_form(samples: int) -> str:
    """WAV, or RF64 (the same, with 64-bit lengths) where so many samples need it."""
    return "RF64" if samples * 4 > _RIFF_LIMIT else "WAV"


def forget_time(wav: memoryview) -> None:
    """Set the clock that libsndfile puts into float files to 0: equal samples give equal bytes.

    The PEAK chunk stands before the samples: its name, size, version and then the time.
    """
    peak = bytes(wav[:_HEAD]).find(b"PEAK")
    if peak >= 0:
        wav[peak + 12 : peak + 16] = bytes(4)
