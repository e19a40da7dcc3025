"""egs/mini_slakh/data: the stem of all that is neither bass, drums, guitar nor piano."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from tests.recipes.test_scripts import ROOT, needs_shell
from tests.toys import STEMS

pytest.importorskip("midirenderer")

RATE = 22050
DEBIAN = Path(__file__).parents[2] / "egs/mini_slakh/data/packages/debian"
OTHERS = [*range(8, 24), *range(40, 120)]  # General MIDI programs of no other stem


def singer(local: Any, debian: Path) -> bool:
    """Whether Festival is there, with all voices."""
    try:
        _, _, share = local("voices").program(debian)
    except OSError:
        return False
    installed = {path.name for path in (share / "festival/voices").glob("*/*")}
    return set(local("voices").VOICES) <= installed


def test_parts_are_of_no_other_stem_and_sound_in_their_share_of_the_songs(local: Any) -> None:
    parts = local("fifth").parts
    sounding = 0
    for number in range(120):
        found = parts(number, 20.0, 0.5, 0.4)
        assert found == parts(number, 20.0, 0.5, 0.4)
        sounding += bool(found)
        for part in found:
            assert part.stem == "other"
            assert part.program in OTHERS
            assert all(note.start >= 0 and 24 <= note.pitch <= 96 for note in part.notes)
    # Half of 120 songs, five standard deviations.
    assert abs(sounding - 60) < 5 * (120 / 4) ** 0.5
    assert parts(3, 20.0, 0.0, 1.0) == ()


def test_every_style_plays_in_four_and_in_three(local: Any) -> None:
    other, chord = local("other"), local("harmony").diatonic_chord(4, "dorian", 3, "sus")
    for name, style in other.STYLES.items():
        for steps in (16, 12):
            bar = local("score").Bar(0, steps, ((0, chord), (8, chord)), chord, True, False, 0.5)
            events = [e for _ in range(4) for e in style(bar, random.Random(1))]
            assert events, name
            assert all(0 <= event.step < steps for event in events), name
    assert set(other.PROGRAMS) <= set(OTHERS)


def test_the_fifth_stem_is_written_where_it_is_asked_for(
    local: Any, font: Path, tmp_path: Path
) -> None:
    arguments = [
        "--split",
        "validation",
        "--count",
        "3",
        "--seconds",
        "4",
        "--soundfont",
        str(font),
    ]
    render = local("render").main
    render([str(tmp_path / "four"), *arguments, "--form", "stems"])
    render([str(tmp_path / "five"), *arguments, "--form", "stems", "--other", "0.3"])
    loud = 0
    for number in range(80000, 80003):
        four, five = (tmp_path / n / f"validation/Track{number}" for n in ("four", "five"))
        assert {path.stem for path in four.iterdir()} == set(STEMS)
        assert {path.stem for path in five.iterdir()} == {*STEMS, "other"}
        wave, rate = soundfile.read(five / "other.flac", dtype="int16")
        assert (len(wave), rate) == (4 * RATE, RATE)
        assert wave.any() == local("fifth").sounds(number, 0.3)
        loud += wave.any()
        if not wave.any():  # nothing was added: the others are what they were
            for stem in STEMS:
                assert (four / f"{stem}.flac").read_bytes() == (five / f"{stem}.flac").read_bytes()
    assert 0 < loud < 3
    with pytest.raises(SystemExit, match="2"):
        render([str(tmp_path / "six"), *arguments, "--other", "0.3"])


def test_a_song_is_cut_into_phrases_of_single_notes(local: Any) -> None:
    note = local("score").Note
    notes = (
        note(0.0, 0.9, 60, 90), note(0.5, 0.5, 62, 90), note(0.52, 0.5, 65, 90),  # one at a time
        note(1.05, 0.4, 64, 90), note(2.0, 0.02, 67, 90),
    )  # fmt: skip
    first, second = local("voices").phrases(notes)
    assert [(n.start, n.pitch) for n in first] == [(0.0, 60), (0.5, 62), (1.05, 64)]
    assert [(n.start, n.pitch, n.duration) for n in second] == [(2.0, 67, 0.1)]
    assert first[0].duration == 0.5  # until the next one
    assert local("voices").phrases(()) == []


def test_a_phrase_in_singing_mode(local: Any) -> None:
    """Played 1.25 times as fast as it is sung, it has its pitches and lengths again."""
    note = local("score").Note
    notes = [note(1.0, 0.4, 69, 90), note(1.5, 1.0, 57, 90)]
    text = local("voices").text(notes, ["la", "moon"], 1.25, Path("/x/Singing.v0_1.dtd"))
    assert '<!DOCTYPE SINGING SYSTEM "/x/Singing.v0_1.dtd">' in text
    root = ElementTree.fromstring(text)
    pitches = [float(p.attrib["FREQ"]) * 1.25 for p in root.iter("PITCH")]
    assert pitches == pytest.approx([440, 220], abs=0.01)  # two decimals
    sung = [(float(d.attrib["SECONDS"]) / 1.25, d.text) for d in root.iter("DURATION")]
    assert [word for _, word in sung] == ["la", "moon"]
    # The first lasts until the second: there is no breath between them.
    assert [seconds for seconds, _ in sung] == pytest.approx([0.5, 1.0], abs=1e-4)
    high = local("voices").text([note(0.0, 1.0, 72, 90)], ["la"], 1.0, Path("/x"))
    assert 'FREQ="261.63"' in high  # C5, 523 Hz, is too high: C4


def test_without_the_program_a_singer_is_refused(
    local: Any, font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(debian: Path) -> None:
        raise OSError(f"no festival in {debian} or installed; run local/fetch_programs.py")

    monkeypatch.setattr(local("voices"), "program", absent)
    with pytest.raises(SystemExit, match=r"^error: no festival in .*fetch_programs"):
        local("render").main(
            [str(tmp_path / "out"), "--split", "validation", "--count", "1", "--form", "stems",
             "--soundfont", str(font), "--other", "1", "--sung", "1"]
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("voice", ["kal_diphone", "lp_diphone", "suo_fi_lj_diphone", "pc_diphone"])
def test_the_singer_is_in_tune_and_in_time(
    local: Any, monkeypatch: pytest.MonkeyPatch, voice: str
) -> None:
    """A scale of notes of 0.5 s; each is sought by the strongest of its first three harmonics."""
    voices = local("voices")
    if not singer(local, DEBIAN):
        pytest.skip("needs the program festival (local/fetch_programs.py)")
    monkeypatch.setattr(voices, "VOICES", {voice: voices.VOICES[voice]})
    note, part = local("score").Note, local("score").Part
    pitches = [60, 62, 64, 65, 67, 69]
    notes = tuple(note(0.5 + 0.5 * k, 0.48, pitch, 100) for k, pitch in enumerate(pitches))
    wave = voices.sing(
        part("other", 54, ("sung",), notes), 5 * RATE, RATE, random.Random(0), DEBIAN
    )
    assert wave.dtype == np.float32
    assert len(wave) == 5 * RATE
    frames = np.abs(wave).reshape(-1, RATE // 10).max(axis=1)
    assert frames[:3].max() < 0.05 * frames.max()  # before the song
    assert frames[38:].max() < 0.05 * frames.max()  # 0.3 s after it
    for k, pitch in enumerate(pitches):
        tone = wave[round((0.6 + 0.5 * k) * RATE) : round((0.9 + 0.5 * k) * RATE)]
        spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 1 << 18))
        hertz = np.fft.rfftfreq(1 << 18, 1 / RATE)
        found = []
        for harmonic in (1, 2, 3):
            wanted = harmonic * 440 * 2 ** ((pitch - 69) / 12)
            cents = 1200 * np.log2(np.maximum(hertz, 1) / wanted)
            near = np.abs(cents) < 150
            peak = spectrum[near].argmax()
            found.append((spectrum[near][peak], cents[near][peak]))
        # A vibrato of up to 45 cents, of which 0.3 s average little, and Festival's periods of
        # whole samples at 16 kHz, 47 cents at 440 Hz.
        assert abs(max(found)[1]) < 70


@needs_shell
def test_the_script_of_training_songs_passes_its_options_on(local: Any, tmp_path: Path) -> None:
    """120 songs from a seed on, in blocks: each is composed before it is rendered."""
    stub, log, fonts = tmp_path / "python", tmp_path / "calls", tmp_path / "fonts"
    stub.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n')
    stub.chmod(0o755)
    fonts.mkdir()
    for name in ("bass_one", "drums_two", "guitar_three", "piano_four"):
        (fonts / f"{name}.sf2").touch()
    options = f"--stage 1 --first 7 --count 120 --out o --soundfonts {fonts} --python {stub}"
    script = ROOT / "egs/mini_slakh/data/render_v3.sh"
    subprocess.run(["bash", str(script), *options.split()], check=True)
    calls = [line.split() for line in log.read_text().splitlines()]
    assert [Path(call[0]).stem for call in calls] == ["compose_mma", "render"] * 3
    for call in calls[::2]:
        assert call[1] == "o/midi"
    songs = [local("render").parse(call[1:]) for call in calls[1::2]]
    assert [(one.first, one.count) for one in songs] == [(7, 50), (57, 50), (107, 20)]
    for one in songs:
        assert (one.split, one.form, one.patches, one.midi) == (
            "train", "stems", "slakh", Path("o/midi")
        )  # fmt: skip
        assert (one.vary, one.pitch, one.amps, one.other, one.sung) == (0.35, 4, 0.6, 0.5, 0.4)
        assert {stem for stem, _ in one.class_soundfont} == {*STEMS, "other"}
        assert (fonts / "bass_one.sf2") in [font for _, font in one.class_soundfont]
