"""egs/mini_slakh/data: songs follow from their seeds, and tracks have the form of Slakh2100."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mgdm_audio.cli.main import main
from tests.recipes.test_scripts import ROOT, needs_shell

pytest.importorskip("midirenderer")

SECONDS = 8.0
RANGES = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(8), "drums": range(128)}


def render(local: Any, out: Path, font: Path, *more: str, count: int = 1) -> Path:
    arguments = [str(out), "--split", "validation", "--seconds", str(SECONDS)]
    local("render").main([*arguments, "--soundfont", str(font), "--count", str(count), *more])
    return out / "validation"


def contents(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def tracks(local: Any, font: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = render(local, tmp_path_factory.mktemp("mini_slakh"), font, count=2)
    return sorted(folder.iterdir())


def test_a_seed_is_a_song(local: Any) -> None:
    compose = local("compose").compose
    assert compose(7, 20.0) == compose(7, 20.0)
    assert compose(7, 20.0).parts != compose(8, 20.0).parts


@pytest.mark.parametrize("seed", range(8))
def test_parts_stay_in_their_class_and_time(local: Any, seed: int) -> None:
    song = local("compose").compose(seed, 20.0)
    assert {part.stem for part in song.parts} == set(RANGES)
    for part in song.parts:
        assert part.program in RANGES[part.stem]
        assert part.notes
        assert all(note.start >= 0 and 0 < note.velocity < 128 for note in part.notes)
        assert all(24 <= note.pitch <= 96 and note.duration > 0 for note in part.notes)


@pytest.mark.parametrize("stem", ["bass", "guitar", "piano"])
def test_every_style_plays_in_four_and_in_three(local: Any, stem: str) -> None:
    styles = local(stem).STYLES
    assert len(styles) >= 6
    chord = local("harmony").diatonic_chord(4, "dorian", 3, "triad")
    for name, style in styles.items():
        for steps in (16, 12):
            bar = local("score").Bar(0, steps, ((0, chord),), chord, True, False, 0.5)
            rng = import_module("random").Random(1)
            events = [event for _ in range(4) for event in style(bar, rng)]
            assert events, name
            assert all(0 <= event.step < steps for event in events), name


def test_midi_has_drums_on_channel_ten_and_every_note_ends(local: Any) -> None:
    mido = import_module("mido")
    io = import_module("io")
    song = local("compose").compose(3, 20.0)
    file = mido.MidiFile(file=io.BytesIO(local("midi").song_bytes(song)))
    assert file.length == pytest.approx(20.0, abs=0.01)
    for part, track in zip(song.parts, file.tracks, strict=True):
        channels = {message.channel for message in track if not message.is_meta}
        assert (channels == {9}) == (part.stem == "drums")
        held: list[int] = []
        for message in track:
            if message.type == "note_on":
                assert message.note not in held
                held.append(message.note)
            elif message.type == "note_off":
                held.remove(message.note)
        assert not held


def test_the_mix_is_the_sum_of_the_stems(tracks: list[Path]) -> None:
    assert [track.name for track in tracks] == ["Track80000", "Track80001"]
    for track in tracks:
        mix, rate = soundfile.read(track / "mix.flac", dtype="int16")
        stems = [soundfile.read(s, dtype="int16")[0] for s in sorted(track.glob("stems/*"))]
        assert rate == 22050
        assert mix.shape == (round(SECONDS * rate),)
        np.testing.assert_array_equal(mix, np.sum(stems, axis=0, dtype=np.int64))
        assert all(np.abs(stem).max() > 300 for stem in stems)


def test_metadata_is_that_of_slakh(tracks: list[Path]) -> None:
    meta = import_module("yaml").safe_load((tracks[0] / "metadata.yaml").read_text())
    assert set(meta) == {
        "UUID", "audio_dir", "midi_dir", "normalized", "overall_gain", "stems"
    }  # fmt: skip
    assert {path.stem for path in tracks[0].glob("stems/*")} == set(meta["stems"])
    assert {stem["inst_class"] for stem in meta["stems"].values()} == {
        "Bass", "Drums", "Guitar", "Piano"
    }  # fmt: skip
    for stem in meta["stems"].values():
        assert stem["audio_rendered"] is True
        assert stem["plugin_name"] == "TimGM6mb"
        assert stem["is_drum"] == (stem["inst_class"] == "Drums") == (stem["program_num"] == 128)
    assert (tracks[0] / "all_src.mid").read_bytes().startswith(b"MThd")


def test_check_finds_a_stem_that_was_changed(local: Any, tracks: list[Path]) -> None:
    check = local("check")
    mix, stems = check.read_track(tracks[0])
    assert check.complaints(tracks[0], mix, stems) == []
    stems["bass"] = stems["bass"] + 1
    assert any("sum" in complaint for complaint in check.complaints(tracks[0], mix, stems))


def test_a_finished_track_is_kept_and_a_removed_one_comes_back_the_same(
    local: Any, font: Path, tracks: list[Path]
) -> None:
    folder = tracks[0].parent
    before = contents(folder)
    assert len(before) == 2 * 7  # the mix, its stems, metadata.yaml and all_src.mid
    kept = (tracks[1] / "mix.flac").stat().st_mtime_ns
    import_module("shutil").rmtree(tracks[0])
    render(local, folder.parent, font, "--nj", "2", count=2)
    assert contents(folder) == before
    assert (tracks[1] / "mix.flac").stat().st_mtime_ns == kept


def test_preparing_twice_makes_the_same_bytes(tracks: list[Path], tmp_path: Path) -> None:
    made = []
    for name, jobs in (("one", "1"), ("two", "2")):
        words = ["prepare", "slakh", str(tracks[0].parents[1]), "-o", str(tmp_path / name)]
        result = CliRunner().invoke(main, [*words, "--splits", "validation", "--nj", jobs])
        assert result.exit_code == 0, result.output
        made.append(contents(tmp_path / name))
    assert made[0] == made[1]
    assert made[0][Path("manifest.jsonl")].count(b"\n") == 2


def test_a_track_from_a_tape_rests_at_the_tape_s_speed(
    local: Any, font: Path, tmp_path: Path
) -> None:
    seconds = ["--seconds", "30"]  # long enough for rests
    track = next(render(local, tmp_path, font, *seconds, "--pitch", "12").glob("Track*"))
    check = local("check")
    mix, stems = check.read_track(track)
    assert check.complaints(track, mix, stems, pitch=12.0) == []
    assert any("during its rest" in c for c in check.complaints(track, mix, stems))


@needs_shell
@pytest.mark.parametrize("form", ["slakh", "stems"])
def test_run_passes_its_options_on(local: Any, tmp_path: Path, form: str) -> None:
    stub, log = tmp_path / "python", tmp_path / "calls"
    stub.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n')
    stub.chmod(0o755)
    options = f"--stage 1 --train 3 --test 0 --form {form} --vary 0.6 --pitch 4 --python {stub}"
    subprocess.run(["bash", str(ROOT / "egs/mini_slakh/data/run.sh"), *options.split()], check=True)
    calls = [line.split() for line in log.read_text().splitlines()]
    rendered = [local("render").parse(call[1:]) for call in calls if "render" in call[0]]
    got = [(r.split, r.count, r.seconds, r.form, r.vary, r.pitch) for r in rendered]
    assert got == [("train", 3, 60, form, 0.6, 4), ("validation", 12, 60, form, 0, 0)]
    checked = [call[1] for call in calls if "check" in call[0]]
    assert checked == (["out/train", "out/validation"] if form == "slakh" else [])


def test_other_settings_in_the_same_folder_are_refused(
    local: Any, font: Path, tracks: list[Path]
) -> None:
    with pytest.raises(SystemExit, match="other settings"):
        render(local, tracks[0].parents[1], font, "--seconds", "9")


def test_splits_share_neither_seeds_nor_fonts(local: Any) -> None:
    soundfonts = local("soundfonts")
    conf = soundfonts.read_conf()["splits"]
    seeds = {split: soundfonts.seeds(split, 0, conf[split]["seeds"]) for split in conf}
    assert len(set().union(*seeds.values())) == sum(map(len, seeds.values()))
    fonts = {s: {*conf[s]["fonts"], *conf[s].get("drum_fonts", [])} for s in conf}
    assert not fonts["train"] & (fonts["validation"] | fonts["test"])
    assert not fonts["validation"] & fonts["test"]
    with pytest.raises(SystemExit, match="songs 0 to"):
        soundfonts.seeds("validation", 9999, 2)


def test_without_debian_training_takes_its_substitute(local: Any, tmp_path: Path) -> None:
    soundfonts = local("soundfonts")
    with pytest.raises(SystemExit, match="fetch_soundfonts"):
        soundfonts.fonts_of("train", tmp_path)
    (tmp_path / "TimGM6mb.sf2").touch()
    assert [path.name for path in soundfonts.fonts_of("train", tmp_path).tuned] == ["TimGM6mb.sf2"]


def test_a_font_comes_out_of_its_package_into_a_relative_folder(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``run.sh`` calls it: the commands run in a folder inside ``soundfonts``."""
    fetch = local("fetch_soundfonts")

    def run(command: list[str], room: Path) -> bool:
        if command[0] == "apt-get":
            (room / f"{command[-1]}.deb").touch()
            return True
        (room / command[-1]).mkdir()
        (room / command[-1] / "font.sf2").touch()
        return (room / command[2]).is_file()  # as a program that runs in ``room`` finds it

    monkeypatch.setattr(fetch, "_run", run)
    monkeypatch.setattr(fetch.shutil, "which", lambda name: name)
    monkeypatch.chdir(tmp_path)
    Path("soundfonts").mkdir()
    assert fetch.fetch("font.sf2", {"debian": "package"}, Path("soundfonts")) is not None
    assert (tmp_path / "soundfonts/font.sf2").is_file()


def test_filters_open_for_the_programs_that_the_table_names(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sf2, soundfonts = local("sf2"), local("soundfonts")
    closed = {8: 6000, 9: 120, 48: 30}  # cut-off, resonance, attenuation
    sample = sf2.Sample("noise", np.ones(100, np.int16), 22050, 60)
    font = tmp_path / "closed.sf2"
    zones = (sf2.Zone(sample, (0, 60), generators=closed), sf2.Zone(sample, (61, 127)))
    sf2.write(font, "closed", [sf2.Preset(f"{k}", 0, k, zones) for k in (1, 2)])
    conf = {"fonts": {font.name: {"open_filters": [2]}}}
    monkeypatch.setattr(soundfonts, "read_conf", lambda: conf)
    for program, first in ((1, closed), (2, {8: 13500, 9: 0, 48: 30})):
        (tmp_path / "one.sf2").write_bytes(soundfonts.load_preset(font, program, 0))
        (preset,) = sf2.read(tmp_path / "one.sf2")
        assert [zone.generators for zone in preset.zones] == [first, {}]


def test_a_font_that_is_none_is_one_line(local: Any, tmp_path: Path) -> None:
    (tmp_path / "piano.sf2").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(SystemExit, match=r"^error: .*piano\.sf2: not a SoundFont 2 file; give"):
        render(local, tmp_path / "out", tmp_path / "piano.sf2")
    assert not (tmp_path / "out").exists()
