"""Build the fonts of conf/sampled.toml out of recordings in npm and Debian packages, without root.

    python local/build_fonts.py soundfonts [--packages FOLDER] [--only NAME.sf2 ...]

Needs npm, or apt-get and dpkg-deb, for the packages that are not yet in --packages. A font whose
packages cannot be had is left out, and the reason is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import gus_patch
import recordings
import sf2
from sf2_format import CUTOFF, OPEN_CENTS, RESONANCE, ROOT_KEY

CONF = Path(__file__).parent.parent / "conf" / "sampled.toml"
CLASSES = {
    "bass": tuple(range(32, 40)),
    "guitar": tuple(range(24, 32)),
    "piano": tuple(range(8)),
    "drums": (0, 8, 16, 24, 25, 32, 40),
}
DRUM_BANK = 128
SHAPING = ("seconds", "release", "decay", "drive", "cutoff", "detune")


@cache
def read_conf() -> dict[str, Any]:
    return tomllib.loads(CONF.read_text(encoding="utf-8"))


def unpack(name: str, folder: Path) -> Path:
    """Fetch a package of the table into `folder` unless it is there; unpack it. OSError if that
    fails, ValueError if it is another version than the table's."""
    package = read_conf()["packages"][name]
    archive, room = folder / package["archive"], folder / name
    if not archive.is_file():
        way = ["npm", "pack", "--silent"] if "npm" in package else ["apt-get", "-qq", "download"]
        source = package.get("npm") or package["debian"]
        with tempfile.TemporaryDirectory(dir=folder) as new:
            done = subprocess.run([*way, source], cwd=new, capture_output=True, text=True)
            files = [path for path in Path(new).iterdir() if path.is_file()]
            if done.returncode or len(files) != 1:
                raise OSError(f"{' '.join(way)} {source} failed: {done.stderr.strip()[-200:]}")
            files[0].rename(archive)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != package["sha256"]:
        raise ValueError(f"{archive}: another file than the one in {CONF.name}; remove it")
    if not room.is_dir():
        partial = folder / f".{name}.partial"
        partial.mkdir(exist_ok=True)
        if archive.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", str(archive), str(partial)], check=True)
        else:
            with tarfile.open(archive) as packed:
                # From Python 3.11.4; the hash has told already what is in there.
                safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                packed.extractall(partial, **safely)
        partial.rename(room)
    return room


def build(name: str, target: Path, packages: Path) -> None:
    """Write one font of the table to `target`. ValueError if it leaves a program of its class
    unanswered or names a file that its package lacks."""
    font = read_conf()["fonts"][name]
    programs = CLASSES[font["class"]]
    bank = DRUM_BANK if font["class"] == "drums" else 0
    presets = []
    for instrument in font["instruments"]:
        zones = tuple(_zones(instrument, font["class"] == "drums", packages))
        presets += [sf2.Preset(f"{target.stem[:15]} {p}", bank, p, zones) for p in
                    instrument.get("programs", programs)]  # fmt: skip
    if sorted(preset.program for preset in presets) != sorted(programs):
        raise ValueError(f"{name}: a {font['class']} font has programs {programs}, each once")
    sf2.write(target, target.stem, presets)


def _zones(instrument: dict[str, Any], drums: bool, packages: Path) -> list[sf2.Zone]:
    room, files = unpack(instrument["package"], packages), instrument["files"]
    shaping = recordings.Shaping(**{key: instrument[key] for key in SHAPING if key in instrument})
    if "preset" in instrument:
        zones = _preset(_one(room, files), instrument)
    elif "keys" in instrument:
        hits = {
            int(key): [path for one in patterns for path in _files(room, f"{files}/{one}")]
            for key, patterns in instrument["keys"].items()
        }
        zones = recordings.kit(hits, instrument.get("seconds", 3.0), instrument.get("layers", 3))
    elif drums:
        zones = [zone for path in _files(room, files) for zone in _on_one_key(path)]
    elif files.endswith(".pat"):
        zones = gus_patch.read(_one(room, files))
    else:
        rooms = [room, *(unpack(name, packages) for name in instrument.get("louder", ()))]
        skipped, every = frozenset(instrument.get("skip", ())), instrument.get("every", 1)
        zones = _notes(tuple(rooms), files, skipped, every, shaping.seconds, shaping.drive)
    if drums:
        return recordings.complete(zones)
    return recordings.shaped(zones, shaping) if shaping != recordings.Shaping() else zones


def _preset(path: Path, instrument: dict[str, Any]) -> list[sf2.Zone]:
    place = tuple(instrument["preset"])
    found = next((p for p in _font(path) if (p.bank, p.program) == place), None)
    if found is None:
        raise ValueError(f"{path}: no preset with (bank, program) {place}")
    zones = [zone for zone in found.zones if zone.sample.name not in instrument.get("skip", ())]
    if instrument.get("open_filters"):
        opened = {CUTOFF: OPEN_CENTS, RESONANCE: 0}
        zones = [sf2.Zone(z.sample, z.keys, z.velocities, z.generators | opened) for z in zones]
    return zones


@cache
def _notes(
    rooms: tuple[Path, ...],
    files: str,
    skipped: frozenset[str],
    every: int,
    seconds: float,
    drive: float | None,
) -> list[sf2.Zone]:
    layers = []
    for room in rooms:
        paths = [path for path in _files(room, files) if path.stem not in skipped]
        layers.append(sorted(paths, key=lambda path: recordings.key_of(path.name))[::every])
    return recordings.notes(layers, seconds, drive)


def _on_one_key(path: Path) -> list[sf2.Zone]:
    """The first zone of a drum patch, on the key with which its file name starts."""
    key = int(path.name[:3])
    zone = gus_patch.read(path)[0]
    here = zone.generators | recordings.hit(key) | {ROOT_KEY: key}
    return [sf2.Zone(zone.sample, (key, key), generators=here)]


@cache
def _font(path: Path) -> list[sf2.Preset]:
    return sf2.read(path)


def _files(room: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in room.glob(pattern) if path.is_file())
    if not found:
        raise ValueError(f"no {pattern} in {room}")
    return found


def _one(room: Path, pattern: str) -> Path:
    return _files(room, pattern)[0]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="kept downloads")
    parser.add_argument("--only", nargs="*", help="fonts of the table; default: those not there")
    options = parser.parse_args(arguments)
    known = read_conf()["fonts"]
    unknown = set(options.only or ()) - set(known)
    if unknown:
        parser.error(f"no font {', '.join(sorted(unknown))} in {CONF}")
    for folder in (options.folder, options.packages):
        folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.only or [n for n in known if not (options.folder / n).is_file()]:
        try:
            build(name, options.folder / name, options.packages)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            failed.append(f"{name}: {error}")
            continue
        print(f"{name}: {(options.folder / name).stat().st_size / 1e6:.1f} MB", flush=True)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
