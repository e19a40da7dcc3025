"""One bar with the time left, and none where there is no terminal."""

import io
import sys

import pytest

from mgdm_audio.cli.options import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("song.wav") as move:
        move(1, 4)
        move(4, 4)
    drawn = [text for text in terminal.getvalue().split("\r") if text.strip()]
    half, last = (next(s for s in drawn if share in s) for share in (" 25 %", "100 %"))
    assert half.startswith("song.wav  25 % |")
    assert " < " in half
    assert last.startswith("song.wav 100 % |")
    assert terminal.getvalue().count("\n") == 1


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", file := io.StringIO())
    with progress("song.wav") as move:
        move(1, 4)
    assert file.getvalue() == ""
