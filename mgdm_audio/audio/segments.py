"""Any part of a sound file, again and again: what training reads, of formats that can seek."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mgdm_audio.audio.decoding import flac
from mgdm_audio.audio.decoding.chunks import find_sound
from mgdm_audio.audio.decoding.window import Piece, window
from mgdm_audio.errors import DamagedError, UserError

_REMEDY = "render it again"


class NotFinite(UserError):
    """A sample of ``path`` is NaN or infinity."""

    def __init__(self, path: Path, value: float, seconds: float) -> None:
        super().__init__(f"{path}: a sample is {value} at {seconds:.3f} s; {_REMEDY}")
        self.path = path


@dataclass(frozen=True)
class Segments:
    """A WAV, RF64, W64, AIFF, CAF, AU or FLAC file. Open it by ``open_segments``."""

    path: Path
    pieces: tuple[Piece, ...]  # what libsndfile is given, see ``window``
    frames: int  # samples a channel, all of which are there as far as the header tells
    channels: int
    sample_rate: int  # Hz

    def read(self, start: int, length: int) -> np.ndarray:
        """[time, channel] float32, ``length`` samples from ``start`` on, or fewer at the end.

        Raises UserError for a file that cannot be read, that has fewer samples than its header
        says, and NotFinite, which names the time.
        """
        wanted = max(0, min(length, self.frames - start))
        try:
            with (
                open(self.path, "rb") as file,
                soundfile.SoundFile(window(file, self.pieces)) as sound,
            ):
                sound.seek(start)
                data: np.ndarray = sound.read(wanted, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            raise _damaged(self.path, start / self.sample_rate, error) from None
        if len(data) < wanted:
            at = (start + len(data)) / self.sample_rate
            raise DamagedError(f"{self.path}: cut short or damaged at {at:.1f} s; {_REMEDY}")
        wrong = ~np.isfinite(data).all(1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            at = (start + first) / self.sample_rate
            value = data[first][~np.isfinite(data[first])][0]
            raise NotFinite(self.path, float(value), at)
        return data


def open_segments(path: Path) -> Segments:
    """The file, of which the header alone is read.

    Raises UserError for another format, several files joined to one, and a file that is cut short.
    """
    other = (
        f"{path}: cannot be read as one WAV or FLAC file of known length; "
        "bring it to that form by mgdm-audio prepare"
    )
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            sound = find_sound(file, size)
            pieces: tuple[Piece, ...] = ((0, size),) if sound is None else tuple(sound.pieces)
            if sound is None:
                head = file.seek(0) or file.read(4)
                streams = flac.find_streams(file, size) if head == b"fLaC" else []
                if len(streams) != 1 or not streams[0].samples:
                    raise UserError(other)
                pieces = streams[0].pieces
            elif find_sound(file, size, sound.end) is not None:
                raise UserError(other)
            with soundfile.SoundFile(window(file, pieces)) as found:
                frames, rate = found.frames, found.samplerate
                if sound is not None and sound.excess > 1:
                    raise DamagedError(
                        f"{path}: cut short, {frames / rate:.1f} of "
                        f"{frames * sound.excess / rate:.1f} s can be read; {_REMEDY}"
                    )
                return Segments(path, pieces, frames, found.channels, rate)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _damaged(path, None, error) from None


def _damaged(path: Path, at: float | None, error: Any) -> UserError:
    reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
    place = "" if at is None else f" from {at:.1f} s on"
    return UserError(f"{path}: cannot be read{place} ({str(reason).rstrip('.')}); {_REMEDY}")
