import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from mgdm_audio.cli import doctor
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.priors import folder as checkpoint
from mgdm_audio.priors.images.trained_images import save_trained
from mgdm_audio.separation import separator as separator_module
from tests.images.toys import tiny_unet


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def line(result: Result, name: str) -> str:
    (found,) = (row for row in result.stdout.splitlines() if row.split()[1] == name)
    return found


@pytest.fixture(autouse=True)
def no_priors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests bring their own; real ones would be separated with, for seconds."""
    monkeypatch.setattr(checkpoint, "list_priors", list)
    monkeypatch.setattr(checkpoint, "list_image_priors", list)


def test_a_sound_installation() -> None:
    result = run()
    assert result.exit_code == 0, result.output
    for name in ("python", "torch", "torchaudio", "numpy", "soundfile", "threads", "device"):
        assert line(result, name).startswith("ok ")
    assert torch.__version__ in line(result, "torch")
    assert "libsndfile" in line(result, "soundfile")
    assert line(result, "priors").startswith("note")
    assert line(result, "self-test").startswith("note")


def test_a_missing_required_library_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    result = run("--no-self-test")
    assert result.exit_code == 1
    assert line(result, "torchaudio").startswith("FAIL")
    assert "pip install" in line(result, "torchaudio")
    assert result.stderr == "error: 1 required part failed, see FAIL\n"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("av", "mgdm_audio[formats]"),
        ("matplotlib", "mgdm_audio[plot]"),
        ("accelerate", "mgdm_audio[train]"),
        ("huggingface_hub", "mgdm_audio[hub]"),
        ("museval", "mgdm_audio[bss]"),
    ],
)
def test_a_missing_extra_is_a_note_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    result = run("--no-self-test")
    assert result.exit_code == 0
    assert line(result, name).startswith("note")
    assert remedy in line(result, name)


def test_a_library_that_breaks_on_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("ffmpeg or ffprobe\n could not be found!")

    monkeypatch.setattr(doctor, "import_module", broken)
    check = doctor._package("museval", False, "scores", "install ffmpeg")
    assert check.status == "note"
    assert check.detail == "ffmpeg or ffprobe could not be found!; scores: install ffmpeg"


def test_a_prior_for_images_is_shown_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_trained(tmp_path / "images" / "toy", tiny_unet(1), NoiseSchedule.linear(), (16, 12))
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path)
    monkeypatch.setattr(checkpoint, "list_image_priors", lambda: ["toy"])
    result = run()
    assert result.exit_code == 0, result.output
    sha256 = hash_file(tmp_path / "images" / "toy" / checkpoint.WEIGHTS)[:12]
    assert line(result, "toy") == f"ok    toy           images, 1 x 16 x 12, {sha256}"
    assert "skipped" in line(result, "self-test")
    (tmp_path / "images" / "toy" / checkpoint.WEIGHTS).write_bytes(b"")
    assert line(run("--no-self-test"), "toy").startswith("FAIL")


def test_a_damaged_prior_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        raise UserError(f"{name}: hash 00 is not 11; fetch it again")

    monkeypatch.setattr(checkpoint, "list_priors", lambda: ["broken-v0"])
    monkeypatch.setattr(checkpoint, "load_prior", load)
    result = run("--no-self-test")
    assert result.exit_code == 1
    assert "hash 00 is not 11" in line(result, "broken-v0")


@pytest.mark.parametrize(
    ("share", "status", "code"),
    [(0.5, "ok", 0), (0.5 + 1e-4, "FAIL", 1), (float("nan"), "FAIL", 1), (None, "FAIL", 1)],
)
def test_the_self_test_checks_that_stems_sum_to_the_mixture(
    monkeypatch: pytest.MonkeyPatch, share: float | None, status: str, code: int
) -> None:
    class Halves:
        loaded = SimpleNamespace(sample_rate=22050)

        @classmethod
        def from_pretrained(cls) -> "Halves":
            return cls()

        def separate(self, mixture: Tensor, rate: int) -> dict[str, Tensor]:
            assert (mixture.shape, rate) == ((5 * 22050,), 22050)
            if share is None:
                raise ValueError("a bug")
            return {"bass": 0.5 * mixture[None], "drums": share * mixture[None]}

    loaded = SimpleNamespace(stems=("bass",), sample_rate=22050, sha256="0123456789abcdef")
    monkeypatch.setattr(checkpoint, "list_priors", lambda: [checkpoint.DEFAULT_PRIOR])
    monkeypatch.setattr(checkpoint, "load_prior", lambda name: loaded)
    monkeypatch.setattr(separator_module, "Separator", Halves)
    result = run()
    assert result.exit_code == code, result.output
    assert line(result, "self-test").startswith(status)
    assert ("a bug" if share is None else "to the mixture") in line(result, "self-test")
    assert "0123456789ab" in line(result, checkpoint.DEFAULT_PRIOR)
