"""egs/speed/run.sh: its logic on a second of sound, without the peers."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EGS = ROOT / "egs/speed"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports one of the recipe's scripts."""
    for folder in (EGS / "local", ROOT / "recipes/local"):
        monkeypatch.syspath_prepend(str(folder))
    return import_module


def test_a_small_run_fills_the_table_and_goes_on_where_it_stopped(
    tmp_path: Path, tiny_prior: Path
) -> None:
    pytest.importorskip("matplotlib")
    shutil.copy(EGS / "RESULTS.md", results := tmp_path / "RESULTS.md")
    words = [
        *("--exp", tmp_path / "exp", "--results", results, "--prior", tiny_prior),
        *("--systems", "default+page htdemucs", "--seconds", "1", "--channels", "1"),
        *("--threads", "1", "--files", "2", "--file-seconds", "1"),
        *("--peers", "none", "--venv", "none"),
    ]
    run = ["bash", str(EGS / "run.sh"), *map(str, words)]
    first = subprocess.run(run, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    rows = [json.loads(line) for line in (tmp_path / "exp/times.jsonl").read_text().splitlines()]
    found = [(row["system"], row["status"]) for row in rows]
    assert found == [
        ("default+page", "ok"),
        ("htdemucs", "not installed"),
        ("default, 2 files", "ok"),
    ]
    for row in (rows[0], rows[2]):
        assert row["cpu"] > 0
        assert row["wall"] > 0
        assert row["peak_mib"] > 50  # torch alone takes more
    text = results.read_text()
    assert "| htdemucs | 1 | 1 | 1 | not installed | | | |" in text
    assert f"| default+page | 1 | 1 | 1 | {rows[0]['wall']:.1f} |  | {rows[0]['cpu']:.3f} " in text
    assert "other programs took at most" in text
    assert (tmp_path / "speed.svg").read_text().count("<svg") == 1
    again = subprocess.run([*run, "--stage", "2"], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    # Only the one without figures is tried again.
    lines = [line for line in again.stdout.splitlines() if line.startswith("system ")]
    assert [line.split(",")[0] for line in lines] == ["system htdemucs"]
    assert results.read_text() == text


def row(system: str, wall: float, number: int = 0, others: float = 0.0) -> dict[str, Any]:
    figures = {"wall": wall, "cpu": 2 * wall, "peak_mib": 100.0, "load": 0.1, "others": others}
    key = {"system": system, "seconds": 10, "channels": 2, "threads": 2, "round": number}
    return key | {"prior": "", "commit": "abc1234", "status": "ok"} | figures


def test_the_table_has_medians_and_shares_and_says_when_others_ran(
    local: Any, tmp_path: Path
) -> None:
    table = local("table")
    rows = [row("default", wall, i) for i, wall in enumerate((1.0, 9.0, 2.0))]
    rows.append(row("htdemucs", 4.0))
    (times := tmp_path / "times.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = table.cells(times)
    assert table.table(found).splitlines()[2:] == [
        "| default | 2 | 2 | 10 | 2.0 | 0.50 | 0.400 | 100 |",
        "| htdemucs | 2 | 2 | 10 | 4.0 | 1.00 | 0.800 | 100 |",
    ]
    assert table.circumstances(found).startswith("Commit abc1234, ")
    assert "busy" not in table.circumstances(found)
    times.write_text(json.dumps(row("default", 1.0, others=0.2)))
    assert "took at most 20 % of the processors" in table.circumstances(table.cells(times))
    assert "The machine was busy" in table.circumstances(table.cells(times))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", "ok"),
        ("raise SystemExit(3)", "not installed"),
        ("raise SystemExit(4)", "more than 1 GB"),
        ("raise SystemExit(7)", "failed (7), see log"),
    ],
)
def test_a_process_without_figures_says_why(
    local: Any, tmp_path: Path, code: str, status: str
) -> None:
    found = local("measure").timed([sys.executable, "-c", code], 1, 1.0, tmp_path / "log")
    assert found["status"] == status
    assert ("wall" in found) == (status == "ok")


def test_a_process_that_needs_more_memory_than_allowed_is_refused_it(
    local: Any, tmp_path: Path
) -> None:
    code = "import sys\ntry: bytearray(10**9)\nexcept MemoryError: sys.exit(4)"
    found = local("measure").timed([sys.executable, "-c", code], 1, 0.5, tmp_path / "log")
    assert found == {"status": "more than 0.5 GB"}


@pytest.mark.parametrize("budget", [60, 0])
def test_the_script_for_a_gpu_measures_what_its_budget_allows(
    local: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, budget: int
) -> None:
    words = ["--tiny", "--device", "cpu", "--budget", str(budget)]
    monkeypatch.setattr(
        sys, "argv", ["accelerator.py", *words, "--results", str(tmp_path / "a.md")]
    )
    local("accelerator").main()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "a.md").read_text().splitlines()[4:]
    ]
    names = [row[0].split(",")[0] for row in rows]
    assert names == ["mgdm-r1-g90", "mgdm", "default", "mgdm-r1-g90", "mgdm", "training"]
    for row in rows:
        if budget == 0:
            assert row[1].startswith("left out: about")
        else:
            assert float(row[1]) > 0
