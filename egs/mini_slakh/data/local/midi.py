"""Songs as standard MIDI files: one part for the renderer, or the whole song as all_src.mid."""

from __future__ import annotations

import io

import mido
from score import Note, Part, Song

TICKS_PER_BEAT = 480
TICKS_PER_SECOND = 2 * TICKS_PER_BEAT  # at MIDI's default tempo of 120 beats a minute
DRUM_CHANNEL = 9
BEND_RANGE = 2.0  # semitones, General MIDI's default


def part_bytes(
    part: Part, seconds: float, volume: int = 127, reverb: int = 0, chorus: int = 0
) -> bytes:
    """A one-part MIDI file of exactly `seconds`; `reverb` and `chorus` are effect sends, 0..127."""
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    channel = DRUM_CHANNEL if part.stem == "drums" else 0
    file.tracks.append(_track(part, channel, seconds, ((7, volume), (91, reverb), (93, chorus))))
    return _dump(file)


def song_bytes(song: Song) -> bytes:
    """All parts in one file; drums on channel 10, the others on channels 1, 2, 3, ..."""
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    free = iter(c for c in range(16) if c != DRUM_CHANNEL)
    for part in song.parts:
        channel = DRUM_CHANNEL if part.stem == "drums" else next(free)
        file.tracks.append(_track(part, channel, song.seconds, ()))
    return _dump(file)


def _track(
    part: Part, channel: int, seconds: float, controls: tuple[tuple[int, int], ...]
) -> mido.MidiTrack:
    end = round(seconds * TICKS_PER_SECOND)
    timed = [(0, 0, mido.Message("program_change", channel=channel, program=part.program))]
    for number, value in controls:
        timed.append(
            (0, 1, mido.Message("control_change", channel=channel, control=number, value=value))
        )
    for control in part.controls:
        tick = round(control.time * TICKS_PER_SECOND)
        if control.kind == "sustain":
            message = mido.Message(
                "control_change", channel=channel, control=64, value=int(control.value)
            )
        else:
            bend = round(8192 * control.value / BEND_RANGE)
            message = mido.Message("pitchwheel", channel=channel, pitch=min(8191, max(-8192, bend)))
        timed.append((tick, 3, message))
    for note, until in without_overlap(part.notes):
        on, off = round(note.start * TICKS_PER_SECOND), round(until * TICKS_PER_SECOND)
        if on < end:
            key = {"channel": channel, "note": note.pitch}
            timed.append((on, 4, mido.Message("note_on", velocity=note.velocity, **key)))
            timed.append((max(on + 1, off), 2, mido.Message("note_off", velocity=0, **key)))
    timed = [(min(tick, end), order, message) for tick, order, message in timed]
    track, now = mido.MidiTrack(), 0
    for tick, _, message in sorted(timed, key=lambda item: item[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=end - now))
    return track


def without_overlap(notes: tuple[Note, ...]) -> list[tuple[Note, float]]:
    """Each note with its end: at the latest where its pitch is struck again."""
    ordered = sorted(notes, key=lambda note: (note.start, note.pitch, -note.velocity))
    following: dict[int, float] = {}
    ends = []
    for note in reversed(ordered):
        until = min(note.start + note.duration, following.get(note.pitch, float("inf")))
        ends.append((note, until))
        following[note.pitch] = note.start
    return [(note, until) for note, until in reversed(ends) if until > note.start]


def _dump(file: mido.MidiFile) -> bytes:
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
