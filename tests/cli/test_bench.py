"""``mgdm-audio bench`` as a user meets it: a table, or one clear line."""

import csv
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.measuring import Measuring, Record, Row
from tests.toys import STEMS, song

RATE = 22050
SUITE = """
device = "cpu"
prior = "PRIOR"
[[sets]]
name = "test"
reference = "stems"
[[sets]]
name = "real"
[[systems]]
name = "mixture"
[[systems]]
name = "wiener-1"
preset = "wiener"
overrides = ["num_steps=1"]
draws = 1
"""


@pytest.fixture
def suite(tmp_path: Path, tiny_prior: Path) -> Path:
    (track := tmp_path / "stems/Track00001").mkdir(parents=True)
    for stem, wave in zip(STEMS, song(1, 4, 5 * RATE // 2, RATE), strict=True):
        write(track / f"{stem}.wav", wave[None], RATE)
    (path := tmp_path / "suite.toml").write_text(SUITE.replace("PRIOR", str(tiny_prior)))
    return path


def bench(suite: Path, *arguments: str | Path) -> Result:
    command = ["bench", str(suite), "-o", str(suite.parent / "out"), *map(str, arguments)]
    result = CliRunner().invoke(main, command)
    # Anything else is a traceback in a user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def test_it_prints_and_writes_the_table_and_the_plot(suite: Path) -> None:
    result = bench(suite)
    assert result.exit_code == 0, result.output
    note = "set real: no folder, left out; add --reference real=FOLDER"
    assert result.stderr == f"device: cpu (asked for)\n{note}\n"
    assert "test/wiener-1/Track00001: " in result.stdout
    out = suite.parent / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "cost.svg",
        "rows",
        "table.csv",
        "table.json",
        "table.md",
    ]
    table = (out / "table.md").read_text()
    assert table.rpartition("\nprior tiny ")[0] in result.stdout
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ["mixture", "wiener-1"]
    assert float(rows[0]["all_db"]) == pytest.approx(0, abs=1e-6)
    assert (rows[0]["forward_per_segment"], rows[1]["forward_per_segment"]) == ("", "1.0")
    assert 0 <= float(rows[1]["share_outside_denoiser"]) <= 1
    words = [text.text for text in ElementTree.parse(out / "cost.svg").iter() if text.text]
    assert {"test: 1 track", "wiener-1", "mixture 0.0"} <= set(words)


def test_without_matplotlib_the_tables_are_written_all_the_same(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = suite.parent / "out"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        patch.setitem(sys.modules, "matplotlib.style", None)
        result = bench(suite)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[1:] == [
        "set real: no folder, left out; add --reference real=FOLDER",
        f"{out / 'cost.svg'}: not written; the plot of costs needs matplotlib: "
        "pip install 'mgdm_audio[plot]'",
    ]
    names = ["rows", "table.csv", "table.json", "table.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert bench(suite).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["cost.svg", *names]


def test_it_goes_on_where_it_stopped(suite: Path) -> None:
    first = bench(suite).stdout
    again = bench(suite).stdout
    assert "test/" not in again
    assert again == first[first.index("| test") :]
    more = bench(suite, "--reference", f"real={suite.parent / 'stems'}")
    assert "test/" not in more.stdout
    assert "real/wiener-1/Track00001: " in more.stdout


def test_a_failed_row_is_the_exit_code_and_not_the_end(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (track := suite.parent / "stems/Track00002").mkdir()
    for stem, wave in zip(STEMS, song(2, 4, 5 * RATE // 2, RATE), strict=True):
        write(track / f"{stem}.wav", wave[None], RATE)
    measure = Measuring.measure

    def fail(self: Measuring, row: Row, *rest: Any) -> Record:
        if row.track == "Track00001":
            raise UserError("it fails")
        return measure(self, row, *rest)

    monkeypatch.setattr(Measuring, "measure", fail)
    result = bench(suite)
    assert result.exit_code == 1
    assert "test/wiener-1/Track00001: failed: it fails" in result.stdout
    assert "1, 1 failed" in result.stdout
    table = suite.parent / "out/table.md"
    assert result.stderr.splitlines()[-1] == (
        f"error: {table}: 2 of 4 rows failed; run again to retry those alone"
    )


def test_what_cannot_be_scored_is_refused_before_anything_is_computed(suite: Path) -> None:
    bass = suite.parent / "stems/Track00001/bass.wav"
    bass.rename(bass.with_name("vox.wav"))
    result = bench(suite)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "set test: no track has bass, not scored there" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        f"error: set 'test': {bass.with_name('vox.wav')}: the prior's stems are {', '.join(STEMS)}"
    )
    assert not (suite.parent / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--reference", "rael=x"], "no set is named 'rael' in the suite; did you mean real?"),
        (["--reference", "real"], "--reference 'real': write SET=FOLDER, say test=stems"),
        (["--reference", "real=/no where"], "set 'real': /no where: is missing"),
        (["--prior", "mini"], "no prior named 'mini'"),
        (["--device", "gpu"], "device 'gpu' is unknown"),
        (["-o", "/dev/null/x"], "/dev/null/x: cannot be written"),
    ],
)
def test_a_mistake_is_one_clear_line(suite: Path, arguments: list[str], says: str) -> None:
    result = bench(suite, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert not (suite.parent / "out").exists()


def test_a_suite_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = bench(tmp_path / "none.toml")
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"error: {tmp_path / 'none.toml'}: cannot be read: No such file or directory\n"
    )
