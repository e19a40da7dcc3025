"""egs/mini_slakh/data: sets of instruments, guitar amplifiers, and songs that stay as they were."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import firwin

pytest.importorskip("midirenderer")

RATE = 22050
CABINETS = "usr/share/gx_head/sounds/amps"


@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (0, "b6f872240838fb5a"),
        (80000, "de905cd11f02dd2f"),
        (90011, "fac96f2ccfb9a13f"),
    ],
)
def test_the_songs_of_published_tables_stay_what_they_were(
    local: Any, seed: int, digest: str
) -> None:
    """A training, a validation and a test song: what is composed without an option, to the byte.
    The digests are of commit d89f911."""
    song = local("compose").compose(seed, 60.0)
    assert hashlib.sha256(local("midi").song_bytes(song)).hexdigest()[:16] == digest


def test_other_instruments_play_the_same_notes(local: Any) -> None:
    """One draw gives the program, whatever its weights; only a piano's pedal depends on it."""
    compose, sets = local("compose"), local("patches").read()
    for seed in range(6):
        own = compose.compose(seed, 20.0)
        slakh = compose.compose(seed, 20.0, sets["slakh"].programs)
        assert [p.stem for p in own.parts] == [p.stem for p in slakh.parts]
        for one, other in zip(own.parts, slakh.parts, strict=True):
            if one.stem != "piano":
                assert one.notes == other.notes


def test_sets_name_programs_of_their_class_and_fonts_that_there_are(local: Any) -> None:
    build_fonts, soundfonts = local("build_fonts"), local("soundfonts")
    fonts = {*build_fonts.read_conf()["fonts"], *soundfonts.read_conf()["fonts"]}
    for chosen in local("patches").read().values():
        assert set(chosen.programs) == set(build_fonts.CLASSES)
        for stem, weights in chosen.programs.items():
            assert set(weights) == set(build_fonts.CLASSES[stem])
        assert set(chosen.fonts) <= fonts
    weights = local("patches").read()["slakh"].programs["bass"]
    assert weights[38] + weights[39] < 0.02 * sum(weights.values())  # synthesisers


def test_fonts_are_drawn_by_weight(local: Any) -> None:
    patches = local("patches")
    files = tuple(Path(f"{name}.sf2") for name in "abc")
    chosen = patches.Patches(fonts={"a.sf2": 0, "b.sf2": 3})
    rng = random.Random(0)
    drawn = [chosen.draw_font(files, rng).stem for _ in range(800)]
    assert set(drawn) == {"b", "c"}
    # b: 3 of 4; five standard deviations of 800 draws.
    assert abs(drawn.count("b") / 800 - 0.75) < 5 * (0.75 * 0.25 / 800) ** 0.5
    # Without weights it is the draw of before the weights, which the published songs rest on.
    one, other = random.Random(5), random.Random(5)
    assert [patches.Patches().draw_font(files, one) for _ in range(9)] == [
        other.choice(files) for _ in range(9)
    ]


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A cabinet as the package has them, at 44,100 Hz: a low-pass at 4 kHz."""
    folder = tmp_path / "debian" / CABINETS
    folder.mkdir(parents=True)
    taps = firwin(255, 4000, fs=44100)
    soundfile.write(folder / "own.wav", taps / np.abs(taps).max() / 2, 44100)
    return tmp_path / "debian"


def amplifier(local: Any, debian: Path, drive_db: float, bias: float = 0.0) -> Any:
    cabinet = debian / CABINETS / "own.wav"
    return local("amps").Amplifier(cabinet, drive_db, tight=60, middle=800, bias=bias)


def tones(*frequencies: float) -> np.ndarray:
    """A second of tones whose periods fit into it, so that a spectrum has no leakage."""
    time = np.arange(RATE) / RATE
    waves = [np.sin(2 * np.pi * frequency * time) for frequency in frequencies]
    return (0.1 * np.sum(waves, axis=0)).astype(np.float32)


def spectrum(wave: np.ndarray) -> np.ndarray:
    """Decibels relative to the strongest, of the last of three repetitions; index: Hz."""
    power = np.abs(np.fft.rfft(wave[2 * RATE :])) ** 2
    return 10 * np.log10(power / power.max() + 1e-20)


def test_a_driven_amplifier_adds_sums_and_differences_and_a_clean_one_hardly(
    local: Any, debian: Path
) -> None:
    """Of two tones at f and g a clipping stage, as it is odd, makes 2 f - g and 2 g - f."""
    wave = np.tile(tones(300, 400), 3)
    driven = spectrum(amplifier(local, debian, 30.0).play(wave))
    clean = spectrum(amplifier(local, debian, -80.0).play(wave))
    assert min(driven[200], driven[500]) > -25
    # tanh x = x - x^3 / 3, and -40 dB a stage: the cube is some 1e-4 of the tones.
    assert max(clean[200], clean[500]) < -60


def test_overtones_fold_back_far_below_the_signal(local: Any, debian: Path) -> None:
    """A driven tone of 1,100 Hz has overtones at multiples; what lies between them was folded. Of a
    square wave the overtones at four times the rate, near the 80th, are 38 dB below the tone; a
    soft stage has less of them."""
    levels = spectrum(amplifier(local, debian, 20.0).play(np.tile(tones(1100), 3)))
    between = np.ones(len(levels), bool)
    between[::1100] = False
    assert levels[between].max() < -50
    assert levels[3300] > -30


def test_the_cabinet_takes_the_treble_and_the_level_stays(local: Any, debian: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    for drive in (-40.0, 12.0):
        out = amplifier(local, debian, drive, bias=0.2).play(noise)
        assert out.shape == noise.shape
        assert out.dtype == np.float32
        active_rms = local("levels").active_rms
        assert active_rms(out) == pytest.approx(active_rms(noise), rel=1e-4)
        power = np.abs(np.fft.rfft(out)) ** 2
        # The cabinet's stop band is over 50 dB down (a Hamming window).
        assert power[3 * 6000 :].mean() < 1e-4 * power[3 * 500 : 3 * 3000].mean()
        assert abs(out.mean()) < 1e-3 * active_rms(out)
    silence = np.zeros(RATE, np.float32)
    assert not amplifier(local, debian, 12.0).play(silence).any()


def test_a_share_of_the_songs_has_amplifiers_for_electric_guitars(local: Any, debian: Path) -> None:
    amps, part = local("amps"), local("score").Part
    guitar = part("guitar", 30, (), ())
    drawn = [amps.draw(number, 2, guitar, 0.5, debian) for number in range(400)]
    assert abs(sum(a is not None for a in drawn) / 400 - 0.5) < 5 * (0.25 / 400) ** 0.5
    assert drawn[:9] == [amps.draw(number, 2, guitar, 0.5, debian) for number in range(9)]
    for stem, program in (("guitar", 24), ("guitar", 25), ("bass", 33), ("piano", 4)):
        assert amps.draw(0, 0, part(stem, program, (), ()), 1.0, debian) is None
    with pytest.raises(OSError, match=r"no impulse responses in .*fetch_programs"):
        amps.draw(0, 0, guitar, 1.0, debian / "none")


def test_amplified_songs_are_rendered_again_the_same(
    local: Any, font: Path, tmp_path: Path, debian: Path
) -> None:
    arguments = ["--split", "train", "--first", "3", "--count", "2", "--seconds", "5"]
    arguments += ["--form", "stems", "--patches", "slakh", "--soundfont", str(font)]
    arguments += ["--debian", str(debian)]
    made = []
    for name, more in (("plain", []), ("one", ["--amps", "1"]), ("two", ["--amps", "1"])):
        local("render").main([str(tmp_path / name), *arguments, *more])
        made.append(
            {p.stem + p.parent.name: p.read_bytes() for p in (tmp_path / name).rglob("*.flac")}
        )
    plain, one, two = made
    assert one == two
    assert any(one[name] != plain[name] for name in one if name.startswith("guitar"))
    with pytest.raises(SystemExit, match=r"^error: no impulse responses"):
        local("render").main([str(tmp_path / "x"), *arguments, "--amps", "1", "--debian", "none"])
    assert not (tmp_path / "x").exists()
