"""The recipes' own Python: exact answers, and what is up to date."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mgdm_audio.audio.io import read, write
from tests.toys import STEMS, song

ROOT = Path(__file__).parents[2]
RATE = 22050


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a script of recipes/local."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "local"))

    def load(name: str) -> ModuleType:
        return import_module(name)

    return load


@pytest.fixture
def stems(tmp_path: Path) -> Path:
    """Two tracks of four 16-bit stems, 3 s."""
    root = tmp_path / "my stems"
    for number in (7, 12):
        (track := root / f"Track{number:05d}").mkdir(parents=True)
        for stem, wave in zip(STEMS, song(number, 4, 3 * RATE, RATE), strict=True):
            write(track / f"{stem}.wav", wave[None], RATE)
    return root


def test_a_mixture_is_the_exact_sum_even_beyond_full_scale(
    local: Any, stems: Path, tmp_path: Path
) -> None:
    files = sorted((stems / "Track00007").iterdir())
    local("mixtures").mix(files, tmp_path / "mix.wav")
    mixture = read(tmp_path / "mix.wav").samples
    assert mixture.abs().max() > 1
    assert torch.equal(mixture.double(), sum(read(file).samples.double() for file in files))


@pytest.mark.parametrize(
    ("track", "seed"),
    [("Track02098", 2098), ("a song", 0), ("0", 0), ("1 of 2", 12), ("9" * 30, 999_999_999)],
)
def test_the_seed_is_the_number_in_the_name(local: Any, track: str, seed: int) -> None:
    assert local("pending").track_number(track) == seed


def test_an_estimate_is_done_if_it_is_newer_and_made_alike(local: Any, tmp_path: Path) -> None:
    is_done, settings = local("pending").is_done, {"seed": 1, "options": {"num_steps": 3}}
    (mixture := tmp_path / "song.wav").touch()
    os.utime(mixture, (100, 100))
    (record := tmp_path / "separation.json").write_text(json.dumps(settings | {"device": "cpu"}))
    assert is_done(tmp_path, mixture, settings)
    assert not is_done(tmp_path, mixture, settings | {"seed": 2})
    assert not is_done(tmp_path, mixture, settings | {"prior_sha256": "0"})
    assert not is_done(tmp_path / "none", mixture, settings)
    os.utime(record, (99, 99))
    assert not is_done(tmp_path, mixture, settings)
    record.write_text("{")
    assert not is_done(tmp_path, mixture, settings)


def test_only_the_block_of_that_name_is_renewed(local: Any, tmp_path: Path) -> None:
    renew, page = local("block").renew, tmp_path / "RESULTS.md"
    text = "# A\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\nkept\n<!-- /b -->\n"
    page.write_text(text)
    assert not renew(page, "c", "new")
    assert not renew(tmp_path / "none.md", "a", "new")
    assert page.read_text() == text
    for _ in range(2):
        assert renew(page, "a", "new\n")
        assert page.read_text() == text.replace("old", "\nnew\n")
    assert not (tmp_path / "none.md").exists()


def test_the_validation_table_is_of_the_last_validation(local: Any, tmp_path: Path) -> None:
    report = local("training_report")
    error = {"all": -3.25, "sources": [-1.5, -4.75]}
    values = {f"{mode}@{s}": error for mode in ("prior", "given") for s in ("0.1", "1")}
    lines = [{"step": 1, "validation": {}}, {"step": 2, "validation": values}, {"step": 3}]
    (log := tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"st')
    text = report.table(report.last_validation(log))
    assert [text.count(value) for value in ("-3.25", "-1.50", "-4.75")] == [4, 4, 4]
    assert "step 2" in text


needs_shell = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mgdm-audio").is_file() or not shutil.which("bash"),
    reason="needs the installed package and bash",
)


@needs_shell
def test_the_whole_recipe_and_nothing_twice(stems: Path, tiny_prior: Path, tmp_path: Path) -> None:
    sampler = tmp_path / "quick.toml"
    sampler.write_text('sampler = "wiener"\ndraws = 1\n[options]\nnum_steps = 2\n')
    (results := tmp_path / "RESULTS.md").write_text("<!-- my stems -->\n<!-- /my stems -->\n")
    command = ["bash", ROOT / "recipes/separate.sh", "--venv", "none", "--reference", stems]
    command += ["--exp", tmp_path / "ex p", "--prior", tiny_prior, "--samplers", sampler]
    command += ["--results", results, "--device", "cpu"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}

    def run() -> dict[Path, int]:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return {
            p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p != results
        }

    first = run()
    rows = {
        line.split("|")[1].strip(): line for line in results.read_text().splitlines() if "|" in line
    }
    assert rows["mixture, shared equally"].count("| 0.00 ± 0.00 ") == 5
    assert rows["quick"].endswith(" 1 | 0 / 2 |")
    assert {"static Wiener split", "oracle ratio mask"} <= rows.keys()
    assert (
        json.loads(
            (tmp_path / "ex p/my stems/estimates/quick/Track00012/separation.json").read_text()
        )["seed"]
        == 12
    )
    assert run() == first


@needs_shell
def test_the_bench_recipe_fills_its_block(stems: Path, tiny_prior: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text('sets = ["mine"]\nsystems = ["mixture", "oracle-mask"]\ndevice = "cpu"\n')
    shutil.copytree(stems, tmp_path / "stems")  # words: no space in it
    (results := tmp_path / "RESULTS.md").write_text("<!-- suite -->\n<!-- /suite -->\n")
    command = ["bash", ROOT / "recipes/bench.sh", "--venv", "none", "--suite", suite]
    command += ["--references", f"mine={tmp_path / 'stems'}", "--exp", tmp_path / "ex p"]
    command += ["--prior", tiny_prior, "--results", results]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results.read_text().count("| 0.00 ± 0.00 ") == 5
    assert "| oracle-mask |" in results.read_text()
