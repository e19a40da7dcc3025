"""Sound files <-> tensors [channel, time]."""

import io
from dataclasses import replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.audio.encoding.wav import forget_time, set_mask, wav_form
from mgdm_audio.audio.pcm import SUBTYPES, storable
from mgdm_audio.audio.reading import (
    MAX_SECONDS,
    Audio,
    Policy,
    Reading,
    require_finite,
)
from mgdm_audio.errors import UserError

_FORMATS = {".wav": "WAV", ".flac": "FLAC"}


def read(
    path: str | Path,
    stream: int = 0,
    *,
    damaged: Policy = "keep",
    max_seconds: float = MAX_SECONDS,
) -> Audio:
    """A whole sound file in memory, see ``Reading``.

    Unlike there, and in every command, damage is no error by default: what can be decoded is
    returned with a ``SoundWarning``, and ``missing`` says what is lacking. ``damaged="refuse"``
    raises DamagedError.
    """
    reading = Reading(path, stream, damaged=damaged, max_seconds=max_seconds)
    blocks = list(reading)
    samples = torch.cat([block.samples for block in blocks], -1)
    return replace(
        blocks[0], samples=samples, missing=tuple(reading.missing), sha256=reading.sha256
    )


def write(
    path: str | Path, samples: Tensor, sample_rate: int, subtype: str = "PCM_16", mask: int = 0
) -> None:
    """Write [channel, time] as WAV or FLAC, whole or not at all (``mgdm_audio.atomic``).

    ``subtype``: PCM_16, PCM_24 or FLOAT (WAV only). PCM rounds to the nearest step and clips at
    full scale; what lies on the grid already is stored, and read again, bit for bit. Raises
    UserError for another suffix or subtype, samples that are not finite, what the format cannot
    hold (FLAC: 8 channels, 655,350 Hz), and a folder that cannot be written to. ``mask``: of the
    speakers (``speakers``); WAV files of more than two channels say it.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"{path}: suffix {path.suffix!r} is not written; use .wav or .flac")
    if subtype not in SUBTYPES:
        raise UserError(f"subtype {subtype!r} is unknown; use one of {', '.join(SUBTYPES)}")
    form = _FORMATS[path.suffix.lower()]
    if form == "FLAC" and subtype == "FLOAT":
        raise UserError(f"{path}: FLAC holds no FLOAT; use PCM_24 or .wav")
    samples = samples.detach().cpu()
    require_finite(path, samples)
    if form == "WAV":
        form = wav_form(samples.numel(), mask if samples.shape[0] > 2 else 0)
    # In memory first: libsndfile loses the reason of a failed write (a full disk).
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, storable(samples, subtype), sample_rate, subtype, format=form)
    except soundfile.LibsndfileError:
        raise UserError(
            f"{path}: {form} cannot hold {samples.shape[0]} channels at {sample_rate} Hz; use .wav"
        ) from None
    # Released at once: Python 3.12.1 crashes where the garbage collector meets it, in a traceback.
    with buffer.getbuffer() as data:
        if subtype == "FLOAT":
            forget_time(data)
        if form == "WAVEX":
            set_mask(data, mask)
        atomic.write_bytes(path, data)
