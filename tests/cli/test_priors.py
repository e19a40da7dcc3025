"""``mgdm-audio priors`` as a user meets it."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.priors import folder as checkpoint
from mgdm_audio.priors.folder import CONFIG, WEIGHTS, load_prior
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_autoencoder, tiny_unet
from tests.priors.public import SINGLE, hyper_parameters, make, owned, write
from tests.toys import STEMS


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["priors", *map(str, arguments)])
    # Anything else is a traceback in a user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


@pytest.fixture
def prior(tiny_prior: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_prior, tmp_path / "mine"))


@pytest.fixture
def bundled(prior: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny prior is the only one bundled."""
    monkeypatch.setattr(checkpoint, "PRETRAINED", prior.parent)
    return prior


def edit(prior: Path, **changes: object) -> None:
    config = json.loads((prior / CONFIG).read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (prior / CONFIG).write_text(json.dumps(kept))


def test_list_names_the_bundled_priors_and_those_of_a_folder(bundled: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled, tmp_path / "more" / "other")
    (tmp_path / "more" / "nothing").mkdir()
    row = "bass, drums, guitar, piano; 0.0 M parameters, 0.2 MB, 22050 Hz"
    assert run("list").stdout == f"mine: {row}\n"
    both = run("list", tmp_path / "more")
    assert both.stdout == f"mine: {row}\n{tmp_path / 'more' / 'other'}: {row}\n"


def test_list_says_what_is_wrong_with_one_and_goes_on(bundled: Path, tmp_path: Path) -> None:
    shutil.copytree(bundled, tmp_path / "also")
    (tmp_path / "also" / CONFIG).write_text("{")
    lines = run("list").stdout.splitlines()
    assert lines[0].startswith(f"also: {tmp_path / 'also' / CONFIG}: cannot be read")
    assert lines[1].startswith("mine: bass")


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_bug_in_one_prior_stops_no_other(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shutil.copytree(bundled, tmp_path / "also")
    module, function = {"list": ("show", "read"), "verify": ("verify", "check")}[command]
    place = sys.modules[f"mgdm_audio.cli.priors.{module}"]  # its name there is the command's
    whole = getattr(place, function)

    def fails(name: str) -> object:
        if name == "also":
            raise ZeroDivisionError("no such luck")
        return whole(name)

    monkeypatch.setattr(place, function, fails)
    result = run(command)
    bad, good = result.output.splitlines()
    assert "also: internal error (ZeroDivisionError: no such luck" in bad
    assert bad.endswith("; please report it")
    assert good.startswith("mine: ")
    assert result.exit_code == (command == "verify")


def test_list_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "none")
    assert run("list").stdout == "none\n"
    result = run("list", tmp_path / "none")
    assert (result.exit_code, result.stderr) == (1, f"error: {tmp_path / 'none'}: no such folder\n")


def test_show_tells_it_in_words(prior: Path) -> None:
    card = "# Mine\n\nA prior of nothing\nmuch.\n\n## Limits\n\nMany.\n\nWeights: CC0-1.0, say.\n"
    (prior / "README.md").write_text(card)
    shown = run("show", prior)
    table, _, paragraph = shown.stdout.partition("\n\n")
    rows = dict(line.split(None, 1) for line in table.splitlines())
    assert rows["name"] == "mine"
    assert rows["stems"] == "bass, drums, guitar, piano"
    assert rows["rate"] == "22050 Hz"
    assert rows["segment"] == "16384 samples (0.7 s)"
    assert rows["noise"] == "levels  1000 from 0.0005 to 20"
    assert rows["architecture"] == "tf_unet"
    assert rows["gain"].startswith("at most 1 on")  # as tests/networks/test_tf_unet.py checks
    assert rows["sha256"] == hash_file(prior / WEIGHTS)
    assert rows["licence"] == "CC0-1.0, say."
    assert paragraph == "A prior of nothing\nmuch.\n"


def test_show_says_what_it_does_not_know(prior: Path) -> None:
    (prior / WEIGHTS).unlink()
    edit(prior, sha256=None)
    shown = run("show", prior).stdout
    for absent in ("no model.safetensors", "not in config.json", "not in its model card"):
        assert absent in shown
    assert shown.endswith("It has no model card.\n")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a prior for images in pixels and one in latents."""
    schedule, folder = NoiseSchedule.karras(num_levels=10), tmp_path / "pictures" / "images"
    save_trained(folder / "grey", tiny_unet(1), schedule, (16, 12))
    save_trained(folder / "small", tiny_unet(2), schedule, (4, 4), tiny_autoencoder(3))
    return folder


def test_priors_for_images_are_listed_as_such(
    bundled: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run("list", pictures).stdout.splitlines()[1:]
    assert rows[0].startswith(f"{pictures / 'grey'}: images of 12 x 16 pixels, grey; 0.0 M")
    assert "images of 8 x 8 pixels, 3 channels, in latents; " in rows[1]
    monkeypatch.setattr(checkpoint, "PRETRAINED", pictures.parent)
    assert [row.split(":")[0] for row in run("list").stdout.splitlines()] == ["grey", "small"]
    assert checkpoint.list_priors() == []


def test_priors_for_images_are_shown_and_verified(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PRETRAINED", pictures.parent)
    table = run("show", "small").stdout.partition("\n\n")[0]
    rows = dict(row.split(None, 1) for row in table.splitlines())
    assert (rows["images"], rows["latents"]) == ("8 x 8 pixels, 3 channels", "2 x 4 x 4")
    assert rows.keys().isdisjoint({"stems", "rate"})
    result = run("verify")
    assert result.exit_code == 0, result.output
    ends = [row.partition("output ")[2] for row in result.stdout.splitlines()]
    assert ends == ["[1, 1, 16, 12]", "[1, 3, 8, 8]"]
    (pictures / "small" / "autoencoder" / WEIGHTS).unlink()
    result = run("verify", "small")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"autoencoder/{WEIGHTS}: missing" in result.stderr


def test_show_the_bundled_prior() -> None:
    """Its parameters are counted as its model card does."""
    shown = run("show", checkpoint.DEFAULT_PRIOR).stdout
    assert "10.1 M parameters" in shown
    assert "Apache-2.0" in shown
    assert "A diffusion prior over the stems" in shown


def test_an_unknown_prior_names_the_nearest(bundled: Path) -> None:
    result = run("show", "mien")
    assert result.exit_code == 1
    assert "no prior named 'mien', nor such a folder; did you mean mine?" in result.stderr


def test_verify_a_sound_prior(bundled: Path) -> None:
    for names in ([], ["mine"], [str(bundled)]):
        result = run("verify", *names)
        assert result.exit_code == 0
        assert result.stdout == (
            f"{(names or ['mine'])[0]}: ok, sha256 {hash_file(bundled / WEIGHTS)[:12]}, "
            "finite weights, output [1, 4, 8192]\n"
        )


def damage(prior: Path, fault: str) -> None:
    tensors = load_file(prior / WEIGHTS)
    if fault == "hash":
        edit(prior, sha256="0" * 64)
    elif fault == "no hash":
        edit(prior, sha256=None)
    elif fault == "missing":
        (prior / WEIGHTS).unlink()
    else:
        if fault == "not finite":
            tensors["enter.bias"][0] = float("nan")
        elif fault == "shape":
            tensors["enter.bias"] = torch.zeros(3)
        else:  # every weight is finite, their product is not
            tensors["enter.weight"].fill_(1e38)
            tensors["leave.weight"].fill_(1e38)
        save_file(tensors, prior / WEIGHTS)
        edit(prior, sha256=hash_file(prior / WEIGHTS))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("hash", "is not the 000000000000 of config.json"),
        ("no hash", "lacks 'sha256'"),
        ("missing", "missing"),
        ("not finite", "'enter.bias' is not finite"),
        ("shape", "misshapen 'enter.bias'"),
        ("output", "gives values that are not finite"),
    ],
)
def test_verify_gives_a_fault_a_line_and_goes_on(
    bundled: Path, tmp_path: Path, fault: str, says: str
) -> None:
    bad = Path(shutil.copytree(bundled, tmp_path / "bad"))
    damage(bad, fault)
    result = run("verify", "bad", "mine")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: bad: {bad}")
    assert says in line
    assert result.stdout.startswith("mine: ok")


@pytest.fixture
def public() -> ModuleType:
    return pytest.importorskip("audio_diffusion_pytorch")


def test_convert_a_checkpoint(public: ModuleType, tmp_path: Path) -> None:
    path = write(tmp_path / "m.ckpt", owned(make(public)), hyper_parameters(public))
    result = run("convert", path, "-o", tmp_path / "p", "--mixture-rms", "0.1")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        f"{tmp_path / 'p'}: bass, drums, guitar, piano; 1.7 M parameters, 7.0 MB, 22050 Hz\n"
    )
    assert result.stderr == ""
    assert load_prior(tmp_path / "p").mixture_rms == 0.1
    assert run("verify", tmp_path / "p").exit_code == 0
    assert "licence       its authors'" in run("show", tmp_path / "p").stdout


def test_convert_names_what_it_takes_as_published(public: ModuleType, tmp_path: Path) -> None:
    settings = hyper_parameters(public)
    del settings["diffusion_sigma_data"]
    path = write(tmp_path / "a=b.ckpt", owned(make(public)), settings)  # a file, not a stem
    result = run("convert", path, "-o", tmp_path / "p", "--stems", "a,b,c,d", "--no-average")
    assert result.stderr == f"{path}: does not say diffusion_sigma_data = 0.2; taken as published\n"
    assert load_prior(tmp_path / "p").stems == ("a", "b", "c", "d")


def test_convert_one_checkpoint_a_stem(public: ModuleType, tmp_path: Path) -> None:
    settings = hyper_parameters(public, SINGLE)
    pairs = [
        f"{stem}={write(tmp_path / stem, owned(make(public, SINGLE, seed)), settings)}"
        for seed, stem in enumerate(STEMS)
    ]
    assert run("convert", *pairs, "-o", tmp_path / "p").exit_code == 0
    assert run("verify", tmp_path / "p").exit_code == 0
    assert load_prior(tmp_path / "p").config["model_type"] == "joint_unet_1d"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.ckpt"], "none.ckpt: no such file"),
        (["a.ckpt", "b.ckpt"], "a.ckpt: give one checkpoint, or STEM=CHECKPOINT"),
        (["bass=a.ckpt", "bass=b.ckpt"], "bass: give one checkpoint, or STEM=CHECKPOINT once"),
        (["bass="], "bass: give one checkpoint"),
        (["=a.ckpt"], "stem '' is not a valid"),
        (["bass=a.ckpt", "--stems", "bass"], "--stems bass: the stems are named already"),
        (["bass=none.ckpt", "drums=none.ckpt"], "bass=none.ckpt: no such file"),
        (["run/epoch=09-loss=0.1.ckpt"], "run/epoch=09-loss=0.1.ckpt: no such file"),
        (["none.ckpt", "--mixture-rms", "-1"], "mixture_rms must be positive"),
    ],
)
def test_convert_refuses_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    result = run("convert", *arguments, "-o", tmp_path / "p")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert list(tmp_path.iterdir()) == []
