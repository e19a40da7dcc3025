"""``mgdm-audio prepare``: what it prints, its exit code, and that its options arrive."""

import json
import sys
from pathlib import Path

import pytest
import soundfile
from click.testing import Result

from mgdm_audio.data.manifest import MANIFEST
from tests.data.data_sets import FRAMES, noise, put, small_track
from tests.data.running import prepare


def complaint(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_slakh_by_split_format_and_rate(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    root, out = tmp_path / "slakh", tmp_path / "out"
    for split in ("train", "validation", "test", "omitted"):
        small_track(root / split / f"Track {split}", 1)
    words = ("slakh", root, "-o", out, "--splits", "test, train", "--format", "wav")
    result = prepare(*words, "--sample-rate", "11025")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"2 tracks made, 0 kept: {out / MANIFEST}\n"
    assert {p.name for p in out.iterdir()} == {MANIFEST, "test", "train"}
    info = soundfile.info(str(out / "train" / "Track train" / "bass.wav"))
    assert (info.samplerate, info.frames, info.channels) == (11025, FRAMES // 2, 1)
    result = prepare("slakh", root, "-o", out)
    assert result.stdout == f"3 tracks made, 0 kept: {out / MANIFEST}\n"
    assert "0 tracks made, 3 kept" in prepare("slakh", root, "-o", out).stdout
    assert soundfile.info(str(out / "test" / "Track test" / "bass.flac")).samplerate == 22050


def test_a_damaged_track_is_a_line_and_the_exit_code(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    root, out = tmp_path / "set", tmp_path / "out"
    for name in ("a", "b"):
        small_track(root / name, 1)
    (root / "a" / "stems" / "S00.flac").write_bytes(b"")
    result = prepare("slakh", root, "-o", out, "--splits", "test")
    assert result.exit_code == 1
    named, last = result.stderr.splitlines()
    assert named.startswith(f"test/a: {root / 'a' / 'stems' / 'S00.flac'}: is empty")
    assert last.startswith(f"error: {out / MANIFEST}: lacks 1 of 2 tracks")
    assert result.stdout.startswith("1 tracks made")
    assert [json.loads(s)["track"] for s in (out / MANIFEST).read_text().splitlines()] == ["b"]
    small_track(root / "a", 1)
    assert "1 tracks made, 1 kept" in prepare("slakh", root, "-o", out, "--splits", "test").stdout


def test_folders_of_stems_by_a_mapping(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k, stem in enumerate(("bass", "drums", "other", "vocals", "mixture")):
            put(tmp_path / "musdb" / split / f"{split} - B" / f"{stem}.wav", noise(k, 50))
    out = tmp_path / "out"
    result = prepare("stems", tmp_path / "musdb", "-o", out, "--map", "musdb18")
    assert result.stdout == f"2 tracks made, 0 kept: {out / MANIFEST}\n"
    stems = {p.stem for p in (out / "train" / "train - B").glob("*.flac")}
    assert stems == {"bass", "drums", "other", "vocals"}
    (mine := tmp_path / "my.toml").write_text('splits = ["test"]\n[stems]\nlow = ["b*", "d*"]\n')
    result = prepare("stems", tmp_path / "musdb", "-o", tmp_path / "low", "--map", mine)
    got, _ = soundfile.read(tmp_path / "low" / "test" / "test - B" / "low.flac", dtype="int16")
    assert got.tolist() == (noise(0, 50) + noise(1, 50)).tolist()


def test_wrong_arguments_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    out = tmp_path / "out"
    assert "none: is missing" in complaint(prepare("slakh", tmp_path / "none", "-o", out))
    assert "no folder of a track" in complaint(prepare("slakh", tmp_path, "-o", out))
    assert "did you mean musdb18" in complaint(
        prepare("stems", tmp_path, "-o", out, "--map", "musdb")
    )
    small_track(tmp_path / "set" / "train" / "a", 1)
    words = ("slakh", tmp_path / "set", "-o")
    assert "no split 'tain'; did you mean train" in complaint(
        prepare(*words, out, "--splits", "tain")
    )
    assert "lies among the tracks" in complaint(prepare(*words, tmp_path / "set"))
    (tmp_path / "file").write_text("")
    assert "cannot be made" in complaint(prepare(*words, tmp_path / "file"))
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install 'mgdm_audio[data]'" in complaint(prepare(*words, out))
    assert not out.exists()
    assert prepare(*words, out, "--sample-rate", "0").exit_code == 2
    assert prepare(*words, out, "--format", "mp3").exit_code == 2
