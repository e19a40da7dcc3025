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
from mgdm_audio.evaluation.benchmark.suite import load_suite
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.separator import Separator
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


def test_a_mixture_is_made_again_of_other_stems_alone(
    local: Any, stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any age: other stems of the same names may be older than the mixture."""
    out, old = tmp_path / "mixtures", (10**9, 10**9)

    def run(reference: Path) -> dict[str, bytes]:
        monkeypatch.setattr(sys, "argv", ["mixtures.py", str(reference), str(out)])
        local("mixtures").main()
        return {path.name: path.stat().st_mtime_ns for path in out.glob("*.wav")}

    first = run(stems)
    before = (out / "Track00007.wav").read_bytes()
    shutil.copytree(stems, other := tmp_path / "other")
    for path in other.rglob("*.wav"):
        os.utime(path, old)
    assert run(other) == first  # it would be the same again
    shutil.copy(other / "Track00012/bass.wav", other / "Track00007/bass.wav")
    os.utime(other / "Track00007/bass.wav", (1, 1))
    again = run(other)
    assert again["Track00012.wav"] == first["Track00012.wav"]
    assert (out / "Track00007.wav").read_bytes() != before
    assert run(other) == again


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
    record.write_text(json.dumps(settings | {"files": {"bass.wav": "0"}}))
    assert not is_done(tmp_path, mixture, settings)
    (tmp_path / "bass.wav").touch()
    assert is_done(tmp_path, mixture, settings)
    record.write_text("{")
    assert not is_done(tmp_path, mixture, settings)


def test_estimates_at_other_speeds_are_pending(
    local: Any, tiny_prior: Path, tmp_path: Path
) -> None:
    (mixtures := tmp_path / "mixtures").mkdir()
    write(mixtures / "Track00007.wav", song(7, 1, 2000, RATE), RATE)

    def separate(*overrides: str) -> dict[str, Path]:
        """With the default so changed; what is still to be done with the default as it is."""
        options = {"overrides": overrides, "device": "cpu"}
        separator = Separator.from_pretrained(tiny_prior, "default", **options)
        found = separator.separate(mixtures / "Track00007.wav", seed=7)
        found.save(tmp_path / "estimates" / "Track00007")
        place = (mixtures, tmp_path / "estimates", str(tiny_prior), "default", "rms")
        pending: dict[str, Path] = local("pending").find_pending(*place)
        return pending

    assert list(separate("separation.speeds=[0, 5, -5]")) == ["Track00007"]
    assert not separate()


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
    text = report.table(report.last_validation(log), ["low", "high"])
    assert "| x alone | -3.25 | -3.25 |\n| x alone: low | -1.50 | -1.50 |\n" in text
    assert "| x and the mixture: high | -4.75 | -4.75 |" in text
    assert "step 2" in text
    alone = {"step": 1, "validation": {"prior@1": {"all": -2.0, "sources": [-2.0]}}}
    assert "mixture" not in report.table(alone, ["bass"])


SLAKH = ROOT / "egs/slakh2100"


@pytest.mark.parametrize(
    ("name", "base", "changes"),
    [
        *((f"mgdm-r{r}", "mgdm", {"gibbs_steps": r}) for r in (1, 2, 4, 6)),
        *((f"mgdm-{law}", "mgdm", {"index_law": law}) for law in ("mu0", "uniform", "fixed")),
    ],
)
def test_an_ablation_changes_one_option(name: str, base: str, changes: dict[str, Any]) -> None:
    preset, paper = load_preset(SLAKH / f"msdm/conf/{name}.toml"), load_preset(base)
    assert preset.options == paper.options | changes
    assert (preset.noise_std, preset.draws) == (paper.noise_std, paper.draws)


@pytest.mark.parametrize(
    ("suite", "systems"),
    [
        ("gibbs_steps", ["mgdm-r1", "mgdm-r2", "mgdm-r4", "mgdm-r6"]),
        ("index_law", ["mgdm-r6", "mgdm-mu0", "mgdm-uniform", "mgdm-fixed"]),
    ],
)
def test_a_suite_of_ablations_has_their_presets(suite: str, systems: list[str]) -> None:
    found = load_suite(SLAKH / f"bench/conf/{suite}.toml")
    assert [load_preset(system.source).name for system in found.systems] == systems
    assert [system.name for system in found.systems] == systems
    assert round((found.sets[0].seconds or 0) * RATE) == 2**18


needs_shell = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mgdm-audio").is_file() or not shutil.which("bash"),
    reason="needs the installed package and bash",
)


def recipe(folder: Path, script: str, *options: str | Path, **variables: str) -> Any:
    """The recipe's finished process, run in ``folder`` with the Python of these tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"} | variables
    command = ["bash", ROOT / "recipes" / script, "--venv", "none", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def whole(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder where the recipe went through all stages, into "one", and its options but --exp.

    The data set has the form of MUSDB18: two tracks of 2.5 s, enough for a window of the score.
    """
    root = tmp_path_factory.mktemp("whole") / "my music"
    for number in (7, 12):
        (track := root / f"data/test/Track{number:05d}").mkdir(parents=True)
        for stem, wave in zip(STEMS, song(number, 4, 5 * RATE // 2, RATE), strict=True):
            write(track / f"{stem}.wav", wave[None], RATE)
    stems = "".join(f'{stem} = ["{stem}"]\n' for stem in STEMS)
    (root / "map.toml").write_text(f'splits = ["train", "test"]\n[stems]\n{stems}')
    (root / "conf").mkdir()
    preset = (
        'sampler = "wiener"\ndraws = 2\npublished = "A row, Table 1"\n[options]\nnum_steps = 2\n'
    )
    (root / "conf/quick.toml").write_text(preset)
    (root / "RESULTS.md").write_text("<!-- test -->\n<!-- /test -->\n")
    options = ["--source", "data", "--form", "stems --map map.toml", "--prior", str(tiny_prior)]
    options += ["--samplers", "quick", "--presets", "conf", "--device", "cpu"]
    done = recipe(root, "separate.sh", *options, "--exp", "one", "--results", "RESULTS.md")
    assert done.returncode == 0, done.stdout + done.stderr
    return root, options


@needs_shell
def test_the_whole_recipe_and_nothing_twice(whole: tuple[Path, list[str]]) -> None:
    root, options = whole
    table = [line for line in (root / "RESULTS.md").read_text().splitlines() if "|" in line]
    rows = {line.split("|")[1].strip(): line for line in table}
    assert rows["mixture, shared equally"].count("| 0.00 ± 0.00 ") == 5
    assert rows["quick"].endswith(" 2 | 0 / 4 | A row, Table 1 |")
    assert rows["static Wiener split"].endswith(" - | - | none |")
    assert {"static Wiener split", "oracle ratio mask"} <= rows.keys()
    record = root / "one/test/estimates/quick/Track00012/separation.json"
    assert json.loads(record.read_text())["seed"] == 12

    def times() -> dict[Path, int]:
        files = [p for p in root.rglob("*") if p.is_file() and p.suffix not in (".md", ".jsonl")]
        return {path: path.stat().st_mtime_ns for path in files}

    first = times()
    done = recipe(root, "separate.sh", *options, "--exp", "one", "--results", "RESULTS.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert times() == first


KILL = """import os, signal, sys

def hook(event, arguments):
    if event == os.environ["KILL_AT"] and "quick" in str(arguments):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


@needs_shell
def test_two_processes_one_of_them_killed_make_the_same_bytes_as_one(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, options = whole
    (tmp_path / "sitecustomize.py").write_text(KILL)
    shutil.copytree(root / "one", root / "two")
    shutil.rmtree(root / "two/test/scores")
    shutil.rmtree(estimates := root / "two/test/estimates/quick")

    def rank(number: int, **variables: str) -> Any:
        ranks = {"RANK": str(number), "WORLD_SIZE": "2"} | variables
        return recipe(root, "separate.sh", *options, "--exp", "two", "--stage", "3", **ranks)

    # As the folder is made, and before it gets its final name.
    for moment in ("os.mkdir", "os.rename"):
        killed = rank(0, KILL_AT=moment, PYTHONPATH=str(tmp_path))
        assert killed.returncode != 0
        assert not (estimates / "Track00007/separation.json").exists()
    first = rank(0)
    assert first.returncode == 0, first.stdout + first.stderr
    ends = f"who ends last also scores ({Path('two/test/estimates/quick')}: lacks Track00012;"
    assert f"share 1/2 is separated; {ends}" in first.stdout
    assert not (root / "two/test/scores").exists()
    alone = recipe(root, "separate.sh", *options, "--exp", "two", "--stage", "4")
    assert (alone.returncode, alone.stdout) == (2, "")
    refusal = f"error: {Path('two/test/estimates/quick')}: lacks Track00012; separate them first\n"
    assert alone.stderr == refusal
    last = rank(1)
    assert last.returncode == 0, last.stdout + last.stderr
    results = [*(root / "one").rglob("*.wav"), *(root / "one").rglob("uncertainty.json")]
    results += (root / "one/test/scores").glob("*.json")
    # 2 tracks x (a mixture, 4 stems of 4 systems, the spread of one's draws), scores of 4 systems.
    assert len(results) == 2 * (1 + 4 * 4 + 1) + 4
    for path in results:
        assert (root / "two" / path.relative_to(root / "one")).read_bytes() == path.read_bytes()


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
