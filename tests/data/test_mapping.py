"""Mappings: which of a track's files sum to which stem."""

import json
from pathlib import Path

import pytest

from mgdm_audio.data.mapping import Mapping, bundled, load_mapping, plan
from mgdm_audio.data.plan import Decision, Source
from mgdm_audio.errors import UserError
from tests.data.data_sets import noise, put


def files(track: Path, *names: str) -> None:
    for k, name in enumerate(names):
        put(track / name, noise(k, 10))


def paths(mapping: Mapping, track: Path) -> dict[str, list[str]]:
    return {stem: [s.path for s in found] for stem, found in plan(mapping, track).stems.items()}


def test_patterns_choose_files_by_name_and_folder(tmp_path: Path) -> None:
    files(tmp_path, "bass.wav", "Guitar L.flac", "Guitar R.WAV", "keys/b/organ.wav", "take 2.wav")
    files(tmp_path, ".bass.wav", ".old/bass.wav")
    (tmp_path / "bass.txt").write_text("no sound")
    mapping = Mapping({"bass": ["bass"], "guitar": ["Guitar ?"], "keys": ["keys/*"], "harp": ["h"]})
    assert paths(mapping, tmp_path) == {
        "bass": ["bass.wav"],
        "guitar": ["Guitar L.flac", "Guitar R.WAV"],
        "keys": ["keys/b/organ.wav"],
        "harp": [],
    }
    assert plan(mapping, tmp_path).decisions == (
        Decision("take 2.wav", "ignored", "matches no stem"),
    )


def test_of_a_file_in_two_forms_the_flac_is_taken(tmp_path: Path) -> None:
    files(tmp_path, "bass.flac", "bass.wav", "bass.FLAC")
    found = plan(Mapping({"bass": ["bass"]}), tmp_path)
    assert found.stems == {"bass": (Source("bass.FLAC"),)}
    assert found.decisions == (
        Decision("bass.flac", "duplicate", "of bass.FLAC"),
        Decision("bass.wav", "duplicate", "of bass.FLAC"),
    )


def test_a_file_of_two_stems_and_a_track_of_none_are_refused(tmp_path: Path) -> None:
    files(tmp_path, "bass.wav")
    with pytest.raises(UserError, match=r"bass.wav: matches low and all; mend the mapping"):
        plan(Mapping({"low": ["bass"], "all": ["*"]}), tmp_path)
    with pytest.raises(UserError, match=r"no wav or flac file of drums"):
        plan(Mapping({"drums": ["drums"]}), tmp_path)


def test_musdb18_is_a_file_a_stem(tmp_path: Path) -> None:
    files(tmp_path, "bass.wav", "drums.wav", "mixture.wav", "other.wav", "vocals.wav")
    mapping = load_mapping("musdb18")
    assert mapping.splits == ("train", "test")
    stems = ("bass", "drums", "other", "vocals")
    assert paths(mapping, tmp_path) == {stem: [f"{stem}.wav"] for stem in stems}
    assert plan(mapping, tmp_path).decisions == ()  # a mixture is none of the stems: no remark


def test_moisesdb_is_what_its_listing_says(tmp_path: Path) -> None:
    """The form of data.json as the data set's own reader takes it (moisesdb 0.1)."""
    files(tmp_path, "bass/11.wav", "piano/22.wav", "wind/33.wav", "other_keys/44.wav")
    files(tmp_path, "piano/99.wav")
    parts = {"bass": ["11"], "piano": ["22", "55"], "wind": ["33"], "other_keys": ["44"]}
    listing = [
        {"stemName": stem, "tracks": [{"id": i, "extension": "wav", "trackType": "x"} for i in ids]}
        for stem, ids in parts.items()
    ]
    (tmp_path / "data.json").write_text(json.dumps({"song": "a", "stems": listing}))
    mapping = load_mapping("moisesdb")
    assert mapping.splits == ()
    assert {k: v for k, v in paths(mapping, tmp_path).items() if v} == {
        "bass": ["bass/11.wav"],
        "piano": ["piano/22.wav"],
        "other": ["other_keys/44.wav", "wind/33.wav"],
    }
    assert plan(mapping, tmp_path).decisions == (
        Decision("piano/55", "missing", "data.json lists it"),
        Decision("piano/99.wav", "ignored", "data.json does not list it"),
    )
    for text in ("{", "[]", '{"stems": 3}', '{"stems": [{"stemName": "bass"}]}', "[" * 100000):
        (tmp_path / "data.json").write_text(text)
        with pytest.raises(UserError, match=r"data.json: is no listing"):
            plan(mapping, tmp_path)
    (tmp_path / "data.json").unlink()
    with pytest.raises(UserError, match=r"data.json: cannot be read"):
        plan(mapping, tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[stems]", "stems: name at least one"),
        ("splits = ['a']", "missing key 'stems'"),
        ("stem = {bass = ['b']}", "unknown key 'stem'; did you mean stems"),
        ("[stems]\nbass = 'bass'", r"stems.bass: give a list of patterns, say \['bass/\*'\]"),
        ("[stems]\nbass = []", "stems.bass: give a list"),
        ("[stems]\nbass = [1]", "stems.bass: a pattern is a string"),
        ("[stems]\n'a/b' = ['b']", "'a/b' cannot be the name of a stem"),
        ("[stems]\n'' = ['b']", "'' cannot be the name of a stem"),
        ("[stems]\n'..' = ['b']", "'..' cannot be the name of a stem"),
        ("[stems]\nmixture = ['b']", "'mixture' cannot be the name of a stem"),
        (
            "listing = 'data.json'\n[stems]\nbass = ['b']",
            "listing = 'data.json': use one of moises",
        ),
        ("[stems", "not TOML"),
    ],
)
def test_a_wrong_mapping_is_one_line(text: str, why: str, tmp_path: Path) -> None:
    (path := tmp_path / "my.toml").write_text(text)
    with pytest.raises(UserError, match=why) as caught:
        load_mapping(str(path))
    assert str(path) in str(caught.value)


def test_names_are_those_of_the_package_or_files(tmp_path: Path) -> None:
    assert bundled() == ("medleydb", "moisesdb", "moisesdb-drums", "musdb18")
    for name in bundled():
        load_mapping(name)
    with pytest.raises(
        UserError, match=r"no mapping 'musdb', nor a .toml file; did you mean musdb18"
    ):
        load_mapping("musdb")
    with pytest.raises(UserError, match="cannot be read"):
        load_mapping(str(tmp_path / "none.toml"))
