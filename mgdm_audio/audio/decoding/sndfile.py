"""Decoding by libsndfile: WAV, W64, AIFF, CAF, AU, FLAC, MP3, Ogg and what else it knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from mgdm_audio.audio.decoding.events import Block, Event, Loss
from mgdm_audio.audio.speakers import usual, vorbis_mask, vorbis_order

_BLOCK = 1 << 18  # samples of two channels read at a time: a damaged header may promise any number


class Refused(Exception):
    """libsndfile cannot read a file; the reason."""


def seconds(file: BinaryIO) -> float:
    """How long it expects the sound to be. Raises Refused."""
    file.seek(0)
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            return float(sound.frames / max(1, sound.samplerate))
    except soundfile.LibsndfileError as error:
        raise Refused(_reason(error)) from None


def decode(file: BinaryIO, mask: int = 0, excess: float | None = 1.0) -> Iterator[Event]:
    """The sound of a file that is open.

    ``mask``: of the speakers, where the container's header said so. ``excess``: the samples that
    its header promises over those that libsndfile expects; None: what it expects is a guess.
    Raises Refused where nothing can be read.
    """
    done, rate, expected = 0, 1, 0
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            rate, channels, expected = sound.samplerate, sound.channels, sound.frames
            order = None
            if sound.subtype in ("VORBIS", "OPUS") and channels > 2:
                mask, order = vorbis_mask(channels), vorbis_order(channels)
            mask = usual(mask, channels)
            frames = max(1, _BLOCK * 2 // max(2, channels))
            while len(block := sound.read(frames, dtype="float32", always_2d=True)):
                done += len(block)
                samples = block.T if order is None else block.T[order]
                yield Block(np.ascontiguousarray(samples), rate, sound.subtype, mask)
    except soundfile.LibsndfileError as error:
        if not done:
            raise Refused(_reason(error)) from None
        missing = (expected - done) / rate if excess is not None else None
        yield Loss(missing, _reason(error))
        return
    if excess is not None and (excess > 1 or done < expected):
        yield Loss((expected * excess - done) / rate, "the file ends before", True)


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string.rstrip(".") or "an error without a name")
