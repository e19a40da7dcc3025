import builtins
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio import reading
from mgdm_audio.audio.io import read, write
from mgdm_audio.errors import UserError
from tests.toys import song

RATE = 44100


@pytest.fixture
def noise() -> torch.Tensor:
    """[channel, time] on the 16-bit grid, which every format here holds exactly."""
    steps = torch.randint(
        -(2**15), 2**15, (2, RATE // 2), generator=torch.Generator().manual_seed(1)
    )
    return steps.float() / 2**15


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        (".wav", "PCM_16"),
        (".wav", "PCM_24"),
        (".wav", "FLOAT"),
        (".flac", "PCM_16"),
        (".FLAC", "PCM_24"),
    ],
)
def test_what_is_written_is_read(
    tmp_path: Path, noise: torch.Tensor, suffix: str, subtype: str
) -> None:
    write(tmp_path / f"a{suffix}", noise, RATE, subtype)
    audio = read(tmp_path / f"a{suffix}")
    assert (audio.sample_rate, audio.subtype) == (RATE, subtype)
    assert audio.samples.dtype == torch.float32
    assert torch.equal(audio.samples, noise)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_every_step_of_the_grid_is_stored_exactly(tmp_path: Path, subtype: str, bits: int) -> None:
    full = 2 ** (bits - 1)
    steps = torch.arange(-full, full, max(1, full // 2**15), dtype=torch.float64)
    steps = torch.cat([steps, torch.tensor([full - 2.0, full - 1.0])])
    write(tmp_path / "a.wav", (steps / full).float()[None], RATE, subtype)
    assert torch.equal(read(tmp_path / "a.wav").samples.double() * full, steps[None])


def test_pcm_rounds_to_nearest_and_clips(tmp_path: Path) -> None:
    step = 2.0**-15
    write(tmp_path / "a.wav", torch.tensor([[0.4, 0.6, -0.6, 3e9, -3e9]]) * step, RATE, "PCM_16")
    expected = torch.tensor([[0.0, 1.0, -1.0, 2**15 - 1, -(2**15)]]) * step
    assert torch.equal(read(tmp_path / "a.wav").samples, expected)


def test_float_keeps_what_is_beyond_full_scale(tmp_path: Path) -> None:
    samples = torch.tensor([[1.5, -7.25, 1e-30]])
    write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    assert torch.equal(read(tmp_path / "a.wav").samples, samples)


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("W64", "PCM_24"), ("CAF", "FLOAT")],
)
def test_lossless_formats_are_read_whatever_their_suffix(
    tmp_path: Path, noise: torch.Tensor, form: str, subtype: str
) -> None:
    for suffix in (".wav", ".mp3", ".raw", ".txt", ""):
        path = tmp_path / f"odd ~ näme{suffix}"
        path.unlink(missing_ok=True)
        soundfile.write(path, noise.T.numpy(), RATE, subtype, format=form)
        assert torch.equal(read(path).samples, noise)


def tone(seconds: float = 3.0) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    return (0.5 * torch.sin(2 * torch.pi * 440 * time)).float().expand(2, -1)


@pytest.mark.parametrize(
    ("form", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_lossy_formats_are_read(tmp_path: Path, form: str, subtype: str) -> None:
    rate = 48000 if subtype == "OPUS" else RATE
    soundfile.write(tmp_path / "a", tone().T.numpy(), rate, subtype, format=form)
    audio = read(tmp_path / "a")
    assert audio.samples.shape == tone().shape
    middle = slice(RATE, 2 * RATE)
    # Codecs keep a steady tone's power within a few per cent.
    assert audio.samples[:, middle].square().mean() == pytest.approx(0.125, rel=0.05)


def encode(path: Path, form: str, codec: str) -> None:
    av = pytest.importorskip("av")
    index_first = {"movflags": "faststart"} if form == "mp4" else {}  # so that it can be cut short
    with av.open(str(path), "w", format=form, options=index_first) as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(tone().numpy().copy(), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0  # else the file does not say where the sound begins
        for piece in (frame, None):
            container.mux(stream.encode(piece))


@pytest.mark.parametrize(
    ("form", "codec"), [("mp4", "aac"), ("adts", "aac"), ("matroska", "aac"), ("asf", "wmav2")]
)
def test_what_libsndfile_lacks_is_read_through_ffmpeg(
    tmp_path: Path, form: str, codec: str
) -> None:
    encode(tmp_path / "a.wav", form, codec)
    audio = read(tmp_path / "a.wav")
    assert (audio.sample_rate, audio.subtype) == (RATE, codec.upper())
    # Up to two codec frames of 2048 are added or lost at the ends; mp4 alone says where they are.
    surplus = 0 if form == "mp4" else 4096
    assert abs(audio.samples.shape[1] - tone().shape[1]) <= surplus
    assert audio.samples[:, RATE : 2 * RATE].square().mean() == pytest.approx(0.125, rel=0.05)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.m4a", "mp4", "aac")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"a\.m4a: .*pip install 'mgdm_audio\[formats\]'"):
        read(tmp_path / "a.m4a")


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / "bad.wav"
    samples = np.zeros((1000, 2), dtype=np.float32)
    match kind:
        case "missing":
            pass
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "text":
            path.write_text("these are no samples\n" * 500)
        case "page":
            path.write_text("<html>")
        case "header":
            path.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
        case "playlist":
            soundfile.write(folder / "other.mp3", tone().T.numpy(), RATE, format="MP3")
            path.write_text("ffconcat version 1.0\nfile other.mp3\n")
        case "no samples":
            soundfile.write(path, samples[:0], RATE)
        case "nan":
            samples[123, 1] = np.nan
            soundfile.write(path, samples, RATE, "FLOAT")
        case "inf":
            samples[7, 0] = -np.inf
            soundfile.write(path, samples, RATE, "FLOAT")
        case "cut wav":
            soundfile.write(path, tone().T.numpy(), RATE)
            cut(path, 0.4)
        case "cut flac":
            soundfile.write(path, tone().T.numpy(), RATE, format="FLAC")
            cut(path, 0.4)
        case "flac with a wrong byte":
            soundfile.write(path, tone().T.numpy(), RATE, format="FLAC")
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 255
            path.write_bytes(data)
        case "cut mp3":
            soundfile.write(path, tone().T.numpy(), RATE, format="MP3")
            cut(path, 0.4)
        case "cut m4a":
            encode(path, "mp4", "aac")
            with pytest.importorskip("av").open(str(path)) as container:
                packets = [packet.pos for packet in container.demux() if packet.pos]
            # Between two packets, where the decoder itself meets no error.
            path.write_bytes(path.read_bytes()[: packets[len(packets) // 2]])
        case "rate":
            soundfile.write(path, samples, 7)
        case "nul":
            return folder / "a\0b.wav"
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("pipe", "no regular file"),
        ("empty", "0 bytes"),
        ("text", "check that it is a sound file"),
        ("page", "is no sound file|check that it is a sound file"),  # as FFmpeg's version guesses
        ("header", "check that it is a sound file"),
        ("playlist", "check that it is a sound file"),
        ("no samples", "holds no samples"),
        ("nan", "sample 123 of channel 1 is nan"),
        ("inf", "sample 7 of channel 0 is -inf"),
        ("cut wav", r"cut short, 1\.2 of 3\.0 s"),
        ("cut flac", r"cut short, 1\.\d of 3\.0 s"),
        ("flac with a wrong byte", r"damaged at 1\.\d s"),
        ("cut mp3", r"cut short, 1\.\d of 3\.0 s"),
        ("cut m4a", r"cut short, \d\.\d of 3\.0 s"),
        ("rate", "7 Hz; the header is damaged"),
        ("nul", "null byte"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, kind: str, says: str) -> None:
    path = bad_file(kind, tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        read(path, damaged="refuse")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("promised", [2**31 - 2**16, 2**32 - 1])
def test_a_wav_whose_length_was_left_open_is_read_as_far_as_it_goes(
    tmp_path: Path, promised: int
) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone().T.numpy(), RATE)
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[40:44] = promised.to_bytes(4, "little")
    path.write_bytes(data)
    assert read(path).samples.shape == tone().shape


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "a.wav").touch()
    monkeypatch.setattr(reading, "open", refuse, raising=False)  # chmod does not stop root
    with pytest.raises(UserError, match=r"a\.wav: may not be read; change its permissions"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "subtype", "says"),
    [
        ("a.mp3", "PCM_16", r"suffix '\.mp3'"),
        ("a", "PCM_16", "suffix ''"),
        ("a.wav", "PCM_8", "PCM_16, PCM_24, FLOAT"),
        ("a.flac", "FLOAT", r"use PCM_24 or \.wav"),
        ("none/a.wav", "PCM_16", "make it first"),
        ("file/a.wav", "PCM_16", "Not a directory"),
        ("folder.wav", "PCM_16", "cannot be written"),
        ("a\0.wav", "PCM_16", "cannot be written"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, subtype: str, says: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(UserError, match=says):
        write(tmp_path / name, torch.zeros(1, 10), RATE, subtype)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.wav"]


def test_samples_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sample 2 of channel 0 is nan"):
        write(tmp_path / "a.wav", torch.tensor([[0.0, 1.0, torch.nan]]), RATE)
    assert not list(tmp_path.iterdir())


def test_flac_holds_eight_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", torch.zeros(8, 10), RATE)
    with pytest.raises(UserError, match="9 channels"):
        write(tmp_path / "b.flac", torch.zeros(9, 10), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.flac"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_stopped_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    write(tmp_path / "a.wav", torch.full((1, 10), 0.5), RATE)
    before = (tmp_path / "a.wav").read_bytes()

    def fail(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    expected = UserError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is UserError else None):
        write(tmp_path / "a.wav", torch.zeros(1, 10), RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", torch.zeros(1, 10), RATE)
    with builtins.open(tmp_path / "plain", "w"):
        pass
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("channels", [1, 2])
def test_a_float_file_does_not_tell_when_it_was_written(tmp_path: Path, channels: int) -> None:
    """libsndfile would: bytes 12 to 16 of its PEAK chunk are a clock, in whole seconds."""
    samples = song(0, channels, 500, 8000)
    write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    data = (tmp_path / "a.wav").read_bytes()
    peak = data.index(b"PEAK")
    assert peak < data.index(b"data")
    assert data[peak + 12 : peak + 16] == bytes(4)
    assert torch.equal(read(tmp_path / "a.wav").samples, samples)
