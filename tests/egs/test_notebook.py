"""The notebook of samplers: its cells run, what they printed is today's, and it is small."""

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgdm_audio.samplers.presets import load_preset

FOLDER = Path(__file__).parents[2] / "egs/mini_slakh/samplers"
NOTEBOOK = json.loads((FOLDER / "samplers.ipynb").read_text())
CODE = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
SETTINGS = {"SHARE": "0.2", "DRAWS": "200"}
BY_DEFAULT, BY_OTHERS = 2, 4  # the code cells that separate
AGAIN = "python egs/mini_slakh/samplers/execute.py"


def outputs() -> list[Any]:
    cells = (cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
    return [output for cell in cells for output in cell["outputs"]]


def stored() -> list[str]:
    """What each code cell has printed, when the notebook was executed."""
    cells = (cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
    return ["".join("".join(o.get("text", "")) for o in cell["outputs"]) for cell in cells]


def figures(printed: list[str]) -> dict[str, float]:
    """SI-SDRi in dB, of the rows that do not depend on ``SETTINGS``."""
    rows = printed[BY_DEFAULT].splitlines()[1:] + printed[BY_OTHERS].splitlines()[1:3]
    return {row.split()[0]: float(row.split()[1]) for row in rows}


def test_its_cells_run_on_small_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pretty_midi", "midirenderer", "yaml"):
        pytest.importorskip(package)
    monkeypatch.chdir(FOLDER)
    namespace: dict[str, Any] = {"__name__": "notebook"}
    printed = []
    for number, source in enumerate(CODE):
        if number == 0:
            source += "".join(f"\n{name} = {value}" for name, value in SETTINGS.items())
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            exec(compile(source, f"cell {number}", "exec"), namespace)
        printed.append(stdout.getvalue())
    now, then = figures(printed), figures(stored())
    assert list(now) == ["bass", "drums", "guitar", "piano", "default", "wiener"]
    # A processor with bfloat16 and one without printed the same to .01 dB, the default's own row
    # and all others; the cap of the network's gain moved wiener's by .05.
    assert now == pytest.approx(then, abs=0.03), AGAIN
    assert printed[BY_DEFAULT].splitlines()[0] == stored()[BY_DEFAULT].splitlines()[0], AGAIN
    namespace["room"].cleanup()
    # The mean of N draws errs by |std| / sqrt(N), and 200 draws of 32 numbers tell the total spread
    # to 5 per cent; both doubled.
    error, spread = namespace["found"]["exact draws"]
    total = namespace["covariance"].trace().sqrt() / namespace["mean"].norm()
    assert error < 2 * float(total) / int(SETTINGS["DRAWS"]) ** 0.5
    assert abs(spread - 1) < 0.1


def test_it_was_run_in_order_and_without_an_error() -> None:
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs() if output["output_type"] == "error"]
    assert "stderr" not in [output.get("name") for output in outputs()]
    assert (FOLDER / "samplers.ipynb").stat().st_size < 300_000


def test_what_it_was_executed_with_is_today_s(load_script: Callable[[Path], Any]) -> None:
    """Without executing it: the cells, the presets that they name and the default prior."""
    execute = load_script(FOLDER / "execute.py")
    assert NOTEBOOK["metadata"]["mgdm_audio"] == execute.record(NOTEBOOK), AGAIN


def test_a_change_of_what_it_was_executed_with_is_seen(
    load_script: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = load_script(FOLDER / "execute.py")
    before = execute.record(NOTEBOOK)
    assert before["presets"].keys() >= {"default", "mgdm", "ddnm"}
    changed = copy.deepcopy(NOTEBOOK)
    changed["cells"][1]["source"][-1] += " of each"
    assert execute.record(changed)["cells"] != before["cells"]
    monkeypatch.setattr(execute, "load_preset", lambda name: load_preset(name, ["draws=5"]))
    now = execute.record(NOTEBOOK)["presets"]
    assert all(now[name] != before["presets"][name] for name in now)
    monkeypatch.setattr(execute, "DEFAULT_PRIOR", "mini-slakh-v1")
    assert execute.record(NOTEBOOK)["prior"] != before["prior"]
