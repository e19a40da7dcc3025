"""recipes/train_prior.sh on toy songs: it learns, it is done once, and it starts from a prior."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.io import write
from mgdm_audio.priors.folder import load_prior
from tests.recipes.test_scripts import RATE, needs_shell, recipe
from tests.toys import STEMS, TINY, TINY_TOML

pytest.importorskip("accelerate")

CONFIG = """
[data]
train = "given by the recipe"
segment = 512
validation_segments = 8

[noise]
center = 0.1
spread = 0.5
given_center = 0.1
given_spread = 0.5

[schedule]
learning_rate = 5e-3
warmup = 5

[training]
batch = 8
precision = "no"
save_every = 20
validate_every = 20
validation_sigmas = [0.1]
"""


def played(seed: int) -> Tensor:
    """[stems, time]: each stem rests or is white noise of rms 0.14, by turns of 2048 samples."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.14 * torch.randn(len(STEMS), 16, 2048, generator=generator)
    return (noise * (torch.rand(len(STEMS), 16, 1, generator=generator) < 0.5)).flatten(1)


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Folders of stems of toy songs, and a configuration without the number of steps."""
    for number, track in enumerate(("train/a", "train/b", "train/c", "validation/d")):
        (folder := tmp_path / "stems" / track).mkdir(parents=True)
        for stem, wave in zip(STEMS, played(number), strict=True):
            write(folder / f"{stem}.wav", wave[None], RATE)
    (tmp_path / "tiny.toml").write_text(CONFIG + TINY_TOML)
    (tmp_path / "RESULTS.md").write_text("<!-- validation -->\n<!-- /validation -->\n")
    return tmp_path


def train(room: Path, exp: str, *options: str | Path) -> Any:
    words = ["--stems", "stems", "--conf", "tiny.toml", "--exp", exp, *options]
    done = recipe(room, "train_prior.sh", *words, ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_shell
def test_the_error_falls_the_prior_loads_and_a_rerun_changes_nothing(room: Path) -> None:
    steps = ("--set", "schedule.steps=60 training.ema=0.9", "--results", "RESULTS.md")
    train(room, "exp", *steps)
    records = [json.loads(s) for s in (room / "exp/log.jsonl").read_text().splitlines()]
    validations = [r for r in records if "validation" in r]
    assert [r["step"] for r in validations] == [20, 40, 60]
    first, *_, last = [r["validation"]["prior@0.1"]["all"] for r in validations]
    # As in tests/training/test_loop.py: a network that knows which stems play denoises better than
    # the static filter.
    assert last < first - 0.1  # dB
    prior = load_prior(room / "exp/prior")
    assert (prior.config["step"], prior.stems, prior.network.config) == (60, STEMS, TINY)
    assert f"| x alone | {last:.2f} |" in (room / "RESULTS.md").read_text()
    before = contents(room)
    train(room, "exp", *steps)
    assert contents(room) == before
    # Another prior to start from is another run: at a rate of zero, it stays what it was.
    train(room, "more", "--init", "exp/prior", "--set", "schedule.steps=1 schedule.learning_rate=0")
    assert "--init" in (room / "more/finished").read_text()
    again = load_prior(room / "more/prior")
    assert again.mixture_rms == prior.mixture_rms
    for name, value in prior.network.state_dict().items():
        # Averages of equals, in float32.
        assert (again.network.state_dict()[name] - value).abs().max() < 1e-6, name
