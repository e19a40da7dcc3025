"""The bundled priors of mini_slakh have the shapes of their configurations, to start from them."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mgdm_audio.config import from_mapping, load_toml
from mgdm_audio.networks.tf_unet import TFUNetConfig
from mgdm_audio.priors.folder import list_priors, read_config
from mgdm_audio.training.stem_run import DataConfig
from tests.recipes.test_scripts import ROOT, needs_shell

FOLDER = ROOT / "egs/mini_slakh/prior"
CONFIGS = {
    "mini-slakh-v1": FOLDER / "conf/tf_unet.toml",
    "mini-slakh-v2": FOLDER / "conf/tf_unet_large.toml",
    "mini-slakh-v3": FOLDER.parent / "five_stems/conf/five_stems.toml",
}


def test_each_has_its_configuration() -> None:
    assert sorted(CONFIGS) == list_priors()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bundled_prior_has_the_shape_of_its_configuration(name: str) -> None:
    table = load_toml(CONFIGS[name])
    data = from_mapping(DataConfig, table["data"], "data")
    shape = from_mapping(TFUNetConfig, table["model"], "model")
    prior = read_config(name)
    assert (prior.stems, prior.sample_rate) == (data.stems, data.sample_rate)
    assert prior.shape == replace(shape, sources=len(data.stems))


@needs_shell
@pytest.mark.parametrize("start", [[], ["--init", "mini-slakh-v2"]])
def test_the_accelerator_s_script_passes_on_what_to_start_from(
    tmp_path: Path, start: list[str]
) -> None:
    stub, log = tmp_path / "python", tmp_path / "calls"
    stub.write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n')
    stub.chmod(0o755)
    for number in range(60):  # it waits for so many songs
        (tmp_path / f"out/train/Track{number:05d}").mkdir(parents=True)
    command = ["bash", str(FOLDER / "run_accelerator.sh"), "--python", str(stub), *start]
    subprocess.run([*command, "--out", str(tmp_path / "out"), "--set", "a.b=1 c=2"], check=True)
    (call,) = [line.split() for line in log.read_text().splitlines() if "cli.main train" in line]
    assert call[3:7] == ["conf/tf_unet_large.toml", "-o", str(tmp_path / "out/run"), "--set"]
    assert call[-len(["--set", "a.b=1", "--set", "c=2", *start]) :] == [
        "--set", "a.b=1", "--set", "c=2", *start
    ]  # fmt: skip
