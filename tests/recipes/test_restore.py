"""The recipe of restored images: what it asks for, what it makes, and nothing twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.images.io import png
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_unet

ROOT = Path(__file__).parents[2]
INSTANCES = [ROOT / f"egs/{name}/restore/run.sh" for name in ("ffhq", "imagenet")]

needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
needs_package = pytest.mark.skipif(
    not (Path(sys.executable).parent / "mgdm-audio").is_file(), reason="needs the package"
)


def bash(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = ["bash", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@needs_bash
@pytest.mark.parametrize("path", INSTANCES, ids=lambda path: path.parts[-3])
def test_instances_need_only_images_and_weights(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 25
    shown = bash(path, "--seed", "7", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "[7]" in next(line for line in shown.stdout.splitlines() if "--seed " in line)
    options = next(line for line in shown.stdout.splitlines() if "--task-options " in line)
    assert options.endswith("[jpeg.published=true]")
    for given, says in (
        ([], "give --prior, weights for images"),
        (["--prior", "none.pt"], "none.pt: no such prior"),
        (["--prior", "no/such/prior"], "no/such/prior: no such prior"),
        (["--prior", "them/faces@v1"], "give --images, a folder of images"),  # of the hub
        (["--prior", tmp_path], "give --images, a folder of images"),
        (["--prior", "digits-v1"], "give --images, a folder of images"),
        (["--prior", tmp_path, "--images", "none"], "none: no such folder"),
        (
            ["--prior", tmp_path, "--images", tmp_path, "--task-options", "published=true"],
            "published=true is no option of a task; write TASK.KEY=VALUE",
        ),
    ):
        result = bash(path, "--venv", tmp_path / "venv", *given)
        assert (result.returncode, result.stderr) == (2, f"error: {says}\n")
    assert not list(tmp_path.iterdir())  # nothing was installed


@needs_bash
@needs_package
def test_it_goes_on_where_it_stopped_and_reports(tmp_path: Path) -> None:
    save_trained(tmp_path / "toy", tiny_unet(1), NoiseSchedule.linear(), (16, 16))
    (images := tmp_path / "my images").mkdir()
    for name in ("c", "a b", "-d"):
        x = torch.full((1, 16, 16), -1.0)
        x[:, 2:8, 3:5] = 0.5  # which can be moved, so that aligned scores are others
        (images / f"{name}.png").write_bytes(png(x))
    (quick := tmp_path / "quick.toml").write_text(
        'sampler = "dps"\nnoise_std = 0.05\npublished = "A row, Table 1"\n'
        "[options]\nnum_steps = 3\n"
    )
    (results := tmp_path / "RESULTS.md").write_text("<!-- restored -->\n<!-- /restored -->\n")
    out = tmp_path / "ex p"

    def run(limit: int) -> str:
        options: list[str | Path] = [
            "--venv",
            "none",
            "--images",
            images,
            "--prior",
            tmp_path / "toy",
            "--exp",
            out,
        ]
        options += ["--tasks", "jpeg phase_retrieval", "--samplers", quick, "--device", "cpu"]
        options += ["--task-options", "jpeg.published=true jpeg.quality=9 blur.std=1.0"]
        options += ["--limit", str(limit), "--results", results]
        done = bash(ROOT / "recipes/restore.sh", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "note: blur.std=1.0: blur is not among the tasks\n" in run(2)
    record = json.loads((out / "jpeg/quick/-d/report.json").read_text())
    assert record["task_options"] == {"published": True, "quality": 9}
    assert sorted(p.name for p in (out / "jpeg/quick").iterdir()) == ["-d", "a b"]  # by name
    before = (out / "jpeg/quick/a b/report.json").stat().st_mtime_ns
    assert "1 of 3 images" in run(0)
    assert sorted(p.name for p in (out / "phase_retrieval/quick").iterdir()) == ["-d", "a b", "c"]
    assert (out / "jpeg/quick/a b/report.json").stat().st_mtime_ns == before
    assert " of 3 images" not in run(0)
    rows = [line.split(" | ") for line in results.read_text().splitlines() if "| quick |" in line]
    assert [row[0] for row in rows] == ["| jpeg", "| phase_retrieval"]
    assert "Options of tasks: jpeg published = True; jpeg quality = 9." in results.read_text()
    assert rows[0][2] == "-"  # LPIPS
    for row, task in zip(rows, ("jpeg", "phase_retrieval"), strict=True):
        records = [json.loads(p.read_text()) for p in out.glob(f"{task}/quick/*/report.json")]
        for cell, key in ((row[3], "psnr_db"), (row[5], "psnr_aligned_db")):
            psnr = sum(r["scores"]["draws"][0][key] for r in records) / 3
            assert cell == f"{psnr:.2f}"
        assert (row[3] == row[5]) is (task == "jpeg")
        assert row[7] == "3"
        assert row[9] == "1 / 1"  # DPS of 3 points: one guided call, one to end with
        assert row[10] == "A row, Table 1 |"
