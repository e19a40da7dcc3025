"""Decoding by FFmpeg (PyAV), packet by packet, of what libsndfile does not know or gives up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mgdm_audio.audio.decoding.events import Block, Event, Loss, Total
from mgdm_audio.audio.speakers import in_order, mask_of, usual
from mgdm_audio.errors import UserError, described

# Containers of sound. Without the list FFmpeg would also open playlists, which name other files and
# addresses to fetch, whatever the file is called.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,ac3,eac3,dts,ape,wv,tta,tak,amr,mpc,mpc8,"
    "ogg,mp3,wav,w64,flac,aiff,caf,mpegts,flv,avi"
)
OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
_CHECKED = {"flac", "tta", "wavpack", "alac", "ape", "ac3", "eac3", "dca", "truehd", "mlp"}
_EXACT = ("mov", "flac", "tta", "wv", "ape")  # containers whose header has the length
_NEARLY = ("matroska", "asf", "flv", "caf")  # whose header has it to about a packet
_STEADY = ("ac3", "dts")  # whose frames all have one size
_GAP = 0.015  # s, or most of a frame: smaller ones are the rounding of time stamps and clocks
_LEAP = 10.0  # s; a recording that was joined of several has time stamps of several clocks
_ERRORS = 1000  # in a row, after which nothing more is expected


class Stream:
    """One stream of sound of a file, decoded as it is iterated over: events.

    ``path``: for messages. ``file``: is read, and left open. ``refusal``: why libsndfile would not
    read it. ``number``: of the stream among those of sound, from 0. Raises UserError where PyAV or
    the stream is missing, and for a file in which FFmpeg finds no sound.
    """

    def __init__(self, path: Path, file: BinaryIO, refusal: str, number: int = 0) -> None:
        self._path, self._file, self._refusal, self._number = path, file, refusal, number
        self._av = require_av(
            f"{path}: libsndfile cannot read it ({refusal}); "
            "if it is m4a, aac or the like, reading it"
        )

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container and the stream."""
        path, refusal = self._path, self._refusal
        try:
            self._file.seek(0)
            with self._av.open(self._file, options=OPTIONS) as container:
                streams = container.streams.audio
                if not streams:
                    form = container.format.name
                    raise UserError(f"{path}: holds no sound ({form} without audio)")
                if self._number >= len(streams):
                    raise UserError(
                        f"{path}: has {len(streams)} streams of sound, no number "
                        f"{self._number + 1}; fetch it again"
                    )
                sound = streams[self._number]
                if not getattr(sound, "rate", 0):  # FFmpeg guesses a format for almost anything
                    raise UserError(f"{path}: is no sound file ({refusal})")
                yield container, sound
        except UserError:
            raise
        except Exception as error:  # PyAV raises its own, and what Python's readers raise
            reason = getattr(error, "strerror", None) or described(error)
            raise UserError(
                f"{path}: neither libsndfile ({refusal}) nor FFmpeg ({reason}) can read it; "
                "check that it is a sound file and whole"
            ) from None

    def seconds(self) -> float:
        """By the packets, of which none is decoded; those that do not say count as nothing."""
        total = 0.0
        with self._opened() as (_, sound):
            for packet in _packets(self._av, sound, lambda why: None):
                if packet.duration and packet.time_base:
                    total += float(packet.duration * packet.time_base)
        return total

    def __iter__(self) -> Iterator[Event]:
        with self._opened() as (container, sound):
            yield from _Decoding(self._av, container, sound).events()


class _Decoding:
    """What is known of a stream amid its packets."""

    def __init__(self, av: Any, container: Any, sound: Any) -> None:
        self._av, self._sound = av, sound
        self._form = container.format.name
        self._promised, self._slack = _promised(container, sound)
        self._codec = sound.codec_context.name
        if self._codec in _CHECKED:  # others go on, and say what they could not decode
            sound.codec_context.options = {"err_detect": "crccheck+explode"}
        self._seconds = self._lost = 0.0  # decoded, and known to be missing between that
        self._next: float | None = None  # time stamp that the next frame should have
        self._why, self._failed = "", 0.0  # of packets that could not be decoded, and their seconds
        self._least, self._last = 0, b""  # bytes of the smallest packet but the last, and that

    def events(self) -> Iterator[Event]:
        floats: dict[tuple[str, str, int], Any] = {}
        exact = self._form.startswith(("mov", "flac"))
        for (frame, gap), (following, _) in pairwise(chain(self._frames(), [(None, None)])):
            if gap is not None:
                yield gap
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if key not in floats:
                # Packed: of planes PyAV reads eight at most, and what lies behind them.
                floats = {key: self._av.AudioResampler(format="flt")}
            for piece in floats[key].resample(frame):
                channels = frame.layout.nb_channels
                samples = piece.to_ndarray().reshape(-1, channels).T
                if exact and following is None:
                    samples = samples[:, : _sound_in(frame)]
                self._seconds += samples.shape[1] / frame.sample_rate
                yield _block(samples, frame, self._codec.upper())
        yield from self._end()

    def _frames(self) -> Iterator[tuple[Any, Loss | None]]:
        """Every frame, and what is missing before it."""
        for packet in _packets(self._av, self._sound, self._note):
            if packet.size:
                self._least = min(self._least or len(self._last), len(self._last))
                self._last = bytes(packet) if self._form in (*_STEADY, "eac3") else b""
            if packet.is_corrupt:
                self._note("a packet is marked as damaged")
            try:
                frames = packet.decode()
            except self._av.FFmpegError as error:
                self._note(error.strerror or described(error))
                if packet.duration and packet.time_base:
                    self._failed += float(packet.duration * packet.time_base)
                continue
            for frame in frames:
                yield frame, self._gap(frame)

    def _note(self, why: str) -> None:
        self._why = self._why or why

    def _gap(self, frame: Any) -> Loss | None:
        """What is missing between the frames so far and this one."""
        gap, why, failed = 0.0, self._why, self._failed
        self._why, self._failed = "", 0.0
        if frame.pts is not None and frame.time_base is not None:
            now = float(frame.pts * frame.time_base)
            if self._next is not None and abs(now - self._next) < _LEAP:
                gap = now - self._next
            self._next = now + frame.samples / frame.sample_rate
        if not why and gap <= max(_GAP, 0.75 * frame.samples / frame.sample_rate):
            return None
        seconds = gap if gap > 0.001 else failed
        self._lost += seconds
        return Loss(seconds or None, why or "no packets for that long")

    def _end(self) -> Iterator[Event]:
        missing = self._promised - self._seconds - self._lost
        if self._why or missing > self._slack:
            seconds = missing if missing > 0 else self._failed or None
            yield Loss(seconds, self._why or "the file ends before", True)
        elif self._ends_within_frame():
            yield Loss(None, "the file ends within a frame", True)
        if self._promised and self._form.startswith(_EXACT):
            yield Total(self._promised)

    def _ends_within_frame(self) -> bool:
        last = self._last
        if self._form == "eac3" and len(last) > 4:  # ETSI TS 102 366, E.1.3.1.3: frmsiz
            return 2 * ((last[2] & 7) * 256 + last[3] + 1) > len(last)
        return self._form in _STEADY and len(last) < self._least - 2


def _packets(av: Any, sound: Any, note: Callable[[str], None]) -> Iterator[Any]:
    """Every packet; the last is empty, and empties the decoder. ``note``: what went wrong."""
    errors = 0
    while errors < _ERRORS:
        try:
            for packet in sound.container.demux(sound):
                errors = 0
                yield packet
            return
        except av.FFmpegError as error:  # the demuxer may find its way again
            note(error.strerror or described(error))
            errors += 1


def _block(samples: np.ndarray, frame: Any, subtype: str) -> Block:
    """Channels in the order of their mask; FFmpeg's layouts of one's own may have another."""
    names = [channel.name for channel in frame.layout.channels]
    mask = mask_of(names) if len(names) == len(samples) else 0
    if mask:
        samples = samples[in_order(names)]
    return Block(
        np.ascontiguousarray(samples), frame.sample_rate, subtype, usual(mask, len(samples))
    )


def require_av(purpose: str) -> Any:
    """PyAV. Raises UserError, naming what it is needed for and the extra, if it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import av
    except ImportError:
        raise UserError(f"{purpose} needs PyAV: pip install 'mgdm_audio[formats]'") from None
    return av


def _promised(container: Any, sound: Any) -> tuple[float, float]:
    """Seconds by the header, 0 where it has a guess, and by how many less is no loss."""
    form = container.format.name
    if form.startswith(_EXACT) and sound.duration is not None and sound.time_base is not None:
        # The clock of an mp4 file may tick in milliseconds, and round upwards.
        return float(sound.duration * sound.time_base), 0.001
    if form.startswith(_NEARLY) and container.duration and len(container.streams) == 1:
        return container.duration / 1e6, 0.1
    return 0.0, 0.0


def _sound_in(frame: Any) -> int | None:
    """How many samples of a last frame, which the encoder filled up, are sound; None: all."""
    if not frame.duration or frame.time_base is None:
        return None
    return round(frame.duration * frame.time_base * frame.sample_rate)
