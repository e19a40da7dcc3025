"""WAV files, written in constant memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import soundfile
from torch import Tensor

from mgdm_audio.audio.encoding.writer import Writer, by_libsndfile
from mgdm_audio.audio.pcm import storable
from mgdm_audio.errors import UserError

_RIFF_LIMIT = 2**32 - 2**16  # bytes; the length field of WAV has 32 bits
_HEAD = 256  # bytes; the chunks before the samples take less
# Names of tags -> libsndfile's of those that it writes to the chunk LIST INFO.
TEXTS = {
    name: name for name in ("title", "artist", "album", "date", "genre", "comment", "copyright")
} | {"track": "tracknumber"}


class WavWriter(Writer):
    """``write`` takes [channel, time] as often as one likes; the file is whole after ``close``.

    ``samples``: how many there will be, over all channels. ``subtype``: PCM_16, PCM_24 or FLOAT, as
    in ``io.write``. ``mask``: of the speakers of more than two channels. ``texts``: title, artist
    and what else ``TEXTS`` has. Raises UserError for samples that are not finite and what WAV
    cannot hold, and OSError where the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        channels: int,
        samples: int,
        sample_rate: int,
        subtype: str,
        mask: int = 0,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self._mask, self._texts = mask if channels > 2 else 0, texts or {}
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
                format=wav_form(samples, self._mask),
                closefd=False,
            )
        except soundfile.LibsndfileError:
            self._file.close()
            raise UserError(
                f"{path.name}: WAV cannot hold {channels} channels at {sample_rate} Hz"
            ) from None

    def write(self, samples: Tensor) -> None:
        """[channel, time], the samples that follow."""
        samples = samples.detach().cpu()
        if not samples.isfinite().all():
            wrong = samples[~samples.isfinite()][0].item()
            raise UserError(f"{self.path.name}: a sample is {wrong}; nothing is written")
        with by_libsndfile(self.path):
            self._sound.write(storable(samples, self.subtype))
        self._done += samples.numel()

    def abandon(self) -> None:
        self._sound.close()
        self._file.close()

    def close(self) -> None:
        """Raises OSError where the file is not whole."""
        for name, field in TEXTS.items():  # set now, they come after the samples
            if name in self._texts:
                setattr(self._sound, field, self._texts[name])
        self._sound.close()
        with self._file as file:
            width = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[self.subtype]
            file.seek(0, os.SEEK_END)
            if self._done != self._samples or file.tell() < width * self._samples:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            file.seek(0)
            head = bytearray(file.read(_HEAD))
            if self.subtype == "FLOAT":
                forget_time(memoryview(head))
            if self._mask:
                set_mask(memoryview(head), self._mask)
            file.seek(0)
            file.write(head)
            file.flush()
            os.fsync(file.fileno())


def wav_form(samples: int, mask: int = 0) -> str:
    """WAV, RF64 (with 64-bit lengths) where so many samples need it, WAVEX for a mask."""
    if samples * 4 > _RIFF_LIMIT:
        return "RF64"
    return "WAVEX" if mask else "WAV"


def set_mask(wav: memoryview, mask: int) -> None:
    """Say which speakers the channels are for, where the format chunk is WAVEFORMATEXTENSIBLE."""
    place = bytes(wav[:_HEAD]).find(b"fmt ")
    if place >= 0 and bytes(wav[place + 8 : place + 10]) == b"\xfe\xff":
        wav[place + 28 : place + 32] = mask.to_bytes(4, "little")


def forget_time(wav: memoryview) -> None:
    """Set the clock that libsndfile puts into float files to 0: equal samples give equal bytes.

    The PEAK chunk stands before the samples: its name, size, version and then the time.
    """
    peak = bytes(wav[:_HEAD]).find(b"PEAK")
    if peak >= 0:
        wav[peak + 12 : peak + 16] = bytes(4)
