"""How a set of songs is made: what the options of render.py choose."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import amps
import compose
import fifth
import midi_read
import variation
from patches import Patches
from score import STEMS, Part, Song
from soundfonts import Fonts

DEBIAN = Path("packages/debian")


@dataclass(frozen=True)
class Recipe:
    """Shares are between 0 and 1; the defaults make songs of four stems with fonts as they are."""

    seconds: float
    fonts: Fonts
    form: str = "slakh"
    vary: float = 0.0  # share of the parts on varied or virtual instruments
    pitch: float = 0.0  # semitones that songs may be off, as tapes
    patches: Patches = field(default_factory=Patches)
    amps: float = 0.0  # share of the songs whose electric guitars have an amplifier
    midi: Path | None = None  # folder of songs that are read, not composed
    other: float | None = None  # share of the songs whose fifth stem sounds; None: there is none
    sung: float = 0.0  # share of these that have a singer
    debian: Path = DEBIAN  # folder of local/fetch_programs.py

    @property
    def stems(self) -> tuple[str, ...]:
        return STEMS if self.other is None else (*STEMS, fifth.STEM)

    def song(self, number: int, seconds: float) -> Song:
        """Song `number` of at least `seconds`. BadSong where its MIDI file does not do."""
        path = self.midi / f"Track{number:05d}.mid" if self.midi else None
        if path is not None and path.is_file():
            song = midi_read.read_song(path, number)
            if song.seconds < seconds - 0.001:  # MIDI has ticks
                lasts = f"{path}: lasts {song.seconds:.1f} s"
                raise midi_read.BadSong(f"{lasts}, {seconds:.1f} s are needed; give a longer one")
        else:
            song = compose.compose(number, seconds, self.patches.programs)
        share = self.other or 0.0
        more = fifth.parts(number, song.seconds, share, self.sung)
        if not fifth.sounds(number, share):  # a MIDI file may have parts of the fifth stem
            song = replace(song, parts=tuple(p for p in song.parts if p.stem in STEMS))
        return replace(song, parts=song.parts + more)

    def player(self, number: int, place: int, part: Part) -> variation.Player:
        virtual = 0.0 if part.stem == fifth.STEM else self.patches.virtual
        return variation.draw(number, place, self.vary, virtual)

    def amplifier(self, number: int, place: int, part: Part) -> amps.Amplifier | None:
        return amps.draw(number, place, part, self.amps, self.debian)

    def draw_reverb(self, rng: random.Random) -> int:
        """What a part sends to the renderer's reverb, 0 to 127."""
        return rng.randrange(0, 100) if rng.random() < self.patches.reverb else 0
