"""The harness of recipes/torture.sh finds what it is for; and a small run of it finds nothing."""

import faulthandler
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "recipes/local/torture"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are watched by /proc")
pytest.importorskip("av")
pytest.importorskip("accelerate")


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a part of it."""
    monkeypatch.syspath_prepend(str(LOCAL))
    return import_module


def refuse(path: Path) -> None:
    raise UserError(f"{path}: is damaged; fetch it again")


def ramble(path: Path) -> None:
    raise UserError(f"{path}: is\ndamaged")


def crash(path: Path) -> None:
    faulthandler.disable()  # pytest's would print all stacks
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path: Path) -> None:
    while True:
        pass


def gorge(path: Path) -> None:
    """Takes pages of its own: the process may hold as much that other tests have freed."""
    mmap.mmap(-1, 200_000_000).write(b"x" * 200_000_000)


def stumble(path: Path) -> None:
    raise KeyError("a")


def want_memory(path: Path) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("reader", "outcome"),
    [
        (hash_file, "accepted"),
        (refuse, "refused"),
        (ramble, "foreign"),
        (stumble, "foreign"),
        (crash, "crash"),
        (hang, "hang"),
        (gorge, "memory"),
        (want_memory, "memory"),
    ],
)
def test_what_becomes_of_a_file(
    harness: Any, reader: Any, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate, readers = harness("mutate"), harness("readers")
    (tmp_path / "room/good").mkdir(parents=True)
    for name in ("wav", "x"):
        (tmp_path / "room/good" / name).write_bytes(bytes(range(200)))

    def sometimes(path: Path) -> None:
        """Every file but the second is read as it should be."""
        second = mutate.case(tmp_path / "room", "wav", 1, 0)
        (reader if path.read_bytes() == second else hash_file)(path)

    monkeypatch.setitem(readers.READERS, "wav", (sometimes, "x.wav", ""))
    monkeypatch.setattr(mutate, "SECONDS", 0.2)
    monkeypatch.setattr(mutate, "BYTES", 10**8)
    found = mutate.watched(tmp_path / "room", tmp_path / "scratch", "wav", range(3), 0)
    assert [line[:2] for line in found] == [[0, "accepted"], [1, outcome], [2, "accepted"]]


def test_the_same_number_is_the_same_file(harness: Any, tmp_path: Path) -> None:
    case = harness("mutate").case
    (tmp_path / "good").mkdir()
    good = bytes(range(250)) * 4
    for name in ("wav", "config", "x"):
        (tmp_path / "good" / name).write_bytes(good)
    files = [case(tmp_path, name, n, 0) for name in ("wav", "config") for n in range(50)]
    assert files == [case(tmp_path, name, n, 0) for name in ("wav", "config") for n in range(50)]
    assert len(set(files)) > 90
    assert sum(file == good for file in files) < 5


def test_a_kill_comes_before_the_call(harness: Any, tmp_path: Path) -> None:
    children = harness("children")
    out = tmp_path / "out"

    def work(at: int) -> int:
        children.COUNTER.folder, children.COUNTER.at = str(out), at
        children.COUNTER.seen = 0
        out.mkdir()
        (out / "a").write_text("a")
        (tmp_path / "elsewhere").write_text("no call of the output")
        (out / "a").read_text()  # reading changes nothing
        (out / "a").rename(out / "b")
        return int(children.COUNTER.seen)

    seen = []
    for at in range(1, 5):
        shutil.rmtree(out, ignore_errors=True)
        code = children.wait(children.fork(lambda at=at: work(at)))
        seen.append((code, sorted(p.name for p in out.iterdir()) if out.exists() else None))
    assert seen == [(-9, None), (-9, []), (-9, ["a"]), (3, ["b"])]


def test_what_is_wrong_with_an_output(harness: Any, tmp_path: Path) -> None:
    outputs, out = harness("outputs"), tmp_path / "out"
    (out / "song").mkdir(parents=True)
    stem, record = out / "song/bass.wav", out / "song/separation.json"
    stem.write_bytes(b"bass")
    record.write_text(json.dumps({"seconds": 1.5, "files": {"bass.wav": hash_file(stem)}}))
    (out / ".x.partial").write_bytes(b"half")
    whole = outputs.contents(out)
    assert list(whole) == ["song/bass.wav", "song/separation.json"]
    assert outputs.faults(out, whole, {}, True) == []
    record.write_text(record.read_text().replace("1.5", "2.5"))  # it took another time
    assert outputs.faults(out, whole, {}, True) == []
    assert outputs.litter(out) == 1
    stem.write_bytes(b"bas")
    said = "\n".join(outputs.faults(out, whole, {}, True))
    assert "bass.wav: is of no whole result" in said
    assert "tells of another bass.wav" in said
    assert "another bass.wav" in "\n".join(outputs.faults(out, whole, {}, False))
    stem.unlink()
    assert "is missing" in "\n".join(outputs.faults(out, whole, {}, True))
    (out / "more.wav").write_bytes(b"x")
    assert "more.wav: is in no whole result" in outputs.faults(out, whole, {}, True)
    record.write_text('{"files": ')
    assert outputs.faults(out, whole, {}, False)[0].startswith("half-written: ")


def test_a_training_state_is_the_same_whatever_its_seconds(harness: Any, tmp_path: Path) -> None:
    content = harness("outputs").content
    found = []
    for number, seconds in ((1.0, "1"), (1.0, "2"), (2.0, "1")):
        path = tmp_path / "state.safetensors"
        save_file({"a": torch.tensor([number])}, path, {"elapsed": seconds})
        found.append(content(path))
    assert found[0] == found[1] != found[2]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_small_run_of_all_of_it(tmp_path: Path) -> None:
    """One file of each format, and kills and full disks of two commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", ROOT / "recipes/torture.sh", "--venv", "none", "--exp", tmp_path / "exp"]
    command += ["--cases", "42", "--kills", "4", "--commands", "score;separate"]
    (results := tmp_path / "RESULTS.md").write_text("<!-- torture -->\n<!-- /torture -->\n")
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        [*command, "--results", results], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = results.read_text()
    assert "| all, 42 formats | 42 |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| all | ")]
    killed, timed = (int(cell) for cell in row.split("|")[3:5])
    assert killed + timed == 4
