"""Decoding through FFmpeg (PyAV) of what libsndfile does not know: m4a, mp4, aac, wma, webm."""

import warnings
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mgdm_audio.errors import UserError

# Containers of sound. Without the list FFmpeg would also open playlists, which name other files and
# addresses to fetch, whatever the file is called.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,ac3,eac3,dts,ape,wv,tta,tak,amr,mpc,mpc8,"
    "ogg,mp3,wav,w64,flac,aiff,caf,mpegts,flv,avi"
)
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}


def decode(path: Path, refusal: str, stream: int = 0) -> Iterator[tuple[np.ndarray, int, str]]:
    """Blocks (samples [channel, time] float32, rate in Hz, codec name) of one stream of sound.

    ``refusal``: why libsndfile would not read it, for the message. ``stream``: its number among the
    streams of sound, from 0. Raises UserError where PyAV or the stream is missing, and for a file
    that FFmpeg cannot decode to its end.
    """
    av = require_av(
        f"{path}: libsndfile cannot read it ({refusal}); if it is m4a, aac or the like, reading it"
    )
    frames = 0
    try:
        with av.open(str(path), options=_OPTIONS) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound ({container.format.name} without audio)")
            count = len(container.streams.audio)
            if stream >= count:
                raise UserError(
                    f"{path}: has {count} streams of sound, no number {stream + 1}; fetch it again"
                )
            sound = container.streams.audio[stream]
            if not sound.rate:  # FFmpeg guesses a format for almost anything
                raise UserError(f"{path}: is no sound file ({refusal})")
            planar = av.AudioResampler(format="fltp", rate=sound.rate)
            rate, codec = sound.rate, sound.codec_context.name.upper()
            exact = _is_exact(container)
            # None: the end, which empties the resampler.
            for frame, following in pairwise(chain(container.decode(sound), [None, None])):
                for piece in planar.resample(frame):
                    samples = piece.to_ndarray()
                    if exact and following is None and frame is not None:
                        samples = samples[:, : _sound_in(frame, rate)]
                    frames += samples.shape[1]
                    yield samples, rate, codec
            promised = _duration(container, sound)
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{path}: neither libsndfile ({refusal}) nor FFmpeg ({error.strerror}) can read it; "
            "check that it is a sound file and whole"
        ) from None
    check_whole(path, frames / rate, promised)


def promised_samples(path: Path, stream: int = 0) -> int:
    """The fewest samples a channel that a whole file's stream of sound has, by its header.

    0 where the header does not say. Raises UserError where PyAV is missing or the file damaged.
    """
    av = require_av(f"{path}: reading it")
    try:
        with av.open(str(path), options=_OPTIONS) as container:
            sound = container.streams.audio[stream]
            # The clock of an mp4 file may tick in milliseconds, and round upwards.
            return max(0, int((_duration(container, sound) - 0.001) * sound.rate))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: is damaged ({error.strerror}); fetch it again") from None


def require_av(purpose: str) -> Any:
    """PyAV. Raises UserError, naming what it is needed for and the extra, if it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import av
    except ImportError:
        raise UserError(f"{purpose} needs PyAV: pip install 'mgdm_audio[formats]'") from None
    return av


def _is_exact(container: Any) -> bool:
    """Whether the header says how long a stream is; in other containers FFmpeg makes a guess."""
    return bool(container.format.name.startswith(("mov", "flac")))


def _duration(container: Any, sound: Any) -> float:
    """Seconds of the stream by an exact header, else 0."""
    if not _is_exact(container) or sound.duration is None or sound.time_base is None:
        return 0.0
    return float(sound.duration * sound.time_base)


def _sound_in(frame: Any, rate: int) -> int | None:
    """How many samples of a last frame, which the encoder filled up, are sound; None: all."""
    if not frame.duration or frame.time_base is None:
        return None
    return round(frame.duration * frame.time_base * rate)


def check_whole(path: Path, seconds: float, promised: float) -> None:
    """Raise UserError where a file ends more than a second before what its header promises."""
    if seconds < promised - 1:
        raise UserError(
            f"{path}: cut short, {seconds:.1f} of {promised:.1f} s can be read; fetch it again"
        )
