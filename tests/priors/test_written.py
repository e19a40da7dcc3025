"""What MSDM's own training wrote, by pytorch-lightning 1.7.7, converts; see data/write.sh."""

import pickletools
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor

from mgdm_audio.cli.main import main
from mgdm_audio.networks.unet_1d import UNet1dConfig
from mgdm_audio.priors.convert_msdm import convert
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.priors.inert_pickle import Inert
from mgdm_audio.priors.lightning import read_lightning
from tests.priors.written import unpack
from tests.toys import STEMS

NAMES = ("msdm", "resumable", *STEMS)
LEVELS = (0.05, 1.0)  # sigma
TRAINED = {  # as write.sh has it
    "channels": 4,
    "patch": 2,
    "multipliers": (1, 1, 1),
    "factors": (8, 8),
    "blocks": (1, 1),
    "attentions": (False, True),
    "groups": 2,
    "heads": 2,
    "head_features": 4,
    "feed_forward": 2,
}
NAMED = {
    "_codecs encode",
    "audio_diffusion_pytorch.diffusion LogNormalDistribution",
    "collections OrderedDict",
    "main.data MultiSourceDataset",
    "main.data _identity",
    "numpy dtype",
    "numpy ndarray",
    "numpy.core.multiarray _reconstruct",
    "numpy.core.multiarray scalar",
    "torch FloatStorage",
    "torch._utils _rebuild_tensor_v2",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return unpack(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def expected(files: dict[str, Path]) -> dict[str, Tensor]:
    return load_file(files["expected"])


def noisy(noise: Tensor, sigma: float) -> Tensor:
    """At the level sigma of data with MSDM's sigma_data, .2."""
    return noise * (0.2**2 + sigma**2) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_file_names_the_classes_of_msdm_and_numpy(files: dict[str, Path], name: str) -> None:
    """Also with save_weights_only, of all but "resumable"."""
    with zipfile.ZipFile(files[name]) as archive:
        pickled = archive.read("archive/data.pkl")
    named = {arg for opcode, arg, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}
    assert named == NAMED
    assert (b"optimizer_states" in pickled) is (name == "resumable")
    assert b"datamodule_hyper_parameters" in pickled


@pytest.mark.parametrize("name", NAMES)
def test_the_objects_beside_the_weights_are_inert(files: dict[str, Path], name: str) -> None:
    settings = read_lightning(files[name]).hyper_parameters
    levels = settings.pop("diffusion_sigma_distribution")
    assert isinstance(levels, Inert)
    assert levels.name == "audio_diffusion_pytorch.diffusion.LogNormalDistribution"
    assert not any(isinstance(value, Inert) for value in settings.values())
    assert (settings["resnet_groups"], settings["diffusion_sigma_data"]) == (2, 0.2)


@pytest.mark.parametrize("name", NAMES)
def test_the_prior_denoises_as_msdms_own_module_did(
    files: dict[str, Path], expected: dict[str, Tensor], tmp_path: Path, name: str
) -> None:
    stems = [name] if name in STEMS else STEMS
    (network,) = convert(files[name], tmp_path / "prior", stems=stems)
    assert network.config == UNet1dConfig(sources=len(stems), **TRAINED)  # type: ignore[arg-type]
    assert network.assumed == ()
    denoiser = load_prior(tmp_path / "prior").prior.denoiser
    for sigma in LEVELS:
        x = noisy(expected[f"{name}.noise"], sigma)
        with torch.no_grad():
            actual = denoiser(x, torch.tensor(sigma))
        # Two orders of adding the same float32 products: 1e-5 of results near 1.
        torch.testing.assert_close(actual, expected[f"{name}.{sigma}"], atol=1e-5, rtol=0)


def test_the_weakly_supervised_models_make_one_prior_by_the_names_that_lightning_gave_them(
    files: dict[str, Path], expected: dict[str, Tensor], tmp_path: Path
) -> None:
    """Which hold an equals sign: <stem>/epoch=00-valid_loss=0.590.ckpt."""
    pairs = [f"{stem}={files[stem]}" for stem in STEMS]
    assert all(pair.count("=") == 3 for pair in pairs)
    result = CliRunner().invoke(main, ["priors", "convert", *pairs, "-o", str(tmp_path / "isdm")])
    assert (result.exit_code, result.stderr) == (0, "")
    denoiser = load_prior(tmp_path / "isdm").prior.denoiser
    for sigma in LEVELS:
        x = noisy(torch.cat([expected[f"{stem}.noise"] for stem in STEMS], 1), sigma)
        with torch.no_grad():
            actual = denoiser(x, torch.tensor(sigma))
        wanted = torch.cat([expected[f"{stem}.{sigma}"] for stem in STEMS], 1)
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=0)  # as above
