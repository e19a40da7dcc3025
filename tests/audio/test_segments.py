"""Parts of files that training reads again and again: exact, or refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgdm_audio.audio.segments import open_segments
from mgdm_audio.errors import DamagedError, UserError

WRITTEN = Path(__file__).parent / "written"
RATE = 8000


@pytest.mark.parametrize(
    "name",
    ["sound.wav", "sox.wav", "ffmpeg.wav", "ffmpeg.rf64", "sox.aiff", "ffmpeg.caf", "flac.flac"],
)
def test_any_part_is_that_of_the_whole(name: str) -> None:
    whole, _ = soundfile.read(WRITTEN / "sound.wav", dtype="float32", always_2d=True)
    segments = open_segments(WRITTEN / name)
    assert (segments.frames, segments.channels, segments.sample_rate) == (2000, 1, RATE)
    for start, length in ((0, 2000), (777, 100), (1990, 100), (2000, 10)):
        assert np.array_equal(segments.read(start, length), whole[start : start + length])


@pytest.mark.parametrize("name", ["lame.mp3", "oggenc.ogg", "ffmpeg.webm", "write.sh"])
def test_other_formats_are_to_be_prepared(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read as one WAV or FLAC .*mgdm-audio prepare"):
        open_segments(WRITTEN / name)


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_joined_files_are_to_be_prepared(tmp_path: Path, form: str) -> None:
    soundfile.write(tmp_path / "a", np.zeros(5000), RATE, format=form)
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes() * 2)
    with pytest.raises(UserError, match="cannot be read as one"):
        open_segments(tmp_path / "b")


def test_a_cut_wav_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4 * RATE), RATE)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[: -4 * RATE])
    with pytest.raises(DamagedError, match=r"a\.wav: cut short, 2\.0 of 4\.0 s"):
        open_segments(tmp_path / "a.wav")


def test_damaged_flac_is_refused_where_it_is_read(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)
    soundfile.write(tmp_path / "a.flac", noise, RATE, format="FLAC")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) * 3 // 4] ^= 255
    (tmp_path / "a.flac").write_bytes(data)
    segments = open_segments(tmp_path / "a.flac")
    assert len(segments.read(0, RATE)) == RATE
    with pytest.raises(
        UserError, match=r"a\.flac: (cannot be read from|cut short or damaged at) 14\.\d s"
    ):
        segments.read(int(14.5 * RATE), 2 * RATE)
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a\.flac: (cannot be read|cut short or damaged)"):
        segments.read(9 * RATE, 2 * RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    samples = np.zeros(RATE, np.float32)
    samples[4000] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    segments = open_segments(tmp_path / "a.wav")
    assert not segments.read(0, 4000).any()
    with pytest.raises(UserError, match=rf"a\.wav: a sample is {value} at 0\.500 s"):
        segments.read(3000, 2000)
