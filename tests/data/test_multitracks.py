"""Data sets that mirdata loads: its own loaders on files in the published layout.

The indexes have the form and the file names of mirdata's own (tests/indexes of
mir-dataset-loaders/mirdata: phenicx_anechoic_index_1.0_sample.json and
slakh_index_2100-redux_sample.json).
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data import published
from tests.data.data_sets import noise, put
from tests.data.running import check, prepare, prepared, said

ORCHESTRA = """\
[stems]
strings = ["violin", "viola", "cello", "doublebass"]
winds = ["flute", "oboe", "clarinet", "bassoon", "horn", "trumpet"]
"""
VOICES = {"violin": 4, "viola": 2, "cello": 1, "doublebass": 1, "flute": 2, "oboe": 2,
          "clarinet": 2, "bassoon": 2, "horn": 2, "trumpet": 2}  # fmt: skip


class Room:
    """A folder for data, and where mirdata looks for the indexes of its own tests."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        core = pytest.importorskip("mirdata.core")
        self.folder, self.index = folder, folder / "index.json"
        monkeypatch.setattr(core.Index, "get_path", lambda _: str(self.index))
        self.words = ("-o", folder / "out", "--sample-rate", "44100")

    def write(self, tracks: dict[str, Any], multitracks: dict[str, Any], version: str) -> None:
        index = {"version": version, "tracks": tracks, "multitracks": multitracks}
        self.index.write_text(json.dumps(index))

    def mapping(self, text: str) -> Path:
        (path := self.folder / "map.toml").write_text(text)
        return path


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(tmp_path, monkeypatch)


def phenicx(room: Room) -> dict[str, Any]:
    """One piece, every instrument in one to four files; returns its stems in 16-bit steps."""
    tracks, truth = {}, {"strings": 0, "winds": 0}
    for instrument, count in VOICES.items():
        names = [instrument] if count == 1 else [f"{instrument}{k + 1}" for k in range(count)]
        entry = {f"audio_{n}": [f"audio/beethoven/{n}.wav", "0" * 32] for n in names}
        for n in names:
            sound = put(room.folder / f"p/audio/beethoven/{n}.wav", noise(len(n), 400, 900), 44100)
            stem = (
                "strings" if instrument in ("violin", "viola", "cello", "doublebass") else "winds"
            )
            truth[stem] = truth[stem] + sound
        for kind, end in (("notes", ""), ("notes_original", "_o")):
            entry[kind] = [f"annotations/beethoven/{instrument}{end}.txt", "0" * 32]
        tracks[f"beethoven-{instrument}"] = entry
    room.write(tracks, {"beethoven": {"tracks": list(tracks)}}, "sample")
    return truth


def test_instruments_of_several_files_are_summed(room: Room) -> None:
    truth = phenicx(room)
    words = ("--dataset", "phenicx_anechoic", "--map", room.mapping(ORCHESTRA), *room.words)
    ((name, record),) = prepared(1, "mirdata", room.folder / "p", *words).items()
    assert (name, record["source"], said(record)) == ("all/beethoven", "beethoven", [])
    check(room.folder / "out", record, truth)
    assert "0 tracks made, 1 kept" in prepare("mirdata", room.folder / "p", *words).stdout
    (room.folder / "p/audio/beethoven/oboe2.wav").unlink()
    assert "1 tracks made, 0 kept" in prepare("mirdata", room.folder / "p", *words).stdout
    record = json.loads((room.folder / "out/manifest.jsonl").read_text())
    assert said(record) == [("audio/beethoven/oboe2.wav", "missing", "mirdata lists it as oboe")]


def test_slakh_by_mirdata_has_the_stems_of_slakh(room: Room) -> None:
    """The same sums as by ``prepare slakh``; splits are mirdata's."""
    pytest.importorskip("yaml")
    home = room.folder / "s"
    truth = published.slakh2100_redux(home / "slakh2100_flac_redux")
    tracks, multitracks = {}, {}
    for name in ("train/Track00001", "train/Track00446", "test/Track01876"):
        folder, track = f"slakh2100_flac_redux/{name}", Path(name).name
        metadata = [f"{folder}/metadata.yaml", "0" * 32]
        parts = []
        for k in range(len(published.TRACK_1)):
            audio = f"{folder}/stems/S{k:02d}.flac"
            # As in the published index, a stem without sound has no file.
            there = audio if (home / audio).is_file() else None
            parts.append(f"{track}-S{k:02d}")
            tracks[parts[-1]] = {"audio": [there, None], "midi": [None, None], "metadata": metadata}
        mix = [f"{folder}/mix.flac", None]
        multitracks[track] = {"tracks": parts, "midi": [None, None], "mix": mix,
                              "metadata": metadata}  # fmt: skip
    room.write(tracks, multitracks, "sample_2100-redux")
    stems = "".join(f'{stem} = ["{stem}"]\n' for stem in published.SOURCES)
    words = ("--dataset", "slakh", "--version", "test_2100-redux", "--map",
             room.mapping(f"[stems]\n{stems}"), *room.words)  # fmt: skip
    records = prepared(2, "mirdata", home, *words, "--splits", "train")
    assert set(records) == {"train/Track00001", "train/Track00446"}
    for name, record in records.items():
        check(room.folder / "out", record, truth[name])
    assert ("Track00446-S00", "unrendered", "mirdata has no file of it") in said(
        records["train/Track00446"]
    )
    (home / "slakh2100_flac_redux/test/Track01876/metadata.yaml").unlink()
    result = prepare("mirdata", home, *words)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"test/Track01876: {home}: Track01876: track metadata for ")
    assert "lacks 1 of 3 tracks" in result.stderr


def test_what_mirdata_does_not_have_is_one_line(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    phenicx(room)
    home, mine = room.folder / "p", room.mapping(ORCHESTRA)

    def refused(*words: str | Path) -> str:
        result = prepare("mirdata", home, "--map", mine, *room.words, *words)
        assert result.exit_code == 1
        assert not (room.folder / "out").exists()
        (line,) = result.stderr.splitlines()
        return line

    line = refused("--dataset", "phenicx")
    assert "mirdata has no data set 'phenicx'; did you mean phenicx_anechoic" in line
    assert "mirdata has no multitracks of orchset" in refused("--dataset", "orchset")
    assert "Invalid version 9" in refused("--dataset", "phenicx_anechoic", "--version", "9")
    line = refused("--dataset", "phenicx_anechoic", "--splits", "train,test")
    assert "phenicx_anechoic has no splits; name one" in line
    room.index.unlink()
    line = refused("--dataset", "phenicx_anechoic")
    assert re.search(r"the index of phenicx_anechoic is missing; fetch it: python -c ", line)
    home = room.folder / "none"
    assert f"{home}: is missing" in refused("--dataset", "phenicx_anechoic")
    home = room.folder / "p"
    monkeypatch.setitem(sys.modules, "mirdata", None)
    assert "pip install 'mgdm_audio[mirdata]'" in refused("--dataset", "phenicx_anechoic")


def test_a_multitrack_without_a_file_of_a_stem_is_a_line(room: Room) -> None:
    phenicx(room)
    for file in (room.folder / "p/audio/beethoven").iterdir():
        file.unlink()
    words = ("--dataset", "phenicx_anechoic", "--map", room.mapping(ORCHESTRA), *room.words)
    result = prepare("mirdata", room.folder / "p", *words)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == (
        f"all/beethoven: {room.folder / 'p'}: beethoven: has no file of strings, winds: "
        f"{sum(VOICES.values())} files that mirdata lists are missing; fetch it again"
    )
    assert np.sum(list(VOICES.values())) == 20  # as in mirdata's sample
