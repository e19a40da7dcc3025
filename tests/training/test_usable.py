"""Songs that training cannot use are named before it begins."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio.segments import NotFinite
from mgdm_audio.errors import UserError
from mgdm_audio.training.stems import StemFolder
from mgdm_audio.training.usable import held_out, require_usable

RATE, FRAMES = 22050, 4000
STEMS = ("bass", "drums")


def put(root: Path, song: str, change: Callable[[str], np.ndarray | None]) -> None:
    (root / song).mkdir(parents=True)
    for stem in STEMS:
        if (samples := change(stem)) is not None:
            soundfile.write(root / song / f"{stem}.wav", samples, RATE, "FLOAT")


def noise(stem: str) -> np.ndarray:
    return np.random.default_rng(len(stem)).standard_normal(FRAMES).astype(np.float32) / 10


def opened(root: Path) -> StemFolder:
    return StemFolder(root, STEMS, RATE)


def test_songs_that_sound_are_of_use(tmp_path: Path) -> None:
    for song in "ab":
        put(tmp_path, song, noise)
    assert require_usable(opened(tmp_path), 0.5, 2) == []


def test_a_stem_that_no_song_has_is_refused(tmp_path: Path) -> None:
    for song in "ab":
        put(tmp_path, song, lambda stem: noise(stem) if stem == "bass" else None)
    with pytest.raises(UserError, match="no song has the stem 'drums'"):
        require_usable(opened(tmp_path))
    put(tmp_path, "c", noise)
    assert require_usable(opened(tmp_path)) == []


def test_silence_everywhere_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a", lambda stem: np.zeros(FRAMES))
    with pytest.raises(UserError, match="every sample of every song is 0"):
        require_usable(opened(tmp_path))


def test_a_stem_that_is_silent_everywhere_is_said(tmp_path: Path) -> None:
    def quiet(stem: str) -> np.ndarray:
        return noise(stem) * (stem == "bass")

    put(tmp_path, "a", quiet)
    put(tmp_path, "b", quiet)
    assert require_usable(opened(tmp_path)) == [f"{tmp_path}: drums is silent in every song"]
    with pytest.raises(UserError, match=r"drums: silent in every song.* active = 2 stems"):
        require_usable(opened(tmp_path), active=2)
    x_0, notes = held_out(opened(tmp_path), 2, 1000)
    assert x_0 is not None
    assert notes == [f"{tmp_path}: drums is silent; its validation is null"]


def test_a_conversion_is_said_once(tmp_path: Path) -> None:
    put(tmp_path, "a", noise)
    put(tmp_path, "b", noise)
    for stem in STEMS:
        path = tmp_path / "b" / f"{stem}.wav"
        soundfile.write(path, np.stack([noise(stem)] * 2, 1), 2 * RATE, "FLOAT")
    says = (
        f"{tmp_path}: stems are converted to 22,050 Hz mono each time they are read "
        "(2 of 44,100 Hz 2 channels); mgdm-audio prepare does it once"
    )
    assert require_usable(opened(tmp_path)) == [says]
    assert held_out(opened(tmp_path), 2, 1000)[1] == [says]


def test_one_song_has_none_to_be_mixed_with(tmp_path: Path) -> None:
    put(tmp_path, "a", noise)
    (line,) = require_usable(opened(tmp_path), remix=0.5)
    assert "holds one song" in line


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_names_its_file_and_time(tmp_path: Path, value: float) -> None:
    def spoilt(stem: str) -> np.ndarray:
        samples = noise(stem)
        samples[2205] = value
        return samples

    put(tmp_path, "a", spoilt)
    folder = opened(tmp_path)
    # 2205 samples are 0.1 s, wherever the reading begins.
    says = rf"a/bass.wav: a sample is {value} at 0\.100 s"
    with pytest.raises(NotFinite, match=says):
        folder.read(folder.tracks[0], 0, 2000, 1000)
    assert torch.isfinite(folder.read(folder.tracks[0], 0, 0, 2205)).all()
    with pytest.raises(NotFinite, match=says):
        folder.fixed(1, FRAMES)


def test_a_spoilt_song_is_left_out_of_the_validation(tmp_path: Path) -> None:
    put(tmp_path, "a", noise)
    put(tmp_path, "b", lambda stem: noise(stem) * np.where(np.arange(FRAMES) == 9, np.nan, 1))
    x_0, notes = held_out(opened(tmp_path), 3, FRAMES)
    assert x_0 is not None
    assert torch.isfinite(x_0).all()
    assert len(x_0) == 3
    (line,) = notes
    assert "b/bass.wav: a sample is nan" in line
    (tmp_path / "a").rename(tmp_path / ".a")
    assert held_out(opened(tmp_path), 3, FRAMES)[0] is None


def test_a_file_that_is_damaged_later_is_one_line(tmp_path: Path) -> None:
    put(tmp_path, "a", noise)
    folder = opened(tmp_path)
    (tmp_path / "a" / "bass.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=r"a/bass.wav: cannot be read"):
        folder.read(folder.tracks[0], 0, 0, 10)
