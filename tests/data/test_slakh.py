"""Which files of a Slakh track sum to which stem, and what is said about the others."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from mgdm_audio.data import slakh
from mgdm_audio.data.plan import LARGEST, Decision, Plan, Source
from mgdm_audio.errors import UserError
from tests.data.data_sets import entry, metadata, noise, put, slakh_tree, small_track

pytest.importorskip("yaml")


def sources(plan: Plan) -> dict[str, list[tuple[str, int | None]]]:
    return {stem: [(s.path, s.program) for s in found] for stem, found in plan.stems.items()}


def test_a_plan_names_every_source_and_every_decision(tmp_path: Path) -> None:
    slakh_tree(tmp_path)
    plan = slakh.plan(tmp_path / "train" / "Track00001")
    assert sources(plan) == {
        "bass": [("stems/S01.wav", 33), ("stems/S08.flac", 39)],
        "drums": [("stems/S04.flac", 33)],
        "guitar": [("stems/S02.flac", 27), ("stems/S03.flac", 30)],
        "piano": [("stems/S00.flac", 0)],
    }
    assert list(plan.decisions) == [
        Decision("metadata.yaml", "ignored", "audio_dir is 'elsewhere', the audio is in stems"),
        Decision("stems/S05.flac", "ignored", "program 48 is of no stem"),
        Decision("stems/S06", "unrendered", "audio_rendered is false"),
        Decision("stems/S07", "missing", "program 5, piano"),
        Decision("stems/S08.wav", "duplicate", "of stems/S08.flac"),
        Decision("stems/S09.flac", "ignored", "not in metadata.yaml"),
    ]


@pytest.mark.parametrize(
    ("program", "stem"),
    [
        *((p, "piano") for p in (0, 7)),
        *((p, "guitar") for p in (24, 31)),
        *((p, "bass") for p in (32, 39)),
        *((p, None) for p in (8, 23, 40, 127)),
    ],
)
def test_programs_decide_and_drums_before_them(
    program: int, stem: str | None, tmp_path: Path
) -> None:
    metadata(tmp_path, {"S00": entry(program), "S01": entry(program, is_drum=True)})
    for name in ("S00", "S01"):
        put(tmp_path / "stems" / f"{name}.flac", noise(0, 10))
    found = sources(slakh.plan(tmp_path))
    assert found.pop("drums") == [("stems/S01.flac", program)]
    assert {k for k, v in found.items() if v} == ({stem} if stem else set())


def test_the_form_of_msdm_has_one_source_a_stem(tmp_path: Path) -> None:
    slakh_tree(tmp_path)
    plan = slakh.plan(tmp_path / "test" / "Track00009")
    assert plan.stems == {
        "bass": (Source("bass.wav"),),
        "drums": (Source("drums.wav"),),
        "guitar": (Source("guitar.wav"),),
        "piano": (),
    }
    assert plan.decisions == ()


def refusal(track: Path) -> str:
    with pytest.raises(UserError) as caught:
        slakh.plan(track)
    assert str(track) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stems: {S00: [unclosed", "is damaged"),
        ("a: &a [*a]\nb: 2020-99-99", "is damaged"),  # a date that does not exist: ValueError
        ("a: &a 1\nb: {<<: [*a, *a]}", "is damaged"),  # aliases: exponentially long, if nested
        # It would be plain YAML of two stems but for the alias.
        ("stems: {S00: &a {program_num: 33}, S01: *a}", "is damaged"),
        ("[" * 100_000, "is damaged"),  # deeper than Python recurses
        ("!!python/object/apply:os.getcwd []", "is damaged"),  # safe YAML makes no objects
        ("\x00", "is damaged"),
        ("", "has no table of stems"),
        ("stems: [S00]", "has no table of stems"),
        ("stems: {}", "has no table of stems"),
        ("stems: {S00: true}", "'S00' is no entry of a stem"),
        ("stems: {0: {}}", "0 is no entry of a stem"),
        ("stems: {../../S00: {program_num: 0}}", "'../../S00' is no entry of a stem"),
        ("stems: {S00: {}}", "program_num is None"),
        ("stems: {S00: {program_num: '33'}}", "program_num is '33'"),
        ("stems: {S00: {program_num: 33, is_drum: 'no'}}", "is_drum is 'no', neither"),
        ("stems: {S00: {audio_rendered: 1}}", "audio_rendered is 1, neither"),
        ("stems: {S00: {program_num: 48}}", "no rendered file of bass, drums, guitar, piano"),
        ("#" * (LARGEST + 1), f"larger than {LARGEST} bytes"),
    ],
    ids=lambda text: text[:20],
)
def test_damaged_metadata_are_named(text: str, why: str, tmp_path: Path) -> None:
    small_track(tmp_path, 0)
    (tmp_path / "metadata.yaml").write_text(text)
    assert why in refusal(tmp_path)


def test_a_track_without_metadata_or_stems_is_named(tmp_path: Path) -> None:
    small_track(tmp_path / "lost", 0)
    (tmp_path / "lost" / "metadata.yaml").unlink()
    assert "metadata.yaml: is missing" in refusal(tmp_path / "lost")
    (tmp_path / "empty").mkdir()
    assert "holds no wav or flac file of bass, drums" in refusal(tmp_path / "empty")


def test_without_pyyaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_track(tmp_path, 0)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserError, match=r"pip install 'mgdm_audio\[data\]'"):
        slakh.plan(tmp_path)


def test_the_tracks_of_mini_slakh_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata that egs/mini_slakh writes, without rendering a song."""
    local = Path(__file__).parents[2] / "egs" / "mini_slakh" / "data" / "local"
    monkeypatch.syspath_prepend(str(local))
    song = import_module("compose").compose(80001, 8.0)
    text = import_module("metadata").dump(song, "0", 1.0, ["font"] * len(song.parts))
    (tmp_path / "metadata.yaml").write_text(text)
    for k in range(len(song.parts)):
        put(tmp_path / "stems" / f"S{k:02d}.flac", noise(k, 10))
    put(tmp_path / "mix.flac", noise(99, 10))
    plan = slakh.plan(tmp_path)
    by_stem = {
        stem: [f"stems/S{k:02d}.flac" for k, part in enumerate(song.parts) if part.stem == stem]
        for stem in slakh.STEMS
    }
    assert {k: [s.path for s in v] for k, v in plan.stems.items()} == by_stem
    assert plan.decisions == ()
