"""One part as sound: of a font, a virtual instrument or a singer, and what it passes through."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import amps
import midi
import midirenderer
import numpy as np
import soundfile
import soundfonts
import voices
from recipe import Recipe
from score import Part
from tapes import Tape
from variation import Player

CHORUS = ("guitar", "piano", "other")


@dataclass(frozen=True)
class Performance:
    part: Part
    font: Path
    player: Player
    amplifier: amps.Amplifier | None
    voice: str  # what the singer is drawn from

    def render(self, tape: Tape, rng: random.Random, recipe: Recipe) -> np.ndarray:
        """Mono float32 [time] at its own level; fonts get random reverb and chorus."""
        reverb = recipe.draw_reverb(rng)
        chorus = rng.randrange(0, 60) if self._may_chorus() and rng.random() < 0.25 else 0
        if voices.STYLE in self.part.styles:
            singer = random.Random(self.voice)
            wave = voices.sing(self.part, tape.length, tape.recorded_rate, singer, recipe.debian)
            return self.player.finish(self.part, wave)
        if self.amplifier is None:
            return self.player.finish(self.part, self._play(self.part, tape, reverb, chorus))
        clean = replace(self.part, program=min(self.part.program, amps.CLEAN))
        wave = self.amplifier.play(self._play(clean, tape, 0, 0))
        return self.player.finish(clean, wave, amplified=0.0)

    def _may_chorus(self) -> bool:
        return self.part.stem in CHORUS

    def _play(self, part: Part, tape: Tape, reverb: int, chorus: int) -> np.ndarray:
        if self.player.is_virtual:
            return self.player.synthesise(part, tape)
        part = self.player.touch(soundfonts.fit_part(part, self.font.name))
        data = midi.part_bytes(part, tape.recorded_seconds, reverb=reverb, chorus=chorus)
        bank = 128 if part.stem == "drums" else 0
        preset = soundfonts.load_preset(self.font, part.program, bank)
        preset = self.player.vary_font(preset, part.program, bank)
        wave, rate = soundfile.read(
            BytesIO(midirenderer.render_wave_from(preset, data)), dtype="float32"
        )
        return tape.play((wave[:, 0] + wave[:, 1]) / 2, rate)


def of_song(
    number: int, parts: tuple[Part, ...], recipe: Recipe, rng: random.Random
) -> list[Performance]:
    picked = [recipe.patches.draw_font(recipe.fonts.of(part.stem), rng) for part in parts]
    return [
        Performance(
            part,
            font,
            recipe.player(number, k, part),
            recipe.amplifier(number, k, part),
            f"voice {number} {k}",
        )
        for k, (part, font) in enumerate(zip(parts, picked, strict=True))
    ]
