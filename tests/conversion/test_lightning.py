"""Checkpoints are read as data: what they pickle is refused or left out, and never run."""

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mgdm_audio.conversion.lightning import Ignored, read_lightning
from mgdm_audio.errors import UserError

TENSORS = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_lightning(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the ignored package, with a class that must not be made."""
    module = ModuleType("audio_diffusion_pytorch.diffusion")

    class LogNormalDistribution:
        made = 0

        def __init__(self, mean: float) -> None:
            self.mean = mean

        def __setstate__(self, state: Any) -> None:
            type(self).made += 1

    LogNormalDistribution.__module__ = module.__name__
    LogNormalDistribution.__qualname__ = "LogNormalDistribution"
    module.LogNormalDistribution = LogNormalDistribution  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "audio_diffusion_pytorch", ModuleType("parent"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_hyper_parameters_come_without_their_objects(package: ModuleType, tmp_path: Path) -> None:
    settings = {"heads": 8, "sigma": package.LogNormalDistribution(mean=-3.0), "list": [1, 2]}
    path = tmp_path / "some.ckpt"
    torch.save({"state_dict": TENSORS, "hyper_parameters": settings}, path)
    checkpoint = read_lightning(path)
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(checkpoint.tensors[key], TENSORS[key]) for key in TENSORS)
    sigma = checkpoint.hyper_parameters.pop("sigma")
    assert type(sigma) is Ignored
    assert not vars(sigma)
    assert package.LogNormalDistribution.made == 0
    assert checkpoint.hyper_parameters == {"heads": 8, "list": [1, 2]}
    with pytest.raises(pickle.UnpicklingError):  # the leave was for one call
        torch.load(path, weights_only=True)


def test_a_bare_state_dict_is_one_too(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "bare.pt")
    checkpoint = read_lightning(tmp_path / "bare.pt")
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert checkpoint.hyper_parameters == {}


@pytest.mark.parametrize("where", ["hyper_parameters", "state_dict", "callbacks"])
def test_code_is_refused_and_not_run(tmp_path: Path, where: str) -> None:
    fired, path = tmp_path / "fired", tmp_path / "evil.ckpt"
    torch.save({"state_dict": dict(TENSORS)} | {where: {"a": Bomb(fired)}}, path)
    message = refusal(path)
    assert f"pickles '{os.mkdir.__module__}.mkdir' (1 in all)" in message
    assert "never run" in message
    assert not fired.exists()


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    assert "pickles 'torch.nn.modules.linear.Linear'" in refusal(tmp_path / "module.pt")


def save_half(path: Path) -> None:
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:600])


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "no checkpoint"),
        (lambda path: path.write_text("hello"), "no checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps(TENSORS)), "no checkpoint"),
        (save_half, "no checkpoint"),
        (lambda path: torch.save([1, 2], path), "holds a list, no state_dict"),
        (lambda path: torch.save({}, path), "holds nothing"),
        (lambda path: torch.save({"state_dict": 3}, path), "holds nothing"),
        (lambda path: torch.save({3: torch.ones(2)}, path), "3 is no tensor"),
        (lambda path: torch.save({"epoch": 3, "a": torch.ones(2)}, path), "'epoch' is no tensor"),
        (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "'a' is no tensor"),
    ],
)
def test_files_that_are_no_checkpoint(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "file.ckpt")
    assert says in refusal(tmp_path / "file.ckpt")


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    """The table of contents is whole, what it points to is not a pickle any more."""
    path = tmp_path / "damaged.pt"
    torch.save(TENSORS, path)
    data = path.read_bytes()
    start = data.index(b"\x80\x02}")  # the pickle's first bytes: protocol 2, an empty dict
    path.write_bytes(data[:start] + b"\xff" * 8 + data[start + 8 :])
    refusal(path)
