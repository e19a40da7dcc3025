"""The table of a prior's gains over the static Wiener filter."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.audio.io import write
from mgdm_audio.networks.tf_unet import TFUNet
from mgdm_audio.priors.folder import load_prior, save_prior
from tests.toys import STEMS, TINY, song

SCRIPT = Path(__file__).parents[2] / "egs" / "mini_slakh" / "prior" / "gains.py"


def test_the_filter_gains_nothing_over_itself_and_a_wrong_prior_loses(
    load_script: Callable[[Path], Any],
    tiny_prior: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = load_script(SCRIPT)
    (tmp_path / "songs" / "a").mkdir(parents=True)
    for stem, wave in zip(STEMS, song(0, 4, 2**17, 22050), strict=True):
        write(tmp_path / "songs" / "a" / f"{stem}.wav", wave[None], 22050)
    songs = str(tmp_path / "songs")
    network = TFUNet(TINY)
    network.measure(script.StemFolder(songs, STEMS, 22050).fixed(1, 2**17))
    keys = ("schedule", "stems", "sample_rate", "mixture_rms", "segment")
    details = {key: load_prior(tiny_prior).config[key] for key in keys}
    save_prior(tmp_path / "static", network, TINY, "tf_unet", details)
    with torch.no_grad():  # to a prior that expects a tenth of the levels
        network.scale.div_(10)
    save_prior(tmp_path / "wrong", network, TINY, "tf_unet", details)
    gains = {}
    for name in ("static", "wrong"):
        words = ["gains.py", str(tmp_path / name), songs, "--levels", songs, "--segments", "1"]
        monkeypatch.setattr(sys, "argv", words)
        script.main()
        rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
        cells = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows}
        gains[name] = cells["x alone: gain"] + cells["x and the mixture: gain"]
        for what in ("x alone", "x and the mixture"):
            parts = zip(
                *(cells[f"{what}: {kind}"] for kind in ("filter", "network", "gain")), strict=True
            )
            assert all(math.isclose(a - b, c, abs_tol=0.011) for a, b, c in parts)  # two decimals
    assert gains["static"] == [0.0] * 10
    assert all(gain <= 0 for gain in gains["wrong"])  # of these songs the filter is the best one
    assert gains["wrong"][2] < -0.1
