"""The script that chooses the settings of mgdm-mean: its chains are the sampler's, and are kept."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.audio.io import write
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.rng import generator_for
from mgdm_audio.samplers import MeanMGDM
from tests.toys import STEMS, song

SCRIPT = Path(__file__).parents[2] / "egs" / "mini_slakh" / "bench" / "mean.py"
RATE, SAMPLES = 22050, 2048
OPTIONS = "num_steps = 10, gibbs_steps = 2, denoise_steps = 2, covariance = 'band'"
CONF = f"""
ranges = [[0.1, 1.0], [0.03, 0.3]]
[[settings]]
name = "from noise"
options = {{ {OPTIONS} }}
[[settings]]
name = "from .3"
start = true
options = {{ {OPTIONS}, mean_min = 0.03, refine_from = 0.3 }}
"""


@pytest.fixture
def egs(load_script: Callable[[Path], Any]) -> Any:
    return load_script(SCRIPT)


@pytest.fixture
def words(tmp_path: Path, tiny_prior: Path) -> list[str]:
    (tmp_path / "conf.toml").write_text(CONF)
    for number, track in enumerate(("one", "two")):
        for stem, wave in zip(STEMS, song(number, 4, 8000, RATE), strict=True):
            (tmp_path / "stems" / track).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "stems" / track / f"{stem}.wav", wave[None], RATE)
    options = {"stems": "stems", "conf": "conf.toml", "output": "out"}
    places = [word for name, place in options.items() for word in (f"--{name}", tmp_path / place)]
    return [*map(str, places), "--prior", str(tiny_prior), "--samples", str(SAMPLES)]


def test_every_chain_is_run_once_and_tabled(
    egs: Any,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["mean.py", *words, "--tracks", "2", "--chains", "2"])
    egs.main()
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "out/chains.jsonl").read_text().splitlines()]
    assert len(rows) == len({(r["setting"], r["track"], r["chain"]) for r in rows}) == 8
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()[2:]]
    assert [line[:2] for line in lines] == [
        ["static split", "-"],
        ["default", "-"],
        *(["from noise", key] for key in ("0.1 .. 1", "0.03 .. 0.3")),
        ["from .3", "0.03 .. 0.3"],  # none of its s is above .1
    ]
    several, calls = lines[2][3:]
    assert (float(several) != float(lines[2][2]), int(calls)) == (True, rows[0]["calls"])
    mine = [row["gains"]["0.1 .. 1"] for row in rows if row["setting"] == "from noise"]
    assert float(lines[2][2]) == pytest.approx(sum(mine) / 4, abs=0.006)  # two digits
    monkeypatch.setattr(egs, "chain", None)  # it would be called
    egs.main()
    assert capsys.readouterr().out == printed


def test_the_sweeps_that_are_kept_are_the_sampler_s(egs: Any, tiny_prior: Path) -> None:
    loaded = load_prior(tiny_prior)
    truth = 0.1 * song(3, 4, SAMPLES, RATE)
    item = egs.Excerpt("one", truth, 0.5 * truth)
    options: dict[str, Any] = {"num_steps": 10, "gibbs_steps": 1, "denoise_steps": 2}
    options |= {"covariance": "band", "mean_min": 0.03}
    for start in (False, True):
        sweeps, _ = egs.chain(loaded, item, egs.Setting("", options, start), 7)
        (_, found) = next(egs.averages(sweeps, [[0.03, 0.5]]))
        likelihood = GaussianLikelihood(MixtureSum(4), truth.sum(0)[None, None], egs.NOISE_STD)
        want = MeanMGDM(**options, mean_max=0.5).sample(
            loaded.prior.with_event_shape((4, SAMPLES)),
            likelihood,
            generator=[generator_for(0, "one", 7)],
            start=item.start[None] if start else None,
        )
        # A mean, summed in another order in float32.
        torch.testing.assert_close(found, want[0], rtol=0, atol=1e-6)


def test_the_excerpt_is_where_the_quietest_stem_is_loudest(
    egs: Any, tiny_prior: Path, tmp_path: Path
) -> None:
    stems = 0.1 * torch.randn(4, 9 * 1024, generator=torch.Generator().manual_seed(0))
    stems[0, :4700] *= 0.1
    stems[0, 4700 + SAMPLES :] *= 0.1
    (tmp_path / "song").mkdir()
    for stem, wave in zip(STEMS, stems, strict=True):
        write(tmp_path / "song" / f"{stem}.wav", wave[None], RATE, "FLOAT")
    item = egs.excerpt(tmp_path / "song", load_prior(tiny_prior), SAMPLES)
    part = stems[:, 4096 : 4096 + SAMPLES]  # from a frame's edge
    gain = item.truth.norm() / part.norm()
    torch.testing.assert_close(item.truth, gain * part, rtol=1e-5, atol=1e-6)
    assert item.start.shape == item.truth.shape
    # The start's stems add up to the mixture, to float32.
    torch.testing.assert_close(item.start.sum(0), item.truth.sum(0), rtol=0, atol=1e-6)
