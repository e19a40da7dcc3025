"""The notebook of samplers: its cells run, what it printed is of this package, and it is small."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "egs/mini_slakh/samplers"
NOTEBOOK = json.loads((FOLDER / "samplers.ipynb").read_text())
CODE = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
SETTINGS = {"SHARE": "0.2", "DRAWS": "200"}


def outputs() -> list[Any]:
    cells = (cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
    return [output for cell in cells for output in cell["outputs"]]


def test_its_cells_run_on_small_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pretty_midi", "midirenderer", "yaml"):
        pytest.importorskip(package)
    monkeypatch.chdir(FOLDER)
    namespace: dict[str, Any] = {"__name__": "notebook"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, source in enumerate(CODE):
            if number == 0:
                source += "".join(f"\n{name} = {value}" for name, value in SETTINGS.items())
            exec(compile(source, f"cell {number}", "exec"), namespace)
    lines = [line.split() for line in printed.getvalue().splitlines()]
    scored = [words[0] for words in lines if words[2:] == ["dB"]]
    assert scored == ["bass", "drums", "guitar", "piano"]
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
