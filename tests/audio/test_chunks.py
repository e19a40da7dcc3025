"""Headers of WAV, RF64, W64, AIFF, CAF and AU, and the lengths that they do not state."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgdm_audio.audio.decoding.chunks import OPEN, Sound, find_sound
from mgdm_audio.audio.decoding.window import window
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Reading
from mgdm_audio.audio.wholeness import measure
from mgdm_audio.errors import DamagedError, UserError

FRAMES = 1000
WRITTEN = Path(__file__).parent / "written"


def written(path: Path, form: str = "WAV", subtype: str = "PCM_16", channels: int = 2) -> Path:
    x = np.linspace(-0.5, 0.5, FRAMES * channels).reshape(FRAMES, channels)
    soundfile.write(path, x, 22050, subtype, format=form)
    return path


def found(path: Path) -> Sound | None:
    with open(path, "rb") as file:
        return find_sound(file, path.stat().st_size)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU"])
@pytest.mark.parametrize(("subtype", "width"), [("PCM_16", 2), ("PCM_24", 3), ("FLOAT", 4)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_whole_file(tmp_path: Path, form: str, subtype: str, width: int, channels: int) -> None:
    path = written(tmp_path / "a.wav", form, subtype, channels)
    sound = found(path)
    assert sound is not None
    assert sound.promised == sound.there == FRAMES * width * channels
    # What is stored from there is the file's first sample, -0.5.
    first = path.read_bytes()[sound.start : sound.start + width]
    least = {"PCM_16": -(2**14), "PCM_24": -(2**22)}
    if subtype == "FLOAT":
        assert first in (struct.pack("<f", -0.5), struct.pack(">f", -0.5))
    else:
        assert least[subtype] in (int.from_bytes(first, e, signed=True) for e in ("little", "big"))
    assert measure(path).frames == FRAMES


@pytest.mark.parametrize("form", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU"])
@pytest.mark.parametrize("lost", [1, FRAMES // 2])
def test_a_file_cut_short_is_refused_whatever_is_missing(
    tmp_path: Path, form: str, lost: int
) -> None:
    path = written(tmp_path / "a.wav", form)
    sound = found(path)
    assert sound is not None
    path.write_bytes(path.read_bytes()[: sound.start + 4 * (FRAMES - lost)])
    with pytest.raises(
        DamagedError, match=rf"cut short, {(FRAMES - lost) / 22050:.4f} of 0\.0454 s"
    ):
        measure(path)
    reading = Reading(path, damaged="keep", on_note=lambda line: None)
    assert sum(block.samples.shape[1] for block in reading) == FRAMES - lost
    assert [part.seconds for part in reading.missing] == [pytest.approx(lost / 22050)]


@pytest.mark.parametrize("length", [0, 0x7F000000, 0x7FFFF000, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
def test_a_length_left_open_is_that_of_the_file(tmp_path: Path, length: int) -> None:
    """0 by GStreamer, 2^31 - 4096 by SoX's pipes, 2^32 - 1 by FFmpeg's."""
    path = written(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", length)
    path.write_bytes(data)
    sound = found(path)
    assert sound is not None
    assert (sound.start, sound.promised) == (place + 4, None)
    assert measure(path).frames == FRAMES
    assert read(path).samples.shape == (2, FRAMES)


@pytest.mark.parametrize(
    "name",
    [
        "sox.wav",
        "sox.aiff",
        "sox.au",
        *(f"ffmpeg.{f}" for f in ("wav", "rf64", "aiff", "au", "w64", "caf")),
    ],
)
def test_what_programs_write_into_a_pipe_is_read_to_its_end(name: str) -> None:
    """SoX and FFmpeg leave the length open, each in a way of its own for each container."""
    truth = read(WRITTEN / "sound.wav")
    sound = found(WRITTEN / name)
    assert sound is not None
    assert sound.promised is None
    assert read(WRITTEN / name, damaged="refuse").samples.equal(truth.samples)


def test_adpcm_of_open_length_is_decoded() -> None:
    """Blocks of 2,036 samples, the last filled up. 4 bits a sample err by -10 dB."""
    truth = read(WRITTEN / "sound.wav").samples
    samples = read(WRITTEN / "ffmpeg_adpcm.wav", damaged="refuse").samples
    assert samples.shape[1] % 2036 == 0
    error = samples[:, : truth.shape[1]] - truth
    assert error.square().mean() < 0.1 * truth.square().mean()


def test_an_empty_file_with_a_chunk_behind_its_sound_is_empty(tmp_path: Path) -> None:
    """Nothing but 0 bytes of sound is meant there: a list of names follows."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 1)), 22050)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(UserError, match="holds no samples"):
        read(path)


def test_files_joined_to_one_are_read_one_after_the_other(tmp_path: Path) -> None:
    data = written(tmp_path / "a.wav").read_bytes()
    path = tmp_path / "joined.wav"
    path.write_bytes(data + data)
    once = read(tmp_path / "a.wav").samples
    samples = read(path, damaged="refuse").samples
    assert samples[:, :FRAMES].equal(once)
    assert samples[:, FRAMES:].equal(once)


def test_more_than_32_bits_can_say_is_given_to_the_decoder_as_rf64(tmp_path: Path) -> None:
    """5 GiB of zeros behind a header of open length; the file has holes, and takes no space."""
    path = written(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data[: place + 4])
    size = place + 4 + 5 * 2**30
    with open(path, "r+b") as file:
        file.truncate(size)
    sound = found(path)
    assert sound is not None
    assert sound.promised is None
    with open(path, "rb") as file:
        assert soundfile.info(window(file, sound.pieces)).frames == 5 * 2**30 // 4


def test_a_length_of_32_bits_that_has_overflowed_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav")
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.truncate(len(data) + 2**32)
    sound = found(path)
    assert sound is not None
    assert (sound.promised, sound.there) == (None, 4 * FRAMES + 2**32)


def test_what_is_no_container_of_chunks_is_none(tmp_path: Path) -> None:
    assert found(written(tmp_path / "a.flac", "FLAC")) is None
    for data in (
        b"RIFF\x04\x00\x00\x00WAVE",
        b"",
        b".snd",
        b"RIFF" + bytes(40),
        b"caff\0\1\0\0desc",
    ):
        (tmp_path / "b").write_bytes(data)
        assert found(tmp_path / "b") is None


def test_the_table_of_open_lengths_has_no_length_of_an_hour_of_music() -> None:
    """WAV of 16 bits, two channels, 44,100 Hz: 635 MB, and ten times as much."""
    for length in (635_040_000, 6_350_400_000):
        assert not any(low <= length <= high for low, high in OPEN)
