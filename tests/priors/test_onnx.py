"""An exported graph against the network it was made of, and against the preset it stands for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.priors.onnx import export_onnx
from mgdm_audio.rng import generator_for, randn
from tests.toys import ATTENDING, STEMS

# Of the peak: float32 sums in another order, which a dozen layers enlarge, reach 1e-6 or so.
PARITY = 1e-4


@pytest.fixture(scope="module")
def loaded(exported: tuple[Path, Path]) -> LoadedPrior:
    return load_prior(exported[0])


@pytest.fixture(scope="module")
def session(exported: tuple[Path, Path]) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])


def test_the_file_holds_its_weights(exported: tuple[Path, Path]) -> None:
    assert sorted(path.name for path in exported[1].parent.iterdir()) == ["prior", "prior.onnx"]


@pytest.mark.parametrize(("items", "hops"), [(1, 1), (1, 7), (2, 40)])
def test_it_computes_what_the_network_does(
    session: Any, loaded: LoadedPrior, items: int, hops: int
) -> None:
    time = hops * ATTENDING.bins
    mixture = 0.1 * randn((items, 1, time), generator=generator_for(0, "mixture", hops))
    noise = randn((items, 4, time), generator=generator_for(0, "noise", hops))
    with torch.no_grad():
        want = loaded.network(20 * noise, torch.tensor(20.0), mixture)
    (got,) = session.run(["stems"], {"mixture": mixture.numpy(), "noise": noise.numpy()})
    assert got.shape == want.shape
    assert float((torch.from_numpy(got) - want).abs().max()) < PARITY * float(want.abs().max())


def test_the_file_says_what_goes_in_and_comes_out(session: Any, loaded: LoadedPrior) -> None:
    said = session.get_modelmeta().custom_metadata_map
    assert said["stems"].split(",") == list(STEMS)
    assert int(said["sample_rate"]) == loaded.sample_rate
    assert float(said["mixture_rms"]) == loaded.mixture_rms
    assert int(said["hop"]) == ATTENDING.bins
    # float64's rounding of a table of ratios: the top of the schedule.
    assert float(said["sigma"]) == pytest.approx(20, rel=1e-12)
    assert (said["prior"], said["sha256"]) == (loaded.name, loaded.sha256)
    assert [each.name for each in session.get_inputs()] == ["mixture", "noise"]


def test_a_network_that_is_not_shown_the_mixture_is_refused(
    loaded: LoadedPrior, tmp_path: Path
) -> None:
    other = replace(
        loaded,
        prior=replace(loaded.prior, denoiser=lambda x, sigma: x),
        config=loaded.config | {"model_type": "unet_1d"},
    )
    with pytest.raises(UserError, match="a unet_1d is not shown the mixture"):
        export_onnx(other, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=r"absent does not exist; make it first"):
        export_onnx(loaded, tmp_path / "absent/a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_one_line_says_which(
    loaded: LoadedPrior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mgdm_audio\[onnx\]'"):
        export_onnx(loaded, tmp_path / "a.onnx")
