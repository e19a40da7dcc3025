"""Commands on a disk that fills up, and under a quota on the size of a file.

    python disk.py ROOM EXP

The disk is an ext4 file system in a file, where this user may mount one; the quota, a limit of the
process (RLIMIT_FSIZE), needs no rights. A command may end well, or with 1 and one line; what it
leaves is checked as after a kill, and with room again the same command must end well. Writes
EXP/disk.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from children import fork, main, wait, warm_up
from kills import LIMIT, Runs
from room import COMMANDS

SHARES = (0.0, 0.2, 0.5, 0.8, 0.97)  # of what the command writes that is left free
QUOTAS = (100, 5_000, 50_000)  # bytes of a file


@contextmanager
def small_disk(place: Path, megabytes: int = 64) -> Iterator[Path | None]:
    """Where it is mounted; None where this user may not."""
    image, where = place / "disk.img", place / "disk"
    where.mkdir(exist_ok=True)
    try:
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, where], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        image.unlink(missing_ok=True)
        yield None
        return
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=False, capture_output=True)
        image.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def fill(disk: Path, free: int) -> Path:
    """A file that leaves so many bytes."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        for step in (1 << 20, 1 << 15, 1 << 12):  # it takes some blocks for its own list of them
            with suppress(OSError):
                while shutil.disk_usage(disk).free >= free + step:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(step, os.SEEK_CUR)
    return ballast


def told(runs: Runs, code: int) -> list[str]:
    """What is wrong with how a run ended that may have lacked room."""
    lines = [line for line in runs.log.read_text(errors="replace").splitlines() if line]
    text = "\n".join(lines)
    if code not in (0, 1) or "Traceback" in text or "internal error" in text:
        return [f"ends with {code}: {text[-300:]}"]
    if code and not any("error: " in line for line in lines):
        return [f"ends with 1 and says nothing: {text[-300:]}"]
    return []


def under_quota(runs: Runs, quota: int) -> int:
    reader, writer = os.pipe()  # a file of what is said would be under the quota too

    def limited() -> int:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_FSIZE, (quota, quota))
        return main(runs.words(), runs.room, writer)

    runs.prepare()
    child = fork(limited)
    os.close(writer)
    with open(reader, "rb") as said:
        runs.log.write_bytes(said.read())
    return wait(child, LIMIT)


class OnDisk(Runs):
    """Runs whose output is on the small disk, and whose log is not."""

    @property
    def out(self) -> Path:
        return self.exp / "disk" / "out"


def torture(name: str, room: Path, exp: Path, disk: Path | None) -> dict[str, Any]:
    record: dict[str, Any] = {"full": 0, "quota": 0, "faults": []}
    runs = Runs(name, COMMANDS[name], room, exp)
    runs.unbroken()
    wanted = size_of(runs.out)
    for quota in QUOTAS:
        code = under_quota(runs, quota)
        record["quota"] += bool(code)
        record["faults"] += [[f"quota {quota}", s] for s in [*told(runs, code), *runs.check()]]
    if disk is None:
        return record
    there = OnDisk(name, COMMANDS[name], room, exp)
    there.unbroken()
    for share in SHARES:
        there.prepare()
        ballast = fill(disk, int(share * wanted))
        code = wait(there.start(), LIMIT)
        ballast.unlink()
        record["full"] += bool(code)
        record["faults"] += [[f"{share:.0%} free", s] for s in [*told(there, code), *there.check()]]
    shutil.rmtree(there.out, ignore_errors=True)
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("room", type=Path)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--commands", default=";".join(COMMANDS), help="separated by ;")
    chosen = parser.parse_args()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    warm_up()
    results: dict[str, Any] = {}
    with small_disk(chosen.exp.resolve()) as disk:
        for name in chosen.commands.split(";"):
            results[name] = torture(name, chosen.room.resolve(), chosen.exp.resolve(), disk)
            print(f"{name}: { ({**results[name], 'faults': len(results[name]['faults'])}) }")
            text = json.dumps({"disk": disk is not None, "commands": results}, indent=1)
            (chosen.exp / "disk.json").write_text(text)
    sys.exit(any(record["faults"] for record in results.values()))
