"""What a training run writes down: log.jsonl, and the same numbers for tensorboard."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mgdm_audio import atomic
from mgdm_audio.reading import parse

LOG, BOARD = "log.jsonl", "tensorboard"
VALIDATION = "validation"


class Log:
    """``write`` appends a line of JSON to log.jsonl, whole or not at all.

    Without tensorboard, there is no folder of it. Raises UserError, in one line, where one of the
    two cannot be written: what is there already stays as it is.
    """

    def __init__(self, folder: Path, step: int, validated: bool) -> None:
        """Of a run that goes on from ``step``. The log becomes that of a run that never stopped.

        What a killed one wrote after ``step`` is written again, and taken out here. ``validated``:
        whether a validation at ``step`` stays; the one at the end of a schedule that now is longer
        does not.
        """
        self.path = folder / LOG
        self._forget(step, validated)
        self._board = _Board(folder / BOARD, step + 1) if find_spec("tensorboard") else None

    def write(self, step: int, record: dict[str, Any]) -> None:
        """A number that is none, of an energy that is 0 say, is null."""
        record, now = _numbers(record), time.time()
        line = json.dumps({"step": step, "time": round(now, 1)} | record)
        _append(self.path, f"{line}\n".encode())
        if self._board is not None:
            self._board.write(step, now, scalars(record))

    def _forget(self, step: int, validated: bool) -> None:
        if not self.path.exists():
            return
        with atomic.writing(self.path):
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        last = {
            False: step,
            True: step if validated else step - 1,
        }  # by whether a line is a validation
        kept = [line for line in lines if _step_of(line) <= last[f'"{VALIDATION}"' in line]]
        if kept != lines:
            atomic.write_text(self.path, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Infinity for a line that is none of ours."""
    try:
        step = parse(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
    return step if isinstance(step, int) else math.inf


def _numbers(value: Any) -> Any:
    """The same with None for each number that is not finite."""
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """{"a": {"b": 1, "c": [2, None, 3]}} -> {"a/b": 1, "a/c/0": 2, "a/c/2": 3}"""
    result: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, list):
            value = {str(i): v for i, v in enumerate(value)}
        if isinstance(value, dict):
            result |= {f"{name}/{key}": v for key, v in scalars(value).items()}
        elif value is not None:
            result[name] = value
    return result


class _Board:
    """A file of tensorboard's events.

    Its own writer has a thread, which says in many lines what it cannot write.
    """

    def __init__(self, folder: Path, first: int) -> None:
        """``first``: the step from which on what other files say is out of date."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        with atomic.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            there = len(list(folder.iterdir()))
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{there}"
        self.path = folder / name
        self._append(
            Event(wall_time=now, step=first, file_version="brain.Event:2"),
            Event(wall_time=now, step=first, session_log=SessionLog(status=SessionLog.START)),
        )

    def write(self, step: int, now: float, values: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        each = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append(Event(wall_time=now, step=step, summary=Summary(value=each)))

    def _append(self, *events: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        data = io.BytesIO()
        for event in events:
            RecordWriter(data).write(event.SerializeToString())
        _append(self.path, data.getvalue())


def _append(path: Path, data: bytes) -> None:
    """All of it or nothing. UserError."""
    with atomic.writing(path):
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                file.write(data)
        except OSError:
            if path.exists():
                os.truncate(path, size)
            raise
