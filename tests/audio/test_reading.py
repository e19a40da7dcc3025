"""What the reader bounds, hashes, and makes of exceptions, in every format."""

import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio import reading
from mgdm_audio.audio.decoding import containers, sndfile
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import MAX_SECONDS, Policy, Reading
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError

WRITTEN = Path(__file__).parent / "written"
FILES = sorted(path for path in WRITTEN.iterdir() if path.suffix != ".sh")
RATE = 8000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_hash_is_of_the_bytes_that_were_decoded(path: Path) -> None:
    pytest.importorskip("av")
    blocks = Reading(path)
    assert sum(block.samples.shape[1] for block in blocks)
    assert blocks.sha256 == hash_file(path)
    assert (blocks.size, blocks.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert read(path).sha256 == hash_file(path)


def noise(path: Path, seed: int) -> None:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(3000)
    soundfile.write(path, samples, RATE, format="WAV")


def test_a_file_that_is_written_to_meanwhile_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sndfile, "_BLOCK", 1000)
    noise(tmp_path / "a.wav", 0)
    blocks = Reading(tmp_path / "a.wav")
    next(blocks)
    found = os.stat(tmp_path / "a.wav")
    noise(tmp_path / "a.wav", 1)  # in place: as long, and said to be as old
    os.utime(tmp_path / "a.wav", ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(UserError, match=r"a\.wav: changed while it was read"):
        list(blocks)
    assert blocks.sha256 == ""


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sndfile, "_BLOCK", 1000)
    noise(tmp_path / "a.wav", 0)
    noise(tmp_path / "b.wav", 1)
    want, sha = read(tmp_path / "a.wav").samples, hash_file(tmp_path / "a.wav")
    blocks = Reading(tmp_path / "a.wav")
    parts = [next(blocks).samples]
    os.replace(tmp_path / "b.wav", tmp_path / "a.wav")
    parts += [block.samples for block in blocks]
    assert torch.equal(torch.cat(parts, 1), want)
    assert blocks.sha256 == sha != hash_file(tmp_path / "a.wav")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_more_than_is_allowed_is_refused_before_it_is_decoded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(sndfile, "decode", refuse)
    monkeypatch.setattr(containers.ffmpeg.Stream, "__iter__", refuse)
    with pytest.raises(
        UserError, match=r"decodes to .* hours or more, over the 2\.778e-05 allowed"
    ):
        list(Reading(path, max_seconds=0.1))


def test_half_a_day_is_allowed_and_no_more(tmp_path: Path) -> None:
    """Of silence, which FLAC packs to nothing; its header says how long it is."""
    soundfile.write(tmp_path / "a.flac", np.zeros(4096), RATE)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    samples = int(MAX_SECONDS * RATE) + 1
    data[21] |= samples >> 32
    data[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.flac: decodes to 12 hours or more, over the 12 "):
        read(tmp_path / "a.flac")


def test_what_no_header_tells_is_bounded_as_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(tmp_path / "a.wav", 0)
    monkeypatch.setattr(sndfile, "seconds", lambda file: 0.0)
    monkeypatch.setattr(sndfile, "_BLOCK", 1000)
    blocks = Reading(tmp_path / "a.wav", max_seconds=0.2)
    assert next(blocks).samples.shape[1] == 1000  # 0.125 s; with the next block it would be 0.25
    with pytest.raises(UserError, match="over the"):
        next(blocks)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        MemoryError(),
        AttributeError("codec"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
    ],
)
def test_whatever_a_decoder_raises_is_one_line_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pytest.importorskip("av")

    def fail(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(containers.ffmpeg._Decoding, "events", fail)
    with pytest.raises(UserError, match=r"ffmpeg\.webm: neither libsndfile .* nor FFmpeg ") as told:
        read(WRITTEN / "ffmpeg.webm")
    assert "\n" not in str(told.value)


def test_a_codec_that_nobody_knows_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("av")
    form = struct.pack("<IHHIIHH", 16, 0, 1, 22050, 44100, 2, 16)
    body = b"WAVEfmt " + form + b"data" + struct.pack("<I", 2000) + bytes(2000)
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(UserError, match=r"a\.wav: .*(can read it|is no sound file)"):
        read(tmp_path / "a.wav")


def refusal(path: Path, damaged: Policy) -> str:
    """The line; empty where the file is read."""
    try:
        assert read(path, damaged=damaged).samples.isfinite().all()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_any_bytes_are_read_or_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    """Twenty files each, with bytes changed or gone: no other exception than a UserError."""
    pytest.importorskip("av")
    random = np.random.default_rng(list(path.name.encode()))
    target = tmp_path / path.name
    for _ in range(20):
        data = bytearray(path.read_bytes())
        for _ in range(random.choice([1, 4, 20])):
            place = int(random.integers(random.choice([80, len(data)])))
            if random.random() < 0.3:
                del data[place : place + int(random.choice([1, 7, 100]))]
            else:
                data[min(place, len(data) - 1)] = int(random.integers(256))
        target.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            line = refusal(target, "keep" if random.random() < 0.5 else "refuse")
        assert "\n" not in line
        assert line.startswith(str(target) if line else "")


@pytest.mark.parametrize("name", ["ffmpeg.webm", "ffmpeg.aac"])
def test_where_pyav_is_missing_the_remedy_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV: pip install 'mgdm_audio\[formats\]'"):
        read(WRITTEN / name)


@pytest.mark.parametrize(
    "name",
    sorted({p.name for p in FILES} - {"ffmpeg.webm", "ffmpeg.aac", "ffmpeg_wide.aac"}),
)
def test_the_others_need_no_pyav(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert read(WRITTEN / name, damaged="refuse").samples.shape[1] >= 2000


def test_a_reading_that_is_left_closes_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def remember(path: Path, mode: str) -> Any:
        opened.append(path.open(mode))
        return opened[-1]

    monkeypatch.setattr(reading, "open", remember, raising=False)
    noise(tmp_path / "a.wav", 0)
    blocks = Reading(tmp_path / "a.wav")
    next(blocks)
    blocks.close()
    assert [file.closed for file in opened] == [True]


def test_blocks_of_many_channels_are_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block takes the memory of two channels, whatever a header says that there are."""
    monkeypatch.setattr(sndfile, "_BLOCK", 1000)
    for channels, length in ((1, 1000), (2, 1000), (8, 250), (900, 2)):
        soundfile.write(tmp_path / "a.wav", np.zeros((1000, channels)), RATE)
        assert {block.samples.shape[1] for block in Reading(tmp_path / "a.wav")} == {length}
