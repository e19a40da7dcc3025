"""Ctrl-C at every moment at which a command touches its output: 130, and nothing half-written."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from tests.toys import STEMS, song

RATE = 22050
STRIDE = 3  # of the moments that are tried, of 20 to 80
MOMENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


class Interrupter:
    """Ctrl-C at moment ``after`` of those that concern ``folder``; ``seen`` counts them."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.after = self.seen = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None or event not in MOMENTS or not arguments:
            return
        path = arguments[0]
        if isinstance(path, bytes | str | os.PathLike) and os.fsdecode(path).startswith(
            self.folder
        ):
            self.seen += 1
            if self.seen == self.after:
                self.folder = None  # while it cleans up, too, it touches the folder
                signal.raise_signal(signal.SIGINT)


interrupter = Interrupter()
sys.addaudithook(interrupter)  # for good: it does nothing until it has a folder


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A track of 2.5 s, enough for a window of the score."""
    track = tmp_path_factory.mktemp("data") / "stems" / "a"
    track.mkdir(parents=True)
    for stem, wave in zip(STEMS, song(1, 4, 5 * RATE // 2, RATE), strict=True):
        write(track / f"{stem}.wav", wave[None] / 4, RATE)
    return track.parent


Arguments = Callable[[Path, Path, Path], list[str | Path]]
QUICK = ["--sampler", "wiener", "--set", "num_steps=1", "--samples", "1", "--device", "cpu"]


def separate(stems: Path, prior: Path, out: Path) -> list[str | Path]:
    track = stems / "a" / "bass.wav"
    return ["separate", track, "-o", out, "--prior", prior, *QUICK]


def sample(stems: Path, prior: Path, out: Path) -> list[str | Path]:
    options = ["--set", "num_steps=2", "--seconds", "1", "--samples", "2", "--device", "cpu"]
    return ["sample", "-o", out, "--prior", prior, *options]


def score(stems: Path, prior: Path, out: Path) -> list[str | Path]:
    out.mkdir(exist_ok=True)
    files = [word for name in ("s.json", "s.md") for word in ("-o", out / name)]
    return ["score", "--reference", stems, "--estimate", stems, *files]


def bench(stems: Path, prior: Path, out: Path) -> list[str | Path]:
    suite = stems.parent / "suite.toml"
    suite.write_text('sets = ["mine"]\nsystems = ["mixture", "oracle-mask"]\ndevice = "cpu"\n')
    return ["bench", suite, "-o", out, "--reference", f"mine={stems}", "--prior", prior]


def prepare(stems: Path, prior: Path, out: Path) -> list[str | Path]:
    mapping = stems.parent / "map.toml"
    mapping.write_text("[stems]\n" + "".join(f'{stem} = ["{stem}"]\n' for stem in STEMS))
    return ["prepare", "stems", stems, "--map", mapping, "-o", out, "--nj", "1"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


SOUNDS = (".wav", ".flac")


@pytest.mark.parametrize("verb", [separate, sample, score, bench, prepare])
def test_ctrl_c_leaves_nothing_half_written(
    verb: Arguments, stems: Path, tiny_prior: Path, tmp_path: Path
) -> None:
    def run(out: Path, after: int = 0) -> int:
        words = [str(word) for word in verb(stems, tiny_prior, out)]
        interrupter.after, interrupter.seen = after, 0
        interrupter.folder = str(out) if after else None
        try:
            result = CliRunner().invoke(main, words)
        finally:
            interrupter.folder = None
        assert result.exit_code == 0 or result.stderr.endswith("interrupted\n"), result.output
        return result.exit_code

    assert run(tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    after, code = 1 - STRIDE, 130
    while code == 130:
        after += STRIDE
        out = tmp_path / f"after {after}"
        code = run(out, after)
        found = contents(out)
        assert found.keys() <= whole.keys()  # no temporary file among them
        assert not [path for path in out.rglob(".*") if path.is_dir() and path.name != ".scores"]
        for name, data in found.items():
            if name.endswith(SOUNDS):
                assert data == whole[name]
            elif name.endswith((".json", ".jsonl")):  # they tell the time it took
                for line in data.splitlines() if name.endswith(".jsonl") else [data]:
                    json.loads(line)
            else:
                assert data.endswith(b"\n")  # a table, perhaps of the rows so far
    assert code == 0
    assert after > 5
    assert found.keys() == whole.keys()
    # After a stop the same command does what is missing.
    stopped = tmp_path / f"after {1 + after // 2 // STRIDE * STRIDE}"
    assert run(stopped) == 0
    again = contents(stopped)
    assert again.keys() == whole.keys()
    assert all(again[name] == whole[name] for name in whole if name.endswith(SOUNDS))


HOOK = """import os, signal, sys

def hook(event, arguments):
    if event == "os.rename" and "out" in str(arguments[0]) and os.getpid() != os.getpgrp():
        os.killpg(0, signal.SIGINT)

sys.addaudithook(hook)
"""


def test_ctrl_c_stops_processes_that_work_in_step(stems: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    for name in "abcd":
        (tmp_path / "tracks").mkdir(exist_ok=True)
        (tmp_path / "tracks" / name).symlink_to(stems / "a")
    out = tmp_path / "out"
    command = prepare(stems, stems, out)
    command[2] = tmp_path / "tracks"
    paths = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-m", "mgdm_audio.cli.main", *command[:-1], "2"],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"
    # Not a file, nor a folder that would be one: a worker was about to give its first its name.
    assert [path for path in out.rglob("*") if path.is_file() or path.name[0] == "."] == []
