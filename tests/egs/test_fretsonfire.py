"""egs/mini_slakh/data: packages are unpacked, and real guitars become training tracks and tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("midirenderer")

SONGS = "usr/share/games/fretsonfire/data/songs"
RATE = 44100


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """Two packages laid out as the real ones are; the guitar is a tone of 440 Hz, the rest 110."""
    time = np.arange(round(1.6 * RATE)) / RATE
    for package, songs in (("muldjord", ("b_song", "a_song")), ("sectoid", ("War of freedom",))):
        for song in songs:
            folder = tmp_path / "debian" / SONGS / package / song
            folder.mkdir(parents=True)
            for name, frequency in (("guitar", 440), ("song", 110)):
                tone = 0.9 * np.sin(2 * np.pi * frequency * time)
                both = np.stack([tone, 0.5 * tone], axis=1).astype(np.float32)
                soundfile.write(folder / f"{name}.ogg", both, RATE)
            (folder / "song.ini").write_text("[song]\nname = x\n")
    return tmp_path / "debian"


def split(local: Any, debian: Path, out: Path) -> None:
    folders = ["--train", str(out / "train"), "--test", str(out / "test")]
    local("fretsonfire").main(["--debian", str(debian), *folders])


def test_the_last_song_of_each_package_is_never_trained_on(
    local: Any, debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local("fretsonfire"), "PIECE", 1)
    split(local, debian, tmp_path)
    trained = sorted(
        str(p.relative_to(tmp_path / "train")) for p in (tmp_path / "train").rglob("*.*")
    )
    # 1.6 s: a piece of 1 s, and the rest, which is more than half of one.
    assert trained == ["muldjord_a_song_00/guitar.flac", "muldjord_a_song_01/guitar.flac"]
    tested = sorted(path.name for path in (tmp_path / "test").iterdir())
    assert tested == ["muldjord_b_song", "sectoid_war_of_freedom"]
    wave, rate = soundfile.read(tmp_path / "train" / trained[0])
    assert (len(wave), rate) == (22050, 22050)
    assert np.sqrt((wave**2).mean()) == pytest.approx(0.045, rel=0.02)  # of Slakh2100's stems


def test_guitar_and_rest_sum_to_the_mixture_exactly(
    local: Any, debian: Path, tmp_path: Path
) -> None:
    split(local, debian, tmp_path)
    for song in (tmp_path / "test").iterdir():
        waves = {
            path.stem: soundfile.read(path, dtype="int16")[0].astype(int) for path in song.iterdir()
        }
        assert set(waves) == {"guitar", "rest", "mixture"}
        np.testing.assert_array_equal(waves["guitar"] + waves["rest"], waves["mixture"])
        peak = max(np.abs(wave).max() for wave in waves.values())
        assert 0.95 * 32767 < peak < 32767
        for stem, frequency in (("guitar", 440), ("rest", 110)):
            spectrum = np.abs(np.fft.rfft(waves[stem][:22050]))
            assert spectrum.argmax() == frequency


def test_without_the_packages_it_is_one_line(local: Any, tmp_path: Path) -> None:
    folders = ["--train", str(tmp_path / "a"), "--test", str(tmp_path / "b")]
    with pytest.raises(SystemExit, match=r"^error: no songs in .*fetch_programs"):
        local("fretsonfire").main(["--debian", str(tmp_path), *folders])
    assert not list(tmp_path.iterdir())


def test_packages_are_fetched_once_and_unpacked_in_one_folder(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch, calls = local("fetch_programs"), []

    def run(command: list[str], room: str) -> None:
        calls.append(command[0])
        if command[0] == "apt-get":
            if command[-1] == "absent":
                raise OSError("apt-get failed: Unable to locate package absent")
            (Path(room) / f"{command[-1]}_1_all.deb").write_bytes(command[-1].encode())
        else:
            assert Path(command[2]).is_file()
            (Path(command[3]) / "usr").mkdir(exist_ok=True)

    digest = hashlib.sha256(b"mma").hexdigest()
    conf = {
        "mma": {"sha256": digest, "licence": "GPL-2+"},
        "songs": {"sha256": "0" * 64, "licence": "MIT"},
    }
    monkeypatch.setattr(fetch, "_run", run)
    monkeypatch.setattr(fetch, "read_conf", lambda: conf)
    root = tmp_path / "debian"
    fetch.main([str(root)])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "mma: GPL-2+",
        "songs: MIT (another version than ours; the songs will differ)",
    ]
    assert calls == ["apt-get", "dpkg-deb"] * 2
    fetch.main([str(root)])
    assert len(calls) == 4
    assert sorted(path.name for path in root.iterdir()) == [".packages", "usr"]
    conf["absent"] = {"sha256": "", "licence": ""}
    with pytest.raises(SystemExit, match=r"^error: absent: apt-get failed: Unable to locate"):
        fetch.main([str(root)])


def test_the_table_of_packages_is_whole(local: Any) -> None:
    for name, package in local("fetch_programs").read_conf().items():
        assert set(package) == {"version", "sha256", "licence"}, name
        assert len(package["sha256"]) == 64
        assert package["licence"]
