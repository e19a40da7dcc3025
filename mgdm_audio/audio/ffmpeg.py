"""Decoding through FFmpeg (PyAV) of what libsndfile does not know: m4a, aac, wma, webm."""

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


def decode(path: Path, refusal: str) -> Iterator[tuple[np.ndarray, int, str]]:
    """Blocks (samples [channel, time] float32, rate in Hz, codec name) of the first audio stream.

    ``refusal``: why libsndfile would not read it, for the message. Raises UserError where PyAV is
    missing, and for a file that FFmpeg cannot decode to its end.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import av
    except ImportError:
        raise UserError(
            f"{path}: libsndfile cannot read it ({refusal}); if it is m4a, aac or the like: "
            "pip install 'mgdm_audio[formats]'"
        ) from None
    frames = 0
    try:
        with av.open(str(path), options=_OPTIONS) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound ({container.format.name} without audio)")
            stream = container.streams.audio[0]
            if not stream.rate:  # FFmpeg guesses a format for almost anything
                raise UserError(f"{path}: is no sound file ({refusal})")
            planar = av.AudioResampler(format="fltp", rate=stream.rate)
            rate, codec = stream.rate, stream.codec_context.name.upper()
            exact = container.format.name.startswith(("mov", "flac"))  # elsewhere it is a guess
            # None: the end, which empties the resampler.
            for frame, following in pairwise(chain(container.decode(stream), [None, None])):
                for piece in planar.resample(frame):
                    samples = piece.to_ndarray()
                    if exact and following is None and frame is not None:
                        samples = samples[:, : _sound_in(frame, rate)]
                    frames += samples.shape[1]
                    yield samples, rate, codec
            promised = 0.0
            if exact and stream.duration is not None and stream.time_base is not None:
                promised = float(stream.duration * stream.time_base)
    except (av.FFmpegError, OSError) as error:
        raise UserError(
            f"{path}: neither libsndfile ({refusal}) nor FFmpeg ({error.strerror}) can read it; "
            "check that it is a sound file and whole"
        ) from None
    check_whole(path, frames / rate, promised)


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
