"""The recipe that trains priors over small pictures and compares the samplers on them."""

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import png
from mgdm_audio.images.restorer import Restorer
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_unet

ROOT = Path(__file__).parents[2]
SUITE = """
prior = "toy"
[tasks]
sr4 = {}
blur = { std = 1.0 }
phase_retrieval = {}
[systems.pgdm]
preset = "pgdm"
set = ["num_steps=4"]
[systems.dps]
preset = "dps"
set = ["num_steps=4"]
at = { blur = ["num_steps=5"] }
[systems.psld]
preset = "psld"
set = ["num_steps=3"]
only = ["sr4"]
"""


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports a script of recipes/local."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "local"))
    return import_module


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (folder := tmp_path / "images").mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in "abc":
        x = 2 * torch.rand(1, 12, 12, generator=generator) - 1
        (folder / f"{name}.png").write_bytes(png(x))
    return folder


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    save_trained(tmp_path / "toy", tiny_unet(1), NoiseSchedule.linear(), (12, 12))
    (path := tmp_path / "suite.toml").write_text(SUITE.replace("toy", str(tmp_path / "toy")))
    return path


def bench(local: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["restore_bench.py", *map(str, arguments)])
    local("restore_bench").main()


def test_every_cell_is_written_once_and_tabulated(
    local: Any, suite: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    bench(local, monkeypatch, suite, images, "-o", out)
    said = capsys.readouterr().out
    assert "phase_retrieval      pgdm             left out: PGDM needs a LinearOperator" in said
    assert "sr4                  psld             left out: PSLD needs a latent Prior" in said
    written = {str(path.relative_to(out)) for path in out.glob("*/*.json")}
    assert written == {"sr4/pgdm.json", "sr4/dps.json", "blur/pgdm.json", "blur/dps.json",
                       "phase_retrieval/dps.json"}  # fmt: skip
    record = json.loads((out / "blur" / "dps.json").read_text())
    assert record["options"]["num_steps"] == 5
    assert record["task_options"] == {"std": 1.0}
    # The scores are those of the images restored one by one.
    opened, x = load_image_prior(tmp_path / "toy"), local("restore_bench").read_image
    preset = local("restore_bench").load_image_preset("dps", "sr4", ["num_steps=4"])
    alone = Restorer(opened, preset, "sr4")
    picture = x(images / "b.png", (1, 12, 12)).x
    want = alone.restore(alone.observe(picture, "b"), "b", original=picture).scores()
    assert want is not None
    found = json.loads((out / "sr4" / "dps.json").read_text())["scores"]["b"]
    assert found["psnr_db"] == pytest.approx(want["mean"]["psnr_db"], abs=2e-3)  # rounded to 1e-3

    before = (out / "sr4" / "dps.json").stat().st_mtime_ns
    bench(local, monkeypatch, suite, images, "-o", out, "--tasks", "sr4", "--systems", "dps")
    assert (out / "sr4" / "dps.json").stat().st_mtime_ns == before
    (images / "c.png").unlink()
    bench(local, monkeypatch, suite, images, "-o", out, "--tasks", "sr4", "--systems", "dps")
    assert (out / "sr4" / "dps.json").stat().st_mtime_ns > before
    with pytest.raises(UserError, match=r"dps.json: is of other images than the first row"):
        local("restore_bench_report").report(suite, out)

    bench(local, monkeypatch, suite, images, "-o", out)
    text = local("restore_bench_report").report(suite, out)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| pgdm")]
    assert rows[0][3:5] == ["-", "-"]  # phase retrieval, plain and aligned
    assert "blur std = 1.0" in text
    heads = next(line for line in text.splitlines() if line.startswith("| |"))
    assert heads == "| | sr4 | blur | phase retrieval | phase retrieval, aligned | leads |"
    record = json.loads((out / "phase_retrieval" / "dps.json").read_text())
    row = next(line.split(" | ") for line in text.splitlines() if line.startswith("| dps"))
    for cell, key in zip(row[3:5], ("psnr_db", "psnr_aligned_db"), strict=True):
        average = sum(score[key] for score in record["scores"].values()) / 2
        assert cell.strip("*").startswith(f"{average:.2f} ±")
    # Phase retrieval, where it is alone, counts once, by its aligned score.
    assert row[4].startswith("**")
    assert row[5] == f"{sum(row[i].startswith('**') for i in (1, 2, 4))} of 3 |"
    # No system of the suite has the 1000 steps of the published rows.
    assert text.rstrip().endswith("No row has the settings of a published one.")


def test_rows_as_published_are_named(local: Any) -> None:
    module, suites = local("restore_bench_report"), local("restore_bench")
    systems = {
        "dps": suites.System("dps"),
        "dps-40": suites.System("dps", set=("num_steps=40",)),
        "ddnm": suites.System("ddnm"),
    }
    suite = suites.Suite("toy", {"sr4": {}, "motion_blur": {}, "denoising": {}}, systems)
    records = dict.fromkeys((task, system) for task in suite.tasks for system in systems)
    # Its values of a task belong to the row; the paper has no denoising.
    row = "dps for DPS, Tables 1, 2 and 6 to 8 (sr4, motion blur). No other row has them."
    assert module.published(suite, records).endswith(row)


def test_leaders_are_the_first_and_what_cannot_be_told_from_it(local: Any) -> None:
    module = local("restore_bench_report")
    values = {
        "first": [10.0, 12.0, 11.0, 13.0],
        "level": [9.9, 12.2, 10.8, 13.0],  # its differences have mean .025 and interval .15
        "behind": [9.0, 11.1, 10.0, 12.0],  # always about 1 less: paired, that is certain
        "exact": [None, 1.0, 1.0, 1.0],  # an infinite PSNR has no mean
    }
    records = {
        ("sr4", system): {"scores": {str(i): {"psnr_db": v} for i, v in enumerate(row)}}
        for system, row in values.items()
    }
    assert module.leaders(records, "sr4", list(values), "psnr_db") == {"first", "level"}
    # 1.96 times the standard deviation sqrt(5 / 3), over sqrt(4)
    assert module.interval(values["first"]) == pytest.approx(0.98 * (5 / 3) ** 0.5)


def test_two_systems_are_compared_image_by_image(local: Any) -> None:
    module = local("restore_bench_report")
    rows = {
        ("phase", "r4"): [(12.0, 20.0), (14.0, 21.0), (10.0, 22.0)],
        ("phase", "r1"): [(10.0, 19.0), (13.0, 20.0), (7.0, 21.0)],
        ("sr4", "r1"): [(9.0, 9.0)] * 3,
    }
    records = {
        key: {"scores": {
            str(i): {"psnr_db": plain, "psnr_aligned_db": aligned}
            for i, (plain, aligned) in enumerate(row)
        }}
        for key, row in rows.items()
    }  # fmt: skip
    # Differences of 2, 1 and 3: a mean of 2, and 1.96 times a deviation of 1 over sqrt(3).
    assert module.differences(records, ["sr4", "phase"], "r4", "r1") == [
        "phase: PSNR, dB of r4 less that of r1: +2.00 ± 1.13",
        "phase, aligned: PSNR, dB of r4 less that of r1: +1.00 ± 0.00",
    ]


def test_costs_that_differ_from_task_to_task_are_not_averaged(local: Any) -> None:
    def record(cpu_seconds: float, gradient: int) -> dict[str, Any]:
        calls = {"forward": 39, "gradient": gradient}
        return {"scores": {"a": {}, "b": {}}, "cpu_seconds": cpu_seconds, "denoiser_calls": calls}

    records = {("sr4", "dps"): record(9.4, 9), ("blur", "dps"): record(0.08, 11)}
    lines = local("restore_bench_report").cost_table(records, ["sr4", "blur", "jpeg"], ["dps"])
    assert lines[2] == "| dps | 0.040 to 4.700 | 39 | 9 to 11 |"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("at = { blur", "at = { blurr"), "systems.dps: 'blurr' is none of the suite's tasks"),
        (("only", "onyl"), "systems.psld: unknown key 'onyl'; did you mean only"),
        (("[tasks]", "[task]"), "unknown key 'task'; did you mean tasks"),
    ],
)
def test_a_mistake_in_a_suite_is_one_line(
    local: Any, suite: Path, change: tuple[str, str], says: str
) -> None:
    suite.write_text(suite.read_text().replace(*change))
    with pytest.raises(UserError) as caught:
        local("restore_bench").read_suite(suite)
    assert says in str(caught.value)


def test_a_kernel_lies_beside_the_suite_and_another_one_makes_another_row(
    local: Any, suite: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = suite.read_text().replace("sr4 = {}", 'motion_blur = { kernel = "k.npy" }\nsr4 = {}')
    suite.write_text(text)
    chosen = ("--tasks", "motion_blur", "--systems", "pgdm")
    scores = []
    for kernel in (np.eye(1), np.eye(5)):
        np.save(tmp_path / "k.npy", kernel)
        bench(local, monkeypatch, suite, images, "-o", tmp_path / "out", *chosen)
        record = json.loads((tmp_path / "out/motion_blur/pgdm.json").read_text())
        assert record["task_options"] == {"kernel": str(tmp_path / "k.npy")}
        scores.append(record["scores"])
    assert scores[0] != scores[1]


MAKE = """
import sys
from pathlib import Path
import torch
from mgdm_audio.images.io import png
for split in ("train", "validation", "test"):
    (folder := Path(sys.argv[1]) / split).mkdir(parents=True, exist_ok=True)
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(torch.full((1, 12, 12), i / 2 - 0.5)))
"""
CONF = """# small-v1: nothing much.
shape = [1, 12, 12]
[autoencoder]
widths = [8]
latent_channels = 2
[autoencoder_training]
steps = 2
[model]
widths = [8]
blocks = 1
[augment]
share = 1.0
rotation = 10.0
[schedule]
steps = 2
[training]
batch = 2
precision = "no"
validation_sigmas = [1.0]
"""


@pytest.mark.skipif(
    not shutil.which("bash") or not (Path(sys.executable).parent / "mgdm-audio").is_file(),
    reason="needs bash and the package",
)
def test_one_command_trains_restores_and_reports(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    (tmp_path / "make.py").write_text(MAKE)
    (tmp_path / "small.toml").write_text(CONF)
    (tmp_path / "suite.toml").write_text(
        'prior = "small-v1"\ntasks = { sr4 = {} }\n'
        'systems = { dps = { preset = "dps", set = ["num_steps=3"] } }\n'
    )
    (results := tmp_path / "RESULTS.md").write_text("<!-- suite -->\n<!-- /suite -->\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", ROOT / "recipes/restore_bench.sh", "--venv", "none"]
    command += ["--data", "make.py", "--images", "images", "--confs", "small.toml"]
    command += ["--suite", "suite.toml", "--exp", "exp", "--results", results]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    opened = load_image_prior(tmp_path / "exp/small/prior")
    assert (opened.image_shape, opened.prior.event_shape) == ((1, 12, 12), (2, 6, 6))
    assert "| dps |" in results.read_text()
    assert "3 images" in results.read_text()
