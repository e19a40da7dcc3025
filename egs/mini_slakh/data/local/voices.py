"""Sung parts: Festival sings a word of one syllable on each note.

Each phrase is a text in Festival's singing mode (singing-mode.scm). A voice is one of Festival's,
with its formants shifted by a factor f: it sings at 1 / f of the pitch and takes f times as long,
and is played f times as fast.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample
from score import Note, Part

STYLE = "sung"  # the style of parts that are sung
HIGH = 57  # a part whose median is here or above is for a high voice
WORDS = tuple(
    """la da na doo lay oh ah you me day night sun moon rain light song home love heart time way
    road sea star dream fire wind stone blue gold low high near far come go stay fall rise run turn
    call hold say know feel need want see hear found lost long more here there now then all one two
    free""".split()  # noqa: SIM905
)
SYLLABLES = ("la", "da", "na", "ma", "le", "me", "ne", "mi", "ri", "si", "no", "so", "lo", "tu")
# Festival's name -> whether it is a woman's voice, and what it can say in one syllable.
VOICES = {
    "kal_diphone": (False, WORDS),
    "ked_diphone": (False, WORDS),
    "lp_diphone": (True, SYLLABLES),
    "pc_diphone": (False, SYLLABLES),
    "suo_fi_lj_diphone": (True, SYLLABLES),
    "hy_fi_mv_diphone": (False, SYLLABLES),
}
BREATH = 0.15  # seconds of rest that end a phrase
SHORTEST = 0.1  # seconds of a syllable
TOP = 500.0  # Hz; Festival 2.5 ends with a segmentation fault at 540 Hz, with each of the voices


def phrases(notes: tuple[Note, ...]) -> list[list[Note]]:
    """Notes in order of time, one at a time, in phrases between which the singer rests."""
    single: list[Note] = []
    for note in sorted(notes, key=lambda note: note.start):
        if not single or note.start >= single[-1].start + SHORTEST:
            single.append(note)
    found: list[list[Note]] = []
    for note, after in pairwise([*single, None]):
        room = after.start - note.start if after else note.duration
        sung = replace(note, duration=max(SHORTEST, min(note.duration, room)))
        before = found[-1][-1] if found else None
        if before and note.start - (before.start + before.duration) < BREATH:
            found[-1].append(sung)
        else:
            found.append([sung])
    return found


def text(notes: list[Note], words: list[str], speed: float, dtd: Path) -> str:
    """One phrase in singing mode, to be played `speed` times as fast as it is sung; notes that
    the singer does not reach are sung an octave lower."""
    lines = []
    ends = [note.start for note in notes[1:]] + [notes[-1].start + notes[-1].duration]
    for note, end, word in zip(notes, ends, words, strict=True):
        frequency = 440 * 2 ** ((note.pitch - 69) / 12) / speed
        while frequency > TOP:
            frequency /= 2
        seconds = (end - note.start) * speed
        held = f'<DURATION SECONDS="{seconds:.4f}">{word}</DURATION>'
        lines.append(f'<PITCH FREQ="{frequency:.2f}">{held}</PITCH>')
    return (
        f'<?xml version="1.0"?>\n<!DOCTYPE SINGING SYSTEM "{dtd}">\n<SINGING BPM="60">\n'
        + "\n".join(lines)
        + "\n</SINGING>\n"
    )


def sing(part: Part, length: int, rate: float, rng: random.Random, debian: Path) -> np.ndarray:
    """The part as mono float32 [length] at `rate` Hz, by the Festival that is installed or under
    `debian`. OSError where it is not there or fails."""
    found = phrases(tuple(n for n in part.notes if n.start < length / rate))
    is_high = bool(part.notes) and np.median([note.pitch for note in part.notes]) >= HIGH
    takes = 2 if rng.random() < 0.25 else 1
    out = np.zeros(length, np.float32)
    for _ in range(takes):
        voice = rng.choice([v for v, (is_woman, _) in VOICES.items() if is_high or not is_woman])
        is_woman, _ = VOICES[voice]
        speed = rng.uniform(1.08, 1.28) if is_high and not is_woman else rng.uniform(0.92, 1.08)
        sung = _festival(found, voice, speed, rng, debian)
        late = rng.gauss(0, 0.012) if takes > 1 else 0.0
        vibrato = rng.uniform(4.5, 6.5), rng.uniform(0, 45)  # Hz, cents
        for notes, (wave, recorded) in zip(found, sung, strict=True):
            wave = resample(wave, round(len(wave) * rate / (recorded * speed)))
            wave = _vibrato(wave, rate, *vibrato) * np.float32(notes[0].velocity / 127)
            first = max(0, round((notes[0].start + late) * rate))
            wave = wave[: max(0, length - first)]
            out[first : first + len(wave)] += wave
    return out


def _festival(
    found: list[list[Note]], voice: str, speed: float, rng: random.Random, debian: Path
) -> list[tuple[np.ndarray, int]]:
    """Each phrase as float32 [time] and its sample rate in Hz."""
    command, environment, share = program(debian)
    dtd = share / "sgml" / "festival" / "Singing.v0_1.dtd"
    with tempfile.TemporaryDirectory() as room:
        script = [
            f"(voice_{voice})",
            "(define (keep utt) (utt.save.wave utt name 'riff) utt)",
            "(set! tts_hooks (list utt.synth keep))",
        ]
        for k, notes in enumerate(found):
            words = rng.choices(VOICES[voice][1], k=len(notes))
            path = Path(room) / f"{k}.xml"
            path.write_text(text(notes, words, speed, dtd), encoding="utf-8")
            script.append(f'(set! name "{room}/{k}.wav")')
            script.append(f'(tts_file "{path}" \'singing)')
        (Path(room) / "song.scm").write_text("\n".join(script), encoding="utf-8")
        done = subprocess.run(
            [*command, "-b", f"{room}/song.scm"], env=environment, capture_output=True, text=True
        )
        files = [Path(room) / f"{k}.wav" for k in range(len(found))]
        if done.returncode or not all(path.is_file() for path in files):
            why = done.stderr.strip()[-200:] or f"it ended with {done.returncode}"
            raise OSError(f"festival failed: {why}")
        return [soundfile.read(path, dtype="float32") for path in files]


def program(debian: Path) -> tuple[list[str], dict[str, str], Path]:
    """How to call Festival: the command, its environment, and the folder share of its data.

    OSError where it is neither under `debian` nor installed.
    """
    for root in (debian, Path("/")):
        share = root.resolve() / "usr" / "share"
        binary = root.resolve() / "usr" / "bin" / "festival"
        if binary.is_file():
            libraries = sorted((root.resolve() / "usr" / "lib").glob("*-linux-gnu"))
            paths = [str(path) for one in libraries for path in (one, one / "pulseaudio")]
            environment = dict(os.environ)
            if root == debian:
                environment["LD_LIBRARY_PATH"] = ":".join(paths)
            command = [str(binary), "--datadir", str(share / "festival")]
            return command, environment, share
    raise OSError(f"no festival in {debian} or installed; run local/fetch_programs.py")


def _vibrato(wave: np.ndarray, rate: float, frequency: float, cents: float) -> np.ndarray:
    """Pitch up to `cents` off, `frequency` times a second: read at places that swing."""
    time = np.arange(len(wave)) / rate
    depth = (2 ** (cents / 1200) - 1) / (2 * np.pi * frequency)  # seconds
    places = (time + depth * np.sin(2 * np.pi * frequency * time)) * rate
    return np.interp(places, np.arange(len(wave)), wave).astype(np.float32)
