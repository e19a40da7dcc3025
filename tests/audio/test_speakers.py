"""Channels by their speakers: Vorbis's order, FLAC's, the masks of WAV, and mixing between them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio.decoding.chunks import find_sound
from mgdm_audio.audio.decoding.events import Block
from mgdm_audio.audio.decoding.ffmpeg import Stream
from mgdm_audio.audio.encoding.wav import WavWriter
from mgdm_audio.audio.io import read, write
from mgdm_audio.audio.speakers import (
    NAMES,
    flac_mask,
    in_order,
    mask_of,
    matrix,
    names_of,
    usual,
    vorbis_mask,
    vorbis_order,
)

WRITTEN = Path(__file__).parent / "written"
FRONT = {"FL": 300, "FR": 400, "FC": 500, "LFE": 60, "BL": 700, "BR": 800}  # Hz, in WAV's order


def hertz(samples: torch.Tensor, rate: int) -> list[float]:
    """Where each channel's spectrum has its peak."""
    power = torch.fft.rfft(samples * torch.hann_window(samples.shape[1])).abs()
    return [float(i) * rate / samples.shape[1] for i in power.argmax(1)]


@pytest.mark.parametrize("name", ["oggenc_51.ogg", "opusenc_51.opus", "flac_51.flac"])
def test_five_channels_and_bass_come_in_the_order_of_wav(name: str) -> None:
    audio = read(WRITTEN / name, damaged="refuse")
    assert audio.mask == mask_of(list(FRONT)) == 0x3F
    assert hertz(audio.samples, audio.sample_rate) == list(FRONT.values())


@pytest.mark.parametrize("channels", range(3, 9))
def test_vorbis_of_three_to_eight_channels_is_reordered(tmp_path: Path, channels: int) -> None:
    """libsndfile stores channels as they come; that of the encoder's number k has k + 1 periods."""
    time = np.arange(8000) / 8000
    tones = [200 * (k + 1) for k in range(channels)]
    waves = np.stack([0.3 * np.sin(2 * np.pi * f * time) for f in tones], 1)
    soundfile.write(tmp_path / "a.ogg", waves, 8000, "VORBIS", format="OGG")
    audio = read(tmp_path / "a.ogg")
    order = vorbis_order(channels)
    assert sorted(order) == list(range(channels))
    assert hertz(audio.samples, 8000) == [tones[k] for k in order]
    assert audio.mask == vorbis_mask(channels)
    assert audio.mask.bit_count() == channels


@pytest.mark.parametrize("channels", range(3, 9))
def test_ffmpeg_agrees(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("av")
    path = tmp_path / "a.ogg"
    waves = np.random.default_rng(0).uniform(-0.3, 0.3, (4000, channels))
    soundfile.write(path, waves, 8000, "VORBIS", format="OGG")
    with open(path, "rb") as file:
        blocks = [event for event in Stream(path, file, "") if isinstance(event, Block)]
    theirs = np.concatenate([block.samples for block in blocks], 1)
    audio = read(path)
    assert audio.mask == blocks[0].mask
    # Two decoders of one stream differ by float32's rounding.
    assert np.abs(audio.samples.numpy() - theirs[:, : audio.samples.shape[1]]).max() < 1e-5


@pytest.mark.parametrize("channels", [8, 12, 24])
def test_more_channels_than_ffmpeg_has_pointers_for(tmp_path: Path, channels: int) -> None:
    """A frame holds eight by itself; of more planes than that PyAV reads what lies behind them."""
    av = pytest.importorskip("av")
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (500, channels)).astype(np.int16)
    with av.open(str(tmp_path / "a.mka"), "w", format="matroska") as container:
        layout = f"{channels}C"
        stream = container.add_stream("pcm_s16le", rate=8000, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate, frame.pts = 8000, 0
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    audio = read(tmp_path / "a.mka", damaged="refuse")
    assert audio.mask == 0
    assert np.array_equal(audio.samples.numpy() * 2**15, samples.T)


@pytest.mark.parametrize("mask", [0x3F, 0x60F, 0x33, 0x63F])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_mask_is_written_and_read(tmp_path: Path, mask: int, subtype: str) -> None:
    samples = torch.rand(mask.bit_count(), 100) - 0.5
    write(tmp_path / "a.wav", samples, 8000, subtype, mask)
    with WavWriter(tmp_path / "b.wav", len(samples), samples.numel(), 8000, subtype, mask) as out:
        out.write(samples)
    for name in ("a.wav", "b.wav"):
        audio = read(tmp_path / name)
        assert audio.mask == mask
        assert (audio.samples - samples).abs().max() <= 2**-15
        with open(tmp_path / name, "rb") as file:
            sound = find_sound(file, (tmp_path / name).stat().st_size)
        assert sound is not None
        assert sound.mask == mask


def test_one_and_two_channels_are_written_as_ever(tmp_path: Path) -> None:
    for channels, mask in ((1, 4), (2, 3)):
        write(tmp_path / "a.wav", torch.zeros(channels, 10), 8000, mask=mask)
        write(tmp_path / "b.wav", torch.zeros(channels, 10), 8000)
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_no_speakers_are_invented(tmp_path: Path) -> None:
    """A plain WAV file of four channels does not say which they are."""
    soundfile.write(tmp_path / "a.wav", np.zeros((10, 4)), 8000)
    assert read(tmp_path / "a.wav").mask == 0
    assert [usual(0, n) for n in range(5)] == [0, 4, 3, 0, 0]
    assert usual(0x3F, 4) == 0
    assert usual(1 << len(NAMES), 1) == 4


@pytest.mark.parametrize("channels", range(3, 9))
def test_orders_are_permutations_of_known_speakers(channels: int) -> None:
    for mask in (vorbis_mask(channels), flac_mask(channels)):
        names = names_of(mask)
        assert len(names) == channels
        assert in_order(names) == list(range(channels))
        assert in_order(names[::-1]) == list(range(channels))[::-1]
    assert mask_of(["FL", "FL"]) == mask_of(["XX"]) == 0


def test_mixing_to_one_channel_is_the_mean_and_one_goes_to_both_sides() -> None:
    assert matrix(0x3F, 6, 4, 1).tolist() == [[pytest.approx(1 / 6)] * 6]
    assert matrix(4, 1, 3, 2).tolist() == [[1], [1]]
    assert matrix(4, 1, 0x3F, 6)[:, 0].tolist() == [1, 1, 0, 0, 0, 0]
    assert matrix(4, 1, 0, 3)[:, 0].tolist() == [1, 1, 1]


def test_surround_to_stereo_is_that_of_itu() -> None:
    """ITU-R BS.775: left + 0.71 centre + 0.71 left surround, no bass; within full scale."""
    half = 2**-0.5
    left = np.array([1, 0, half, 0, half, 0]) / (1 + 2 * half)
    right = np.array([0, 1, half, 0, 0, half]) / (1 + 2 * half)
    assert np.allclose(matrix(0x3F, 6, 3, 2), [left, right])
    assert np.allclose(matrix(0x60F, 6, 3, 2), [left, right])  # sides in place of the back


@pytest.mark.parametrize("mask", [0x3, 0x3F, 0x60F, 0x63F, 0x33])
def test_the_same_speakers_are_not_mixed(mask: int) -> None:
    n = mask.bit_count()
    assert np.array_equal(matrix(mask, n, mask, n), np.eye(n))


def test_sides_and_back_stand_for_each_other_and_unknown_channels_keep_their_number() -> None:
    assert np.array_equal(matrix(0x60F, 6, 0x3F, 6), np.eye(6))
    assert np.array_equal(matrix(0, 3, 0, 4), np.eye(4, 3))
    assert np.array_equal(matrix(0, 4, 3, 2), np.eye(2, 4))
