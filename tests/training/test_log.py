"""log.jsonl is JSON line by line, whatever is measured and whatever fails."""

import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mgdm_audio.errors import UserError
from mgdm_audio.training.log import BOARD, LOG, Log, scalars


def strict(folder: Path) -> list[dict[str, object]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    lines = (folder / LOG).read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk, a file's first bytes are written, and the rest is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    Log(tmp_path, 0, True).write(1, {"a": math.nan, "b": {"c": [1.0, -math.inf], "d": math.inf}})
    (record,) = strict(tmp_path)
    assert record.pop("time")
    assert record == {"step": 1, "a": None, "b": {"c": [1.0, None], "d": None}}


def test_the_board_has_the_numbers_alone() -> None:
    record = {"step": 1, "a": {"b": 1.0, "c": [2.0, None]}, "d": None}
    assert scalars(record) == {"step": 1, "a/b": 1.0, "a/c/0": 2.0}


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    log = Log(tmp_path, 0, True)
    log.write(1, {"loss": 1.0})
    before = (tmp_path / LOG).read_bytes()
    refused = pytest.raises(UserError, match=rf"{LOG}: cannot be written \(File too large\); make")
    with largest_file(len(before) + 10), refused:
        log.write(2, {"loss": 1.0})
    assert (tmp_path / LOG).read_bytes() == before


def test_a_board_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = Log(tmp_path, 0, True)
    (events,) = (tmp_path / BOARD).iterdir()
    before = events.read_bytes()
    # The log has the long name once, the board with every number.
    record = {"x" * 50: {str(i): i for i in range(100, 200)}}
    refused = pytest.raises(UserError, match=rf"{BOARD}/.*: cannot be written \(File too large\)")
    with largest_file(3000), refused:
        log.write(1, record)
    assert [line["step"] for line in strict(tmp_path)] == [1]
    assert events.read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / BOARD).touch()
    with pytest.raises(UserError, match=rf"{BOARD}: cannot be written"):
        Log(tmp_path / "other", 0, True)


def test_lines_that_are_none_are_taken_out(tmp_path: Path) -> None:
    good = ['{"step": 1, "loss": 1}', '{"step": 2, "validation": {}}', '{"step": 2, "loss": 1}']
    bad = ["", "{", "[]", '{"step": "1"}', '{"loss": 1}', '{"step": 3}', "[" * 10**5, "\x00\xff"]
    for validated, kept in ((True, good), (False, [good[0], good[2]])):
        (tmp_path / LOG).write_text("\n".join([*good, *bad]) + "\n")
        Log(tmp_path, 2, validated)
        assert (tmp_path / LOG).read_text().splitlines() == kept
