"""The formats that stems are written in, and what each can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mgdm_audio.audio.decoding.ffmpeg import require_av
from mgdm_audio.audio.reading import RATES
from mgdm_audio.audio.speakers import flac_mask, mask_of, names_of, vorbis_mask
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

FormatName = Literal["wav", "flac", "mp3", "m4a", "ogg", "stem.mp4"]
DEFAULT_SUBTYPE = "PCM_24"
_COMMON = (44100, 48000, 88200, 96000, 176400, 192000)  # Hz
_MPEG = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # MPEG-1, 2 and 2.5
_AAC = (*_MPEG, 64000, 88200, 96000)
_UP_TO_8 = range(3, 9)
_AAC_SPEAKERS = {
    3: "FL FR FC",
    4: "FL FR FC BC",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
}


@dataclass(frozen=True)
class Format:
    """A file format."""

    name: FormatName
    subtypes: tuple[str, ...] = ()  # sample formats to choose from; none: the format is lossy
    rates: Sequence[int] = RATES  # Hz
    channels: int = 1024  # at most
    speakers: Mapping[int, int] = field(default_factory=dict)  # channels -> mask, where it is fixed
    by_ffmpeg: bool = False  # encoded by FFmpeg (PyAV), else by libsndfile

    @property
    def suffix(self) -> str:
        return f".{self.name}"

    @property
    def lossy(self) -> bool:
        return not self.subtypes

    @property
    def in_one_file(self) -> bool:
        """Returns whether stems and mixture are tracks of one file (Native Instruments Stems)."""
        return self.name == "stem.mp4"

    def rate_for(self, sample_rate: int) -> int:
        """The sample rate in Hz of files of sound at ``sample_rate`` Hz.

        It is the same where the format has it, else the next higher one. Sound above the highest
        rate gets the highest of the common rates that divides its own, or else the highest.
        """
        if sample_rate in self.rates:
            return sample_rate
        if sample_rate < max(self.rates):
            return min(rate for rate in self.rates if rate > sample_rate)
        common = [rate for rate in _COMMON if rate in self.rates]
        return max((rate for rate in common if sample_rate % rate == 0), default=common[-1])

    def require(self, subtype: str | None) -> str | None:
        """The sample format to write: ``subtype``, by default ``DEFAULT_SUBTYPE``; None if lossy.

        Raises UserError for one that the format does not have, and where PyAV is missing.
        """
        if self.by_ffmpeg:
            require_av(f"format {self.name}")
        if self.lossy:
            if subtype is not None:
                raise UserError(
                    f"format {self.name} is lossy and has no subtype; leave {subtype} out"
                )
            return None
        if subtype is None:
            return DEFAULT_SUBTYPE
        if subtype not in self.subtypes:
            raise UserError(
                f"format {self.name} has no subtype {subtype!r}; use {', '.join(self.subtypes)}"
            )
        return subtype

    def require_channels(self, what: object, channels: int, mask: int = 0) -> None:
        """UserError, which names ``what``, where the format cannot hold so many channels.

        Or channels for these speakers (see ``audio.speakers``): most formats fix which they are.
        """
        if channels > self.channels:
            raise UserError(
                f"{what}: has {channels} channels, format {self.name} holds {self.channels} "
                f"at most; choose {'wav' if channels > 8 else 'flac or wav'}"
            )
        own = self.speakers.get(channels, 0)
        if channels > 2 and self.speakers and mask and at_the_back(mask) != at_the_back(own):
            raise UserError(
                f"{what}: has channels for the speakers {' '.join(names_of(mask))}, which format "
                f"{self.name} cannot say; choose wav"
            )


def at_the_back(mask: int) -> int:
    """Speakers at the sides as those at the back, where there are none at the back.

    The surround channels of 5.1 are called either, and both are meant.
    """
    names = names_of(mask)
    if {"SL", "SR"} <= set(names) and not {"BL", "BR"} & set(names):
        return mask_of([{"SL": "BL", "SR": "BR"}.get(name, name) for name in names])
    return mask


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("wav", ("PCM_16", "PCM_24", "FLOAT")),
        Format(
            "flac",
            ("PCM_16", "PCM_24"),
            range(RATES.start, 655_351),
            8,
            {n: flac_mask(n) for n in _UP_TO_8},
        ),
        Format("mp3", (), _MPEG, 2),
        Format("m4a", (), _AAC, 6, {n: mask_of(s.split()) for n, s in _AAC_SPEAKERS.items()}, True),
        # libvorbis has settings for these; libsndfile crashes at 384 kHz.
        Format("ogg", (), range(8000, 192_001), 8, {n: vorbis_mask(n) for n in _UP_TO_8}),
        Format("stem.mp4", ("PCM_16", "PCM_24"), (44100, 48000), 2, {}, True),
    )
}
WAV = FORMATS["wav"]


def find_format(name: str) -> Format:
    """The format of a name. Raises UserError for an unknown one."""
    if name not in FORMATS:
        hint = nearest(name, FORMATS)
        raise UserError(f"format {name!r} is unknown{hint}; use one of {', '.join(FORMATS)}")
    return FORMATS[name]
