"""egs/mini_slakh/data: the fonts built from recordings, and the SoundFont files they are."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("midirenderer")

LOCAL = Path(__file__).parents[2] / "egs" / "mini_slakh" / "data" / "local"
RATE = 22050


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """Imports a module of data/local by its name."""
    sys.path.insert(0, str(LOCAL))
    yield import_module
    sys.path.remove(str(LOCAL))


def tone(key: int, seconds: float = 1.5, cents: float = 0.0) -> np.ndarray:
    """A sine at the frequency of a MIDI note, int16 at RATE Hz."""
    frequency = 440 * 2 ** ((key + cents / 100 - 69) / 12)
    wave = np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return np.round(20000 * wave).astype(np.int16)


def played(font: Path, key: int, velocity: int = 100, program: int = 0) -> float:
    """The frequency in Hz of the strongest partial of a note played with `font`."""
    mido, midirenderer = import_module("mido"), import_module("midirenderer")
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(
        mido.MidiTrack(
            [
                mido.Message("program_change", program=program),
                mido.Message("note_on", note=key, velocity=velocity),
                mido.Message("note_off", note=key, time=960),
            ]
        )
    )
    data = io.BytesIO()
    file.save(file=data)
    rendered = midirenderer.render_wave_from(font.read_bytes(), data.getvalue())
    wave, rate = soundfile.read(io.BytesIO(rendered), dtype="float64")
    part = wave[rate // 10 : rate // 2].mean(axis=1) * np.hanning(rate // 2 - rate // 10)
    spectrum = np.abs(np.fft.rfft(part, 8 * rate))
    return float(spectrum.argmax() / 8)


def key_played(font: Path, key: int, velocity: int = 100) -> float:
    return float(69 + 12 * np.log2(played(font, key, velocity) / 440))


def write(local: Any, path: Path, zones: list[Any], program: int = 0, bank: int = 0) -> Path:
    sf2 = local("sf2")
    sf2.write(path, path.stem, [sf2.Preset("tones", bank, program, tuple(zones))])
    return path


def test_a_note_sounds_at_its_pitch_up_to_the_ends_of_its_zone(local: Any, tmp_path: Path) -> None:
    """Roots 48 and 61 meet at their midpoint: 54 is 48's. Each zone holds another pitch than its
    root, 4 semitones up and 3 down, so the sounding pitch tells which zone played the key."""
    sf2, spans = local("sf2"), local("recordings").spans([61, 48])
    assert spans == {48: (0, 54), 61: (55, 127)}
    low = sf2.Zone(sf2.Sample("low", tone(52), RATE, 48), spans[48])
    high = sf2.Zone(sf2.Sample("high", tone(58), RATE, 61), spans[61])
    font = write(local, tmp_path / "two.sf2", [low, high])
    for key, expected in ((36, 40), (48, 52), (54, 58), (55, 52), (61, 58), (72, 69)):
        # the spectrum's bins are 1/8 Hz apart, 2 cents of the lowest note here
        assert key_played(font, key) == pytest.approx(expected, abs=0.03)


def test_cents_correct_a_sample_and_velocities_choose_it(local: Any, tmp_path: Path) -> None:
    sf2 = local("sf2")
    soft = sf2.Zone(sf2.Sample("flat", tone(60, cents=-40), RATE, 60, 40), velocities=(0, 63))
    loud = sf2.Zone(sf2.Sample("fifth", tone(67), RATE, 60), velocities=(64, 127))
    font = write(local, tmp_path / "layers.sf2", [soft, loud])
    assert key_played(font, 60, 63) == pytest.approx(60, abs=0.03)
    assert key_played(font, 60, 64) == pytest.approx(67, abs=0.03)


def test_a_loop_outlasts_its_sample(local: Any, tmp_path: Path) -> None:
    """100 ms of sound, whose loop is 20 whole periods, still sounds after 300 ms."""
    sf2 = local("sf2")
    wave = np.round(20000 * np.sin(2 * np.pi * np.arange(2205) / 50)).astype(np.int16)  # 441 Hz
    sample = sf2.Sample("short", wave, RATE, 69, 0, (500, 1500))
    font = write(local, tmp_path / "loop.sf2", [sf2.Zone(sample, generators={54: 1})])
    assert played(font, 69) == pytest.approx(441, abs=0.25)


def test_what_is_written_is_read(local: Any, tmp_path: Path) -> None:
    sf2 = local("sf2")
    first = sf2.Sample("first", tone(60, 0.1), RATE, 60, -7, (100, 2000))
    zone = sf2.Zone(first, (3, 90), (1, 80), {38: -1200, 54: 1, 57: 1})
    other = sf2.Zone(sf2.Sample("other", tone(70, 0.1), 44100, 70))
    presets = [sf2.Preset("b", 128, 8, (zone,)), sf2.Preset("a", 0, 5, (other, zone))]
    sf2.write(tmp_path / "x.sf2", "x", presets)
    read = sf2.read(tmp_path / "x.sf2")
    assert [(p.name, p.bank, p.program) for p in read] == [("a", 0, 5), ("b", 128, 8)]
    assert [len(p.zones) for p in read] == [2, 1]
    back = read[0].zones[1]
    assert (back.keys, back.velocities, back.generators) == ((3, 90), (1, 80), zone.generators)
    assert (back.sample.root, back.sample.cents, back.sample.loop) == (60, -7, (100, 2000))
    np.testing.assert_array_equal(back.sample.data, first.data)
    assert back.sample is read[1].zones[0].sample  # stored once
    assert [path.name for path in tmp_path.iterdir()] == ["x.sf2"]


def test_presets_of_a_known_font_have_their_zones(local: Any) -> None:
    """TimGM6mb's first preset is a piano on all keys, each played by one zone or more."""
    font = Path(str(import_module("pretty_midi").__file__)).parent / "TimGM6mb.sf2"
    piano = next(p for p in local("sf2").read(font) if (p.bank, p.program) == (0, 0))
    for key in range(21, 109):
        assert any(z.keys[0] <= key <= z.keys[1] for z in piano.zones)


@pytest.mark.parametrize(
    ("data", "loop", "message"),
    [
        (np.zeros(100, np.float32), None, "int16"),
        (np.zeros(10, np.int16), None, "at least 48"),
        (np.zeros(100, np.int16), (50, 200), "outside"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(
    local: Any, tmp_path: Path, data: np.ndarray, loop: tuple[int, int] | None, message: str
) -> None:
    sf2 = local("sf2")
    with pytest.raises(ValueError, match=message):
        write(local, tmp_path / "x.sf2", [sf2.Zone(sf2.Sample("x", data, RATE, 60, 0, loop))])
    assert not list(tmp_path.iterdir())


def test_notes_are_trimmed_and_balanced_as_a_whole(local: Any, tmp_path: Path) -> None:
    """Two files with 0.2 s of silence before; the second is half as loud and stays so."""
    recordings = local("recordings")
    for name, key, gain in (("C4.wav", 60, 0.5), ("Ds4.wav", 63, 0.25)):
        wave = np.concatenate([np.zeros(RATE // 5), gain * tone(key) / 32768])
        soundfile.write(tmp_path / name, wave, RATE)
    low, high = recordings.notes([sorted(tmp_path.glob("*.wav"))], 1.0, None)
    assert (low.sample.root, low.keys, high.sample.root, high.keys) == (60, (0, 61), 63, (62, 127))
    for zone in (low, high):
        assert abs(len(zone.sample.data) - RATE) <= 1
        assert (
            np.abs(zone.sample.data[: RATE // 100].astype(int)).max() > 3000
        )  # the attack is kept
        assert zone.sample.data[-1] == 0
    loud = [np.abs(z.sample.data.astype(int)).max() for z in (low, high)]
    assert loud[0] / loud[1] == pytest.approx(2, rel=0.01)  # a sample may miss the sine's top


def test_a_kit_answers_every_drum_that_is_played(local: Any, tmp_path: Path) -> None:
    """Six drums stand in for the others; layers go from soft to loud; hats end each other."""
    recordings, drums = local("recordings"), local("drums")
    for k, name in enumerate(("kick 1", "kick 2", "snare", "hat", "tom", "crash", "bell")):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * (k + 1) * tone(60) / 32768, RATE)
    names = {36: "kick*", 38: "snare*", 42: "hat*", 45: "tom*", 49: "crash*", 53: "bell*"}
    hits = {key: sorted(tmp_path.glob(f"{pattern}.wav")) for key, pattern in names.items()}
    zones = recordings.complete(recordings.kit(hits, 1.0, 3))
    played = {drums.KICK, drums.STICK, drums.SNARE, drums.CLAP, drums.SNARE_2, drums.HAT}
    played |= {drums.PEDAL, drums.OPEN, drums.RIDE, drums.BELL, *drums.CRASHES, *drums.TOMS}
    assert played | set(drums.HAND) <= {zone.keys[0] for zone in zones}
    kick = [zone.velocities for zone in zones if zone.keys[0] == 36]
    assert kick == [(0, 63), (64, 127)]
    high = next(zone for zone in zones if zone.keys[0] == 50)
    assert 50 - high.generators[58] == 6  # three toms above, two semitones each
    assert all(zone.generators[57] == 1 for zone in zones if zone.keys[0] in (42, 44, 46))


def test_a_gravis_patch_becomes_a_zone(local: Any, tmp_path: Path) -> None:
    """A patch of one looped 16-bit sample at 22,050 Hz whose root is 441 Hz."""
    wave = np.round(20000 * np.sin(2 * np.pi * np.arange(2205) / 50)).astype("<i2")
    header = bytearray(239)
    header[:22] = b"GF1PATCH110\0ID#000002\0"
    header[198] = 1  # samples in the layer
    sample = bytearray(96)
    for place, value, size in (
        (8, 2 * len(wave), 4), (12, 1000, 4), (16, 3000, 4), (20, RATE, 2),
        (22, 220_000, 4), (26, 880_000, 4), (30, 441_000, 4), (55, 1 | 4, 1),
    ):  # fmt: skip
        sample[place : place + size] = value.to_bytes(size, "little")
    path = tmp_path / "tone.pat"
    path.write_bytes(bytes(header) + bytes(sample) + wave.tobytes())
    (zone,) = local("gus_patch").read(path)
    assert (zone.keys, zone.sample.root, zone.sample.loop) == ((57, 81), 69, (500, 1500))
    assert zone.sample.cents == -4  # 441 Hz is 3.9 cents above 440 Hz
    np.testing.assert_allclose(zone.sample.data, wave, atol=1)  # a smooth loop is left as it is
    font = write(local, tmp_path / "tone.sf2", [zone])
    assert played(font, 69) == pytest.approx(440, abs=0.25)
    path.write_bytes(b"GF1")
    with pytest.raises(ValueError, match="not a Gravis"):
        local("gus_patch").read(path)


def test_every_font_of_the_table_answers_its_class(local: Any) -> None:
    build_fonts = local("build_fonts")
    conf = build_fonts.read_conf()
    used = set()
    for name, font in conf["fonts"].items():
        assert name.startswith(font["class"])
        every = build_fonts.CLASSES[font["class"]]
        answered = [p for i in font["instruments"] for p in i.get("programs", every)]
        assert sorted(answered) == sorted(every)
        for instrument in font["instruments"]:
            used |= {instrument["package"], *instrument.get("louder", ())}
            local("recordings").Shaping(
                **{k: instrument[k] for k in build_fonts.SHAPING if k in instrument}
            )
    assert used == set(conf["packages"])
    for package in conf["packages"].values():
        assert ("npm" in package) != ("debian" in package)
        assert len(package["sha256"]) == 64
        assert package["licence"]
    assert {font["class"] for font in conf["fonts"].values()} == set(build_fonts.CLASSES)


def test_a_font_is_built_from_a_package_and_another_version_is_refused(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_fonts = local("build_fonts")
    packages, source = tmp_path / "packages", tmp_path / "package"
    packages.mkdir()
    source.mkdir()
    for name, key in (("C2.wav", 36), ("C3.wav", 48)):
        soundfile.write(source / name, 0.5 * tone(key) / 32768, RATE)
    archive = packages / "tones.tgz"
    with import_module("tarfile").open(archive, "w:gz") as packed:
        packed.add(source, "package")
    digest = import_module("hashlib").sha256(archive.read_bytes()).hexdigest()
    package = {"npm": "tones@1", "archive": "tones.tgz", "sha256": digest, "licence": "CC0"}
    instrument = {"package": "tones", "files": "package/*.wav"}
    conf = {
        "packages": {"tones": package},
        "fonts": {"bass_tones.sf2": {"class": "bass", "instruments": [instrument]}},
    }
    monkeypatch.setattr(build_fonts, "read_conf", lambda: conf)
    arguments = [str(tmp_path / "out"), "--packages", str(packages)]
    build_fonts.main(arguments)
    font = tmp_path / "out" / "bass_tones.sf2"
    assert [p.program for p in local("sf2").read(font)] == list(range(32, 40))
    assert played(font, 40, program=33) == pytest.approx(440 * 2 ** (-29 / 12), abs=0.25)
    package["sha256"] = "0" * 64
    font.unlink()
    with pytest.raises(SystemExit, match=r"tones\.tgz: another file"):
        build_fonts.main(arguments)
    assert not list((tmp_path / "out").iterdir())


def test_a_recording_is_found_after_gain_trimming_and_resampling(local: Any) -> None:
    """The correlation of different windows of 2,205 samples of noise deviates from 0
    by 1 / sqrt(2205) = 0.02, so the greatest of 60 times 8,820 stays under 6 deviations = 0.13. The
    copy lost its first 0.2 s and is at 3/2 of the rate; the resampling there and back costs some
    of the top of its band."""
    overlap, resample = local("overlap"), local("recordings").resample
    rng, torch = np.random.default_rng(0), import_module("torch")
    rate = overlap.RATE
    noises = [rng.normal(0, 8000, rate) for _ in range(60)]
    references = overlap.References(
        [(str(k), overlap.prepare(noise, rate)) for k, noise in enumerate(noises)]
    )
    copy = resample(torch.from_numpy(noises[7][rate // 5 :]).float(), 2, 3).numpy() * 0.2
    score, name = references.best(overlap.prepare(copy, rate * 3 // 2))
    assert name == "7"
    assert score > 0.9
    assert references.best(overlap.prepare(rng.normal(0, 8000, rate), rate))[0] < 0.13
    assert references.best(np.zeros(10, np.float32))[0] == 0
