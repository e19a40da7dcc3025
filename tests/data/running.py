"""The command run on a data set, and what it wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from click.testing import CliRunner, Result

from mgdm_audio.cli.main import main
from mgdm_audio.data.manifest import MANIFEST


def prepare(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["prepare", *map(str, arguments), "--nj", "1"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def prepared(count: int, *arguments: str | Path) -> dict[str, dict[str, Any]]:
    """The record of each "split/track" that these arguments make without a complaint."""
    out = Path(arguments[arguments.index("-o") + 1])
    result = prepare(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{count} tracks made, 0 kept: {out / MANIFEST}\n"
    lines = map(json.loads, (out / MANIFEST).read_text().splitlines())
    return {f"{r['split']}/{r['track']}": r for r in lines}


def said(record: dict[str, Any], *, but: str = "") -> list[tuple[str, str, str]]:
    """The decisions (of, what, why) of a record, without those that are ``but``."""
    return [(d["of"], d["what"], d["why"]) for d in record["decisions"] if d["what"] != but]


def check(out: Path, record: dict[str, Any], truth: dict[str, Any]) -> None:
    """The stems are the sums in ``truth``, 16-bit steps [time] or [time, channel]."""
    assert set(record["stems"]) == set(truth)
    for stem, steps in truth.items():
        samples, _ = soundfile.read(out / record["stems"][stem]["path"], dtype="float64")
        mono = steps if steps.ndim == 1 else steps.mean(1)
        # Sums and halves of 16-bit integers: exact in 24 bits.
        np.testing.assert_array_equal(samples * 2**15, mono)
