"""No file that somebody sends runs code: of what can unpickle or evaluate, each use is known."""

import ast
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_unet
from tests.toys import TINY_TOML

ROOT = Path(__file__).parents[1]
PARTS = ("mgdm_audio", "recipes", "egs")
SOURCES = sorted(path for part in PARTS for path in ROOT.glob(f"{part}/**/*.py"))
FUNCTIONS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "Unpickler",
}  # by their bare names
METHODS = {"load", "loads", "load_all", "unsafe_load", "full_load", "load_state", "load_library",
           "import_module", "exec_module", "run_path", "run_module", "system", "popen", "Unpickler",
           "from_pretrained", "read_pickle", "CDLL"}  # fmt: skip
HARMLESS = ("json.", "tomllib.", "Separator.", "separating.Separator.", "Generator.", "cls.",
            "image.load", "state.load", "self.state.load")  # fmt: skip
IMPORT = "what --import names on the command line"
KNOWN = {
    ("mgdm_audio/__init__.py", "import_module"): "of a table of its own",
    ("mgdm_audio/cli/main.py", "import_module"): "of a table of its own",
    ("mgdm_audio/audio/__init__.py", "import_module"): "the present place of a module of ours",
    ("mgdm_audio/cli/doctor.py", "import_module"): "of a list of its own",
    ("mgdm_audio/registry.py", "importlib.import_module"): IMPORT,
    ("mgdm_audio/registry.py", "spec.loader.exec_module"): IMPORT,
    ("mgdm_audio/registry.py", "load"): "an entry point of an installed package",
    ("mgdm_audio/evaluation/bss_eval.py", "spec.loader.exec_module"): "museval, where installed",
    ("mgdm_audio/engine/memory.py", "ctypes.CDLL"): "the C library itself",
    ("mgdm_audio/atomic.py", "ctypes.CDLL"): "the C library itself",
    ("mgdm_audio/interop/deepinv.py", "importlib.import_module"): "a part of deepinv",
    ("mgdm_audio/images/io.py", "np.load"): "with allow_pickle=False, see below",
    ("mgdm_audio/data/listing.py", "yaml.load"): "with a subclass of SafeLoader",
    ("mgdm_audio/priors/lightning.py", "torch.load"): "with inert_pickle in the place of pickle",
    ("mgdm_audio/priors/inert_pickle.py", "load"): "its find_class imports nothing",
    ("mgdm_audio/priors/inert_pickle.py", "Unpickler"): "the same",
    ("mgdm_audio/priors/images/guided_diffusion.py", "torch.load"): "with weights_only=True",
    ("mgdm_audio/priors/images/diffusers.py", "from_pretrained"): "two classes, safetensors alone",
    ("egs/mini_slakh/bench/mean.py", "torch.load"): "with weights_only=True, see below",
    ("egs/slakh2100/msdm/local/full_width.py", "torch.load"): "with weights_only=True, see below",
    ("recipes/local/torture/readers.py", "load"): "the state of a training run, safetensors",
}


def name_of(node: ast.expr) -> str:
    """``a.b.c`` of an expression; the last part alone where the rest is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = name_of(node.value)
        return f"{owner}.{node.attr}" if owner else node.attr
    return ""


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(name_of(node.func), node) for node in nodes if isinstance(node, ast.Call)]


def test_every_use_of_what_can_run_a_file_is_known() -> None:
    found = set()
    for path in SOURCES:
        here = path.relative_to(ROOT).as_posix()
        for name, node in calls(path):
            known = FUNCTIONS if isinstance(node.func, ast.Name) else METHODS
            shell = name.startswith("subprocess.") and here.startswith("mgdm_audio")
            if (name.rpartition(".")[2] not in known and not shell) or name.startswith(HARMLESS):
                continue
            found.add((here, name))
            keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if name == "np.load":
                assert keywords["allow_pickle"] is False, here
            if name == "torch.load" and here != "mgdm_audio/priors/lightning.py":
                assert keywords["weights_only"] is True, here
    assert found == set(KNOWN)


@pytest.mark.parametrize("module", ["pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"])
def test_no_module_imports_what_unpickles(module: str) -> None:
    importers = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {str(node.module).partition(".")[0]}
            else:
                continue
            if module in names:
                importers.add(path.relative_to(ROOT).as_posix())
    own = {"mgdm_audio/priors/inert_pickle.py"}  # the reader that runs nothing
    assert importers == (own if module == "pickle" else set())


class Hostile:
    """Its pickle makes a folder where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_the_hostile_pickle_is_one(tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "RAN"), tmp_path / "x.pt")
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "RAN").exists()


class Room:
    """A folder with hostile files; ``mark`` is there when one of them was run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark, self.out = folder, folder / "RAN", folder / "out"
        Image.new("RGB", (16, 16), 128).save(folder / "i.png")

    def pickled(self, name: str, **options: Any) -> Path:
        torch.save({"state_dict": Hostile(self.mark)}, self.folder / name, **options)
        return self.folder / name

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def toy(self) -> Path:
        save_trained(self.folder / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
        return self.folder / "toy"

    def refused(self, *words: str | Path) -> str:
        """The one line of a command that must fail, run nothing and write nothing."""
        command = [*map(str, words), "-o", str(self.out)]
        result = CliRunner().invoke(main, command)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 1, result.output
        assert not self.mark.exists(), "a stranger's code ran"
        assert not self.out.exists() or not any(self.out.rglob("*.*")), list(self.out.rglob("*"))
        lines = [line for line in result.stderr.splitlines() if not line.startswith("device: ")]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert "internal error" not in lines[0]
        return lines[0]

    def restore(self, image: str | Path = "i.png", task: str = "sr4", *words: str | Path) -> str:
        path = self.folder / image
        quick = ("--sampler", "dps", "--set", "num_steps=3", "--device", "cpu")
        return self.refused("restore", path, "--task", task, *quick, *words)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_checkpoints_to_convert(room: Room, suffix: str, options: dict[str, bool]) -> None:
    path = room.pickled(f"x{suffix}", **options)
    assert f"{path}: " in room.refused("priors", "convert", path)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt", ".pt2", ".safetensors"])
def test_priors_of_images(room: Room, suffix: str) -> None:
    path = room.pickled(f"x{suffix}")
    assert str(path) in room.restore("i.png", "sr4", "--prior", path)


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_folders_of_diffusers(room: Room, suffix: str) -> None:
    config = {"_class_name": "UNet2DModel", "sample_size": 16, "in_channels": 3, "out_channels": 3}
    room.write("p/unet/config.json", json.dumps(config))
    room.write("p/scheduler/scheduler_config.json", "{}")
    room.pickled(f"p/unet/diffusion_pytorch_model.{suffix}")
    pytest.importorskip("diffusers")
    assert "p/unet: " in room.restore("i.png", "sr4", "--prior", room.folder / "p")


def test_a_class_that_a_folder_names_is_not_looked_up(room: Room) -> None:
    room.write("p/unet/config.json", json.dumps({"_class_name": "os.system"}))
    pytest.importorskip("diffusers")
    line = room.restore("i.png", "sr4", "--prior", room.folder / "p")
    assert "_class_name 'os.system' is unknown" in line


@pytest.mark.parametrize(
    "model_type", ["os:mkdir", "os.mkdir", "__import__('os')", "tests.toys:TINY"]
)
def test_a_model_type_is_a_name(room: Room, tiny_prior: Path, model_type: str) -> None:
    prior = Path(shutil.copytree(tiny_prior, room.folder / "prior"))
    config = json.loads((prior / "config.json").read_text()) | {"model_type": model_type}
    (prior / "config.json").write_text(json.dumps(config))
    line = room.refused("separate", room.folder / "i.png", "--prior", prior)
    assert f"model_type {model_type!r} is unknown" in line


def test_weights_that_are_a_pickle(room: Room, tiny_prior: Path) -> None:
    prior = Path(shutil.copytree(tiny_prior, room.folder / "prior"))
    room.pickled("prior/model.safetensors")
    line = room.refused("separate", room.folder / "i.png", "--prior", prior)
    assert "pickled weights are never opened" in line


def test_a_network_in_a_file(room: Room) -> None:
    """torch.export.load unpickles the sample inputs of a .pt2 file."""
    with zipfile.ZipFile(room.folder / "x.pt2", "w") as archive:
        buffer = io.BytesIO()
        torch.save(Hostile(room.mark), buffer)
        archive.writestr("x/data/sample_inputs/model.pt", buffer.getvalue())
    options = ("--prior", room.toy(), "--task-option", f"network={room.folder / 'x.pt2'}")
    assert "blur network" in room.restore("i.png", "nonlinear_blur", *options)


@pytest.mark.parametrize("place", ["image", "observation", "kernel"])
def test_arrays_of_objects(room: Room, place: str) -> None:
    np.save(room.folder / "x.npy", np.array([Hostile(room.mark)], object), allow_pickle=True)
    prior = ("--prior", room.toy())
    kernel = ("--task-option", f"kernel={room.folder / 'x.npy'}")
    line = {
        "image": lambda: room.restore("x.npy", "sr4", *prior),
        "observation": lambda: room.restore("x.npy", "sr4", *prior, "--observation"),
        "kernel": lambda: room.restore("i.png", "motion_blur", *prior, *kernel),
    }[place]()
    assert "x.npy: cannot be read as an array of numbers" in line


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"],
)
def test_tags_of_yaml(room: Room, tag: str) -> None:
    pytest.importorskip("yaml")
    value = f"!!python/{tag} [{room.mark}]" if "name" not in tag else f"!!python/{tag} ''"
    room.write("slakh/Track00001/metadata.yaml", f"stems: {value}\n")
    result = CliRunner().invoke(
        main, ["prepare", "slakh", str(room.folder / "slakh"), "-o", str(room.out), "--nj", "1"]
    )
    assert result.exit_code == 1
    assert "metadata.yaml: is damaged, no plain YAML" in result.stderr
    room.write("medley/Audio/A_B/A_B_METADATA.yaml", f"stems: {value}\n")
    words = ("stems", str(room.folder / "medley"), "--map", "medleydb", "-o", str(room.out))
    result = CliRunner().invoke(main, ["prepare", *words, "--nj", "1"])
    assert result.exit_code == 1
    assert "A_B_METADATA.yaml: is damaged, no plain YAML" in result.stderr
    assert not room.mark.exists()


@pytest.mark.parametrize("name", ["os:mkdir", "os.mkdir", "__import__('os').mkdir('x')", "../x.py"])
def test_names_in_toml(room: Room, tiny_prior: Path, name: str) -> None:
    song = room.folder / "i.png"
    preset = room.write("x.toml", f'sampler = "{name}"\n[options]\n')
    line = room.refused("separate", song, "--prior", tiny_prior, "--sampler", preset)
    assert f"sampler {name!r} is unknown" in line
    suite = room.write(
        "s.toml", f'sets = [{{name = "a", reference = "x"}}]\nsystems = ["{name}"]\n'
    )
    assert name in room.refused("bench", suite, "--prior", tiny_prior)
    config = room.write("t.toml", f'model_type = "{name}"\nstems = ["a"]\n{TINY_TOML}')
    assert "t.toml" in room.refused("train", config)


def header(entry: str) -> bytes:
    text = json.dumps({"a": "E"}).replace('"E"', entry).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<Q", 1 << 62),  # a length beyond the file and memory
        struct.pack("<Q", 8) + b"!!python",
        struct.pack("<Q", 200) + b'{"a":' * 40,  # a table in a table in a table
        header('{"dtype": "F32", "shape": [1], "data_offsets": [0, 99999999]}'),
        header(f'{{"dtype": "F32", "shape": [{(1 << 63) - 1}], "data_offsets": [0, 4]}}'),
        header('{"dtype": "os.system", "shape": [1], "data_offsets": [0, 4]}'),
        b"",
    ],
    ids=["length", "no JSON", "deep", "offsets", "shape", "dtype", "empty"],
)
def test_headers_of_safetensors(room: Room, tiny_prior: Path, head: bytes) -> None:
    prior = Path(shutil.copytree(tiny_prior, room.folder / "prior"))
    weights = room.write("prior/model.safetensors", head + bytes(4))
    line = room.refused("separate", room.folder / "i.png", "--prior", prior)
    assert f"{weights}: not a safetensors file" in line
    adm = room.write("x.safetensors", head + bytes(4))
    assert str(adm) in room.restore("i.png", "sr4", "--prior", adm)
    assert str(adm) in room.refused("priors", "convert", adm)
