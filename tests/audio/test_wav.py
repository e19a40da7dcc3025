"""WAV headers as libsndfile, FFmpeg and SoX write them."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio.io import read
from mgdm_audio.audio.wav import WavHeader, WavWriter, wav_header
from mgdm_audio.audio.wholeness import measure
from mgdm_audio.errors import UserError

FRAMES = 1000


def written(path: Path, form: str = "WAV", subtype: str = "PCM_16", channels: int = 2) -> Path:
    x = np.linspace(-0.5, 0.5, FRAMES * channels).reshape(FRAMES, channels)
    soundfile.write(path, x, 22050, subtype, format=form)
    return path


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize(("subtype", "width"), [("PCM_16", 2), ("PCM_24", 3), ("FLOAT", 4)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_whole_file(tmp_path: Path, form: str, subtype: str, width: int, channels: int) -> None:
    path = written(tmp_path / "a.wav", form, subtype, channels)
    header = wav_header(path)
    assert header is not None
    assert (header.frames, header.align) == (FRAMES, width * channels)
    sound = path.read_bytes()[header.start : header.start + width * FRAMES * channels]
    # What is decoded from there is the file's first sample, -0.5.
    assert len(sound) == width * FRAMES * channels
    assert measure(path).frames == FRAMES


@pytest.mark.parametrize("form", ["WAV", "RF64"])
def test_a_file_cut_short_is_refused(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "a.wav", form)
    path.write_bytes(path.read_bytes()[: -4 * FRAMES // 2])
    with pytest.raises(UserError, match=f"cut short, {FRAMES // 2} of {FRAMES} samples"):
        measure(path)


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_length_left_open_is_that_of_the_file(tmp_path: Path, length: int) -> None:
    """0 by some recorders, 2^31 - 4096 by SoX's pipes, 2^32 - 1 by FFmpeg's."""
    path = written(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", length)
    path.write_bytes(data)
    header = wav_header(path)
    assert header == WavHeader(place + 4, 4, None)
    assert header.frames is None
    if length:  # libsndfile reads nothing behind a length of 0
        assert measure(path).frames == FRAMES
        assert read(path).samples.shape == (2, FRAMES)


def test_what_is_no_wav_has_no_header(tmp_path: Path) -> None:
    assert wav_header(written(tmp_path / "a.flac", "FLAC")) is None
    (tmp_path / "b.wav").write_bytes(b"RIFF\x04\x00\x00\x00WAVE")
    assert wav_header(tmp_path / "b.wav") is None
    (tmp_path / "c.wav").write_bytes(b"")
    assert wav_header(tmp_path / "c.wav") is None


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_what_is_written_has_reached_the_disk_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtype: str
) -> None:
    """Every byte of it, the header that is mended last too."""
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a.wav"
    with WavWriter(path, 2, 2 * FRAMES, 22050, subtype) as writer:
        writer.write(torch.linspace(-0.5, 0.5, 2 * FRAMES).view(2, FRAMES))
        assert not synced
    assert synced[-1] == (path.stat().st_ino, path.read_bytes())
