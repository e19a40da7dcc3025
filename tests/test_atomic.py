"""Files and folders are there whole or not at all."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mgdm_audio import atomic
from mgdm_audio.atomic import new_folder, replace_folder, room, write_by, write_text
from mgdm_audio.errors import UserError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "zwölf")
    assert (tmp_path / "a").read_bytes() == "zwölf".encode()
    assert os.listdir(tmp_path) == ["a"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    write_text(tmp_path / "a", "old")
    with pytest.raises(UserError, match=r"a: cannot be written \(No space left on device\)"):
        write_by(tmp_path / "a", fail)
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_library_that_makes_private_files_does_not_change_the_mode(tmp_path: Path) -> None:
    def private(partial: Path) -> None:
        partial.unlink()
        partial.touch(mode=0o600)

    (tmp_path / "usual").touch()
    write_by(tmp_path / "a", private)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "usual")]
    assert modes[0] == modes[1]


def test_a_file_in_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; make it first"):
        write_text(tmp_path / "none" / "a", "x")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as partial:
        (partial / "a").write_text("x")
        assert not out.exists()
    assert (out / "a").read_text() == "x"
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize("error", [OSError(28, "full"), UserError("no"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_finished_is_gone(tmp_path: Path, error: BaseException) -> None:
    def half() -> None:
        with new_folder(tmp_path / "out") as partial:
            (partial / "a").write_text("x")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        half()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"), new_folder(tmp_path):
        pass
    with pytest.raises(UserError, match="cannot be written"), new_folder(Path("/dev/null/out")):
        pass


def test_two_at_work_for_one_purpose_do_not_meet(tmp_path: Path) -> None:
    with room(tmp_path, "song") as one, room(tmp_path, "song") as other:
        assert one != other
        (one / "a").write_text("1")
        assert list(other.iterdir()) == []
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_goes_and_what_others_work_in_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os, sys; from mgdm_audio.atomic import room; from pathlib import Path\n"
    code += "with room(Path(sys.argv[1]), 'song'), room(Path(sys.argv[1]), 'other'): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    with room(tmp_path, "song") as mine:
        atomic.sweep(tmp_path, "song")
        assert mine.is_dir()
        # Of the two that were left, one is of another purpose.
        assert len(list(tmp_path.iterdir())) == 2
    (theirs,) = tmp_path.iterdir()
    # On another machine nobody can tell whether its process is alive: a week must have gone by.
    monkeypatch.setattr(atomic, "_host", lambda: "0" * 8)
    atomic.sweep(tmp_path, "other")
    assert theirs.is_dir()
    os.utime(theirs, (0, 0))
    atomic.sweep(tmp_path, "other")
    assert not theirs.exists()


def test_a_folder_replaces_the_one_that_another_process_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new := tmp_path / "new").mkdir()
    (new / "a").write_text("mine")
    (there := tmp_path / "there").mkdir()
    (there / "b").write_text("old")
    remove, again = shutil.rmtree, iter([True])

    def interfere(path: Path) -> None:
        remove(path)
        if next(again, False):
            path.mkdir()
            (path / "c").write_text("theirs")

    monkeypatch.setattr(shutil, "rmtree", interfere)
    replace_folder(new, there)
    assert os.listdir(there) == ["a"]
    assert os.listdir(tmp_path) == ["there"]
