"""Restore a folder of images by every sampler of a suite, degraded in every way it names.

    python restore_bench.py SUITE.toml IMAGES -o EXP

writes EXP/<task>/<system>.json, scores and cost, and beside it .png, the restored images. All
images of a row go through the sampler as one batch. A row that is there with the same settings is
not computed again; one whose sampler cannot take the task is left out, and said to be.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from block import load
from script import run

from mgdm_audio import __version__
from mgdm_audio.atomic import write_bytes, write_text
from mgdm_audio.config import from_mapping, load_toml, nearest
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import png, read_image
from mgdm_audio.images.metrics import compare, lpips_distance
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.restorer import Restorer
from mgdm_audio.images.tasks import FILE_OPTION, option_hashes
from mgdm_audio.priors.images import ImagePrior, load_image_prior
from mgdm_audio.samplers.presets import Preset

COLUMNS = 10  # images in a row of the picture


@dataclass(frozen=True)
class System:
    """A row of the suite: a sampler with its settings."""

    preset: str
    set: tuple[str, ...] = ()  # changes of the preset, KEY=VALUE
    at: dict[str, list[str]] = field(default_factory=dict)  # task -> more changes there
    prior: str = ""  # in place of the suite's, say a latent one
    only: tuple[str, ...] = ()  # tasks; empty: all


@dataclass(frozen=True)
class Suite:
    """A suite's TOML file."""

    prior: str
    tasks: dict[str, dict[str, Any]]  # task -> its options
    systems: dict[str, System]
    seed: int = 0


def read_suite(path: Path) -> Suite:
    """Files that options of tasks name are relative to the suite's folder.

    Raises UserError for what is no suite, or names a task that it does not have.
    """
    table = load_toml(path)
    systems = {name: from_mapping(System, value, f"{path}: systems.{name}")
               for name, value in table.pop("systems", {}).items()}  # fmt: skip
    suite = from_mapping(Suite, table | {"systems": systems}, str(path))
    for name, system in suite.systems.items():
        for task in [*system.only, *system.at]:
            if task not in suite.tasks:
                raise UserError(f"{path}: systems.{name}: {task!r} is none of the suite's tasks")
    for options in suite.tasks.values():
        if FILE_OPTION in options:
            options[FILE_OPTION] = str(path.parent / str(options[FILE_OPTION]))
    return suite


open_prior = cache(load_image_prior)


def preset_for(system: System, task: str) -> Preset:
    """The system's preset with its changes for the task. Raises UserError for one that is none."""
    return load_image_preset(system.preset, task, [*system.set, *system.at.get(task, [])])


def row(
    task: str, options: dict[str, Any], system: System, opened: ImagePrior, files: list[Path],
    seed: int, out: Path,
) -> dict[str, Any]:  # fmt: skip
    """Restore all files, write what came of it, and return the record, or the one that is there.

    Raises UserError where the sampler cannot take the task or the prior, or diverges.
    """
    preset = preset_for(system, task)
    settings = json.loads(json.dumps({
        "version": __version__, "task": task, "task_options": options, "seed": seed,
        "task_files_sha256": option_hashes(options),
        "prior": opened.name, "prior_sha256": dict(opened.sha256),
        "sampler": type(preset.sampler).__name__, "options": preset.options,
        "noise_std": preset.noise_std,
        "images": {file.stem: hash_file(file)[:12] for file in files},
    }))  # fmt: skip
    path = out.with_suffix(".json")
    if path.is_file():
        found = load(path)
        if all(found.get(key) == value for key, value in settings.items()):
            return found
    restorer = Restorer(opened, preset, task, options, seed=seed, batch_size=len(files))
    originals = [read_image(file, opened.image_shape).x for file in files]
    names = [file.stem for file in files]
    observed = [restorer.observe(x, name) for x, name in zip(originals, names, strict=True)]
    begun = time.process_time(), time.monotonic()
    restored = restorer.restore_all(observed, names, originals=originals)
    lpips = lpips_distance()
    record = settings | {
        "torch": torch.__version__,
        "cpu_seconds": round(time.process_time() - begun[0], 3),
        "seconds": round(time.monotonic() - begun[1], 3),
        "denoiser_calls": restored[0].report["denoiser_calls"],
        "scores": {name: compare(r.mean, x, lpips, r.symmetries)
                   for name, r, x in zip(names, restored, originals, strict=True)},
    }  # fmt: skip
    write_bytes(out.with_suffix(".png"), png(sheet([r.mean for r in restored])))
    write_text(path, json.dumps(record, indent=1) + "\n")
    return record


def sheet(images: list[torch.Tensor]) -> torch.Tensor:
    """``COLUMNS`` side by side, the last row filled up with black."""
    images = images + [torch.full_like(images[0], -1.0)] * (-len(images) % COLUMNS)
    rows = [torch.cat(images[i : i + COLUMNS], -1) for i in range(0, len(images), COLUMNS)]
    return torch.cat(rows, -2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("suite", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--prior", action="append", default=[], metavar="NAME=PATH",
                        help="a folder in place of a prior that the suite names")  # fmt: skip
    parser.add_argument("--limit", type=int, default=0, help="images, spread evenly; 0: all")
    parser.add_argument("--tasks", default="", help="some of the suite's, separated by spaces")
    parser.add_argument("--systems", default="", help="some of the suite's, separated by spaces")
    options = parser.parse_args()
    suite = read_suite(options.suite)
    places = dict(item.split("=", 1) for item in options.prior)
    files = sorted(options.images.glob("*.png"))
    if options.limit:
        files = files[:: max(len(files) // options.limit, 1)][: options.limit]
    if not files:
        raise UserError(f"{options.images}: holds no .png images")
    tasks = options.tasks.split() or list(suite.tasks)
    systems = options.systems.split() or list(suite.systems)
    for names, known in ((tasks, suite.tasks), (systems, suite.systems)):
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{options.suite}: holds no {unknown[0]!r}{nearest(unknown[0], known)}")
    for task in tasks:
        (options.output / task).mkdir(parents=True, exist_ok=True)
        for name in systems:
            system = suite.systems[name]
            if system.only and task not in system.only:
                continue
            prior = system.prior or suite.prior
            opened = open_prior(places.get(prior, prior))
            try:
                record = row(task, suite.tasks[task], system, opened, files, suite.seed,
                             options.output / task / name)  # fmt: skip
                psnr = [s["psnr_db"] for s in record["scores"].values() if s["psnr_db"]]
                average = sum(psnr) / max(len(psnr), 1)
                said = f"{average:6.2f} dB, {record['cpu_seconds']:.1f} s of CPU"
            except UserError as error:
                said = f"left out: {' '.join(str(error).split())}"
            print(f"{task:<20} {name:<16} {said}", flush=True)


if __name__ == "__main__":
    run(main)
