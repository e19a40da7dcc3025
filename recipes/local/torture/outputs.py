"""What a command has left in its output folder: whether it is whole, and whether it is the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SAME = {".wav", ".flac", ".npy", ".png", ".safetensors"}  # bytes that tell no time
TIMES = {"seconds", "seconds_per_second", "denoiser_seconds", "peak_memory_bytes", "elapsed",
         "lines"}  # fmt: skip
ENDS = {".html": b">\n", ".md": b"\n", ".csv": b"\n", ".svg": b">\n"}

Contents = dict[str, Any]  # path below the output -> what of it is to be the same again


def is_own(path: Path, out: Path) -> bool:
    """Neither hidden nor below what is: a killed process leaves its rooms, which nobody reads.

    Nor a log for eyes, which tells the time in its very name.
    """
    parts = path.relative_to(out).parts
    return not any(part.startswith(".") for part in parts) and parts[0] != "tensorboard"


def contents(out: Path) -> Contents:
    """Raises ValueError for a file that is not whole."""
    found: Contents = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and is_own(path, out):
            found[str(path.relative_to(out))] = content(path)
    return found


def content(path: Path) -> Any:
    data = path.read_bytes()
    if path.suffix in SAME:
        if path.name.startswith("state."):  # its settings and seconds are in its header
            from safetensors.torch import load

            tensors = load(data).items()
            return {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in tensors}
        return hashlib.sha256(data).hexdigest()
    if path.suffix == ".json":
        return without_times(json.loads(data))
    if path.suffix == ".jsonl":
        lines = data.splitlines()
        if path.name == "log.jsonl":  # appended to: a killed run may repeat or lose its last line
            return "a log"
        return [without_times(json.loads(line)) for line in lines]
    if not data.endswith(ENDS.get(path.suffix, b"")):
        raise ValueError(f"{path}: has no end")
    return "a text"


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def faults(out: Path, whole: Contents, before: Contents, exact: bool) -> list[str]:
    """What is wrong with what a killed command has left: half a file, or one of neither run."""
    said = []
    try:
        found = contents(out) if out.exists() else {}
    except ValueError as error:
        return [f"half-written: {error}"]
    for name, value in found.items():
        if name == "manifest.jsonl":  # it tells of the tracks that there are, so far
            continue
        known = [value for value in (whole.get(name), before.get(name)) if value is not None]
        if not known and exact:
            said.append(f"{name}: is in no whole result")
        elif exact and value not in known:
            said.append(f"{name}: is of no whole result")
    return said + mixed(out)


def mixed(out: Path) -> list[str]:
    """Records that are accepted though they tell of other files than those that are there."""
    from mgdm_audio.digest import hash_file
    from mgdm_audio.errors import UserError
    from mgdm_audio.output.stem_files import listed
    from mgdm_audio.priors.folder import load_prior

    said = []
    for record in out.rglob("separation.json") if out.exists() else []:
        if is_own(record, out):
            for file, sha in listed(record).items():
                if not file.is_file():
                    said.append(f"{record}: lists {file.name}, which is missing")
                elif hash_file(file) != sha:
                    said.append(f"{record}: tells of another {file.name}")
    for track in out.rglob("track.json") if out.exists() else []:
        if is_own(track, out):
            for stem, entry in json.loads(track.read_bytes())["stems"].items():
                file = out / entry["path"]
                if not file.is_file() or hash_file(file) != entry["sha256"]:
                    said.append(f"{track}: tells of another {stem}")
    for config in out.rglob("config.json") if out.exists() else []:
        if is_own(config, out):
            try:
                load_prior(config.parent)
            except UserError:
                continue  # said in one line, not accepted
    return said


def litter(out: Path) -> int:
    """Hidden files and folders that a killed process has left, and its successor too."""
    return len(list(out.rglob("*.partial")))
