"""A result's folder when several processes write it, and after one was killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgdm_audio.errors import UserError
from mgdm_audio.output.result_folder import spare, whole
from tests.killing import killed_at_every_moment


def files(folder: Path) -> dict[str, str]:
    """Everything below it, hidden files too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_two_processes_that_make_the_same_result_leave_one(tmp_path: Path) -> None:
    """Neither finds a folder when it begins; the second one to end does."""
    final = tmp_path / "song"
    with whole(final, "record.json") as first:
        (first / "bass.wav").write_text("bass")
        with whole(final, "record.json") as second:
            assert first != second
            for name in ("bass.wav", "record.json"):
                (second / name).write_text(name)
        (first / "record.json").write_text("record")
    assert files(tmp_path) == {"song/bass.wav": "bass", "song/record.json": "record"}


@pytest.mark.parametrize("before", [False, True])  # there was a folder when it was killed
def test_what_a_killed_process_left_is_gone_with_the_next_result(
    tmp_path: Path, before: bool
) -> None:
    code = "import os, sys; from mgdm_audio.output.result_folder import whole\n"
    code += "from pathlib import Path\n"
    code += "with whole(Path(sys.argv[1]), 'record.json') as partial:\n"
    code += "    (partial / 'half').touch(); os._exit(9)"
    final = tmp_path / "song"
    if before:
        final.mkdir()
    subprocess.run([sys.executable, "-c", code, final], check=False)
    (left,) = files(tmp_path)
    assert left.endswith(".partial/half")
    assert left.startswith("song/") == before
    final.mkdir(exist_ok=True)
    with whole(final, "record.json") as partial:
        (partial / "record.json").write_text("record")
    assert files(tmp_path) == {"song/record.json": "record"}
    assert os.listdir(tmp_path) == ["song"]


def test_a_folder_that_another_process_makes_in_the_last_moment_is_merged_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether it is there and the rename."""
    final, replace = tmp_path / "song", os.replace

    def interfere(source: Path, target: Path) -> None:
        if target == final:
            final.mkdir()
            (final / "notes").write_text("theirs")
        replace(source, target)

    monkeypatch.setattr(os, "replace", interfere)
    with whole(final, "record.json") as partial:
        (partial / "record.json").write_text("record")
    assert files(tmp_path) == {"song/notes": "theirs", "song/record.json": "record"}


def test_where_one_file_cannot_be_replaced_none_is(tmp_path: Path) -> None:
    """A folder has a stem's name: the old result stays, its record too."""
    final = tmp_path / "song"
    put(final, ("bass", "drums"), "old")
    (final / "piano").mkdir()
    before = files(tmp_path)
    with pytest.raises(UserError, match="a folder is in the way"):
        put(final, ("bass", "piano"), "new")
    assert files(tmp_path) == before


def test_files_of_a_record_outside_its_folder_are_spared(tmp_path: Path) -> None:
    """A record may come from anywhere, and list anything."""
    (tmp_path / "theirs").write_text("theirs")
    final = tmp_path / "song"
    final.mkdir()
    with whole(final, "record.json", lambda folder: [folder / "../theirs", folder / "old"]) as new:
        (new / "record.json").write_text("record")
    assert files(tmp_path) == {"theirs": "theirs", "song/record.json": "record"}


def test_a_name_that_is_too_long_is_known_before_anything_is_computed(tmp_path: Path) -> None:
    """POSIX: 255 bytes on almost every file system."""
    with pytest.raises(UserError, match="the name is too long; choose a shorter one"):
        spare([tmp_path / "b.wav", tmp_path / ("ü" * 126 + ".wav")], [])
    spare([tmp_path / ("ü" * 125 + ".wav")], [])


def listed(folder: Path) -> list[Path]:
    """The files that the record there lists."""
    record = folder / "record.json"
    return [folder / name for name in json.loads(record.read_text())] if record.is_file() else []


def put(final: Path, names: tuple[str, ...], text: str) -> None:
    with whole(final, "record.json", listed) as fresh:
        for name in names:
            (fresh / name).write_text(text)
        (fresh / "record.json").write_text(json.dumps(dict.fromkeys(names, text)))


@pytest.mark.parametrize("mine", [False, True])  # with a file of the user's: it is merged into
def test_a_record_never_describes_files_that_are_not_its_own(tmp_path: Path, mine: bool) -> None:
    """At no moment: it goes before the first file of the old result, and comes after the last."""
    final, seen = tmp_path / "song", set()

    def prepare() -> None:
        put(final, ("bass", "drums"), "old")
        if mine:
            (final / "notes").write_text("mine")

    for _ in killed_at_every_moment(lambda: put(final, ("bass", "piano"), "new"), final, prepare):
        if (final / "record.json").is_file():
            record = json.loads((final / "record.json").read_text())
            assert {name: (final / name).read_text() for name in record} == record
            seen.add(tuple(record.items()))
        assert not mine or (final / "notes").read_text() == "mine"
    old, new = {"bass": "old", "drums": "old"}, {"bass": "new", "piano": "new"}
    assert seen == {tuple(old.items()), tuple(new.items())}
    names = {"bass", "piano", "record.json", *(["notes"] if mine else [])}
    assert {path.name for path in final.iterdir()} == names  # "drums" was of the old result
