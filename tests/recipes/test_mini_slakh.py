"""egs/mini_slakh from the composition of its songs to the table, on two of them."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.io import read
from tests.recipes.test_scripts import ROOT, needs_shell
from tests.toys import STEMS

SONGS = ("Track80000", "Track80001")
SECONDS = 5  # of a song: the score has windows of 4 s every 2 s


def sources(track: Path, stem: str) -> list[Path]:
    """By the programs in the metadata of a track in Slakh's form."""
    programs = {"bass": range(32, 40), "guitar": range(24, 32), "piano": range(8)}
    entries = import_module("yaml").safe_load((track / "metadata.yaml").read_text())["stems"]
    return [
        track / "stems" / f"{name}.flac"
        for name, entry in entries.items()
        if (stem == "drums" if entry["is_drum"] else entry["program_num"] in programs.get(stem, ()))
    ]


@needs_shell
def test_two_songs_from_nothing_to_the_table(tmp_path: Path) -> None:
    """Of the validation split, whose SoundFont comes with a Python package."""
    pytest.importorskip("midirenderer")
    spec = find_spec("pretty_midi")
    assert spec is not None
    assert spec.origin is not None
    source, data = ROOT / "egs/mini_slakh/data", tmp_path / "data"
    for part in ("conf", "local"):
        shutil.copytree(source / part, data / part)
    shutil.copy(source / "run.sh", data)
    (data / "soundfonts").mkdir()
    (data / "soundfonts/TimGM6mb.sf2").symlink_to(Path(spec.origin).parent / "TimGM6mb.sf2")
    (results := tmp_path / "RESULTS.md").write_text("<!-- validation -->\n<!-- /validation -->\n")
    songs = f"--stage 1 --train 0 --validation 2 --test 0 --seconds {SECONDS} --stop_stage 1"
    command = ["bash", ROOT / "egs/mini_slakh/separate/run.sh", "--venv", "none", "--nj", "1"]
    command += ["--data", data, "--data-options", songs, "--split", "validation"]
    command += ["--exp", tmp_path / "exp", "--results", results, "--device", "cpu"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr

    exp = tmp_path / "exp/validation"
    scores = json.loads((exp / "scores/default.json").read_text())
    assert tuple(scores["tracks"]) == SONGS
    assert scores["tracks"][SONGS[0]]["windows"] == 2
    (row,) = [line for line in results.read_text().splitlines() if line.startswith("| default ")]
    mean = scores["summary"]["si_sdri"]["all"]
    assert re.search(rf"\| {mean:.2f} ± ", row)
    for song in SONGS:
        mixture = read(exp / f"mixtures/{song}.wav").samples
        made = data / "out/validation" / song
        truth = [read(data / f"out/stems/validation/{song}/{s}.wav").samples for s in STEMS]
        estimates = [exp / f"estimates/default/{song}/{s}.wav" for s in (*STEMS, "other")]
        found = [read(path).samples for path in estimates]
        for stem, wave in zip(STEMS, truth, strict=True):
            # 16-bit integers, whose sums are exact.
            assert torch.equal(wave, sum(read(path).samples for path in sources(made, stem)))
        # The mixture is rounded to float32 once, each of the four estimates too: 2^-24 of what is
        # below 2 for each, and as much again for their sum.
        assert (torch.stack(truth).double().sum(0) - mixture).abs().max() <= 2**-24
        assert (torch.stack(found).double().sum(0) - mixture).abs().max() <= 8 * 2**-24
