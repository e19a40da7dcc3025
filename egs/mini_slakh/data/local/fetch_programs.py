"""Unpack the Debian packages of conf/programs.toml in one folder, without root.

    python local/fetch_programs.py packages/debian [--only NAME ...]

Needs apt-get and dpkg-deb. A package that is there is not fetched again.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

CONF = Path(__file__).parent.parent / "conf" / "programs.toml"


def read_conf() -> dict[str, Any]:
    return tomllib.loads(CONF.read_text(encoding="utf-8"))


def fetch(name: str, root: Path) -> str:
    """Download the package and unpack it into `root`; its SHA-256. OSError if that fails.

    `root/.packages/NAME` is written last and holds the hash.
    """
    mark = root / ".packages" / name
    if mark.is_file():
        return mark.read_text(encoding="utf-8")
    mark.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.resolve()) as room:
        _run(["apt-get", "-qq", "download", name], room)
        (package,) = Path(room).glob("*.deb")
        _run(["dpkg-deb", "-x", str(package), str(root.resolve())], room)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
    mark.write_text(digest, encoding="utf-8")
    return digest


def _run(command: list[str], room: str) -> None:
    done = subprocess.run(command, cwd=room, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)} failed: {done.stderr.strip()[-200:]}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", help="packages of the table; default: all")
    options = parser.parse_args(arguments)
    known = read_conf()
    unknown = set(options.only or ()) - set(known)
    if unknown:
        parser.error(f"no package {', '.join(sorted(unknown))} in {CONF}")
    failed = []
    for name in options.only or known:
        try:
            digest = fetch(name, options.folder)
        except OSError as error:
            failed.append(f"error: {name}: {error}")
            continue
        same = digest == known[name]["sha256"]
        other = "" if same else " (another version than ours; the songs will differ)"
        print(f"{name}: {known[name]['licence']}{other}", flush=True)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
