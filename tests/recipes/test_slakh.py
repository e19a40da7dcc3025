"""egs/slakh2100/msdm from Slakh2100's form and checkpoints of MSDM's own training to the table."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.priors.convert_msdm import convert, convert_independent
from mgdm_audio.priors.folder import CONFIG
from mgdm_audio.separation.separator import Separator
from tests.priors.written import unpack
from tests.recipes.slakh import write_track
from tests.recipes.test_scripts import ROOT, needs_shell
from tests.toys import STEMS, song

RECIPE = ROOT / "egs/slakh2100/msdm"
TRACKS = ("Track01876", "Track01877")
SECONDS = 2.5  # of a track, which the score takes as one window
RUN = ("mgdm", "msdm-dirac")  # of the samplers that the recipe lists, in the recipe itself
COMMAND = (RECIPE / "run.sh").read_text().replace("\\\n", " ").rpartition("exec bash")[2]
(LISTED,) = re.findall('--samplers "([^"]+)"', COMMAND)
FEW = {
    "gibbs_steps": 1,
    "denoise_steps": 2,
    "vi_steps": 1,
    "langevin_steps": 2,
    "ode_steps": 2,
}
# MSDM's steps are Euler's of a stiff equation: with fewer, its waveforms overflow.
STEPS = {"msdm-dirac": 20, "isdm-dirac": 20, "msdm-gaussian": 50}


def write_few(name: str, folder: Path) -> Path:
    """The recipe's preset of that name with few steps, as FOLDER/NAME.toml."""
    own = RECIPE / f"conf/{name}.toml"
    text = (own if own.is_file() else ROOT / f"mgdm_audio/samplers/presets/{name}.toml").read_text()
    for option, value in (FEW | {"num_steps": STEPS.get(name, 6)}).items():
        text = re.sub(rf"^{option} = .*", f"{option} = {value}", text, flags=re.MULTILINE)
    (path := folder / f"{name}.toml").write_text(text)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return unpack(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a miniature of Slakh2100, and presets with few steps."""
    root = tmp_path_factory.mktemp("slakh")
    for track in TRACKS:
        write_track(root / "slakh2100/test" / track, SECONDS)
    (root / "few").mkdir()
    for name in (*RUN, "isdm-dirac"):
        write_few(name, root / "few")
    (root / "RESULTS.md").write_text("<!-- test -->\n<!-- /test -->\n")
    return root


def run(root: Path, *options: str | Path) -> None:
    """The recipe, without the steps of its presets."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    command = ["bash", RECIPE / "run.sh", "--venv", "none", "--device", "cpu"]
    command += ["--source", "slakh2100", "--presets", "few", "--exp", "exp"]
    command += ["--results", "RESULTS.md", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


def waves(folder: Path, ending: str) -> Tensor:
    return torch.stack([read(folder / f"{stem}.{ending}").samples for stem in STEMS]).double()


@needs_shell
def test_from_the_published_forms_to_the_table(root: Path, files: dict[str, Path]) -> None:
    """And then the weakly supervised models, whose prior is another, on the same tracks."""
    run(root, "--checkpoint", files["msdm"], "--samplers", " ".join(RUN))
    converted = json.loads((root / "exp/priors" / files["msdm"].stem / CONFIG).read_text())
    assert (converted["model_type"], converted["stems"]) == ("unet_1d", list(STEMS))
    assert converted["source"][0]["assumed"] == []
    table = [line for line in (root / "RESULTS.md").read_text().splitlines() if "|" in line]
    rows = {line.split("|")[1].strip(): line for line in table}
    assert rows["mixture, shared equally"].count("| 0.00 ± 0.00 ") == 5
    assert {"oracle ratio mask", *RUN} <= rows.keys()
    pairs = " ".join(f"{stem}={files[stem]}" for stem in STEMS)
    last = ["--stage", "2", "--stop-stage", "3"]
    run(root, "--checkpoint", pairs, "--samplers", "isdm-dirac", *last)
    isdm = json.loads((root / "exp/priors/isdm" / CONFIG).read_text())
    assert (isdm["model_type"], isdm["stems"]) == ("joint_unet_1d", list(STEMS))
    for track in TRACKS:
        mixture = read(root / f"exp/test/mixtures/{track}.wav").samples.double()
        assert mixture.shape == (1, round(SECONDS * 22050))
        references = waves(root / "exp/stems/test" / track, "flac")
        # The mixture is rounded to float32 once: 2^-24 of what is below 2.
        assert (references.sum(0) - mixture).abs().max() <= 2**-24
        for system in (*RUN, "isdm-dirac"):
            folder = root / "exp/test/estimates" / system / track
            record = json.loads((folder / "separation.json").read_text())
            assert (record["seed"], record["level"]) == (int(track.removeprefix("Track")), "none")
            estimates = waves(folder, "wav")
            # Each of the four estimates is rounded too, and as much again in their sum.
            assert (estimates.sum(0) - mixture).abs().max() <= 8 * 2**-24
            assert estimates.abs().max() < 2


@pytest.fixture(scope="module")
def priors(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of the checkpoints: one of four sources, and one of four networks."""
    folder = tmp_path_factory.mktemp("priors")
    convert(files["msdm"], folder / "msdm")
    convert_independent({stem: files[stem] for stem in STEMS}, folder / "isdm")
    return {name: folder / name for name in ("msdm", "isdm")}


@pytest.mark.parametrize("name", [*LISTED.split(), "isdm-dirac"])
def test_every_sampler_that_the_recipe_lists_takes_the_converted_prior(
    priors: dict[str, Path], tmp_path: Path, name: str
) -> None:
    preset = write_few(name, tmp_path)
    prior = priors["isdm" if name.startswith("isdm") else "msdm"]
    separator = Separator.from_pretrained(prior, str(preset), level="none", device="cpu")
    mixture = song(1, 1, 22050, 22050)[None]
    stems = separator.separate_batch(mixture)
    assert tuple(stems) == STEMS
    waves = torch.stack(list(stems.values()))
    # What the four lack of the mixture is shared among them: roundings of float32 below 2.
    assert (waves.sum(0) - mixture[0]).abs().max() <= 8 * 2**-24
    assert waves.abs().max() < 2
