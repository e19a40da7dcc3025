"""``mgdm-audio train``: from a TOML file and folders of stems to a prior directory."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mgdm_audio.cli.main import main
from mgdm_audio.engine import device
from mgdm_audio.engine.locks import lock
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.priors.hub import CARD
from mgdm_audio.training import loop
from mgdm_audio.training.card import MARK
from mgdm_audio.training.log import BOARD, LOG
from mgdm_audio.training.state import STATE, read_settings
from tests.killing import leftovers
from tests.toys import STEMS, TINY, TINY_TOML, song, tiny_network

pytest.importorskip("accelerate")

CONFIG = """
[data]
train = "{root}/train"
validation = "{root}/validation"
segment = 512
validation_segments = 2
augment = {{ gain = 1.0 }}

[schedule]
steps = 3
kind = "stable"
warmup = 2
decay = 1

[training]
batch = 2
precision = "no"
save_every = 2
validate_every = 2
validation_sigmas = [0.1]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TOML file beside two songs to train on and one to validate with."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for i, name in enumerate(("train/one", "train/two", "validation/three")):
        (tmp_path / name).mkdir(parents=True)
        for k, samples in enumerate(song(i, 4, 2000, 22050)):
            soundfile.write(tmp_path / name / f"{STEMS[k]}.wav", samples.numpy(), 22050, "PCM_16")
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG.format(root=tmp_path) + TINY_TOML)
    return path


def train(config: Path, *arguments: str | Path) -> Result:
    words = ["train", str(config), "-o", str(config.parent / "run"), *map(str, arguments)]
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def complaint(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def notes(result: Result) -> list[str]:
    """The lines of standard error without those on the device and the pace."""
    lines = result.stderr.splitlines()
    return [line for line in lines if not line.startswith(("device: ", "step "))]


def records(config: Path) -> list[dict[str, Any]]:
    return [json.loads(s) for s in (config.parent / "run" / LOG).read_text().splitlines()]


def test_a_run_ends_in_a_prior_that_separates(config: Path) -> None:
    state = torch.get_rng_state()
    result = train(config)
    torch.set_rng_state(state)
    assert result.exit_code == 0, result.output
    run = config.parent / "run"
    assert result.stdout == f"step 3: the prior is in {run / 'prior'}\n"
    assert {p.name for p in run.iterdir()} - {BOARD} == {LOG, "prior", STATE}
    loaded = load_prior(run / "prior")
    assert (loaded.stems, loaded.sample_rate) == (STEMS, 22050)
    assert loaded.network.config == TINY
    assert loaded.config["step"] == 3
    assert loaded.prior.schedule.num_levels == 1000
    average = load_file(run / STATE)
    for name, parameter in loaded.network.named_parameters():
        assert torch.equal(parameter, average[f"average.{name}"]), name
    # Songs peak at 0.5 by construction; their sum's rms is what inputs are brought to.
    assert 0.05 < loaded.mixture_rms < 0.5
    kinds = [("validation" in r, r["step"]) for r in records(config)]
    assert kinds == [(False, 2), (True, 2), (False, 3), (True, 3)]
    assert records(config)[-1]["validation"].keys() == {"prior@0.1", "given@0.1"}
    out = config.parent / "out"
    words = ["separate", str(config.parent / "train" / "one" / "bass.wav"), "-o", str(out)]
    words += ["--prior", str(run / "prior"), "--sampler", "wiener", "--samples", "1"]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert (out / "bass" / "separation.json").is_file()


def test_the_same_command_resumes(config: Path) -> None:
    assert train(config, "--set", "schedule.steps=1").exit_code == 0
    assert train(config, "--set", "schedule.steps=2").exit_code == 0
    # An unbroken run is validated at its end alone.
    assert [(r["step"], "validation" in r) for r in records(config)] == [
        (1, False),
        (2, False),
        (2, True),
    ]
    assert load_prior(config.parent / "run" / "prior").config["step"] == 2
    line = complaint(train(config, "--set", "model.mixing=8"))
    assert f"{STATE}: was trained with another model.mixing (4 -> 8)" in line


def test_a_resumed_run_ends_where_an_unbroken_one_does(config: Path) -> None:
    # The rate is the same until the last step whatever their number is.
    for steps in (2, 4):
        result = train(config, "--set", f"schedule.steps={steps}", "--set", "schedule.decay=0")
        assert (result.exit_code, notes(result)) == (0, [])
    run = config.parent / "run"
    run.rename(broken := config.parent / "broken")
    assert train(config, "--set", "schedule.steps=4", "--set", "schedule.decay=0").exit_code == 0
    states = [load_file(folder / STATE) for folder in (broken, run)]
    assert states[0].keys() == states[1].keys()
    assert [n for n in states[0] if not torch.equal(states[0][n], states[1][n])] == []
    for name in ("model.safetensors", "config.json"):
        assert (broken / "prior" / name).read_bytes() == (run / "prior" / name).read_bytes()


def test_device_precision_and_pace_are_said_off_a_terminal(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # accelerate keeps one precision for the process, which is that of the other tests.
    monkeypatch.setattr(loop, "fast_precision", lambda device: "float32")
    count = sum(p.numel() for p in tiny_network(0).parameters())
    result = train(config, "--set", "training.precision=auto")
    first, *paces = result.stderr.splitlines()
    assert first == (f"device: cpu; precision float32 (auto); {count:,} parameters; 3 steps to do")
    # After the first two steps, and where the log has a line: at step 2 and at the end.
    form = re.compile(r"step (\d) of 3: loss [\d.e+-]+, [\d.e+-]+ s a step, \d+ (s|min) left")
    assert [form.fullmatch(line)[1] for line in paces] == ["1", "2", "3"]  # type: ignore[index]
    assert paces[-1].endswith(" a step, 0 s left")
    result = train(config, "--set", "schedule.steps=5")  # goes on from step 3
    assert "precision float32 (asked for)" in result.stderr
    assert "; 2 steps to do" in result.stderr
    assert [line.split()[1] for line in result.stderr.splitlines() if "left" in line] == ["4", "5"]


def test_auto_is_the_precision_of_separation(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for fast, name in (("bfloat16", "bf16"), ("float32", "no")):
        monkeypatch.setattr(loop, "fast_precision", lambda device, fast=fast: fast)
        assert loop.mixed_precision("auto", cpu) == name
    assert [loop.mixed_precision(asked, cpu) for asked in ("bf16", "no")] == ["bf16", "no"]
    monkeypatch.undo()
    assert loop.fast_precision is device.fast_precision


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3570, "1 h 0 min"), (14_900, "4 h 8 min")],
)
def test_times_are_said_in_words(seconds: float, words: str) -> None:
    assert loop.in_words(seconds) == words


def test_stems_of_another_rate_are_trained_on_and_a_resume_repeats(config: Path) -> None:
    for path in config.parent.glob("*/*/*.wav"):
        samples = soundfile.read(path)[0]
        soundfile.write(path, torch.tensor(samples).repeat(2, 2).T.numpy(), 44100, "FLOAT")
    for steps in (2, 4):
        result = train(config, "--set", f"schedule.steps={steps}", "--set", "schedule.decay=0")
        assert result.exit_code == 0, result.output
        said = [line for line in notes(result) if "(8 of 44,100 Hz 2 channels)" in line]
        assert len(said) == 1, result.stderr  # and one on the validation's
    (run := config.parent / "run").rename(broken := config.parent / "broken")
    assert train(config, "--set", "schedule.steps=4", "--set", "schedule.decay=0").exit_code == 0
    assert (broken / "prior/model.safetensors").read_bytes() == (
        run / "prior/model.safetensors"
    ).read_bytes()
    assert load_prior(run / "prior").sample_rate == 22050


def test_a_run_goes_on_with_other_settings_and_says_so(config: Path) -> None:
    assert train(config, "--set", "schedule.steps=1").exit_code == 0
    run = config.parent / "run"
    level = load_prior(run / "prior").mixture_rms
    # Of louder data: the level stays that of the scale, which is the old data's too.
    loud = ("data.augment={gain = 12.0}", "training.seed=3", "noise.given=0.25", "schedule.steps=2")
    result = train(config, *(word for change in loud for word in ("--set", change)))
    assert result.exit_code == 0
    (line,) = notes(result)
    assert line == (
        f"{run}: goes on with other settings: data.augment.gain 1.0 -> 12.0, "
        "noise.given 0.5 -> 0.25, training.seed 0 -> 3"
    )
    assert load_prior(run / "prior").mixture_rms == level


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ('data.stems=["drums", "bass", "guitar", "piano"]', 'data.stems (["bass", "drums"'),
        ("data.sample_rate=44100", "data.sample_rate (22050 -> 44100)"),
        ("model.bin_weight=1", "model.bin_weight (0.5 -> 1.0)"),  # of no tensor's shape
    ],
)
def test_a_run_keeps_its_stems_and_network(config: Path, override: str, why: str) -> None:
    assert train(config, "--set", "schedule.steps=1").exit_code == 0
    state = config.parent / "run" / STATE
    before = state.read_bytes()
    line = complaint(train(config, "--set", "schedule.steps=2", "--set", override))
    assert f"{state}: was trained with another {why}" in line
    assert state.read_bytes() == before


def test_a_state_from_before_settings_were_kept_goes_on(config: Path) -> None:
    assert train(config, "--set", "schedule.steps=1").exit_code == 0
    state = config.parent / "run" / STATE
    save_file({n: t.clone() for n, t in load_file(state).items()}, state, {"step": "1"})
    level = load_prior(config.parent / "run" / "prior").mixture_rms
    result = train(config, "--set", "schedule.steps=2")
    assert (result.exit_code, notes(result)) == (0, [])
    assert load_prior(config.parent / "run" / "prior").mixture_rms == level
    line = complaint(train(config, "--set", "model.bin_weight=1"))
    assert "bin_weight (0.5 -> 1.0)" in line


def test_it_starts_from_the_weights_it_is_given(config: Path, tiny_prior: Path) -> None:
    # A learning rate of zero keeps what it starts from.
    still = ("--set", "schedule.learning_rate=0", "--init", str(tiny_prior))
    assert train(config, *still).exit_code == 0
    got = load_prior(config.parent / "run" / "prior").network.state_dict()
    want = tiny_network(0).state_dict()
    for name, value in want.items():
        assert (got[name] - value).abs().max() < 1e-6, name  # averages of equals, in float32
    assert torch.equal(got["scale"], want["scale"])
    # Its level goes with its scale: not the data's, which is above 0.1.
    assert load_prior(config.parent / "run" / "prior").mixture_rms == 0.08


def test_a_start_may_differ_in_what_changes_no_shape(config: Path, tiny_prior: Path) -> None:
    still = ("--set", "schedule.learning_rate=0", "--init", str(tiny_prior))
    assert train(config, *still, "--set", "model.pivot=true").exit_code == 0
    assert load_prior(config.parent / "run" / "prior").network.config.pivot
    # A run keeps what it was started with.
    line = complaint(train(config, *still, "--set", "model.pivot=false"))
    assert "pivot (true -> false)" in line


def test_leakage_disturbs_the_examples_and_is_kept(config: Path) -> None:
    assert train(config, "--set", "schedule.steps=2").exit_code == 0
    plain = load_file(config.parent / "run" / STATE)
    (config.parent / "run").rename(config.parent / "plain")
    leak = ("--set", "leakage.share=1", "--set", "schedule.steps=2")
    assert train(config, *leak).exit_code == 0
    leaky = load_file(config.parent / "run" / STATE)
    assert any(not torch.equal(plain[name], leaky[name]) for name in plain)
    assert read_settings(config.parent / "run" / STATE)["leakage"]["share"] == 1
    line = complaint(train(config, "--set", "leakage.share=2"))
    assert "share = 2.0: give a share from 0 to 1" in line
    alone = ('data.stems=["bass"]', "noise.given=0", "leakage.share=1")
    line = complaint(train(config, *(word for each in alone for word in ("--set", each))))
    assert "one stem has no other to leak into" in line


def test_further_examples_of_one_call(config: Path) -> None:
    songs = f"one_call.train={config.parent / 'train'}"
    sets = ("--set", songs, "--set", "one_call.segment=256")
    assert train(config, *sets, "--set", "one_call.augment.gain=2.0").exit_code == 0
    kept = read_settings(config.parent / "run" / STATE)["one_call"]
    assert (kept["segment"], kept["augment"]["gain"], kept["augment"]["remix"]) == (256, 2.0, 0)
    log = (config.parent / "run" / LOG).read_text().splitlines()
    assert all(json.loads(line)["one_call"] > 0 for line in log if "loss" in json.loads(line))
    card = (config.parent / "run" / "prior" / CARD).read_text()
    assert "- with the mixture at the largest noise level: 2 songs" in card
    assert ", and 2 of 256 samples with the mixture at the largest noise level" in card
    (config.parent / "run").rename(config.parent / "another")
    for words, says in (
        (("one_call.segment=100",), "one_call.segment = 100: give a multiple of"),
        (("one_call.augment.gian=2.0",), "gian"),
        (("one_call.batch=0",), "batch = 0: give at least 1"),
    ):
        asked = (word for each in words for word in ("--set", each))
        assert says in complaint(train(config, "--set", songs, *asked))
    line = complaint(train(config, "--set", f"one_call.train={config.parent / 'no'}"))
    assert "no: no such folder of training tracks" in line
    alone = ('data.stems=["bass"]', "noise.given=0", songs)
    line = complaint(train(config, *(word for each in alone for word in ("--set", each))))
    assert "the mixture of one stem is that stem" in line


def test_prepared_data_are_trained_on_by_split(config: Path) -> None:
    (mapping := config.parent / "map.toml").write_text(
        "[stems]\n" + "".join(f"{stem} = ['{stem}']\n" for stem in STEMS)
    )
    out = config.parent / "prepared"
    words = ["prepare", "stems", str(config.parent), "--map", str(mapping), "-o", str(out)]
    words += ["--nj", "1", "--splits", "train,validation"]
    assert CliRunner().invoke(main, words).exit_code == 0
    sets = ("--set", f"data.train={out}", "--set", f"data.validation={out}/manifest.jsonl")
    assert train(config, *sets, "--set", "schedule.steps=2").exit_code == 0
    prepared = load_file(config.parent / "run" / STATE)
    (config.parent / "run").rename(config.parent / "another")
    assert train(config, "--set", "schedule.steps=2").exit_code == 0
    plain = load_file(config.parent / "run" / STATE)
    assert all(torch.equal(prepared[name], plain[name]) for name in plain)
    line = complaint(train(config, *sets, "--set", "data.validation_split=test"))
    assert "no track of split 'test'; its splits: train, validation" in line


def test_weights_of_another_shape_are_refused(config: Path, tiny_prior: Path) -> None:
    assert "no prior named" in complaint(train(config, "--init", "no-such-prior"))
    for change, why in (
        ("model.mixing=8", "model.mixing (4 -> 8)"),
        ('data.stems=["drums", "bass", "guitar", "piano"]', 'data.stems (["bass", "drums"'),
    ):
        line = complaint(train(config, "--init", tiny_prior, "--set", change))
        assert f"--init {tiny_prior}: was trained with another {why}" in line
    for path in config.parent.glob("*/*/*.wav"):
        soundfile.write(path, soundfile.read(path)[0], 16000, "PCM_16")
    line = complaint(train(config, "--init", tiny_prior, "--set", "data.sample_rate=16000"))
    assert "data.sample_rate (22050 -> 16000)" in line


def test_one_stem_has_no_mixture_to_be_shown(config: Path) -> None:
    one = ("--set", 'data.stems=["bass"]')
    line = complaint(train(config, *one))
    assert "noise.given = 0.5: the mixture of one stem is that stem" in line
    assert line.endswith("give --set noise.given=0")
    assert not (config.parent / "run").exists()
    assert train(config, *one, "--set", "noise.given=0").exit_code == 0
    assert records(config)[-1]["validation"].keys() == {"prior@0.1"}


def test_stems_are_those_of_the_config(config: Path) -> None:
    two = ("--set", 'data.stems=["drums", "bass"]', "--set", "data.sample_rate=22050")
    assert train(config, *two).exit_code == 0
    loaded = load_prior(config.parent / "run" / "prior")
    assert loaded.stems == ("drums", "bass")
    assert loaded.network.config.sources == 2


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("data.trian=x", "unknown key 'trian'; did you mean train"),
        ("modle.bins=64", "unknown key 'modle'; did you mean model"),
        ("model.binz=64", "model: unknown key 'binz'; did you mean bins"),
        ("model.channels=[16, 40]", "channels = (16, 40)"),
        ("model.bins=72", "bins = 72"),
        ("noise.centre=1", "noise: unknown key 'centre'; did you mean center"),
        ("schedule.stepz=1", "schedule: unknown key 'stepz'; did you mean steps"),
        ("schedule.kind=linear", "use 'cosine' or 'stable'"),
        ("training.batch=two", "training: batch: 'two' is not a whole number"),
        ("training.precision=fp4", "precision = 'fp4'"),
        ("training.save_every=0", "at least 1"),
        ("data.augment.pitch=13", "data.augment: pitch = 13.0: give 0 to 12 semitones"),
        ("data.augment.active=5", "active = 5: there are 4 stems"),
        ("data.augment.remix=much", "data.augment: remix: 'much' is not a number"),
        ("prior_schedule.kind=cosmic", "prior_schedule: unknown noise schedule 'cosmic'"),
        ("data.train=/no/such/folder", "/no/such/folder: no such folder of training tracks"),
        ("data.validation=/no/such/folder", "/no/such/folder"),
        ("data.stems=[]", "stems"),
        ("data.validation_segments=0", "validation_segments"),
        ("data.segment=0", "segment"),
    ],
)
def test_a_wrong_config_is_one_line(config: Path, override: str, why: str) -> None:
    assert why in complaint(train(config, "--set", override))
    assert not (config.parent / "run").exists()


def test_a_config_that_is_missing_or_no_toml(config: Path) -> None:
    assert "none.toml" in complaint(train(config.with_name("none.toml")))
    config.write_text("[data\n")
    line = complaint(train(config))
    assert str(config) in line
    assert "not TOML" in line
    config.write_text("[model]\nbins = 64\n")
    assert "missing key 'data'" in complaint(train(config))
    config.write_text("[data]\nstems = ['a']\n")
    assert "missing key 'train'" in complaint(train(config))


def spoil(path: Path, value: float, at: int = 100) -> None:
    samples = soundfile.read(path)[0]
    samples[at] = value
    soundfile.write(path, samples, 22050, "FLOAT")


def test_what_cannot_be_used_is_named_before_anything_is_written(config: Path) -> None:
    root = config.parent
    spoil(root / "train" / "one" / "drums.wav", float("nan"))
    assert "one/drums.wav: a sample is nan at 0.005 s" in complaint(train(config))
    for name in ("one", "two"):
        (root / "train" / name / "drums.wav").unlink()
    assert "no song has the stem 'drums'" in complaint(train(config))
    only = ("--set", 'data.stems=["bass", "piano"]')
    for path in (root / "train").rglob("*.wav"):
        soundfile.write(path, torch.zeros(2000).numpy(), 22050)
    assert "every sample of every song is 0" in complaint(train(config, *only))
    for path in (root / "train").rglob("*.wav"):
        soundfile.write(path, 1e-7 * torch.ones(2000).numpy(), 22050, "FLOAT")
    assert "as good as silence" in complaint(train(config, *only))
    assert not (root / "run").exists()


def test_a_log_of_silent_and_spoilt_validation_songs_is_json(config: Path) -> None:
    songs = config.parent / "validation" / "three"
    soundfile.write(songs / "bass.wav", torch.zeros(2000).numpy(), 22050)
    result = train(config)
    assert result.exit_code == 0
    assert "bass is silent; its validation is null" in result.stderr

    def refuse(word: str) -> None:
        raise AssertionError(word)

    lines = (config.parent / "run" / LOG).read_text().splitlines()
    last = [json.loads(line, parse_constant=refuse) for line in lines][-1]
    sources = last["validation"]["prior@0.1"]["sources"]
    assert sources[0] is None
    assert None not in sources[1:]
    spoil(songs / "piano.wav", float("inf"), 600)  # of the first segment
    result = train(config, "--set", "schedule.steps=4")
    assert result.exit_code == 0
    assert "three/piano.wav: a sample is inf at 0.027 s" in result.stderr
    assert "left out of the validation" in result.stderr


def test_a_run_in_a_folder_that_another_process_has_is_refused(config: Path) -> None:
    with lock(config.parent / "run", "training there"):
        line = complaint(train(config))
        assert f"run: process {os.getpid()} on " in line
        assert "is training there; wait for it, or choose another folder" in line
    assert train(config).exit_code == 0


def test_a_run_folder_that_cannot_be_made_is_one_line(config: Path) -> None:
    (config.parent / "run").touch()
    assert "run: cannot be written (File exists)" in complaint(train(config))


def test_what_a_killed_run_left_goes_with_the_next(
    config: Path,
) -> None:
    code = "import os, sys; from pathlib import Path; from mgdm_audio.atomic import *\n"
    code += "(run := Path(sys.argv[1])).mkdir()\n"
    code += "with replaced_folder(run / 'prior') as a: write_by(a / 'x', lambda b: os._exit(9))"
    subprocess.run([sys.executable, "-c", code, config.parent / "run"], check=False)
    assert len(leftovers(config.parent / "run")) == 2
    assert train(config).exit_code == 0
    assert leftovers(config.parent / "run") == []
    assert not (config.parent / "run" / ".lock").exists()


def test_the_model_card_says_what_the_run_did(config: Path) -> None:
    result = train(config, "--set", "training.licence=CC-BY-4.0")
    assert result.exit_code == 0, result.output
    prior = config.parent / "run/prior"
    card = (prior / CARD).read_text()
    assert "\nlicense: cc-by-4.0\n---\n" in card  # an identifier of the hub
    assert "\n\nLicence: CC-BY-4.0\n\n" in card
    count = sum(p.numel() for p in load_prior(prior).network.parameters())
    assert f"bass, drums, guitar, piano, 22,050 Hz mono: `tf_unet`, {count / 1e6:.1f} M" in card
    place = config.parent.name  # of the folder that holds train/ and validation/
    assert f"- training: 2 songs of `{place}/train`\n- validation: 1 song of" in card
    assert str(config.parent) not in card  # where they lie is nobody else's business
    assert "Step 3 of 3, each of 2 examples a process, 512 samples (0.0 s) each." in card
    logged = records(config)
    assert f"Training loss to step 3: {logged[-2]['loss']:.5g}." in card
    errors = logged[-1]["validation"]
    alone, given = (f"{errors[f'{mode}@0.1']['all']:.1f}" for mode in ("prior", "given"))
    assert f"| without the mixture | {alone} |\n| with the mixture | {given} |\n" in card
    assert "    mgdm-audio separate song.mp3 -o stems --prior FOLDER\n" in card
    shown = CliRunner().invoke(main, ["priors", "show", str(prior)]).stdout
    assert "licence       cc-by-4.0\n" in shown
    assert "A diffusion prior over the stems bass" in shown


def test_a_card_of_the_user_s_own_stays(config: Path) -> None:
    assert train(config, "--set", "schedule.steps=1").exit_code == 0
    path = config.parent / "run/prior" / CARD
    first = path.read_text()
    assert "Licence: not stated" in first
    assert "license:" not in first
    path.write_text("More of it.\n" + first)  # the line that says who wrote it is still there
    assert train(config, "--set", "schedule.steps=2").exit_code == 0
    second = path.read_text()
    assert "More of it." not in second
    assert "Step 2 of 2" in second
    path.write_text(own := second.replace(MARK, "Mine."))
    assert train(config, "--set", "schedule.steps=3").exit_code == 0
    assert path.read_text() == own
    assert load_prior(path.parent).config["step"] == 3


def test_a_card_says_only_what_the_log_has(config: Path) -> None:
    """A run without validation songs, and a log with lines that are no record."""
    (config.parent / "run").mkdir()
    (config.parent / "run" / LOG).write_text('{"step": 1, "validation": null}\n[1]\n{"ste\n')
    assert train(config, "--set", "data.validation=", "--set", "schedule.steps=2").exit_code == 0
    card = (config.parent / "run/prior" / CARD).read_text()
    assert "Training loss to step 2" in card
    assert "validation" not in card
    assert "sigma" not in card
