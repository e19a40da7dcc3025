"""The comparison of speeds, egs/mini_slakh/separate/speeds.py."""

import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mgdm_audio.separation.separator import Separator
from tests.toys import STEMS, song

RATE = 22050
SCRIPT = Path(__file__).parents[2] / "egs/mini_slakh/separate/speeds.py"


def test_a_table_of_the_sets_of_speeds(
    load_script: Any,
    tiny_prior: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The default's own row has no difference, and every other set differs."""
    speeds = load_script(SCRIPT)
    for track in ("a", "b"):
        (tmp_path / track).mkdir()
        for i, stem in enumerate(STEMS):
            wave = song(i + ord(track), 1, 3 * RATE, RATE)[0]
            soundfile.write(tmp_path / track / f"{stem}.wav", wave.numpy(), RATE)
    words = ["speeds.py", str(tmp_path), "--prior", str(tiny_prior), "--sampler", "wiener"]
    monkeypatch.setattr(sys, "argv", [*words, "--set", "num_steps=1", "--seconds", "4"])
    speeds.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.split("\n")[2:-1]]
    assert [row[0] for row in rows][:2] == ["0, -3, 3", "0"]
    assert len(rows) == len(speeds.SETS)
    assert rows[0][3] == "+0.00 ± 0.00"
    assert {row[1] for row in rows} == {"2"}
    options = {"overrides": ["num_steps=1"], "device": "cpu", "speeds": speeds.SPEEDS}
    separator = Separator.from_pretrained(tiny_prior, "wiener", **options)
    found = speeds.gains(tmp_path, separator, None, 4.0)
    assert found.shape == (2, len(speeds.SETS))
    assert len({float(x) for x in found[0]}) == len(speeds.SETS)
