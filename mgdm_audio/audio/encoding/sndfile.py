"""FLAC, MP3 and Ogg Vorbis files, written by libsndfile in constant memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

from mgdm_audio.audio.encoding.formats import DEFAULT_SUBTYPE, Format
from mgdm_audio.audio.encoding.tag_blocks import add_tags
from mgdm_audio.audio.encoding.tags import Tags
from mgdm_audio.audio.encoding.writer import Writer, by_libsndfile
from mgdm_audio.audio.pcm import storable
from mgdm_audio.audio.speakers import vorbis_order
from mgdm_audio.errors import UserError

_MP3 = {"subtype": "MPEG_LAYER_III", "compression_level": 0.0}  # LAME's best, see ``_settings``
_VORBIS = {"subtype": "VORBIS", "compression_level": 0.2}  # quality 8, about 256 kbit/s of stereo
_PIECE = 1 << 14  # samples a channel in one call: libvorbis holds what it is given on the stack


class SoundWriter(Writer):
    """``write`` takes [channel, time] as often as one likes; the file is whole after ``close``.

    ``subtype``: of FLAC. Raises UserError for what the format cannot hold, and OSError where the
    file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        form: Format,
        channels: int,
        sample_rate: int,
        subtype: str | None,
        tags: Tags,
    ) -> None:
        self.path, self._tags, self._subtype = path, tags, subtype
        settings = {"subtype": subtype or DEFAULT_SUBTYPE, **_settings(form, sample_rate)}
        self._places: list[int] | None = None  # of our channels in the file
        if form.name == "ogg" and channels > 2:
            self._places = vorbis_order(channels)
        name = form.name.upper()
        if name not in soundfile.available_formats():
            version = soundfile.__libsndfile_version__
            raise UserError(f"libsndfile {version} writes no {name}; pip install -U soundfile")
        try:
            self._sound = soundfile.SoundFile(
                path, "x", sample_rate, channels, format=name, **settings
            )
        except soundfile.LibsndfileError:
            raise UserError(
                f"{path.name}: {form.name} cannot hold {channels} channels at {sample_rate} Hz"
            ) from None

    def write(self, samples: Tensor) -> None:
        """[channel, time], the samples that follow."""
        if self._places is not None:
            ordered = samples.new_empty(samples.shape)
            ordered[self._places] = samples
            samples = ordered
        data = storable(samples, self._subtype or "FLOAT")
        with by_libsndfile(self.path):
            for start in range(0, len(data), _PIECE):
                self._sound.write(data[start : start + _PIECE])

    def abandon(self) -> None:
        self._sound.close()

    def close(self) -> None:
        """Raises OSError where the rest cannot be written."""
        with by_libsndfile(self.path):
            self._sound.close()
        if self._tags:
            add_tags(self.path, self._tags)


def _settings(form: Format, sample_rate: int) -> dict[str, Any]:
    """For libsndfile. MP3 has 320 kbit/s from 32 kHz on (MPEG-1).

    Below, LAME's constant bit rates lower the sound to 95 %, its variable ones (V0) do not.
    """
    if form.name == "mp3":
        return _MP3 | {"bitrate_mode": "CONSTANT" if sample_rate >= 32000 else "VARIABLE"}
    return _VORBIS if form.name == "ogg" else {}
