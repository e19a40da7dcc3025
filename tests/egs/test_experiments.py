"""The experiments on the prior of mini_slakh, on tiny networks."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.toys import STEMS, TINY_TOML, song

pytest.importorskip("accelerate")

SCRIPT = Path(__file__).parents[2] / "egs" / "mini_slakh" / "prior" / "experiments.py"
RATE = 22050

BASE = """
[data]
train = "train"
segment = 512
validation_segments = 2

[schedule]
kind = "stable"
warmup = 2

[training]
batch = 2
precision = "no"
"""

PLAN = """
base = "base.toml"
set = ["training.save_every=6", "training.validation_sigmas=[0.1]", "schedule.decay=5"]

[[experiments]]
name = "the base"
[[experiments]]
name = "one network a stem"
set = ["noise.given=0"]
by_stem = true
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, load_script: Callable[[Path], Any]) -> Any:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return load_script(SCRIPT)


def test_each_has_its_seconds_and_a_row_that_is_made_once(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, folder in enumerate(("train/one", "train/two", "validation/three")):
        (tmp_path / folder).mkdir(parents=True)
        for name, samples in zip(STEMS, song(i, 4, 13 * RATE, RATE), strict=True):
            soundfile.write(tmp_path / folder / f"{name}.wav", samples.numpy(), RATE, "PCM_16")
    (tmp_path / "base.toml").write_text(BASE + TINY_TOML)
    (tmp_path / "plan.toml").write_text(PLAN)
    results = tmp_path / "RESULTS.md"
    results.write_text("before\n<!-- experiments -->\n<!-- /experiments -->\nafter\n")
    words = ["experiments.py", tmp_path / "out", "--plan", tmp_path / "plan.toml", "--seconds", 0.3]
    words += ["--data", f"all={tmp_path / 'train'}", "--validation", tmp_path / "validation"]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--results", str(results)])
    script.main()
    joint, by_stem = (tmp_path / "out" / name for name in ("the-base", "one-network-a-stem"))
    row = json.loads((joint / "row.json").read_text())
    log = [json.loads(line) for line in (joint / "log.jsonl").read_text().splitlines()]
    probe = next(r["cpu_s"] for r in log if r["step"] == script.PROBE)
    assert row["steps"] == max(script.PROBE + 1, round(0.3 / probe)) == log[-1]["step"]
    assert set(row["errors"]) == {"prior@0.1", "given@0.1"}
    assert {preset: len(row["si_sdri"][preset]) for preset in ("default", "wiener")} == {
        "default": len(STEMS),
        "wiener": len(STEMS),
    }
    row = json.loads((by_stem / "row.json").read_text())
    assert set(row["si_sdri"]) == {"wiener"}  # a stem's network has never seen a mixture
    assert set(row["errors"]) == {"prior@0.1"}
    assert len(row["errors"]["prior@0.1"]) == len(STEMS)
    page = results.read_text()
    assert page.count("\n| the base |") == page.count("\n| one network a stem |") == 1

    kept = [(path / "row.json").stat().st_mtime_ns for path in (joint, by_stem)]
    capsys.readouterr()
    script.main()
    assert [(path / "row.json").stat().st_mtime_ns for path in (joint, by_stem)] == kept
    assert results.read_text() == page
    assert "| the base |" in capsys.readouterr().out
