"""Converted priors do what the public modules do; whatever does not fit is one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgdm_audio import atomic
from mgdm_audio.diffusion import NoiseSchedule, join
from mgdm_audio.errors import UserError
from mgdm_audio.priors.convert_msdm import convert, convert_independent
from mgdm_audio.priors.folder import CONFIG, WEIGHTS, load_prior
from mgdm_audio.separation.separator import Separator
from tests.networks.test_unet_1d import SMALL
from tests.priors.public import SINGLE, hyper_parameters, make, noisy, owned, write
from tests.toys import STEMS, song

NAME = "bottleneck.pre_block.block1.project.weight"


@pytest.fixture(scope="module")
def theirs(public: ModuleType) -> Any:
    return make(public)


@pytest.fixture
def msdm(public: ModuleType, theirs: Any, tmp_path: Path) -> Path:
    return write(tmp_path / "msdm.ckpt", owned(theirs), hyper_parameters(public))


@pytest.fixture
def singles(public: ModuleType, tmp_path: Path) -> tuple[list[Any], dict[str, Path]]:
    """Four public modules of one source, and their checkpoints."""
    models = [make(public, SINGLE, seed) for seed in range(4)]
    settings = hyper_parameters(public, SINGLE)
    return models, {
        stem: write(tmp_path / f"{stem}.ckpt", owned(model), settings)
        for stem, model in zip(STEMS, models, strict=True)
    }


def refusal(action: Callable[[], object], folder: Path) -> str:
    """The one line, after which nothing new lies in the folder."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        action()
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Two orders of adding the same float32 products: 1e-5 of results near 1.
@pytest.mark.parametrize("sigma", [5e-4, 0.05, 1.0, 20.0])
def test_the_prior_denoises_as_the_public_module(
    theirs: Any, msdm: Path, tmp_path: Path, sigma: float
) -> None:
    convert(msdm, tmp_path / "prior")
    denoiser = load_prior(tmp_path / "prior").prior.denoiser
    x = noisy(sigma)
    expected = theirs.diffusion.denoise_fn(x, sigma=sigma)
    assert expected.std() > 0.01
    with torch.no_grad():
        actual = denoiser(x, torch.tensor(sigma))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_the_prior_has_the_published_settings(msdm: Path, tmp_path: Path) -> None:
    (network,) = convert(msdm, tmp_path / "prior")
    assert (network.config, network.assumed, network.averaged) == (SMALL, (), False)
    files = sorted(path.name for path in (tmp_path / "prior").iterdir())
    assert files == ["README.md", CONFIG, WEIGHTS]
    loaded = load_prior(tmp_path / "prior")
    assert (loaded.stems, loaded.sample_rate, loaded.mixture_rms) == (STEMS, 22050, 0.09)
    assert loaded.prior.event_shape == (4, 2**18)
    assert torch.equal(
        loaded.prior.schedule.sigma, NoiseSchedule.karras(5e-4, 20.0, 3.0, 1000).sigma
    )
    assert (loaded.config["sigma_data"], loaded.config["limit"]) == (0.2, 1.0)
    assert loaded.config["source"][0]["file"] == "msdm.ckpt"


@pytest.mark.parametrize("owner", ["model_ema.ema_model.", "model_ema.", "ema."])
@pytest.mark.parametrize("average", [True, False])
def test_averaged_weights_are_taken_unless_plain_ones_are_wanted(
    public: ModuleType, theirs: Any, tmp_path: Path, owner: str, average: bool
) -> None:
    averages = make(public, seed=7)
    tensors = owned(theirs) | owned(averages, owner)
    tensors |= owned(theirs, "model_ema.online_model.")
    tensors |= {"model_ema.initted": torch.tensor(True), "model_ema.step": torch.tensor(9)}
    path = write(tmp_path / "both.ckpt", tensors, hyper_parameters(public))
    (network,) = convert(path, tmp_path / "prior", average=average)
    expected = (averages if average else theirs).state_dict()[f"unet.{NAME}"]
    assert torch.equal(network.tensors["bottleneck.before.conv_1.weight"], expected)
    assert network.averaged is average
    assert load_prior(tmp_path / "prior").config["source"][0]["weights"] == (
        "averaged" if average else "plain"
    )


def test_plain_weights_that_are_wanted_but_absent(
    public: ModuleType, theirs: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / "ema.ckpt", owned(theirs, "model_ema."), hyper_parameters(public))
    message = refusal(lambda: convert(path, tmp_path / "prior", average=False), tmp_path)
    assert message.startswith(f"{path}: holds 0 networks of plain weights")


def both(change: Callable[[dict[str, Tensor], str], object]) -> Callable[[dict[str, Tensor]], None]:
    """The same change of both copies."""

    def apply(tensors: dict[str, Tensor]) -> None:
        for copy in ("model.unet.", "model.diffusion.net."):
            change(tensors, copy)

    return apply


def spoil(tensors: dict[str, Tensor], key: str, value: float) -> None:
    tensors[key] = tensors[key].clone()
    tensors[key].view(-1)[5] = value


UNET, NET = "model.unet.", "model.diffusion.net."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (both(lambda t, c: t.pop(c + NAME)), "lacks 'bottleneck.before.conv_1.weight' (1 in all)"),
        (both(lambda t, c: t.pop(c + "to_mapping.0.weight")), "lacks 'embed.layers.2.weight'"),
        (both(lambda t, c: t.pop(c + "downsamples.1.downsample.weight")), "lacks 'down.1.resample"),
        (both(lambda t, c: t.update({c + "extra.g": torch.ones(2)})), "has surplus 'extra.g' (1 "),
        (lambda t: t.update({"model.extra": torch.ones(2)}), "has surplus 'model.extra' (1 in"),
        (
            both(lambda t, c: t.update({c + NAME: torch.ones(96, 96, 4)})),
            f"'{NAME}' has the shape [96, 96, 4], expected [96, 96, 3]",
        ),
        (both(lambda t, c: t.update({c + "to_in.module_list.0.block.block1.groupnorm.weight":
                                     torch.ones(0)})), "its tensors make no UNet1d"),
        (lambda t: t.pop(NET + NAME), f"lacks '{NET}{NAME}', which its other copy has"),
        (lambda t: t.pop(UNET + NAME), f"lacks '{UNET}{NAME}', which its other copy has"),
        (lambda t: spoil(t, NET + NAME, 0.5), f"'{UNET}{NAME}' differs from '{NET}{NAME}'"),
        (lambda t: spoil(t, UNET + NAME, float("nan")), f"'{UNET}{NAME}' is not finite"),
        (lambda t: spoil(t, NET + NAME, float("-inf")), f"'{NET}{NAME}' is not finite"),
        (lambda t: t.update({UNET + NAME: torch.ones(3, dtype=torch.int64)}), "is not finite"),
        (lambda t: t.update({UNET + NAME: 3}), f"'{UNET}{NAME}' is no tensor"),
        (lambda t: t.update({UNET + NAME: torch.ones(3, device="meta")}), "is no tensor"),
        (lambda t: t.update({"b." + k: v for k, v in t.items()}), "holds 2 networks of plain"),
        (lambda t: t.clear(), "holds nothing"),
        (both(lambda t, c: t.update({c + "enter.conv_1.weight": torch.ones(2)})), "are one tensor"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(
    public: ModuleType, theirs: Any, tmp_path: Path, change: Callable[[Any], object], says: str
) -> None:
    tensors = owned(theirs)
    change(tensors)
    path = write(tmp_path / "odd.ckpt", tensors, hyper_parameters(public))
    message = refusal(lambda: convert(path, tmp_path / "prior"), tmp_path)
    assert message.startswith(f"{path}: ")
    assert says in message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_skip_scale": False}, "use_skip_scale = False; only True is supported"),
        ({"diffusion_dynamic_threshold": 0.95}, "diffusion_dynamic_threshold = 0.95"),
        ({"attention_heads": 3}, "3 heads do not divide the 16 features"),
        ({"attention_heads": 0}, "attention_heads = 0 is no positive number"),
        ({"attention_heads": True}, "attention_heads = True"),
        ({"attention_heads": np.int64(8)}, "attention_heads = Inert('numpy."),
        ({"resnet_groups": 5}, "its tensors make no UNet1d"),
        ({"diffusion_sigma_data": float("inf")}, "diffusion_sigma_data = inf"),
        ({"diffusion_sigma_data": "0.2"}, "diffusion_sigma_data = '0.2'"),
    ],
)
def test_hyper_parameters_that_do_not_fit(
    public: ModuleType, theirs: Any, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = write(tmp_path / "odd.ckpt", owned(theirs), hyper_parameters(public) | change)
    assert says in refusal(lambda: convert(path, tmp_path / "prior"), tmp_path)


def test_the_number_of_stems_is_that_of_the_sources(msdm: Path, tmp_path: Path) -> None:
    message = refusal(lambda: convert(msdm, tmp_path / "prior", stems=["a", "b"]), tmp_path)
    assert "4 sources for 2 stems, a, b" in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"stems": ["a", "../b", "c", "d"]}, "stem '../b'"),
        ({"stems": ["a", "a", "c", "d"]}, "stem 'a'"),
        ({"mixture_rms": 0.0}, "mixture_rms must be positive"),
        ({"mixture_rms": float("nan")}, "mixture_rms must be positive"),
    ],
)
def test_options_that_no_prior_has(
    msdm: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    assert says in refusal(lambda: convert(msdm, tmp_path / "prior", **options), tmp_path)


@pytest.mark.parametrize("there", ["folder", "file", "link to nothing"])
def test_nothing_that_exists_is_written_over(msdm: Path, tmp_path: Path, there: str) -> None:
    out = tmp_path / "prior"
    if there == "folder":
        out.mkdir()
    elif there == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nothing")
    message = refusal(lambda: convert(msdm, out), tmp_path)
    assert message.startswith(f"{out}: exists already")


def test_a_disk_that_fills_up_leaves_nothing(
    msdm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        assert (path.parent / WEIGHTS).is_file()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_text", full)
    message = refusal(lambda: convert(msdm, tmp_path / "prior"), tmp_path)
    assert message.startswith(f"{tmp_path / 'prior'}: cannot be written (No space left on device)")


def test_independent_networks_are_joined(
    singles: tuple[list[Any], dict[str, Path]], tmp_path: Path
) -> None:
    models, paths = singles
    convert_independent(paths, tmp_path / "isdm")
    loaded = load_prior(tmp_path / "isdm")
    assert loaded.stems == STEMS
    assert loaded.prior.event_shape == (4, 2**18)
    assert loaded.network.length_multiple == 64
    priors = []
    for stem, path in paths.items():
        convert(path, tmp_path / stem, stems=[stem])
        priors.append(load_prior(tmp_path / stem).prior)
    x, sigma = noisy(0.3), torch.tensor([0.3, 0.1])
    with torch.no_grad():
        actual = loaded.prior.denoiser(x, sigma)
        assert torch.equal(actual, join(priors).denoiser(x, sigma))
        expected = torch.cat(
            [
                model.diffusion.denoise_fn(x[:, k : k + 1], sigmas=sigma)
                for k, model in enumerate(models)
            ],
            1,
        )
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)  # as above


def test_independent_networks_have_one_source_each(
    singles: tuple[list[Any], dict[str, Path]], msdm: Path, tmp_path: Path
) -> None:
    paths = singles[1] | {"drums": msdm}
    message = refusal(lambda: convert_independent(paths, tmp_path / "isdm"), tmp_path)
    assert message.startswith(f"{msdm}: has 4 sources, where drums is one")


def test_independent_networks_were_trained_alike(
    public: ModuleType, singles: tuple[list[Any], dict[str, Path]], tmp_path: Path
) -> None:
    models, paths = singles
    settings = hyper_parameters(public, SINGLE) | {"diffusion_sigma_data": 0.1}
    write(paths["piano"], owned(models[3]), settings)
    message = refusal(lambda: convert_independent(paths, tmp_path / "isdm"), tmp_path)
    assert f"{paths['piano']}: sigma_data is 0.1, but 0.2" in message


@pytest.mark.parametrize("kind", ["unet_1d", "joint_unet_1d"])
def test_a_converted_prior_separates(msdm: Path, singles: Any, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "prior"
    convert(msdm, out) if kind == "unet_1d" else convert_independent(singles[1], out)
    assert json.loads((out / CONFIG).read_text())["model_type"] == kind
    separator = Separator.from_pretrained(
        out, "msdm-dirac", overrides=["num_steps=2"], device="cpu", precision="float32"
    )
    mixture = song(0, 1, 300, 22050)[:, None]
    stems = separator.separate_batch(mixture)
    assert tuple(stems) == STEMS
    sources = torch.stack(list(stems.values()))
    # What is left of the mixture is shared among the stems: a few float32 roundings of the largest.
    error = (sources.sum(0) - mixture[:, 0]).abs().max() / sources.abs().max()
    assert error < 1e-6
