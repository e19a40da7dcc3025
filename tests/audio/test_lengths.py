"""The length is that of the packets: streams without a header, joined files, tags, chains.

The files in ``written`` were written by LAME, oggenc, opusenc, flac and FFmpeg (``write.sh``); all
hold the 0.25 s of ``sound.wav``, those named ``wide`` in two channels at 16,000 Hz.
"""

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.decoding import mp3
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Audio, Reading

WRITTEN = Path(__file__).parent / "written"
RATE, TIME = 8000, 2000  # Hz, samples


def sound() -> Tensor:
    return read(WRITTEN / "sound.wav").samples


def put(path: Path, *parts: bytes | str) -> Path:
    """A file of ``parts``, each bytes or the name of a file in ``written``."""
    data = (part if isinstance(part, bytes) else (WRITTEN / part).read_bytes() for part in parts)
    path.write_bytes(b"".join(data))
    return path


def whole(path: Path) -> Audio:
    return read(path, damaged="refuse")


def match(samples: Tensor, truth: Tensor) -> float:
    """The greatest correlation coefficient over shifts, which codecs without gaps leave at 0."""
    size = samples.shape[-1] + truth.shape[-1]
    a, b = (torch.fft.rfft(x[0].double(), size) for x in (samples, truth))
    return float(torch.fft.irfft(a * b.conj(), size).max() / samples.norm() / truth.norm())


def test_an_mp3_of_variable_bit_rate_without_a_first_frame_is_read_to_its_end() -> None:
    """It is loud, then soft: the first frame's bit rate says that it is over long before its end.

    Frames are counted: nothing but the decoder's own delay of 529 samples goes.
    """
    with open(WRITTEN / "lame_t.mp3", "rb") as file:
        (run,) = mp3.scan(file, (WRITTEN / "lame_t.mp3").stat().st_size)
    assert isinstance(run, mp3.Run)
    samples = whole(WRITTEN / "lame_t.mp3").samples
    assert samples.shape[1] == run.samples - 529 >= TIME
    # LAME at quality 5 keeps the tones within 1 % of their energy.
    assert match(samples, sound()) > 0.99


def test_two_streams_without_a_first_frame_are_one(tmp_path: Path) -> None:
    once = whole(WRITTEN / "lame_t.mp3").samples.shape[1] + 529
    assert whole(put(tmp_path / "a.mp3", *["lame_t.mp3"] * 2)).samples.shape[1] == 2 * once - 529


@pytest.mark.parametrize("name", ["lame.mp3", "lame_tags.mp3"])
def test_joined_mp3_files_are_each_read_whole(tmp_path: Path, name: str) -> None:
    """With LAME's first frame a decoder takes away what the encoder added: the joint has no gap."""
    once = whole(WRITTEN / name).samples
    assert once.shape == (1, TIME)
    samples = whole(put(tmp_path / "joined.mp3", name, name)).samples
    assert torch.equal(samples, torch.cat([once, once], 1))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"ID3\x03\0\0\0\0\x01\x00" + bytes(128), b""),
        (b"ID3\x03\0\0\0\0\x01\x00" + bytes(128) + bytes(5000), b""),  # and zeros to fill it up
        (b"", b"TAG" + bytes(125)),
        (b"", b"APETAGEX" + b"\xd0\x07\0\0" + b"\x20\0\0\0\0\0\0\0\0\0\0\0" + bytes(8)),
        (b"", b"LYRICSBEGIN" + b"ABC" * 20 + b"LYRICSEND" + b"TAG" + bytes(125)),
        (b"", bytes(3000)),
        (b"\x12\x34" * 100, b""),  # the end of a frame that began before a recording did
    ],
)
@pytest.mark.parametrize("name", ["lame.mp3", "lame_t.mp3"])
def test_tags_at_either_end_are_no_sound(
    tmp_path: Path, name: str, before: bytes, after: bytes
) -> None:
    samples = whole(put(tmp_path / "a.mp3", before, name, after)).samples
    assert torch.equal(samples, whole(WRITTEN / name).samples)


@pytest.mark.parametrize("name", ["oggenc.ogg", "opusenc.opus"])
def test_every_link_of_a_chain_is_read(tmp_path: Path, name: str) -> None:
    once = whole(WRITTEN / name).samples
    assert once.shape == (1, TIME)
    samples = whole(put(tmp_path / "radio.ogg", name, name, name)).samples
    assert torch.equal(samples, torch.cat([once] * 3, 1))


@pytest.mark.parametrize("name", ["ffmpeg.flac", "flac.flac"])
def test_flac_of_unknown_length_is_read_to_its_end(name: str) -> None:
    pytest.importorskip("av")
    assert torch.equal(whole(WRITTEN / name).samples, sound())


def test_joined_flac_files_are_each_read_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", sound()[0].numpy(), RATE, "PCM_16")
    data = (tmp_path / "a.flac").read_bytes()
    tag = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)
    samples = whole(put(tmp_path / "joined.flac", tag, data, data)).samples
    assert torch.equal(samples, torch.cat([sound()] * 2, 1))


def test_webm_that_was_written_into_a_pipe_is_read_to_its_end() -> None:
    """Its header has no length. Opus codes 20 ms at a time: up to that much is added."""
    pytest.importorskip("av")
    audio = whole(WRITTEN / "ffmpeg.webm")
    seconds = audio.samples.shape[1] / audio.sample_rate
    assert TIME / RATE <= seconds <= TIME / RATE + 0.02


@pytest.mark.parametrize("name", ["lame.mp3", "lame_t.mp3", "oggenc.ogg", "opusenc.opus", "sox.au"])
def test_the_length_is_known_before_anything_is_decoded(name: str) -> None:
    """But for the frames of 72 ms that MP3 begins and ends with."""
    from mgdm_audio.audio.decoding.containers import find_content

    path = WRITTEN / name
    with open(path, "rb") as file:
        seconds = find_content(path, file, path.stat().st_size).seconds
    assert TIME / RATE <= seconds < TIME / RATE + 0.2
    assert sum(block.samples.shape[1] for block in Reading(path)) <= seconds * RATE + 1
