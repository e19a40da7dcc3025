"""Checkpoints are read as data: what they pickle beside tensors is left out, and never run."""

import os
import pickle
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mgdm_audio.errors import UserError
from mgdm_audio.priors.inert_pickle import Inert
from mgdm_audio.priors.lightning import read_lightning

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
    """A module of another package, with a class that must not be made."""
    module = ModuleType("main.data")

    class MultiSourceDataset(torch.nn.Module):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def __setstate__(self, state: Any) -> None:
            type(self).made += 1

    MultiSourceDataset.__module__ = module.__name__
    MultiSourceDataset.__qualname__ = "MultiSourceDataset"
    module.MultiSourceDataset = MultiSourceDataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "main", ModuleType("main"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


FORMATS = {
    "today": {},
    "before torch 1.6": {"_use_new_zipfile_serialization": False},
    "a later protocol": {"pickle_protocol": 4},
}
each_format = pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS.keys())


@each_format
def test_hyper_parameters_come_without_their_objects(
    package: ModuleType, tmp_path: Path, options: dict[str, Any]
) -> None:
    settings = {"heads": 8, "data": package.MultiSourceDataset(), "list": [1, 2]}
    content = {"state_dict": TENSORS, "hyper_parameters": settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older format finds no source of the class to keep
        torch.save(content, path := tmp_path / "some.ckpt", **options)
    checkpoint = read_lightning(path)
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(checkpoint.tensors[key], TENSORS[key]) for key in TENSORS)
    data = checkpoint.hyper_parameters.pop("data")
    assert isinstance(data, Inert)
    assert repr(data) == "Inert('main.data.MultiSourceDataset')"
    assert not vars(data)
    assert package.MultiSourceDataset.made == 0
    assert checkpoint.hyper_parameters == {"heads": 8, "list": [1, 2]}


def test_hyper_parameters_that_are_an_object_are_none(tmp_path: Path) -> None:
    """Those of OmegaConf, say."""
    torch.save({"state_dict": TENSORS, "hyper_parameters": Path("a")}, tmp_path / "some.ckpt")
    assert read_lightning(tmp_path / "some.ckpt").hyper_parameters == {}


def test_tensors_of_every_kind_come_as_they_were(tmp_path: Path) -> None:
    """Also negated, with attributes, or of a graphics card that this machine need not have."""
    (marked := torch.arange(2.0)).mark = "x"  # type: ignore[attr-defined]
    (parameter := torch.nn.Parameter(torch.ones(2))).mark = "x"  # type: ignore[attr-defined]
    tensors = {
        "half": torch.ones(3, dtype=torch.bfloat16),
        "part": torch.arange(12.0).view(3, 4)[1:, ::2],
        "negated": torch.complex(torch.ones(2), torch.arange(2.0)).conj().imag,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "marked": marked,
        "marked parameter": parameter,
        "empty": torch.ones(0),
        "single": torch.tensor(2.0),
    }
    assert tensors["negated"].is_neg()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        torch.save({"state_dict": tensors}, tmp_path / "many.ckpt")
    read = read_lightning(tmp_path / "many.ckpt").tensors
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].device) == (tensor.dtype, torch.device("cpu"))
        assert torch.equal(read[name], tensor.detach())


def test_a_file_of_safetensors_is_a_state_dict(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "some.safetensors")
    checkpoint = read_lightning(tmp_path / "some.safetensors")
    assert all(torch.equal(checkpoint.tensors[key], TENSORS[key]) for key in TENSORS)
    assert checkpoint.hyper_parameters == {}


def test_a_bare_state_dict_is_one_too(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "bare.pt")
    checkpoint = read_lightning(tmp_path / "bare.pt")
    assert checkpoint.tensors.keys() == TENSORS.keys()
    assert checkpoint.hyper_parameters == {}


@each_format
@pytest.mark.parametrize("where", ["hyper_parameters", "callbacks", "datamodule_hyper_parameters"])
def test_code_beside_the_weights_is_left_out_and_not_run(
    tmp_path: Path, where: str, options: dict[str, Any]
) -> None:
    fired, path = tmp_path / "fired", tmp_path / "evil.ckpt"
    torch.save({"state_dict": TENSORS, where: {"a": Bomb(fired)}}, path, **options)
    assert read_lightning(path).tensors.keys() == TENSORS.keys()
    assert not fired.exists()


@each_format
def test_code_in_the_place_of_a_tensor_is_refused_and_not_run(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    fired, path = tmp_path / "fired", tmp_path / "evil.ckpt"
    torch.save({"state_dict": TENSORS | {"c": Bomb(fired)}}, path, **options)
    message = refusal(path)
    why = f"but would come out of '{os.mkdir.__module__}.mkdir', which is never called"
    assert f"'c' is no tensor, {why}" in message
    assert "save a state_dict of plain tensors alone" in message
    assert not fired.exists()


@each_format
@pytest.mark.parametrize("name", ["torch.nn.modules.linear.Linear", "main.data.MultiSourceDataset"])
def test_a_whole_pickled_module_is_refused(
    package: ModuleType, tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    own = name.startswith("main")
    module = package.MultiSourceDataset() if own else torch.nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        torch.save(module, tmp_path / "whole.pt", **options)
    message = refusal(tmp_path / "whole.pt")
    assert f"holds a whole pickled {name!r}, code, which is never run; load it where" in message
    assert "save its state_dict() alone" in message
    torch.save({"state_dict": module}, tmp_path / "whole.pt")
    assert f"holds a whole pickled {name!r}" in refusal(tmp_path / "whole.pt")
    torch.save({"model": module}, tmp_path / "whole.pt")
    assert f"'model' is no tensor, but would come out of {name!r}" in refusal(tmp_path / "whole.pt")
    assert package.MultiSourceDataset.made == 0


def test_a_name_of_many_lines_makes_one_line(tmp_path: Path) -> None:
    """A pickle of protocol 4 names what it likes: here "a", a line break, "b.c"."""
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as archive:
        archive.writestr("odd/data.pkl", b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.")
        archive.writestr("odd/version", b"3\n")
    assert "holds a type, no state_dict" in refusal(tmp_path / "odd.pt")
    with zipfile.ZipFile(tmp_path / "odd.pt", "w") as archive:
        archive.writestr("odd/data.pkl", b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93)R.")
        archive.writestr("odd/version", b"3\n")
    assert "holds a whole pickled 'a\\nb.c', code" in refusal(tmp_path / "odd.pt")


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    """torch.load would run it; it is told by the records of its archive."""
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        for record in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"program/{record}", b"3\n")
    assert "is a TorchScript program, code, which is never run" in refusal(tmp_path / "program.pt")


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, ending: str) -> None:
    """MSDM's weights are published as one."""
    torch.save(TENSORS, tmp_path / "some.ckpt")
    with tarfile.open(tmp_path / f"msdm.{ending}", f"w:{ending[4:]}") as archive:
        archive.add(tmp_path / "some.ckpt", "some.ckpt")
    assert "is an archive; unpack it" in refusal(tmp_path / f"msdm.{ending}")


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
        (lambda path: torch.save({"state_dict": 3}, path), "holds a int, no state_dict"),
        (lambda path: torch.save({3: torch.ones(2)}, path), "3 is no tensor"),
        (lambda path: torch.save({"epoch": 3, "a": torch.ones(2)}, path), "'epoch' is no tensor"),
        (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "'a' is no tensor, but"),
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
