"""MP4 files (m4a, Native Instruments Stems), written by FFmpeg (PyAV) in constant memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgdm_audio.audio.decoding.ffmpeg import require_av
from mgdm_audio.audio.encoding.formats import Format, at_the_back
from mgdm_audio.audio.encoding.stem_atom import add_stem_atom
from mgdm_audio.audio.encoding.tags import Tags
from mgdm_audio.audio.encoding.writer import Writer
from mgdm_audio.audio.pcm import storable
from mgdm_audio.audio.speakers import names_of
from mgdm_audio.errors import UserError, described

_BIT_RATE = 128_000  # bit/s of AAC, a channel
# Without noise substitution, which is no waveform coding: stems would sum to less of the input.
_AAC = {"aac_pns": "0"}
# FFmpeg's encoder distorts its first frame, which is silence then, and is skipped by the edit list.
_PREROLL = 1024  # samples
_SAMPLES = {"PCM_16": "s16p", "PCM_24": "s32p", None: "fltp"}


class Mp4Writer(Writer):
    """``write`` takes [track, channel, time]; the file is whole after ``close``.

    One track of AAC (m4a), or five of ALAC: the mixture and the stems of ``names``. Mono becomes
    two equal channels there, as the format has stereo alone. ``mask``: of the speakers of more than
    two channels. Raises UserError for what cannot be encoded, OSError for what cannot be written.
    """

    def __init__(
        self,
        path: Path,
        form: Format,
        channels: int,
        sample_rate: int,
        subtype: str | None,
        tags: Tags,
        mask: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.path, self._names, self._subtype = path, names, subtype
        self._av, self._rate, self._at = require_av(f"format {form.name}"), sample_rate, 0
        layout = {1: "mono", 2: "stereo"}.get(channels)
        if names:
            channels, layout = 2, "stereo"
        self._channels = channels
        self._layout = layout or "+".join(
            names_of(at_the_back(mask) or form.speakers.get(channels, 0))
        )
        self._file = open(path, "xb+")  # noqa: SIM115  (closed by ``close``)
        # A clock that ticks in samples, so that the length is exact; nothing of the time or place.
        options = {
            "brand": "M4A ",
            "movie_timescale": str(sample_rate),
            "fflags": "+bitexact",
        }
        try:
            self._container = self._av.open(
                self._file, "w", format="mp4", container_options=options
            )
            self._container.metadata.update(tags.texts)
            self._streams = [self._stream(i) for i in range(1 + len(names))]
            self._add_cover(tags)
        except self._av.FFmpegError as error:
            self._file.close()
            raise self._refusal(error) from None
        if subtype is None:
            self._encode(torch.zeros(1, channels, _PREROLL), -_PREROLL)

    def _stream(self, index: int) -> Any:
        """A track. Players that know nothing of stems play those that are enabled: the first."""
        codec = "aac" if self._subtype is None else "alac"
        stream = self._container.add_stream(
            codec,
            rate=self._rate,
            layout=self._layout,
            options=_AAC if self._subtype is None else {},
        )
        stream.codec_context.format = _SAMPLES[self._subtype]
        if self._subtype is None:
            stream.bit_rate = _BIT_RATE * self._channels
        if self._names and index == 0:
            stream.disposition = self._av.stream.Disposition.default
        return stream

    def _add_cover(self, tags: Tags) -> None:
        if not tags.cover:
            return
        kind = {"image/png": "png_pipe", "image/jpeg": "jpeg_pipe"}[tags.mime]
        with self._av.open(io.BytesIO(tags.cover), format=kind) as picture:
            source = picture.streams.video[0]
            stream = self._container.add_stream_from_template(source)
            stream.disposition = self._av.stream.Disposition.attached_pic
            packet = next(packet for packet in picture.demux(source) if packet.size)
            packet.stream, packet.pts, packet.dts = stream, 0, 0
            self._container.mux(packet)

    def abandon(self) -> None:
        self._file.close()

    def write(self, samples: Tensor) -> None:
        """[track, channel, time], the samples that follow."""
        self._encode(samples.expand(-1, self._channels, -1), self._at)
        self._at += samples.shape[-1]

    def _encode(self, tracks: Tensor, at: int) -> None:
        kind = _SAMPLES[self._subtype]
        for stream, samples in zip(self._streams, tracks, strict=True):
            data = np.ascontiguousarray(
                storable(samples.detach().cpu(), self._subtype or "FLOAT").T
            )
            frame = self._av.AudioFrame.from_ndarray(data, format=kind, layout=self._layout)
            frame.sample_rate, frame.pts = self._rate, at
            frame.time_base = Fraction(1, self._rate)
            self._mux(stream, frame)

    def _mux(self, stream: Any, frame: Any) -> None:
        try:
            self._container.mux(stream.encode(frame))
        except self._av.FFmpegError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: Any) -> Exception:
        """Returns OSError for an error of the system, UserError for one of an encoder."""
        if isinstance(error, OSError) and error.errno and error.errno > 0:
            return OSError(error.errno, error.strerror, str(self.path))
        return UserError(f"{self.path.name}: FFmpeg cannot write it ({described(error)})")

    def close(self) -> None:
        """Raises OSError where the rest cannot be written."""
        with self._file:
            for stream in self._streams:
                self._mux(stream, None)
            try:
                self._container.close()
            except self._av.FFmpegError as error:
                raise self._refusal(error) from None
        if self._names:
            add_stem_atom(self.path, self._names)
