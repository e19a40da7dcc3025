"""What a sound file says of itself: title, artist and other texts, and a cover picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import soundfile

from mgdm_audio.audio.decoding.ffmpeg import OPTIONS, require_av
from mgdm_audio.audio.encoding.wav import TEXTS
from mgdm_audio.errors import UserError

# FFmpeg's names of tags. What else files have is of the encoder, or true of the whole mixture only
# (ReplayGain, the gapless lengths of iTunes).
NAMES = ("title", "artist", "album", "album_artist", "composer", "performer", "date", "genre",
         "track", "disc", "comment", "copyright", "publisher")  # fmt: skip
_LONGEST = 1 << 16  # characters
_LARGEST = (1 << 24) - (1 << 10)  # bytes of a picture: a block of FLAC has a length of 24 bits
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True)
class Tags:
    """Texts by FFmpeg's names of tags, and a cover picture, JPEG or PNG."""

    texts: Mapping[str, str] = field(default_factory=dict)
    cover: bytes = b""

    @property
    def mime(self) -> str:
        """The type of the cover."""
        return next((mime for mark, mime in _PICTURES.items() if self.cover.startswith(mark)), "")

    def of_part(self, name: str) -> Tags:
        """Returns the tags with the name of a stem in the title, if there is a title."""
        if "title" not in self.texts:
            return self
        return replace(self, texts={**self.texts, "title": f"{self.texts['title']} ({name})"})

    def __bool__(self) -> bool:
        return bool(self.texts or self.cover)


def read_tags(path: Path) -> Tags:
    """The tags of a file; none where it has none, or they cannot be read.

    Without PyAV (extra ``formats``) they are those that libsndfile knows, without the cover.
    """
    try:
        av = require_av("")
    except UserError:
        return _by_libsndfile(path)
    try:
        with open(path, "rb") as file, av.open(file, options=OPTIONS) as container:
            found = {k.lower(): v for k, v in container.metadata.items()}
            for stream in container.streams.audio[:1]:  # where Ogg has them
                found |= {k.lower(): v for k, v in stream.metadata.items()}
            return Tags(_kept(found), _cover(av, container))
    except Exception:  # PyAV raises its own and others; a file without tags is no fault
        return Tags()


def _by_libsndfile(path: Path) -> Tags:
    try:
        with soundfile.SoundFile(path) as file:
            return Tags(_kept({ours: getattr(file, theirs) for ours, theirs in TEXTS.items()}))
    except (soundfile.LibsndfileError, OSError, ValueError):
        return Tags()


def _kept(found: Mapping[str, str]) -> dict[str, str]:
    texts = {name: found.get(name, "").replace("\0", "").strip() for name in NAMES}
    return {name: text for name, text in texts.items() if 0 < len(text) <= _LONGEST}


def _cover(av: Any, container: Any) -> bytes:
    for stream in container.streams.video:
        if stream.disposition & av.stream.Disposition.attached_pic:
            picture = next((bytes(p) for p in container.demux(stream) if p.size), b"")
            if len(picture) <= _LARGEST and picture.startswith(tuple(_PICTURES)):
                return picture
    return b""
