"""The examples of README.md and of the guides on extending the package do what they say."""

import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mgdm_audio.audio.io import read, write
from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.measurement import GaussianLikelihood, MixtureSum
from mgdm_audio.priors.architectures import ARCHITECTURES
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import SAMPLERS
from tests.guides import EXAMPLES, RATE, forget, run, type_in
from tests.measurement import test_operators
from tests.plugin import install
from tests.priors.public import hyper_parameters, make, owned
from tests.priors.public import write as write_checkpoint
from tests.samplers import test_samplers
from tests.toys import STEMS, song


def test_python_in_three_lines(here: Path) -> None:
    stems = run("python")["stems"]
    mixture = read("song.mp3").samples
    assert tuple(stems) == (*STEMS, "other")
    # Sums of five float32 stems, each rounded in several steps.
    assert (sum(stems.values()) - mixture).abs().max() < 1e-6
    stems.save("out/song")
    assert (here / "out/song/separation.json").is_file()


def test_tensors_and_progress(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("tensors")
    *shares, shapes = capsys.readouterr().out.splitlines()
    assert shares[-1] == "100%"
    assert shapes == str(dict.fromkeys((*STEMS, "other"), (2, 44100)))
    assert (sum(found["stems"].values()) - found["samples"]).abs().max() < 1e-6


def test_msdm_s_weights(here: Path) -> None:
    public: ModuleType = pytest.importorskip("audio_diffusion_pytorch")
    write_checkpoint(here / "msdm.ckpt", owned(make(public)), hyper_parameters(public))
    few = ["--set", "num_steps=4", "--set", "gibbs_steps=1", "--set", "denoise_steps=2"]
    type_in("msdm", separate=few)
    assert {path.stem for path in (here / "stems/song").glob("*.wav")} == set(STEMS)


def test_training_on_one_s_own_stems(here: Path) -> None:
    pytest.importorskip("accelerate")
    for number, name in enumerate(("train/a", "train/b", "validation/c")):
        (folder := here / "mine" / name).mkdir(parents=True)
        for stem, wave in zip(STEMS, song(number, 4, 3000, RATE), strict=True):
            write(folder / f"{stem}.wav", wave[None], RATE)
    (here / "conf.toml").write_text(EXAMPLES["conf.toml"])
    small = ["data.segment=512", "data.validation_segments=2", "model.bins=64", "training.batch=2"]
    small += ["model.channels=[16, 32]", "model.blocks=[1, 1]", "schedule.steps=2"]
    # accelerate fixes the precision of a process: that of the other tests' runs.
    small += ["schedule.warmup=1", "schedule.decay=1", "training.precision=no"]
    words = [word for setting in small for word in ("--set", setting)]
    state = torch.get_rng_state()
    type_in("train", train=words, separate=["--samples", "1"])
    torch.set_rng_state(state)
    assert load_prior("RUN/prior").config["step"] == 2
    assert {path.stem for path in (here / "stems/song").glob("*.wav")} == set(STEMS)


def test_a_sampler(here: Path) -> None:
    found = run("sampler")
    assert found["stems"].report["options"] == {"num_steps": 10}
    assert found["stems"].report["draws"] == 2
    # What is shared by all samplers, on the prior of their tests.
    sampler = found["Replacement"](num_steps=5)
    denoiser = GaussianDenoiser(0.01 * torch.eye(32, dtype=torch.float64))
    prior = Prior(denoiser, NoiseSchedule.karras(), (4, 8))
    operator = MixtureSum(4)
    y = 0.2 * randn((3, 1, 8), generator=generator_for(1), dtype=torch.float64)
    likelihood = GaussianLikelihood(operator, y, 1e-2)
    for dtype in (torch.float32, torch.float64):
        test_samplers.test_shape_type_and_finiteness(sampler, prior, likelihood, dtype)
    test_samplers.test_the_generator_decides_and_nothing_else(sampler, prior, likelihood)
    test_samplers.test_an_item_does_not_depend_on_its_batch(sampler, prior, likelihood)
    test_samplers.test_what_it_is_given_stays_as_it_was(sampler, prior, likelihood)
    test_samplers.test_stepping_by_hand_is_sampling(sampler, prior, likelihood)
    drawn = sampler.sample(prior, likelihood, generator=generator_for(0))
    torch.testing.assert_close(operator(drawn), y, rtol=0, atol=1e-12)  # its last estimate fits


def test_an_operator(here: Path) -> None:
    found = run("operator")
    assert found["drawn"].shape == (1, 5, 2**14)
    residual = found["likelihood"].residual(found["drawn"])
    assert residual.abs().max() < 0.1 * found["likelihood"].y.abs().max()
    echo = found["Echo"](2, 0.5)
    test_operators.test_the_adjoint(echo, torch.float64, 1e-12)
    test_operators.test_the_pseudo_inverse(echo)
    test_operators.test_items_do_not_meet(echo)
    for rho in (0.3, torch.tensor([0.1, 1.0, 10.0])):
        test_operators.test_the_damped_pinv_is_the_dense_one(echo, rho)


def test_a_prior(here: Path) -> None:
    found = run("prior")
    assert found["stems"].report["prior"] == "coloured"
    # In closed form: of white noise of variance v, the share v / (v + sigma^2) is kept.
    config = found["ColouredConfig"]()
    network = found["Coloured"](config).requires_grad_(False)
    network.corner[:] = 1e9
    x = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0))
    want = x * 0.05**2 / (0.05**2 + torch.tensor([0.1, 0.2]).reshape(2, 1, 1) ** 2)
    torch.testing.assert_close(network(x, torch.tensor([0.1, 0.2])), want, rtol=0, atol=1e-6)


OWN = {"replacement": "sampler", "coloured": "prior", "peak": "metric"}  # file: example


def on_the_command_line(here: Path, without: str = "") -> None:
    """The commands that use the user's own sampler, prior and metric, ``without`` words of them."""
    (here / "mine.toml").write_text('sampler = "replacement"\n[options]\nnum_steps = 10\n')
    run("prior")  # writes the prior folder
    forget()
    for stem, wave in zip(STEMS, song(2, 4, 3 * RATE, RATE), strict=True):
        for folder in ("TRUE_STEMS/song", "stems/song"):
            (here / folder).mkdir(parents=True, exist_ok=True)
            write(here / folder / f"{stem}.wav", wave[None], RATE)
    type_in("own-metric", without, score=["-o", "scores.json"])
    scores = json.loads((here / "scores.json").read_text())
    assert scores["summaries"]["peak"]["value"] == {**dict.fromkeys(STEMS, 0.0), "all": 0.0}
    type_in("own-sampler", without, separate=["--set", "num_steps=2"])
    record = json.loads((here / "stems/song/separation.json").read_text())
    assert (record["sampler"], record["options"]) == ("mine", {"num_steps": 2})
    type_in("own-prior", without, separate=["--set", "num_steps=4", "--set", "gibbs_steps=1"])
    record = json.loads((here / "stems/song/separation.json").read_text())
    assert record["prior"] == "coloured"


def test_one_s_own_from_files(here: Path) -> None:
    for file, example in OWN.items():
        (here / f"{file}.py").write_text(EXAMPLES[example])
    on_the_command_line(here)


def test_one_s_own_from_an_installed_package(here: Path) -> None:
    tables = tomllib.loads(EXAMPLES["pyproject.toml"])["project"]["entry-points"]
    assert tables.keys() == {table.group for table in (SAMPLERS, ARCHITECTURES, METRICS)}
    files = {file: EXAMPLES[example] for file, example in OWN.items()}
    sys.path.append(str(install(here / "site", "mine", tables, **files)))
    on_the_command_line(here, r" --import \S+")
