"""Native Instruments Stems, by a parser of the test's own and by stempeg."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.encoding.files import Files, Shape
from mgdm_audio.audio.encoding.formats import find_format
from mgdm_audio.audio.encoding.tags import Tags, read_tags
from mgdm_audio.audio.io import read
from mgdm_audio.audio.pcm import quantise_together
from tests.audio.test_encoding import picture
from tests.toys import STEMS, song

pytest.importorskip("av")
CONTAINERS = {"moov", "udta", "trak", "mdia", "minf", "stbl", "meta", "ilst"}


def atoms(data: bytes, above: str = "") -> list[tuple[str, bytes]]:
    """(path, content) of every atom, those that hold others too (ISO/IEC 14496-12, 4.2)."""
    found, at = [], 0
    while at < len(data):
        size, name = (
            int.from_bytes(data[at : at + 4], "big"),
            data[at + 4 : at + 8].decode("latin1"),
        )
        assert 8 <= size <= len(data) - at, above
        content, path = data[at + 8 : at + size], f"{above}/{name}"
        found.append((path, content))
        if name in CONTAINERS:
            found += atoms(content[4:] if name == "meta" else content, path)
        at += size
    return found


def written(folder: Path, channels: int = 2, subtype: str = "PCM_24") -> tuple[Path, Tensor]:
    """A file of four stems, and these, [stem, channel, time]."""
    stems = 0.25 * torch.stack([song(i, channels, 30_001, 44100) for i in range(4)])
    stems = quantise_together(stems, subtype)
    path, form = folder / "song.stem.mp4", find_format("stem.mp4")
    tags = Tags({"title": "Sóng", "artist": "me"}, picture("JPEG", 8))
    with Files(form, [path], STEMS, Shape(channels, 30_001, 44100), subtype, tags) as files:
        for start in range(0, 30_001, 7000):
            files.write(stems[..., start : start + 7000])
    return path, stems


def test_the_container_is_as_published(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    found = atoms(path.read_bytes())
    (stem,) = [json.loads(content) for name, content in found if name == "/moov/udta/stem"]
    assert [part["name"] for part in stem["stems"]] == list(STEMS)
    colours = [part["color"] for part in stem["stems"]]
    assert len(set(colours)) == 4
    assert all(len(bytes.fromhex(colour[1:])) == 3 and colour[0] == "#" for colour in colours)
    assert stem["version"] == 1
    # All keys of Native Instruments' own, which players may look up; nothing is applied.
    compressor, limiter = (stem["mastering_dsp"][key] for key in ("compressor", "limiter"))
    assert compressor.keys() == {
        *("enabled", "ratio", "threshold", "attack", "release"),
        *("hp_cutoff", "input_gain", "output_gain", "dry_wet"),
    }
    assert limiter.keys() == {"enabled", "threshold", "ceiling", "release"}
    assert (compressor["enabled"], limiter["enabled"]) == (False, False)
    # The mixture's track is enabled (bit 0), which players play that know nothing of stems.
    flags = [content[3] & 1 for name, content in found if name == "/moov/trak/tkhd"]
    assert flags == [1, 0, 0, 0, 0]
    codecs = [c[12:16] for name, c in found if name == "/moov/trak/mdia/minf/stbl/stsd"]
    assert codecs == [b"alac"] * 5
    assert found[0] == ("/ftyp", found[0][1])
    assert found[0][1][:4] == b"M4A "
    tags = read_tags(path)
    assert tags.texts == {"title": "Sóng", "artist": "me"}
    assert tags.cover == picture("JPEG", 8)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_stems_and_the_mixture_come_back(tmp_path: Path, channels: int, subtype: str) -> None:
    path, stems = written(tmp_path, channels, subtype)
    found = torch.stack([read(path, i, damaged="refuse").samples for i in range(5)])
    assert torch.equal(found[1:], stems.expand(-1, 2, -1))  # mono as two equal channels
    assert torch.equal(found[0], stems.sum(0).expand(2, -1))  # of integers: exact


def test_stempeg_reads_it(tmp_path: Path) -> None:
    stempeg = pytest.importorskip("stempeg")
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        pytest.skip("stempeg needs the programs ffmpeg and ffprobe")
    path, stems = written(tmp_path)
    found, rate = stempeg.read_stems(str(path), dtype="float32")
    assert (found.shape, rate) == ((5, 30_001, 2), 44100)
    assert torch.equal(torch.from_numpy(found[1:]).transpose(1, 2), stems)
