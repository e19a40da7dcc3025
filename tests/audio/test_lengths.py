"""The length is that of the packets: streams without a header, joined files, tags, chains.

The files in ``written`` were written by LAME, oggenc, opusenc, flac and FFmpeg (``write.sh``); all
hold the 0.25 s of ``sound.wav``, those named ``wide`` in two channels at 16,000 Hz.
"""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.decoding import flac, mp3
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Audio, Reading
from mgdm_audio.audio.segments import open_segments
from mgdm_audio.errors import DamagedError, UserError

WRITTEN = Path(__file__).parent / "written"
RATE, TIME = 8000, 2000  # Hz, samples


def sound() -> Tensor:
    return read(WRITTEN / "sound.wav").samples


def put(path: Path, *parts: bytes | str) -> Path:
    """A file of ``parts``, each bytes or the name of a file in ``written``."""
    data = (part if isinstance(part, bytes) else (WRITTEN / part).read_bytes() for part in parts)
    path.write_bytes(b"".join(data))
    return path


def flac_of(samples: Tensor, blocksize: int) -> bytes:
    """FLAC of frames of ``blocksize`` samples, by FFmpeg."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        stream.codec_context.options = {"frame_size": str(blocksize)}
        stream.codec_context.format = "s16"
        steps = np.ascontiguousarray((samples * 2**15).short().numpy())
        frame = av.AudioFrame.from_ndarray(steps, "s16", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


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
    assert torch.equal(whole(WRITTEN / name).samples, sound())


@pytest.mark.parametrize("blocksize", [16, 192, 576, 1000, 4096])
@pytest.mark.parametrize("said", [0, 1, 1999, 2000])
@pytest.mark.parametrize("behind", [b"", bytes(3000), b"TAG" + bytes(125), b"\xff\xf8" * 50])
def test_flac_has_the_samples_of_its_frames_whatever_its_header_says(
    tmp_path: Path, said: int, blocksize: int, behind: bytes
) -> None:
    """Its 36 bits say fewer where it was appended to, and 0 where they were left open."""
    data = bytearray(flac_of(sound(), blocksize))
    data[21] &= 0xF0
    data[22:26] = said.to_bytes(4, "big")
    path = put(tmp_path / "a.flac", bytes(data), behind)
    assert torch.equal(whole(path).samples, sound())
    assert open_segments(path).frames == TIME
    assert open_segments(path).read(TIME - 5, 5)[:, 0].tolist() == sound()[0, -5:].tolist()


def test_flac_that_ends_within_its_head_is_refused(tmp_path: Path) -> None:
    """Its stream information is 42 bytes long; the frames come after the other blocks."""
    data = (WRITTEN / "flac.flac").read_bytes()
    for length in range(4, 90):
        path = put(tmp_path / "a.flac", data[:length])
        with pytest.raises(UserError, match=r"a\.flac"):
            read(path)
        with pytest.raises(UserError, match=r"a\.flac"):
            open_segments(path)


def test_flac_of_a_number_of_samples_that_takes_all_of_its_bytes() -> None:
    """The numbers of RFC 9639, 9.1.5, have one to seven bytes, as UTF-8 has."""
    for number, coded in {
        0x7F: b"\x7f",
        0x80: b"\xc2\x80",
        0xFFFF: b"\xef\xbf\xbf",
        0x10000: b"\xf0\x90\x80\x80",
        2**36 - 1: b"\xfe" + b"\xbf" * 6,
    }.items():
        head = b"\xff\xf9\xc9\x18" + coded  # blocks of any size, here 4096
        frame = (head + bytes([flac._crc8(head)])).ljust(20, b"\0")
        assert flac._samples_of(frame, 0) == (number, number + 4096)
        assert flac._samples_of(frame[:5] + b"\1" + frame[6:], 0) is None


def test_mp3_in_wav_is_counted_by_its_frames(tmp_path: Path) -> None:
    """Its header counts the encoder's delay as well, which made it a file that was cut short."""
    samples = whole(WRITTEN / "ffmpeg_mp3.wav").samples
    assert TIME <= samples.shape[1] <= TIME + 2 * 576  # up to two frames are the encoder's
    assert match(samples, sound()) > 0.99
    cut = put(tmp_path / "a.wav", (WRITTEN / "ffmpeg_mp3.wav").read_bytes()[:-200])
    with pytest.raises(DamagedError, match="cut short"):
        whole(cut)


@pytest.mark.parametrize("name", ["sound.wav", "ffmpeg.w64", "sox.aiff", "oggenc.ogg", "flac.flac"])
def test_a_tag_before_a_file_takes_nothing_from_its_end(tmp_path: Path, name: str) -> None:
    """libsndfile counts it as sound, and gives as many bytes less."""
    tag = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
    tagged = whole(put(tmp_path / "a", tag, tag, name)).samples
    assert torch.equal(tagged, whole(WRITTEN / name).samples)


def test_a_wav_file_of_two_chunks_of_sound_is_refused(tmp_path: Path) -> None:
    data = (WRITTEN / "sound.wav").read_bytes()
    begin = data.index(b"data")
    path = put(tmp_path / "a.wav", data, b"LIST\4\0\0\0INFO", data[begin:])
    with pytest.raises(UserError, match="several chunks of sound"):
        whole(path)


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
