"""Songs whose players are grooves of MMA, Musical MIDI Accompaniment (Debian package mma).

    python local/compose_mma.py OUT --first 0 --count 100 --seconds 76

writes OUT/TrackXXXXX.mid for render.py --midi OUT. Form, tempo and chords of song XXXXX are those
of local/compose.py; its instruments are played by grooves of one file of MMA's library, drawn from
the seed, and those that the grooves lack by the players of local/compose.py. Grooves that fail, or
have no drums, no bass, or neither guitar nor piano, are passed over and counted.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import compose
import midi
import midi_read
import mido
from harmony import Chord
from recipe import DEBIAN
from score import STEMS, Note, Part, Song

ROOTS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
CHORDS = {  # semitones above the root -> MMA's name
    (0, 4, 7): "", (0, 3, 7): "m", (0, 3, 6): "dim3", (0, 4, 8): "aug", (0, 5, 7): "sus4",
    (0, 4, 7, 11): "M7", (0, 4, 7, 10): "7", (0, 3, 7, 10): "m7", (0, 3, 6, 10): "m7b5",
    (0, 3, 6, 9): "dim7", (0, 3, 7, 11): "mM7", (0, 4, 8, 11): "M7#5",
    (0, 4, 7, 11, 14): "M9", (0, 4, 7, 10, 14): "9", (0, 3, 7, 10, 14): "m9",
    (0, 4, 7, 10, 13): "7b9",
}  # fmt: skip
# Grooves for the start, the end or one bar of a song.
PASSING = re.compile(r"(intro|end|ending|fill|break)[a-d]{0,2}\d*$", re.IGNORECASE)
TEMPO = 120  # of what MMA writes; the song's own tempo is put in afterwards
TRIES = 40


def chord_name(chord: Chord) -> str:
    """MMA's name of the chord, without the upper tones for which it has none."""
    for count in range(len(chord.intervals), 0, -1):
        name = CHORDS.get(chord.intervals[:count])
        if name is not None:
            return ROOTS[chord.root] + name
    return ROOTS[chord.root] + "5"  # a fifth: third and seventh are left open


@cache
def library(home: Path, beats: int) -> list[tuple[str, tuple[str, ...]]]:
    """Files of the library ("stdlib/swing") with so many beats a bar, and their grooves that may
    last. OSError if there are none."""
    found = []
    for path in sorted((home / "lib").glob("*/*.mma")):
        text = path.read_text(encoding="utf-8", errors="replace")
        time = re.search(r"^\s*Time\s+(\d+)(?:/4)?(?!/)\b", text, re.MULTILINE | re.IGNORECASE)
        names = re.findall(r"^\s*DefGroove\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
        lasting = tuple(dict.fromkeys(name for name in names if not PASSING.search(name)))
        if lasting and time and int(time[1]) == beats:
            found.append((f"{path.parent.name}/{path.stem}", lasting))
    if not found:
        raise OSError(f"no grooves in {home / 'lib'}; run local/fetch_programs.py")
    return found


def text(plan: compose.Draft, grooves: dict[str, str], seed: int) -> str:
    """The song in MMA's language; `grooves` by label of the section."""
    beats = plan.groove.steps // 4
    lines = [f"RndSeed {seed}", f"Tempo {TEMPO}"]
    for section in plan.sections:
        lines.append(f"Groove {grooves[section.label]}")
        for bar in plan.bars[section.first_bar : section.first_bar + section.bars]:
            places = dict(bar.chords)
            words = [chord_name(places[4 * k]) if 4 * k in places else "/" for k in range(beats)]
            lines.append(f"{bar.index + 1} {' '.join(words)}")
    return "\n".join(lines) + "\n"


def play(home: Path, song: str) -> mido.MidiFile | str:
    """What MMA makes of a text; its complaint if it makes nothing."""
    with tempfile.TemporaryDirectory() as room:
        source, target = Path(room) / "song.mma", Path(room) / "song.mid"
        source.write_text(song, encoding="utf-8")
        program = next(
            (p for p in (home / "../../bin/mma", Path("/usr/bin/mma")) if p.is_file()), None
        )
        if program is None:
            raise OSError(f"no program mma beside {home}; run local/fetch_programs.py")
        command = [sys.executable, "-B", str(program), "-w", str(source), "-f", str(target)]
        environment = os.environ | {"MMA_HOME": str(home)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=room)
        if not target.is_file():
            said = " ".join((done.stdout + done.stderr).split())
            why = re.search(r"Error:\s+(?:<Line \d+>)?\s*(?:<File:\S+>)?\s*(.{1,80})", said)
            return why[1] if why else f"mma ended with {done.returncode}"
        return mido.MidiFile(target)


def arrange(file: mido.MidiFile, plan: compose.Draft, seed: int, seconds: float) -> Song | str:
    """The song of what MMA played, at the plan's tempo and with its rests; why not otherwise."""
    beats = plan.groove.steps // 4
    bar_seconds = beats * 60 / TEMPO
    length = bar_seconds * len(plan.bars)
    if not 0.88 < file.length / length < 1.12:  # three beats for four are 0.75
        return f"it has not {beats} beats a bar"
    found = midi_read.merged(midi_read.parts(file))
    stems = {part.stem for part in found}
    if not {"bass", "drums"} <= stems or not stems & {"guitar", "piano"}:
        return f"it has only {', '.join(sorted(stems))}"
    placed = [_placed(part, plan, bar_seconds) for part in found]
    parts = [part for part in placed if part.notes]
    rng = random.Random(f"mma players {seed}")
    missing = set(STEMS) - {part.stem for part in parts}
    for stem in sorted(missing):
        parts.append(compose.play(random.Random(rng.getrandbits(64)), stem, plan))
    silent = {stem: compose.rests(stem, plan) for stem in STEMS}
    return Song(seed, seconds, plan.bpm, plan.key, plan.mode, beats, tuple(parts), silent)


def _placed(part: Part, plan: compose.Draft, bar_seconds: float) -> Part:
    """The notes where the plan's bars are; those that start while the player rests are left out."""
    starts = plan.groove.starts
    rests = compose.rests(part.stem, plan)

    def moment(time: float) -> float:
        bar = min(max(0, int(time / bar_seconds)), len(starts) - 2)
        return starts[bar] + (time / bar_seconds - bar) * (starts[bar + 1] - starts[bar])

    notes = []
    for note in part.notes:
        start, end = moment(note.start), moment(note.start + note.duration)
        edge = bisect_right(starts, start + 0.05) - 1  # a note may come a little before its bar
        middle = starts[max(0, edge)]
        if not any(first <= middle < last for first, last in rests):
            notes.append(Note(start, max(0.03, end - start), note.pitch, note.velocity))
    return replace(part, styles=("mma",), notes=tuple(notes), controls=())


def attempts(number: int, seconds: float, home: Path) -> Iterator[tuple[str, Song | str]]:
    """Grooves for song `number`, each with the song or with why there is none."""
    plan = compose.draft(random.Random(number), seconds)
    rng = random.Random(f"mma {number}")
    for _ in range(TRIES):
        file, names = rng.choice(library(home, plan.groove.steps // 4))
        chosen = {label: f"{file}:{rng.choice(names)}" for label in "ABC"}
        played = play(home, text(plan, chosen, number))
        if isinstance(played, str):
            yield file, played
        else:
            yield file, arrange(played, plan, number, seconds)


def _write(out: Path, number: int, seconds: float, home: Path, failed: Counter[str]) -> bool:
    """Whether a groove did; the reasons of those that did not are counted in `failed`."""
    for _, song in attempts(number, seconds, home):
        if isinstance(song, Song):
            partial = out / f".Track{number:05d}.partial"
            partial.write_bytes(midi.song_bytes(song))
            partial.rename(out / f"Track{number:05d}.mid")
            return True
        failed[song] += 1
    print(f"Track{number:05d}: none of {TRIES} grooves does, so there is no file")
    return False


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=0, help="first song")
    parser.add_argument("--count", type=int, required=True, help="number of songs")
    parser.add_argument("--step", type=int, default=1, help="compose each so many-th song")
    parser.add_argument("--seconds", type=int, default=76, help="60 s at four semitones less")
    parser.add_argument("--debian", type=Path, default=DEBIAN)
    options = parser.parse_args(arguments)
    home = (options.debian / "usr/share/mma").resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = range(options.first, options.first + options.count, options.step)
    left = [n for n in numbers if not (options.out / f"Track{n:05d}.mid").is_file()]
    failed: Counter[str] = Counter()
    made = 0
    try:
        for number in left:
            made += _write(options.out, number, float(options.seconds), home, failed)
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{made} songs; {sum(failed.values())} grooves passed over")
    for reason, times in failed.most_common():
        print(f"  {times} x {reason}")


if __name__ == "__main__":
    main()
