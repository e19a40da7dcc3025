"""Prior directories: bit-exact round trips, and one clear line for everything that is wrong."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.priors import folder as checkpoint
from mgdm_audio.priors.folder import (
    CONFIG,
    WEIGHTS,
    find_prior,
    list_priors,
    load_prior,
    save_prior,
)
from tests.toys import STEMS, TINY, tiny_network

DETAILS = {
    "schedule": {"kind": "karras"},
    "stems": list(STEMS),
    "sample_rate": 22050,
    "mixture_rms": 0.08,
}


@pytest.fixture
def folder(tiny_prior: Path, tmp_path: Path) -> Path:
    """A prior directory to damage."""
    return Path(shutil.copytree(tiny_prior, tmp_path / "mine"))


def edit(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes one."""
    config = json.loads((folder / CONFIG).read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors, and let config.json have no hash of them."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    edit(folder, sha256=None)


def refusal(name_or_dir: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        load_prior(name_or_dir)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_what_is_saved_is_loaded_bit_for_bit(folder: Path) -> None:
    network, loaded = tiny_network(0), load_prior(folder)
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name
    x, y = torch.randn(2, 2, 4, 300, generator=torch.Generator().manual_seed(0)).split(1)
    x, y = x[0], y[0].sum(1, keepdim=True)
    sigma = torch.tensor(0.1)
    assert torch.equal(loaded.prior.denoiser(x, sigma), network(x, sigma))
    given = loaded.prior.denoiser.given(y)  # type: ignore[attr-defined]
    assert torch.equal(given(x, sigma), network(x, sigma, y))


def test_a_loaded_prior_says_what_it_is(folder: Path) -> None:
    loaded = load_prior(folder)
    assert (loaded.name, loaded.path) == ("mine", folder)
    assert (loaded.stems, loaded.sample_rate, loaded.mixture_rms) == (STEMS, 22050, 0.08)
    assert loaded.prior.event_shape == (4, 2**14)
    assert torch.equal(loaded.prior.schedule.sigma, NoiseSchedule.karras().sigma)
    assert loaded.sha256 == loaded.config["sha256"]
    assert loaded.config["model"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert not loaded.network.training


def test_saving_again_replaces_both_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    for seed in (1, 2):
        save_prior(tmp_path / "a" / "b", tiny_network(seed), TINY, "tf_unet", DETAILS)
        assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == [CONFIG, WEIGHTS]
        loaded = load_prior(tmp_path / "a" / "b").network.state_dict()
        assert torch.equal(loaded["enter.weight"], tiny_network(seed).state_dict()["enter.weight"])


def test_the_waveform_network_is_wrapped_by_its_sigma_data(tmp_path: Path) -> None:
    shape = UNet1dConfig(
        sources=2,
        channels=16,
        patch=4,
        multipliers=(1, 1),
        factors=(2,),
        blocks=(1,),
        attentions=(False,),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet1d(shape).eval()
    details = DETAILS | {"stems": ["a", "b"], "sigma_data": 0.2}
    save_prior(tmp_path, network, shape, "unet_1d", details)
    loaded = load_prior(tmp_path)
    assert isinstance(loaded.network, UNet1d)
    x = torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.3])
    total = 0.3**2 + 0.2**2
    with torch.no_grad():
        f = network(x / total**0.5, sigma.log() / 4)
    want = 0.2**2 / total * x + 0.3 * 0.2 / total**0.5 * f
    assert (loaded.prior.denoiser(x, sigma) - want).abs().max() < 1e-6  # float32, values near 1
    edit(tmp_path, sigma_data=None)
    assert "lacks 'sigma_data'" in refusal(tmp_path)


def test_bundled_priors_go_by_name(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "none")
    assert list_priors() == []
    assert "no prior named 'mini'" in refusal("mini")
    monkeypatch.setattr(checkpoint, "PRETRAINED", tiny_prior.parent)
    (tiny_prior.parent / "no-prior").mkdir(exist_ok=True)
    assert list_priors() == ["tiny"]
    assert find_prior("tiny") == tiny_prior
    assert load_prior("tiny").name == "tiny"
    assert "did you mean tiny?" in refusal("tinny")


def test_a_prior_for_images_is_refused_for_sound(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"model_type": "unet_2d"}')
    assert refusal(tmp_path) == f"{tmp_path}: a prior for images; give it to mgdm-audio restore"


@pytest.mark.parametrize("make", ["nothing", "an empty folder", "a file"])
def test_places_that_hold_no_prior(tmp_path: Path, make: str) -> None:
    path = tmp_path / "here"
    if make == "an empty folder":
        path.mkdir()
    elif make == "a file":
        path.write_text("{}")
    want = {"nothing": "no prior named", "an empty folder": f"no {CONFIG}", "a file": "directory"}
    message = refusal(path)
    assert str(path) in message
    assert want[make] in message


@pytest.mark.parametrize(
    "text", ["", "{", '{"model_type": "tf_unet"', "[]", "3", "null", "\x00", "\xff\xfe"]
)
def test_a_config_that_is_none(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    assert str(folder / CONFIG) in refusal(folder)


@pytest.mark.parametrize("key", ["model_type", "model", *DETAILS])
def test_a_config_that_lacks_a_key(folder: Path, key: str) -> None:
    edit(folder, **{key: None})
    assert f"{folder / CONFIG}: lacks '{key}'" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({"model_type": "tf_unet2"}, "model_type 'tf_unet2' is unknown; did you mean tf_unet"),
        ({"model_type": "os.system"}, "is unknown"),
        ({"model": 3}, "model"),
        ({"model": {"binz": 64}}, "unknown key 'binz'; did you mean bins"),
        ({"model": {"bins": "64"}}, "bins"),
        ({"model": {"channels": [16, 40]}}, "channels"),
        ({"schedule": {"kind": "cosmic"}}, "cosmic"),
        ({"schedule": {"kind": "karras", "rh": 3}}, "rh"),
        ({"schedule": 3}, CONFIG),
        ({"stems": 4}, CONFIG),
        ({"stems": ["one"]}, "1 stems for 4 sources"),
        # A stem's name becomes a file's: none may lead out of the folder or replace another.
        ({"stems": ["../../a", "b", "c", "d"]}, "'../../a' is not a valid"),
        ({"stems": ["/a", "b", "c", "d"]}, "'/a' is not a valid"),
        ({"stems": [".a", "b", "c", "d"]}, "'.a' is not a valid"),
        ({"stems": ["", "b", "c", "d"]}, "'' is not a valid"),
        ({"stems": ["a", "a", "c", "d"]}, "'a' is not a valid"),
        ({"schedule": {"kind": "karras", "num_levels": -5}}, CONFIG),
        ({"sample_rate": 0}, "must be positive"),
        ({"mixture_rms": -1}, "must be positive"),
        ({"segment": 0}, "must be positive"),
        ({"sample_rate": "fast"}, "fast"),
        ({"sample_rate": [22050]}, CONFIG),
        ({"mixture_rms": {}}, CONFIG),
        ({"segment": "long"}, "long"),
        ({"sha256": 7}, "hash"),
    ],
)
def test_a_config_with_a_wrong_value(folder: Path, changes: dict[str, Any], want: str) -> None:
    edit(folder, **changes)
    message = refusal(folder)
    assert want in message
    assert str(folder) in message


def test_weights_that_are_missing(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    message = refusal(folder)
    assert str(folder / WEIGHTS) in message
    assert "missing" in message


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_opened(folder: Path) -> None:
    torch.save({"enter.weight": Bomb(folder / "fired")}, folder / WEIGHTS)
    edit(folder, sha256=None)
    message = refusal(folder)
    assert str(folder / WEIGHTS) in message
    assert "pickled weights are never opened" in message
    assert not (folder / "fired").exists()


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_weights_that_are_cut_short(folder: Path, keep: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    assert len(whole) > 5000
    (folder / WEIGHTS).write_bytes(whole[:keep])
    assert str(folder / WEIGHTS) in refusal(folder)


def test_weights_of_another_hash(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1  # the last value's exponent or sign: a number still
    (folder / WEIGHTS).write_bytes(data)
    message = refusal(folder)
    assert str(folder / WEIGHTS) in message
    assert "hash" in message
    edit(folder, sha256=None)  # a config without a hash promises none
    load_prior(folder)


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (lambda t: t.pop("enter.bias"), "lacks 'enter.bias' (1 in all)"),
        (lambda t: t.update({"extra": torch.zeros(2)}), "has unknown 'extra' (1 in all)"),
        (lambda t: t.update({"enter.bias": torch.zeros(7)}), "has misshapen 'enter.bias'"),
        (lambda t: t["enter.bias"].fill_(float("nan")), "'enter.bias' is not finite"),
        (lambda t: t["scale"][1, 5:6].fill_(float("inf")), "'scale' is not finite"),
        (lambda t: t.clear(), "lacks"),
    ],
)
def test_weights_that_do_not_fit(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], want: str
) -> None:
    rewrite(folder, change)
    message = refusal(folder)
    assert str(folder / WEIGHTS) in message
    assert want in message
