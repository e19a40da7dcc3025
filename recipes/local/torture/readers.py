"""How a file of each format is read: by the reader itself, and by a command of the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from room import CONTAINERS, FORMATS, PICTURES, QUICK

RESTORE = "--prior toy --task sr4 --sampler dps --set num_steps=3 --device cpu"


def sound(path: Path) -> None:
    from mgdm_audio.audio.reading import Reading

    for _ in Reading(path):
        pass


def picture(path: Path) -> None:
    from mgdm_audio.images.io import read_image

    read_image(path, (3, 16, 16))


def prior(path: Path) -> None:
    from mgdm_audio.priors.folder import load_prior

    load_prior(path.parent)


def image_prior(path: Path) -> None:
    from mgdm_audio.priors.images import load_image_prior

    load_image_prior(path.parent)


def checkpoint(path: Path) -> None:
    from mgdm_audio.priors.lightning import read_lightning

    read_lightning(path)


def adm(path: Path) -> None:
    from mgdm_audio.priors.images import load_image_prior

    load_image_prior(path)


def preset(path: Path) -> None:
    from mgdm_audio.samplers.presets import load_preset

    load_preset(path)


def suite(path: Path) -> None:
    from mgdm_audio.evaluation.benchmark.suite import load_suite

    load_suite(path)


def mapping(path: Path) -> None:
    from mgdm_audio.data.mapping import load_mapping

    load_mapping(str(path))


def training(path: Path) -> None:
    from mgdm_audio.config import load_toml
    from mgdm_audio.training.stem_run import StemRun

    StemRun.read(load_toml(path), str(path))


def state(path: Path) -> None:
    import torch

    from mgdm_audio.training.state import State, read_settings
    from tests.toys import tiny_network

    read_settings(path)
    network = tiny_network(0)
    State(network, torch.optim.AdamW(network.parameters())).load(path)


def manifest(path: Path) -> None:
    from mgdm_audio.data import manifest as manifests

    manifests.read(path, "all")


def slakh(path: Path) -> None:
    from mgdm_audio.data import slakh as published

    published.plan(path.parent)


def moises(path: Path) -> None:
    from mgdm_audio.data.mapping import load_mapping, plan

    plan(load_mapping("moisesdb"), path.parent)


def record(path: Path) -> None:
    from mgdm_audio.report.run import read_run

    read_run(path.parent)


Reader = Callable[[Path], None]
# format -> reader, name of the file, words of a command that is given it ("": none)
READERS: dict[str, tuple[Reader, str, str]] = {
    **{
        name: (sound, f"x.{name.removesuffix('24')}", f"separate FILE -o OUT --prior tiny {QUICK}")
        for name in (*FORMATS, *CONTAINERS)
    },
    **{name: (picture, f"x.{name}", f"restore FILE -o OUT {RESTORE}") for name in PICTURES},
    "npy": (picture, "x.npy", f"restore FILE -o OUT {RESTORE}"),
    "weights": (prior, "model.safetensors", "priors verify FOLDER"),
    "config": (prior, "config.json", "priors show FOLDER"),
    "image_config": (image_prior, "config.json", "priors show FOLDER"),
    "ckpt": (checkpoint, "x.ckpt", "priors convert FILE -o OUT"),
    "old_ckpt": (checkpoint, "x.ckpt", "priors convert FILE -o OUT"),
    "safetensors": (checkpoint, "x.safetensors", "priors convert FILE -o OUT"),
    "adm": (adm, "x.pt", f"restore i.png -o OUT {RESTORE} --prior FILE"),
    "preset": (preset, "x.toml", "separate album/a.wav -o OUT --prior nope --sampler FILE"),
    "suite": (suite, "x.toml", "bench FILE -o OUT --prior nope"),
    "map": (mapping, "x.toml", "prepare stems stems -o OUT --nj 1 --map FILE --splits none"),
    "train": (training, "x.toml", "train FILE -o OUT --set data.train=nowhere"),
    "state": (state, "state.safetensors", ""),
    "manifest": (manifest, "manifest.jsonl", ""),
    "yaml": (slakh, "metadata.yaml", ""),
    "moises": (moises, "data.json", ""),
    "record": (record, "separation.json", "report FOLDER"),
}
SOURCES = {"adm": "ckpt"}  # whose good file is another's


def furnish(room: Path, scratch: Path, name: str) -> Path:
    """A folder for the files of a format, with what is read beside them; the file's path."""
    folder = scratch / name
    beside: dict[str, Any] = {
        "weights": room / "tiny", "config": room / "tiny", "image_config": room / "latent",
        "record": room / "separated/a",
    }  # fmt: skip
    if name in beside:
        shutil.copytree(beside[name], folder, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "weights":  # the hash would tell of every change before the file is read
        config = json.loads((folder / "config.json").read_text())
        del config["sha256"]
        (folder / "config.json").write_text(json.dumps(config))
    return folder / READERS[name][1]
