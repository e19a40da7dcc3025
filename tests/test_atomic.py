"""Files and folders are there whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from mgdm_audio.atomic import new_folder, write_by, write_text
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
