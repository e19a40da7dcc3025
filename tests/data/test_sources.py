"""Sources of prepared data in any format, and whether they are still those that were read."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgdm_audio.data import summing
from mgdm_audio.data.manifest import MANIFEST
from mgdm_audio.data.plan import Plan, Source
from mgdm_audio.data.summing import sum_sources, survey
from mgdm_audio.errors import UserError
from tests.data.data_sets import FRAMES, RATE, noise, put
from tests.data.running import prepare, said

WRITTEN = Path(__file__).parents[1] / "audio" / "written"


class Set:
    """Tracks a, b and c of two stems, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out = folder / "src", folder / "out"
        self.map = folder / "m.toml"
        self.map.write_text('[stems]\nbass = ["bass"]\ndrums = ["drums"]\n')
        for i, track in enumerate("abc"):
            for k, stem in enumerate(("bass", "drums")):
                put(self.source / track / f"{stem}.wav", noise(2 * i + k))

    def prepare(self) -> dict[str, dict[str, object]]:
        """The records by track."""
        self.result = prepare("stems", self.source, "--map", self.map, "-o", self.out)
        lines = map(json.loads, (self.out / MANIFEST).read_text().splitlines())
        return {record["track"]: record for record in lines}


@pytest.fixture
def data(tmp_path: Path) -> Set:
    return Set(tmp_path)


@pytest.mark.parametrize(
    "name", ["ffmpeg.aac", "ffmpeg.webm", "lame_t.mp3", "opusenc.opus", "ffmpeg.flac", "sox.au"]
)
def test_content_of_any_format_is_read_whatever_its_name(data: Set, name: str) -> None:
    pytest.importorskip("av")
    (data.source / "b" / "bass.wav").write_bytes((WRITTEN / name).read_bytes())
    found = data.prepare()
    assert data.result.exit_code == 0, data.result.stderr
    assert set(found) == {"a", "b", "c"}


def test_stems_of_any_suffix_are_taken_and_flac_before_all(data: Set) -> None:
    folder = data.source / "b"
    (folder / "bass.wav").rename(folder / "bass.x")
    soundfile.write(folder / "bass.aiff", noise(7), RATE, "PCM_16")
    soundfile.write(folder / "drums.flac", noise(8), RATE, "PCM_16")
    soundfile.write(folder / "drums.mp3", noise(8) / 2**15, RATE)
    record = data.prepare()["b"]
    sources = {stem: entry["sources"][0]["path"] for stem, entry in record["stems"].items()}  # type: ignore[attr-defined]
    assert sources == {"bass": "bass.aiff", "drums": "drums.flac"}
    duplicates = [of for of, what, _ in said(record) if what == "duplicate"]
    assert duplicates == ["drums.mp3", "drums.wav"]


def test_damage_is_refused_and_stops_no_other(data: Set) -> None:
    path = data.source / "b" / "bass.wav"
    soundfile.write(path, noise(0, 5 * RATE) / 2**15, RATE, format="MP3")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 900] = bytes(900)
    path.write_bytes(content)
    assert set(data.prepare()) == {"a", "c"}
    assert data.result.exit_code == 1
    assert f"{path}: damaged at 2." in data.result.stderr


def test_a_change_on_the_way_is_a_decision(data: Set) -> None:
    names = ("oggenc.ogg", "oggenc_wide.ogg")
    path = data.source / "b" / "bass.wav"
    path.write_bytes(b"".join((WRITTEN / name).read_bytes() for name in names))
    found = data.prepare()
    assert data.result.stderr == ""
    ((of, _, why),) = [d for d in said(found["b"]) if d[1] == "converted"]
    assert (of, "at 0.2 s 1 channel at 8000 Hz become 2 channels" in why) == ("bass.wav", True)


def states(data: Set) -> str:
    """made or kept, of a, b and c."""
    before = {t: os.stat(data.out / "all" / t / "track.json").st_ino for t in "abc"}
    data.prepare()
    after = {t: os.stat(data.out / "all" / t / "track.json").st_ino for t in "abc"}
    return " ".join("kept" if before[t] == after[t] else "made" for t in "abc")


def test_what_decides_is_the_content(data: Set) -> None:
    data.prepare()
    assert states(data) == "kept kept kept"
    path = data.source / "b" / "bass.wav"
    found = path.stat()
    put(path, noise(99))  # as long as before, and older than what was made of the former
    os.utime(path, (1, 1))
    assert path.stat().st_size == found.st_size
    assert states(data) == "kept made kept"
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 10**12))  # later, of the same content
    assert states(data) == "kept kept kept"
    os.replace(data.source / "a" / "bass.wav", path)  # moved there: as old as it was
    put(data.source / "a" / "bass.wav", noise(100))
    assert states(data) == "made made kept"


def test_a_record_of_another_version_is_made_anew(data: Set) -> None:
    data.prepare()
    place = data.out / "all" / "b" / "track.json"
    record = json.loads(place.read_text())
    for entry in record["stems"].values():
        for source in entry["sources"]:
            del source["mtime_ns"]
    place.write_text(json.dumps(record))
    assert states(data) == "kept made kept"


@pytest.mark.parametrize("when", ["before it is summed", "while it is summed"])
def test_a_source_that_changes_between_its_readings_is_an_error(
    data: Set, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    source = Source("bass.wav")
    folder = data.source / "a"
    found = survey(folder, Plan({"bass": (source,)}, ()))

    def change() -> None:
        put(folder / "bass.wav", noise(99))

    if when == "before it is summed":
        change()
    else:
        original: Callable[..., object] = summing._sum

        def later(*arguments: object) -> object:
            samples = original(*arguments)
            change()
            return samples

        monkeypatch.setattr(summing, "_sum", later)
    with pytest.raises(UserError, match=r"bass\.wav: changed while it was read"):
        sum_sources(folder, [source], found, RATE)


def test_the_sum_is_exact_as_ever(data: Set) -> None:
    source = Source("bass.wav")
    found = survey(data.source / "a", Plan({"bass": (source,)}, ()))
    total = sum_sources(data.source / "a", [source], found, RATE)
    assert len(total) == FRAMES
    assert np.array_equal(total.numpy() * 2**15, noise(0))
