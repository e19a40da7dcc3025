"""A result's folder when several processes write it, and after one was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgdm_audio.output.result_folder import whole


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
