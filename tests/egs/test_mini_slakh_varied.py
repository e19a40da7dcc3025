"""egs/mini_slakh/data: varied fonts, effects and tapes keep pitch, length and determinism."""

from __future__ import annotations

import io
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("midirenderer")

SECONDS = 6.0
STEMS = ("bass", "drums", "guitar", "piano")
PRESETS = [(0, 0), (7, 0), (25, 0), (30, 0), (33, 0), (38, 0), (0, 128), (25, 128)]


def cents_off(wave: np.ndarray, rate: int, pitch: int) -> float:
    """How far the strongest of the first six harmonics is from where `pitch` has it, in cents."""
    length = 1 << 19
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), length))
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    fundamental = 440 * 2 ** ((pitch - 69) / 12)
    cents = 1200 * np.log2(np.maximum(frequencies, 1e-3) / fundamental)
    best = []
    for harmonic in range(1, 7):
        near = np.abs(cents - 1200 * np.log2(harmonic)) < 70
        peak = spectrum[near].argmax()
        best.append((spectrum[near][peak], cents[near][peak] - 1200 * np.log2(harmonic)))
    return float(max(best)[1])


def play(local: Any, font: bytes, program: int, bank: int, pitches: list[int]) -> np.ndarray:
    note, part = local("score").Note, local("score").Part
    notes = tuple(note(0.1 + 1.5 * k, 1.2, pitch, 90) for k, pitch in enumerate(pitches))
    stem = "drums" if bank == 128 else "piano"
    data = local("midi").part_bytes(part(stem, program, (), notes), 1.5 * len(pitches) + 0.1)
    wave = import_module("midirenderer").render_wave_from(font, data)
    return soundfile.read(io.BytesIO(wave))[0].mean(axis=1)


@pytest.mark.parametrize(("program", "bank"), PRESETS)
def test_a_preset_taken_from_its_font_sounds_exactly_as_in_it(
    local: Any, font: Path, program: int, bank: int
) -> None:
    pitches = [36, 38, 45, 51, 60]
    whole, part = font.read_bytes(), local("soundfonts").load_preset(font, program, bank)
    assert len(part) < len(whole) / 10
    np.testing.assert_array_equal(
        play(local, part, program, bank, pitches), play(local, whole, program, bank, pitches)
    )


@pytest.mark.parametrize("program", [0, 4, 25, 27, 33, 38])
def test_varied_presets_differ_and_stay_in_tune(local: Any, font: Path, program: int) -> None:
    vary = local("sf2_vary").vary
    preset = local("soundfonts").load_preset(font, program, 0)
    pitches = [40, 47, 55] if program >= 32 else [45, 57, 69]
    for seed in range(4):
        varied = vary(preset, program, 0, random.Random(seed))
        assert varied == vary(preset, program, 0, random.Random(seed)) != preset
        wave = play(local, varied, program, 0, pitches)
        for k, pitch in enumerate(pitches):
            tone = wave[round((0.25 + 1.5 * k) * 48000) : round((1.25 + 1.5 * k) * 48000)]
            # 15 cents are drawn; the font's own samples are up to 4 off, its pianos' bass 10
            assert abs(cents_off(tone, 48000, pitch)) < 26


def test_varied_drums_all_sound(local: Any, font: Path) -> None:
    drums = [36, 38, 42, 46, 49, 51, 41, 50]
    preset = local("soundfonts").load_preset(font, 0, 128)
    for seed in range(3):
        varied = local("sf2_vary").vary(preset, 0, 128, random.Random(seed))
        hits = play(local, varied, 0, 128, drums)[: 48000 * 12].reshape(8, -1)
        assert np.abs(hits).max(axis=1).min() > 1e-3


def test_a_font_that_is_none_is_refused(local: Any) -> None:
    with pytest.raises(ValueError, match="not a SoundFont 2 file: it has no"):
        local("sf2_vary").vary(b"RIFF", 0, 0, random.Random(0))


@pytest.mark.parametrize("stem", STEMS)
def test_effects_keep_length_and_level_and_follow_from_their_seed(local: Any, stem: str) -> None:
    effects, active_rms = local("effects"), local("levels").active_rms
    time = np.arange(3 * 22050) / 22050
    wave = (np.sin(2 * np.pi * 110 * time) * np.exp(-3 * (time % 0.5))).astype(np.float32) * 0.2
    dry = 0
    for seed in range(24):
        out = effects.apply(stem, wave, random.Random(seed), 30)
        assert out.dtype == np.float32
        assert out.shape == wave.shape
        assert np.isfinite(out).all()
        assert active_rms(out) == pytest.approx(active_rms(wave), rel=1e-3)
        assert abs(out.mean()) < 0.05 * active_rms(out)  # an offset of -26 dB at most
        np.testing.assert_array_equal(out, effects.apply(stem, wave, random.Random(seed), 30))
        dry += np.abs(out - wave).max() < 1e-5
    assert 2 <= dry <= 18  # a third of 24, and six standard deviations of slack
    assert not effects.apply(stem, np.zeros(8192, np.float32), random.Random(0)).any()


def test_a_tape_shifts_pitch_and_time_by_its_speed(local: Any) -> None:
    for number in range(4):
        tape = local("tapes").draw(number, 4.0, 2.0)
        # lengths are rounded to ones that transform fast, 0.2 % apart (4 cents)
        assert abs(12 * np.log2(tape.speed)) < 2.05
        assert tape.recorded_rate * tape.speed == pytest.approx(22050)
        time = np.arange(round(tape.recorded_seconds * 48000)) / 48000
        out = tape.play(np.sin(2 * np.pi * 440 * time).astype(np.float32), 48000)
        assert out.shape == (4 * 22050,)
        tuned = cents_off(out[2000:-2000], 22050, 69)
        assert tuned == pytest.approx(
            1200 * np.log2(tape.speed) if abs(tuned) < 69 else tuned, abs=1
        )


def render(local: Any, out: Path, font: Path, *more: str) -> dict[str, bytes]:
    local("render").main(
        [str(out), "--split", "validation", "--seconds", str(SECONDS), "--count", "2",
         "--soundfont", str(font), *more]
    )  # fmt: skip
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_without_variation_the_options_change_nothing(
    local: Any, font: Path, tmp_path: Path
) -> None:
    plain = render(local, tmp_path / "plain", font)
    zero = ["--vary", "0", "--pitch", "0", "--form", "slakh"]
    assert render(local, tmp_path / "zero", font, *zero) == plain


def test_varied_stems_are_the_same_for_every_nj(local: Any, font: Path, tmp_path: Path) -> None:
    more = ["--vary", "0.8", "--pitch", "1", "--form", "stems", "--class-soundfont", f"bass={font}"]
    one = render(local, tmp_path / "one", font, *more)
    assert render(local, tmp_path / "two", font, *more, "--nj", "2") == one
    tracks = ["validation/Track80000", "validation/Track80001"]
    wanted = {f"{track}/{stem}.flac" for track in tracks for stem in STEMS}
    assert set(one) == wanted | {"validation.json"}
    for name in wanted:
        wave, rate = soundfile.read(tmp_path / "one" / name)
        assert (len(wave), rate) == (SECONDS * 22050, 22050)
        assert np.abs(wave).max() > 0.01


@pytest.mark.parametrize("wrong", [("--vary", "1.5"), ("--class-soundfont", "flute=x.sf2")])
def test_wrong_options_are_refused(local: Any, wrong: tuple[str, str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        local("render").parse(["out", "--split", "train", "--count", "1", *wrong])


def virtual_part(local: Any, stem: str, program: int, pitches: list[int]) -> Any:
    note = local("score").Note
    notes = tuple(note(0.1 + 1.5 * k, 1.2, pitch, 90) for k, pitch in enumerate(pitches))
    return local("score").Part(stem, program, (), notes)


@pytest.mark.parametrize("program", [0, 1, 2, 4, 5, 6, 7, *range(24, 40)])
def test_virtual_instruments_are_in_tune(local: Any, program: int) -> None:
    pitches = [33, 40, 45] if program >= 32 else [45, 57, 69]
    stem = "bass" if program >= 32 else "guitar" if program >= 24 else "piano"
    part = virtual_part(local, stem, program, pitches)
    for seed in range(3):
        wave = local("virtual").render(part, 5 * 22050, 22050, random.Random(seed))
        assert (wave.dtype, wave.shape) == (np.float32, (5 * 22050,))
        again = local("virtual").render(part, 5 * 22050, 22050, random.Random(seed))
        np.testing.assert_array_equal(wave, again)
        for k, pitch in enumerate(pitches):
            tone = wave[round((0.2 + 1.5 * k) * 22050) : round((1.2 + 1.5 * k) * 22050)]
            # drawn: at most 4 + 2 + 1 cents of tuning; the rest is the stiffness of the string
            assert abs(fundamental_off(tone, pitch)) < 10


def fundamental_off(tone: np.ndarray, pitch: int) -> float:
    """Cents from `pitch` to the strongest frequency within 70 cents of it."""
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 1 << 19))
    frequencies = np.fft.rfftfreq(1 << 19, 1 / 22050)
    cents = 1200 * np.log2(np.maximum(frequencies, 1e-3) / (440 * 2 ** ((pitch - 69) / 12)))
    near = np.abs(cents) < 70
    return float(cents[near][spectrum[near].argmax()])


def test_every_virtual_drum_sounds(local: Any) -> None:
    drums = local("drums")
    pitches = [36, 37, 38, 39, 40, 42, 44, 46, 51, 53, *drums.CRASHES, *drums.TOMS, *drums.HAND]
    part = virtual_part(local, "drums", 0, pitches)
    length = round(1.5 * 22050)
    for seed in range(3):
        wave = local("virtual").render(part, len(pitches) * length, 22050, random.Random(seed))
        assert np.isfinite(wave).all()
        assert np.abs(wave.reshape(-1, length)).max(axis=1).min() > 1e-3


def test_virtual_notes_end_and_the_pedal_and_bends_are_heard(local: Any) -> None:
    score, virtual = local("score"), local("virtual")
    short = (score.Note(0.1, 0.4, 57, 90),)
    rate, rng = 22050, random.Random

    def late(part: Any) -> float:
        return float(np.abs(virtual.render(part, 4 * rate, rate, rng(1))[2 * rate :]).max())

    pedal = (score.Control(0.2, "sustain", 127), score.Control(3.9, "sustain", 0))
    assert late(score.Part("piano", 0, (), short)) == 0
    assert late(score.Part("piano", 0, (), short, pedal)) > 1e-3
    bend = (score.Control(0.0, "bend", 2.0),)
    bent = virtual.render(
        score.Part("guitar", 27, (), (score.Note(0.1, 1.5, 57, 90),), bend), 2 * rate, rate, rng(1)
    )
    assert abs(fundamental_off(bent[rate // 4 : rate * 3 // 2], 59)) < 10


def test_partials_are_the_sum_they_stand_for(local: Any) -> None:
    partials = local("partials")
    frequencies, decays = np.array([100.0, 431.7, 3000.0, 10900.0]), np.array([1.0, 3.0, 9.0, 1.0])
    amplitudes, time = np.array([1.0, -0.5, 0.3, 1.0]), np.arange(3000) / 22050
    wanted = sum(
        a * np.exp(-d * time) * np.sin(2 * np.pi * f * time)
        for f, d, a in zip(frequencies[:3], decays, amplitudes, strict=False)  # 10,900 Hz is cut
    )
    out = partials.ring(frequencies, decays, amplitudes, 3000, 22050)
    np.testing.assert_allclose(out, wanted, atol=1e-5)  # float32
    frames = np.linspace([1.0, 0.0], [0.0, 2.0], 13)
    out = partials.sweep(frequencies[:2], frames, 3000, 22050)
    ramp = np.arange(3000) / (12 * 256)
    wanted = (1 - ramp) * np.sin(2 * np.pi * 100 * time)
    wanted = wanted + 2 * ramp * np.sin(2 * np.pi * 431.7 * time)
    np.testing.assert_allclose(out, wanted, atol=1e-5)
