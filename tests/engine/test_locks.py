"""A folder is for one process at a time."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgdm_audio.engine.locks import LOCK, lock
from mgdm_audio.errors import UserError


def test_a_second_one_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock(folder, "training there"):
        holder = rf"process {os.getpid()} on .* is training there"
        with pytest.raises(UserError, match=holder), lock(folder, "training there"):
            pass
        with lock(tmp_path / "other", "training there"):
            pass
    with lock(folder, "training there"):
        pass
    assert list(folder.iterdir()) == []


def test_one_that_was_killed_keeps_nobody_out(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from mgdm_audio.engine.locks import lock\n"
    code += "with lock(Path(sys.argv[1]), 'there'): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert (tmp_path / LOCK).exists()
    with lock(tmp_path, "there"):
        assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on ")


def test_a_file_that_its_holder_removed_meanwhile_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened before and locked after: who comes next would open another file."""
    flock, once = fcntl.flock, iter([True])

    def late(file: object, how: int) -> None:
        if next(once, False):
            (tmp_path / LOCK).unlink()
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    refused = pytest.raises(UserError, match="is there")
    with lock(tmp_path, "there"), refused, lock(tmp_path, "there"):
        pass


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: object, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with lock(tmp_path, "there"), lock(tmp_path, "there"):
        pass


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(UserError, match=r"file: cannot be written")
    with refused, lock(tmp_path / "file", "there"):
        pass
