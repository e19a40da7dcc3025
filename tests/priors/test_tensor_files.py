"""Weights are compared with config.json before there is memory for them; damage is one line."""

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mgdm_audio import atomic
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.diffusion.posterior import MODES
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.priors import tensor_files
from mgdm_audio.priors.folder import CONFIG, WEIGHTS, load_prior, read_config, save_prior
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.trained_images import (
    load_autoencoder,
    load_trained,
    read_trained,
    save_autoencoder,
    save_trained,
)
from mgdm_audio.priors.tensor_files import outline, read_tensors
from tests.images.toys import tiny_autoencoder, tiny_unet
from tests.killing import killed_at_every_moment
from tests.toys import STEMS, TINY, tiny_network

HUGE = 2**40
BLOCKS = 2**30


@pytest.fixture
def folder(tiny_prior: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_prior, tmp_path / "mine"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        {"embedding": HUGE},
        {"mixing_hidden": HUGE},
        {"bins": HUGE},
        {"bins": 16 * HUGE, "patch": HUGE},
        {"channels": [16 * HUGE, 16]},
        {"blocks": [BLOCKS, 2]},
        {"blocks": [1, BLOCKS], "mixings": BLOCKS},
        {"sources": HUGE},
        {"embedding": 2**62},
    ],
)
def test_huge_sizes_in_config_json_are_one_line_at_once(
    folder: Path, model: dict[str, Any]
) -> None:
    """Built as it says, the network would take all memory there is, or years."""
    edit(folder, lambda config: config["model"].update(model))
    assert str(folder) in refusal(lambda: load_prior(folder))
    # And where the weights are not at hand, as for `priors show`.
    (folder / WEIGHTS).unlink()
    if "sources" in model or "blocks" in model:
        assert str(folder) in refusal(lambda: read_config(folder).networks())


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("unet_1d", {"channels": HUGE}),
        ("unet_1d", {"blocks": [BLOCKS]}),
        ("unet_1d", {"multipliers": [1, HUGE]}),
        ("unet_1d", {"heads": HUGE, "attentions": [True]}),
    ],
)
def test_huge_sizes_of_waveform_networks(tmp_path: Path, kind: str, model: dict[str, Any]) -> None:
    shape = UNet1dConfig(
        sources=2, channels=16, patch=4, multipliers=(1, 1), factors=(2,), blocks=(1,),
        attentions=(False,),
    )  # fmt: skip
    details = {"schedule": {"kind": "karras"}, "stems": ["a", "b"], "sample_rate": 22050,
               "mixture_rms": 0.1, "sigma_data": 0.2}  # fmt: skip
    save_prior(tmp_path / "prior", UNet1d(shape), shape, kind, details)
    edit(tmp_path / "prior", lambda config: config["model"].update(model))
    assert str(tmp_path / "prior") in refusal(lambda: load_prior(tmp_path / "prior"))


@pytest.mark.parametrize(
    ("place", "model"),
    [
        (".", {"widths": [8 * HUGE]}),
        (".", {"blocks": BLOCKS}),
        (".", {"embedding": HUGE}),
        ("autoencoder", {"widths": [8 * HUGE]}),
        ("autoencoder", {"latent_channels": HUGE}),
    ],
)
def test_huge_sizes_of_picture_networks(tmp_path: Path, place: str, model: dict[str, Any]) -> None:
    save_trained(tmp_path, tiny_unet(2), NoiseSchedule.linear(), (4, 4), tiny_autoencoder())
    edit(tmp_path / place, lambda config: config["model"].update(model))
    assert str(tmp_path) in refusal(lambda: load_trained(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schedule", {"kind": "karras", "num_levels": HUGE}),
        ("schedule", {"kind": "karras", "num_levels": 2.5}),
        ("schedule", {"kind": "karras", "rho": 1e-9}),
        ("schedule", {"kind": "karras", "rho": 0}),
        ("schedule", {"kind": "karras", "sigma_min": "a"}),
        ("schedule", {"kind": "karras", "sigma_max": True}),
        ("schedule", {"kind": "linear", "beta_end": -1}),
        ("schedule", {"kind": "table", "noise_level": "abc"}),
        ("schedule", {"kind": "table", "noise_level": [[0, 1], [2]]}),
        ("schedule", {"kind": ["karras"]}),
        ("schedule", [1]),
        ("stems", "abcd"),
        ("stems", [1, 2, 3, 4]),
        ("sample_rate", 22050.5),
        ("sample_rate", True),
        ("sample_rate", HUGE),
        ("segment", HUGE),
        ("mixture_rms", "0.1"),
        ("model_type", ["tf_unet"]),
        ("model", {"channels": [[16]]}),
        ("calibration", 3),
        ("calibration", {"sigmas": 1, "factors": {}, "exponents": {}}),
    ],
)
def test_wrong_types_and_ranges_of_config_json_are_one_line(
    folder: Path, key: str, value: object
) -> None:
    edit(folder, lambda config: config.update({key: value}))
    assert str(folder / CONFIG) in refusal(lambda: load_prior(folder))


def test_a_calibration_of_other_stems_is_refused(folder: Path) -> None:
    each = {mode: [[1.0]] for mode in MODES}
    fitted = {"sigmas": [1.0], "factors": each, "exponents": each}
    edit(folder, lambda config: config.update(calibration=fitted))
    assert "calibration: of 1 sources, not 4" in refusal(lambda: load_prior(folder))


@pytest.mark.parametrize(("key", "value"), [("size", "44"), ("size", [4]), ("size", [4, HUGE]),
                                            ("schedule", 3)])  # fmt: skip
def test_wrong_values_of_a_picture_prior(tmp_path: Path, key: str, value: object) -> None:
    save_trained(tmp_path, tiny_unet(2), NoiseSchedule.linear(), (4, 4))
    edit(tmp_path, lambda config: config.update({key: value}))
    assert str(tmp_path / CONFIG) in refusal(lambda: read_trained(tmp_path))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """As the format has it: the length of the header in 8 bytes, the header, and the data."""
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        with_header(b"{}")[:-1],
        with_header(b"[]"),
        with_header(b"\xff\xff"),
        with_header(b"[" * 10_000),
        with_header(b'{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4]}}'),
        with_header(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', bytes(4)),
        with_header(b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
        with_header(b'{"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}', bytes(4)),
        with_header(b'{"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}', bytes(8)),
        with_header(b'{"__metadata__": {"a": 1}}'),
    ],
)
def test_headers_of_safetensors(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, lambda config: config.pop("sha256"))
    assert str(folder / WEIGHTS) in refusal(lambda: load_prior(folder))


def test_a_pipe_in_place_of_weights_is_not_waited_for(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    assert "no regular file" in refusal(lambda: load_prior(folder))


def test_types_that_our_networks_have_are_read(tmp_path: Path) -> None:
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    tensors = {str(kind): torch.ones(2, dtype=kind) for kind in types}
    save_file(tensors, tmp_path / "a.safetensors")
    found = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    """They would all be 0, or nearly: a network that gives silence, without a word."""
    tensors = {name: tensor.int() for name, tensor in read_tensors(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text())
    config["sha256"] = hash_file(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"holds torch.int32; it does not fit config.json"):
        load_prior(folder)


def test_weights_that_are_replaced_while_they_are_read_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash in a record would else be that of other weights than were used."""
    other = Path(shutil.copy(folder / WEIGHTS, tmp_path / "other"))

    def replaced(path: Path) -> str:
        os.replace(other, path)
        return hash_file(path)

    monkeypatch.setattr(tensor_files, "hash_file", replaced)
    with pytest.raises(UserError, match="changed while it was read"):
        load_prior(folder)


def test_the_count_is_of_one_thread_alone(tmp_path: Path) -> None:
    """Another one may build a network meanwhile."""

    def build() -> nn.Module:
        other = threading.Thread(target=lambda: [nn.Linear(1, 1) for _ in range(1000)])
        other.start()
        other.join()
        return nn.Linear(1, 1)

    save_file({"a": torch.zeros(1)}, tmp_path / WEIGHTS)
    assert outline(build, tmp_path / WEIGHTS).weight.is_meta  # type: ignore[union-attr]
    with pytest.raises(UserError, match="describes far more than the 1 tensors"):
        outline(lambda: nn.ModuleList(nn.Linear(1, 1) for _ in range(10**9)), tmp_path / WEIGHTS)


@pytest.mark.parametrize("at_once", [True, False])  # as the file system can
def test_a_prior_that_is_killed_while_it_is_saved_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    def cannot(one: bytes, other: bytes) -> None:
        raise NotImplementedError

    if not at_once:
        monkeypatch.setattr(atomic, "_exchange_at_once", cannot)
    networks = {"old": tiny_network(1), "new": tiny_network(2)}
    details = {"schedule": {"kind": "karras"}, "stems": list(STEMS), "sample_rate": 22050,
               "mixture_rms": 0.08}  # fmt: skip

    def save(which: str) -> None:
        save_prior(tmp_path / "a", networks[which], TINY, "tf_unet", details | {"which": which})

    seen = []
    for _ in killed_at_every_moment(lambda: save("new"), tmp_path, lambda: save("old")):
        loaded = load_prior(tmp_path / "a")
        own = networks[loaded.config["which"]].state_dict()
        assert all(torch.equal(own[n], v) for n, v in loaded.network.state_dict().items())
        seen.append(loaded.config["which"])
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {"old", "new"}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("opened", [load_trained, load_image_prior, load_autoencoder])
def test_so_is_a_prior_of_pictures_with_its_autoencoder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: bool,
    opened: Callable[[Path], Any],
) -> None:
    def cannot(one: bytes, other: bytes) -> None:
        raise NotImplementedError

    if not at_once:
        monkeypatch.setattr(atomic, "_exchange_at_once", cannot)
    autoencoder, unet, schedule = tiny_autoencoder(), tiny_unet(2), NoiseSchedule.linear()
    folder, alone = tmp_path / "a", opened is load_autoencoder  # as training's first stage does

    def save(which: str) -> None:
        torch.nn.init.constant_(next(autoencoder.parameters()), float(which == "new"))
        torch.nn.init.constant_(next(unet.parameters()), float(which == "new"))
        if alone:
            save_autoencoder(folder, autoencoder)
        else:
            save_trained(folder, unet, schedule, (4, 4), autoencoder)

    def found() -> set[float]:
        if alone:
            return {next(opened(folder).parameters()).unique().item()}
        sha256 = opened(folder).sha256
        assert sha256 == {name: hash_file(folder / name) for name in sha256}
        networks = [read_tensors(folder / name) for name in sha256]
        names = [next(n for n, _ in net.named_parameters()) for net in (unet, autoencoder)]
        return {net[name].unique().item() for net, name in zip(networks, names, strict=True)}

    seen = []
    for _ in killed_at_every_moment(lambda: save("new"), tmp_path, lambda: save("old")):
        (value,) = found()  # of one of the two, both files
        seen.append(value)
    assert seen == sorted(seen)
    assert set(seen) == {0.0, 1.0}


def test_a_latent_prior_is_replaced_with_its_autoencoder(tmp_path: Path) -> None:
    schedule, folder = NoiseSchedule.linear(), tmp_path / "a"
    save_trained(folder, tiny_unet(2), schedule, (4, 4), tiny_autoencoder())
    (folder / "README.md").write_text("mine")
    assert load_trained(folder).prior.codec is not None
    save_trained(folder, tiny_unet(1), schedule, (4, 4))
    assert load_trained(folder).prior.codec is None  # else the two would not fit
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS]


def test_a_schedule_of_toml_has_ranges_too() -> None:
    for value in (float("nan"), float("inf"), -1, "1"):
        with pytest.raises(ValueError, match="sigma_max"):
            NoiseSchedule.from_config({"kind": "karras", "sigma_max": value})


def test_no_bundled_prior_needs_torchs_compiler_to_be_opened() -> None:
    """Its import takes longer than all else that opening takes: see ``outline``."""
    program = (
        "import sys\n"
        "from mgdm_audio.priors.folder import list_priors, load_prior\n"
        "from mgdm_audio.priors.images import list_image_priors, load_image_prior\n"
        "opened = [*map(load_prior, list_priors()), *map(load_image_prior, list_image_priors())]\n"
        "print(len(opened), 'torch._dynamo' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    count, imported = result.stdout.split()
    assert int(count) >= 2
    assert imported == "False"
