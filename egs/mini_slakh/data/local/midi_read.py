"""Standard MIDI files as parts and songs: each channel and program is an instrument."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import mido
from midi import BEND_RANGE, DRUM_CHANNEL
from score import Control, Note, Part, Song

PROGRAMS = {"piano": range(8), "guitar": range(24, 32), "bass": range(32, 40)}
SOUNDS = range(120, 128)  # General MIDI's sound effects, which are no instruments
OTHER = "other"


class BadSong(Exception):
    """A MIDI file that does not do; the message names it."""


def read_song(path: Path, number: int) -> Song:
    """The song of a file, without tempo, key and mode. BadSong if it is no MIDI file."""
    try:
        file = mido.MidiFile(path)
    except (OSError, EOFError, ValueError) as error:
        reason = error or "it ends too early"
        raise BadSong(f"{path}: not a MIDI file ({reason}); give another") from None
    return Song(number, file.length, 120.0, 0, "", 4, parts(file), {})


def parts(file: mido.MidiFile) -> tuple[Part, ...]:
    """One part for each (channel, program) with notes, in the order in which they are named."""
    now = 0.0
    program: dict[int, int] = defaultdict(int)
    held: dict[tuple[int, int], tuple[float, int, tuple[int, int]]] = {}
    notes: dict[tuple[int, int], list[Note]] = {}
    controls: dict[int, list[Control]] = defaultdict(list)
    for message in file:
        now += message.time
        if message.is_meta or not hasattr(message, "channel"):
            continue
        channel = message.channel
        if message.type == "program_change":
            program[channel] = message.program
            notes.setdefault((channel, message.program), [])
        elif message.type == "control_change" and message.control == 64:
            controls[channel].append(Control(now, "sustain", message.value))
        elif message.type == "pitchwheel":
            controls[channel].append(Control(now, "bend", BEND_RANGE * message.pitch / 8192))
        elif message.type in ("note_on", "note_off"):
            place = channel, message.note
            if place in held:
                start, velocity, instrument = held.pop(place)
                notes[instrument].append(Note(start, now - start, message.note, velocity))
            if message.type == "note_on" and message.velocity:
                instrument = channel, program[channel]
                notes.setdefault(instrument, [])
                held[place] = now, message.velocity, instrument
    return tuple(
        Part(stem, number, ("midi",), tuple(played), tuple(controls[channel]))
        for (channel, number), played in notes.items()
        if played and (stem := _stem(channel, number)) is not None
    )


def merged(found: tuple[Part, ...]) -> tuple[Part, ...]:
    """Parts of the same stem and program as one, where neither has controls."""
    kept: dict[tuple[str, int], Part] = {}
    for part in found:
        place = part.stem, part.program
        before = kept.get(place)
        if before is not None:
            both = tuple(sorted(before.notes + part.notes, key=lambda note: note.start))
            part = replace(before, notes=both, controls=before.controls + part.controls)
        kept[place] = part
    return tuple(kept.values())


def _stem(channel: int, program: int) -> str | None:
    if channel == DRUM_CHANNEL:
        return "drums"
    if program in SOUNDS:
        return None
    return next((stem for stem, programs in PROGRAMS.items() if program in programs), OTHER)
