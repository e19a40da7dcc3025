"""egs/mini_slakh/data: songs whose players are grooves of MMA, and MIDI files as songs.

data/mma_tiny.mid was written by MMA 21.09 from data/mma_tiny.mma, whose groove is our own:

    MMA_HOME=packages/debian/usr/share/mma python packages/debian/usr/bin/mma -xNOCREDIT \
        mma_tiny.mma -f mma_tiny.mid
"""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.toys import STEMS

pytest.importorskip("midirenderer")

DATA = Path(__file__).parent / "data"
LIBRARIES = [
    Path("/usr/share/mma"),
    DATA.parents[2] / "egs/mini_slakh/data/packages/debian/usr/share/mma",
]
HOME = next((path for path in LIBRARIES if (path / "MMA").is_dir()), None)
needs_mma = pytest.mark.skipif(
    HOME is None, reason="needs the program mma (local/fetch_programs.py)"
)
TICK = 60 / 120 / 192  # seconds: MMA writes 192 ticks a beat


def tiny(local: Any) -> Any:
    return import_module("mido").MidiFile(DATA / "mma_tiny.mid")


def plan_of(local: Any, steps: int = 16, resting: tuple[str, ...] = ()) -> Any:
    """Two bars, C and then A minor 7 and F, of 3 s and 1.5 s."""
    harmony, score, compose, form = (local(n) for n in ("harmony", "score", "compose", "form"))
    chord = [harmony.diatonic_chord(0, "major", d, c) for d, c in
             ((0, "triad"), (5, "seventh"), (3, "triad"))]  # fmt: skip
    chords = [((0, chord[0]),), ((0, chord[1]), (8, chord[2]))]
    bars = [score.Bar(k, steps, chords[k], chord[0], k == 0, k == 1, 0.5) for k in range(2)]
    sections = [
        form.Section(0, 1, "A", 0.5, frozenset()),
        form.Section(1, 1, "B", 0.5, frozenset(resting)),
    ]
    groove = score.Groove((0.0, 3.0, 4.5), steps)
    return compose.Draft(112.0, groove, sections, 0, "major", bars)


def test_a_file_of_mma_is_read_by_its_channels_and_programs(local: Any) -> None:
    found = local("midi_read").parts(tiny(local))
    assert {(p.stem, p.program) for p in found} == {
        ("drums", 0), ("bass", 33), ("guitar", 24), ("other", 48)
    }  # fmt: skip
    by_stem = {part.stem: part for part in found}
    # As the groove says: kicks on beats 1 and 3, the bass on the root of each bar and its fifth,
    # guitars on beats 2 and 4; two bars of 2 s.
    assert [note.pitch for note in by_stem["drums"].notes] == [36] * 4
    assert [n.start for n in by_stem["drums"].notes] == pytest.approx([0, 1, 2, 3], abs=TICK)
    assert [n.pitch % 12 for n in by_stem["bass"].notes[:3]] == [0, 7, 9]
    assert {round(n.start, 2) for n in by_stem["guitar"].notes} == {0.5, 1.5, 2.5, 3.5}
    assert [n.velocity for n in by_stem["bass"].notes] == [90, 80, 90, 80]


def test_what_was_played_comes_to_the_bars_of_the_plan_and_rests_with_it(local: Any) -> None:
    compose_mma = local("compose_mma")
    song = compose_mma.arrange(tiny(local), plan_of(local), 5, 4.5)
    by_stem = {part.stem: part for part in song.parts}
    assert set(by_stem) == {"drums", "bass", "guitar", "other", "piano"}
    assert by_stem["piano"].styles != ("mma",)  # the groove has none: our own player's
    # Beats 1 and 3 of a bar of 3 s from 0 and of one of 1.5 s from 3.
    starts = [note.start for note in by_stem["drums"].notes]
    assert starts == pytest.approx([0, 1.5, 3, 3.75], abs=1.5 * TICK)
    resting = compose_mma.arrange(tiny(local), plan_of(local, resting=("guitar",)), 5, 4.5)
    guitar = next(part for part in resting.parts if part.stem == "guitar")
    assert max(note.start for note in guitar.notes) < 3.0
    assert resting.silent["guitar"] == ((3.0, 4.5),)


def test_a_groove_in_another_time_is_passed_over(local: Any) -> None:
    why = local("compose_mma").arrange(tiny(local), plan_of(local, steps=12), 5, 4.5)
    assert why == "it has not 3 beats a bar"


def test_a_plan_in_the_words_of_mma(local: Any) -> None:
    text = local("compose_mma").text(plan_of(local), {"A": "stdlib/swing:Swing", "B": "Tiny"}, 5)
    assert text.splitlines() == [
        "RndSeed 5", "Tempo 120", "Groove stdlib/swing:Swing", "1 C / / /", "Groove Tiny",
        "2 Am7 / F /",
    ]  # fmt: skip


def test_every_chord_has_a_name(local: Any) -> None:
    harmony, compose_mma = local("harmony"), local("compose_mma")
    for mode in harmony.MODES:
        for degree in range(7):
            for colour in ("triad", "seventh", "ninth", "sus", "power"):
                chord = harmony.diatonic_chord(2, mode, degree, colour)
                name = compose_mma.chord_name(chord)
                root = compose_mma.ROOTS[chord.root]
                tones = next(
                    t for t, n in [*compose_mma.CHORDS.items(), ((0, 7), "5")] if root + n == name
                )
                assert name == root + "5" or set(tones) <= set(chord.intervals)


def test_the_library_is_listed_without_grooves_that_pass(local: Any, tmp_path: Path) -> None:
    (tmp_path / "lib/own").mkdir(parents=True)
    names = ("Tiny", "TinyIntro", "TinyEndingA", "TinyFillBA", "Tiny1Plus", "TinyEnd")
    grooves = "\n".join(f"DefGroove {name}" for name in names)
    # The forms of the directive in the library of MMA 21.09.
    times = {
        "four": "Time 4",
        "four_more": "Time 4/4",
        "note": "  time 4 // all",
        "three": "Time 3/4",
    }
    for name, time in (times | {"six": "Time 6/8", "eight": "Time 4/8", "none": ""}).items():
        (tmp_path / f"lib/own/{name}.mma").write_text(f"{time}\n{grooves}\n")
    library, lasting = local("compose_mma").library, ("Tiny", "Tiny1Plus")
    fours = [("own/four", lasting), ("own/four_more", lasting), ("own/note", lasting)]
    assert library(tmp_path, 4) == fours
    assert library(tmp_path, 3) == [("own/three", lasting)]
    with pytest.raises(SystemExit, match=r"^error: no grooves in .*fetch_programs"):
        local("compose_mma").main([str(tmp_path / "x"), "--count", "1", "--debian", str(tmp_path)])


def test_what_is_written_is_read_again(local: Any, tmp_path: Path) -> None:
    midi, midi_read, compose = local("midi"), local("midi_read"), local("compose")
    song = compose.compose(3, 20.0)
    (path := tmp_path / "Track00003.mid").write_bytes(midi.song_bytes(song))
    read = midi_read.read_song(path, 3)
    assert read.seconds == pytest.approx(20.0, abs=1e-9)
    assert [(p.stem, p.program) for p in read.parts] == [(p.stem, p.program) for p in song.parts]
    for part, again in zip(song.parts, read.parts, strict=True):
        # Without the notes that another one ends at once, as the file has them.
        wanted = sorted(
            (n.start, n.pitch) for n, end in midi.without_overlap(part.notes) if n.start < 19.9
        )
        got = sorted((n.start, n.pitch) for n in again.notes if n.start < 19.9)
        assert len(got) == len(wanted)
        # A tick of the file is 1/960 s.
        assert max(abs(a[0] - b[0]) for a, b in zip(wanted, got, strict=True)) < 1 / 960
    path.write_bytes(b"MThd")
    with pytest.raises(midi_read.BadSong, match=r"Track00003\.mid: not a MIDI file"):
        midi_read.read_song(path, 3)


def test_songs_are_rendered_from_their_files(local: Any, font: Path, tmp_path: Path) -> None:
    """The composer's own song, written and read again, is sent to the renderer at the same ticks;
    only the order of the notes of one tick may differ, and with it the rounding of their sum."""
    midi, compose = local("midi"), local("compose")
    song = compose.compose(80000, 5.0)
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs/Track80000.mid").write_bytes(midi.song_bytes(song))
    arguments = ["--split", "validation", "--count", "1", "--seconds", "5", "--form", "stems"]
    arguments += ["--soundfont", str(font)]
    for name, more in (("own", []), ("read", ["--midi", str(tmp_path / "songs")])):
        local("render").main([str(tmp_path / name), *arguments, *more])
    for stem in STEMS:
        own, read = (
            soundfile.read(tmp_path / n / f"validation/Track80000/{stem}.flac", dtype="int16")[0]
            for n in ("own", "read")
        )
        assert np.abs(own.astype(int)).max() > 100
        assert np.abs(own.astype(int) - read).max() <= 1
    with pytest.raises(SystemExit, match=r"^error: .*lasts 5\.0 s, 6\.0 s are needed"):
        local("render").main(
            [
                str(tmp_path / "long"),
                *arguments,
                "--seconds",
                "6",
                "--midi",
                str(tmp_path / "songs"),
            ]
        )


def test_grooves_that_fail_are_counted_and_a_song_is_written_once(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compose_mma, compose = local("compose_mma"), local("compose")

    def attempts(number: int, seconds: float, home: Path) -> Any:
        yield "own/tiny", "it has only drums"
        if number != 4:
            yield "own/tiny", compose.compose(number, seconds)

    monkeypatch.setattr(compose_mma, "attempts", attempts)
    arguments = [str(tmp_path), "--first", "2", "--count", "5", "--step", "2", "--seconds", "9"]
    compose_mma.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Track00002.mid", "Track00006.mid"]
    assert capsys.readouterr().out.splitlines() == [
        "Track00004: none of 40 grooves does, so there is no file",
        "2 songs; 3 grooves passed over",
        "  3 x it has only drums",
    ]
    kept = (tmp_path / "Track00002.mid").stat().st_mtime_ns
    compose_mma.main(arguments)
    assert (tmp_path / "Track00002.mid").stat().st_mtime_ns == kept


@needs_mma
def test_the_program_plays_as_it_did(local: Any) -> None:
    compose_mma, midi_read = local("compose_mma"), local("midi_read")
    assert HOME is not None
    played = compose_mma.play(HOME, (DATA / "mma_tiny.mma").read_text())
    assert midi_read.parts(played) == midi_read.parts(tiny(local))
    assert "could not be found" in compose_mma.play(HOME, "Groove NoSuchGroove\n1 C\n")
    name, song = next(iter(compose_mma.attempts(7, 12.0, HOME)))
    assert name
    assert isinstance(song, str | local("score").Song)


def test_merged_parts_keep_all_notes(local: Any) -> None:
    note, part = local("score").Note, local("score").Part
    rng = random.Random(0)
    notes = [tuple(note(rng.random(), 0.1, 60, 90) for _ in range(5)) for _ in range(3)]
    parts = [
        part("guitar", 24, (), notes[0]),
        part("piano", 0, (), notes[1]),
        part("guitar", 24, (), notes[2]),
    ]
    guitar, piano = local("midi_read").merged(tuple(parts))
    assert guitar.notes == tuple(sorted(notes[0] + notes[2], key=lambda n: n.start))
    assert piano.notes == notes[1]
