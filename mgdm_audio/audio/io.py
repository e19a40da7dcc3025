"""Sound files <-> tensors [channel, time]."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.audio.ffmpeg import check_whole, decode
from mgdm_audio.audio.pcm import SUBTYPES, storable
from mgdm_audio.audio.wav import forget_time, wav_form, wav_header
from mgdm_audio.errors import UserError

_BLOCK = 1 << 18  # frames read at a time
RATES = range(100, 1_000_001)  # Hz; outside, the header is damaged
_FORMATS = {".wav": "WAV", ".flac": "FLAC"}


@dataclass(frozen=True)
class Audio:
    """What a sound file holds."""

    samples: Tensor  # [channel, time] float32, full scale 1.0
    sample_rate: int  # Hz
    subtype: str  # how the file stores samples: libsndfile's name (PCM_16, ...) or FFmpeg's codec


def read(path: str | Path) -> Audio:
    """Read a whole sound file: wav, flac, ogg, mp3, aiff, ...; with PyAV also m4a, aac, wma, webm.

    The content decides, never the suffix. Raises UserError, in one line, for a path that is no
    readable file, content that is no sound or is cut short, no samples, and samples that are not
    finite.
    """
    blocks = list(read_blocks(path))
    samples = torch.cat([block.samples for block in blocks], -1)
    return Audio(samples, blocks[0].sample_rate, blocks[0].subtype)


def read_blocks(path: str | Path, stream: int = 0) -> Iterator[Audio]:
    """``read`` in consecutive blocks, at least one, each of a few hundred thousand samples at most.

    ``stream``: which stream of sound, from 0, of a file that may have several (mp4). Raises what
    ``read`` raises, if only where the damage is met, and UserError for a stream that is not there.
    """
    path, frames = Path(path), 0
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give a sound file")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no regular file; give a sound file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise UserError(f"{path}: is empty (0 bytes); fetch or export it again")
            # A descriptor, not the name: libsndfile would let some suffixes overrule the content.
            for samples, sample_rate, subtype in _decode(path, file.fileno(), stream):
                if sample_rate not in RATES:
                    raise UserError(
                        f"{path}: a sample rate of {sample_rate} Hz; the header is damaged"
                    )
                audio = Audio(torch.from_numpy(samples), sample_rate, subtype)
                _check_finite(path, audio.samples, frames)
                frames += samples.shape[-1]
                yield audio
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None
    if not frames:
        raise UserError(f"{path}: holds no samples; export it again")


def _decode(path: Path, descriptor: int, stream: int) -> Iterator[tuple[np.ndarray, int, str]]:
    """Blocks [channel, time], each with the sample rate and the subtype."""
    if stream:
        yield from decode(path, "it reads no stream but the first", stream)
        return
    frames, rate, refusal, checked = 0, 1, "", False
    try:
        with soundfile.SoundFile(descriptor, closefd=False) as file:
            checked = file.format == "FLAC"  # its checksums tell damage, which FFmpeg would conceal
            rate, promised = file.samplerate, file.frames / file.samplerate
            if file.format in ("WAV", "WAVEX", "RF64"):  # where libsndfile promises what is there
                promised *= _excess(path)
            # By blocks: a damaged header may promise more frames than there is memory.
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                frames += len(block)
                yield np.ascontiguousarray(block.T), rate, file.subtype
    except soundfile.LibsndfileError as error:
        refusal = error.error_string.rstrip(".")
        if frames or checked:
            raise UserError(
                f"{path}: damaged after {frames / rate:.1f} s ({refusal}); fetch it again"
            ) from None
    if refusal:
        yield from decode(path, refusal)
    else:
        check_whole(path, frames / rate, promised)


def _excess(path: Path) -> float:
    """The bytes of sound that a WAV file's header promises over those there are, at least 1.

    1 where the length is left open.
    """
    header = wav_header(path)
    if header is None or header.promised is None:
        return 1.0
    there = path.stat().st_size - header.start
    return max(1.0, header.promised / there) if there > 0 else 1.0


def _check_finite(path: Path, samples: Tensor, before: int = 0) -> None:
    wrong = ~torch.isfinite(samples)
    if wrong.any():
        index = int(wrong.any(0).nonzero()[0])
        channel = int(wrong[:, index].nonzero()[0])
        value = samples[channel, index].item()
        raise UserError(
            f"{path}: sample {before + index} of channel {channel} is {value}; "
            "repair or export it again"
        )


def write(path: str | Path, samples: Tensor, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write [channel, time] as WAV or FLAC, whole or not at all (``mgdm_audio.atomic``).

    ``subtype``: PCM_16, PCM_24 or FLOAT (WAV only). PCM rounds to the nearest step and clips at
    full scale; what lies on the grid already is stored, and read again, bit for bit. Raises
    UserError for another suffix or subtype, samples that are not finite, what the format cannot
    hold (FLAC: 8 channels, 655,350 Hz), and a folder that cannot be written to.
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
    _check_finite(path, samples)
    if form == "WAV":
        form = wav_form(samples.numel())
    # In memory first: libsndfile loses the reason of a failed write (a full disk).
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, storable(samples, subtype), sample_rate, subtype, format=form)
    except soundfile.LibsndfileError:
        raise UserError(
            f"{path}: {form} cannot hold {samples.shape[0]} channels at {sample_rate} Hz; use .wav"
        ) from None
    data = buffer.getbuffer()
    if subtype == "FLOAT":
        forget_time(data)
    atomic.write_bytes(path, data)
