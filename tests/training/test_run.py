"""``train(config)`` from Python: over stems as the command does it, and over images."""

import re
from pathlib import Path

import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

from mgdm_audio import train
from mgdm_audio.config import load_toml
from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.training.state import STATE
from tests.toys import STEMS, TINY_TOML, song

pytest.importorskip("accelerate")

CONFIG = """
[data]
train = "{root}/train"
segment = 512

[schedule]
steps = 2
warmup = 1

[training]
batch = 2
precision = "no"
"""
IMAGES = {
    "shape": [1, 8, 8],
    "model": {"widths": [8], "blocks": 1, "embedding": 8},
    "noise": {"given": 0.0},
    "schedule": {"steps": 3, "warmup": 1},
    "training": {"batch": 2, "precision": "no", "validation_sigmas": [0.1]},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "train" / "song"
    folder.mkdir(parents=True)
    for k, stem in enumerate(STEMS):
        soundfile.write(folder / f"{stem}.wav", song(k, 1, 4000, 22050)[0].numpy(), 22050)
    (tmp_path / "conf.toml").write_text(CONFIG.format(root=tmp_path) + TINY_TOML)
    return tmp_path / "conf.toml"


def test_a_file_and_its_content_train_the_same_prior(config: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prior = train(
        config, tmp_path / "a", on_progress=lambda done, total, _: seen.append((done, total))
    )
    assert prior == tmp_path / "a" / "prior"
    assert load_prior(prior).stems == STEMS
    assert seen == [(1, 2), (2, 2)]
    train(load_toml(config), tmp_path / "b")
    a, b = (load_file(tmp_path / run / STATE) for run in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_it_goes_on_with_other_settings_and_says_so(config: Path, tmp_path: Path) -> None:
    train(config, tmp_path / "run")
    notes: list[str] = []
    more = ["schedule.steps=3", "noise.given=0.25"]
    train(config, tmp_path / "run", overrides=more, on_note=notes.append)
    first = notes.pop(0)
    assert first == f"{tmp_path / 'run'}: goes on with other settings: noise.given 0.5 -> 0.25"
    assert [line.split(" of 3:")[0] for line in notes[1:]] == ["step 3"]


def test_images_are_trained_on_in_the_same_way(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        for k in range(2):
            Image.new("L", (8, 8), 100 * k).save(tmp_path / split / f"{k}.png")
    with pytest.raises(UserError, match="config: lacks 'images'; give --set images=FOLDER"):
        train(IMAGES, tmp_path / "run")
    notes: list[str] = []
    settings = {"on_note": notes.append, "overrides": [f"images={tmp_path}"]}
    prior = train(IMAGES, tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert re.fullmatch(r"device: .*; precision float32 \(asked for\); .*; 3 steps to do", notes[0])
    assert [line.split(" of 3:")[0] for line in notes[1:]] == ["step 1", "step 2", "step 3"]
    assert (prior / "config.json").is_file()
    card = (prior / "README.md").read_text()
    assert "A diffusion prior over images of 8 x 8 pixels, grey: `unet_2d`, 0.0 M param" in card
    assert f"- training: 2 images of `{tmp_path.name}/train`\n- validation: 2 images of" in card
    assert "| sigma | 0.1 |\n| --- | ---: |\n| error | " in card  # images have no mixture
    with pytest.raises(UserError, match="only priors over stems start from another"):
        train(IMAGES | {"images": str(tmp_path)}, tmp_path / "other", init="mini-slakh-v1")
