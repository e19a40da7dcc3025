"""One table of what the harness has found, and its faults.

    python table.py EXP [--results RESULTS.md]

reads EXP/mutations.json, kills.json and disk.json, those that are there, prints the table, and puts
it between the lines <!-- torture --> and <!-- /torture --> of RESULTS.md. The exit code is 1 where
there is a fault.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from block import renew

from mgdm_audio import tables

SOUND = "wav wav24 rf64 w64 aiff au caf flac ogg opus mp3 m4a alac mka aac wma webm ac3 tta".split()  # noqa: SIM905
FAMILIES = {"sound": SOUND, "pictures": ["png", "jpg", "gif", "bmp", "tif", "webp", "npy"],
            "weights": ["weights", "ckpt", "old_ckpt", "safetensors", "adm", "state"]}  # fmt: skip
FAULTS = ("foreign", "hang", "memory", "crash")


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def mutation_rows(found: dict[str, Any]) -> list[list[str]]:
    """Per family of formats, and of all."""
    formats = found.get("formats", {})
    rest = [n for n in formats if not any(n in names for names in FAMILIES.values())]
    rows = []
    for family, names in {**FAMILIES, "texts": rest, "all": list(formats)}.items():
        there = [formats[name] for name in names if name in formats]
        cells = [sum(entry.get(k, 0) for entry in there)
                 for k in ("cases", "accepted", "refused", *FAULTS)]  # fmt: skip
        rows.append([f"{family}, {len(there)} formats", *map(str, cells)])
    return rows


def kill_rows(kills: dict[str, Any], disk: dict[str, Any]) -> list[list[str]]:
    """Per command, and of all."""
    killed, full = kills.get("commands", {}), disk.get("commands", {})
    keys = (("calls", killed), ("at a call", killed), ("at a time", killed), ("faults", killed),
            ("litter", killed), ("full", full), ("quota", full), ("faults", full))  # fmt: skip
    rows, totals = [], [0] * len(keys)
    for name in {**killed, **full}:
        cells = []
        for key, source in keys:
            value = source.get(name, {}).get(key, 0)
            cells.append(len({fault[0] for fault in value}) if isinstance(value, list) else value)
        totals = [a + b for a, b in zip(totals, cells, strict=True)]
        rows.append([name, *map(str, cells)])
    return [*rows, ["all", *map(str, totals)]]


def fault_lines(*found: dict[str, Any]) -> list[str]:
    lines = []
    for each in found:
        for name, entry in {**each.get("formats", {}), **each.get("commands", {})}.items():
            lines += [f"{name}: {' '.join(map(str, fault))}" for fault in entry["faults"]]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("exp", type=Path)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    mutations, kills, disk = (
        load(chosen.exp / f"{name}.json") for name in ("mutations", "kills", "disk")
    )
    blocks = []
    if mutations:
        head = ["mutated files", "files", "accepted", "refused in one line", "foreign exceptions",
                "over 10 s", "over 1 GB", "crashes"]  # fmt: skip
        blocks.append(tables.table(head, mutation_rows(mutations)))
    if kills or disk:
        head = ["command", "file-system calls", "killed at a call", "killed at a time",
                "kills with a fault", "hidden files left", "ended by a full disk",
                "ended by a quota", "with a fault"]  # fmt: skip
        blocks.append(tables.table(head, kill_rows(kills, disk)))
    text = "\n\n".join(block.strip() for block in blocks) + "\n"
    print(text)
    faults = fault_lines(mutations, kills, disk)
    for line in faults[:40]:
        print(f"fault: {line[:400]}", file=sys.stderr)
    if len(faults) > 40:
        print(f"fault: and {len(faults) - 40} more, in {chosen.exp}/*.json", file=sys.stderr)
    if chosen.results is not None:
        renew(chosen.results, "torture", text)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
