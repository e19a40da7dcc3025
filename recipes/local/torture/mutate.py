"""Mutated files of every format, read by forked batches: what is accepted, refused, or a fault.

    python mutate.py ROOM EXP --cases 20000 --seed 0 [--formats wav,flac]
    python mutate.py ROOM EXP --one wav 17        # write that file, and read it here

writes EXP/mutations.json: per format the counts, and the faults with the numbers that make them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from children import fork, wait, warm_up
from readers import READERS, SOURCES, furnish

SECONDS, BYTES = 10.0, 10**9  # of processor time, and of memory, that one file may take
BATCH = 200  # files a fork
COMMANDS = 25  # of so many files, one is given to the command line too
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (b"-1", b"0", b"1e999", b"nan", b"-inf", b"9" * 40, b'"x"', b"[]", b"{}", b"null", b"true",
         b"[" * 5000, b"\xff\xfe", b"\\ud800", b'"' + b"a" * 10**5 + b'"')  # fmt: skip
TEXTS = {"config", "image_config", "preset", "suite", "map", "train", "manifest", "yaml", "moises",
         "record"}  # fmt: skip


def mutate(data: bytes, others: list[bytes], chance: random.Random, text: bool) -> bytes:
    """One to three changes of a file, none of them too clever to be met in life."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = (_in_words if text and chance.random() < 0.7 else _in_bytes)(data, others, chance)
    return data


def _in_bytes(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    changed = bytearray(data)
    size = len(data)
    place = chance.randrange(min(size, chance.choice((64, 512, size))) or 1) if size else 0
    span = chance.choice((1, 2, 4, 16, 256, max(1, size // 4)))
    match chance.randrange(8):
        case 0:
            del changed[place:]
        case 1:
            for _ in range(chance.choice((1, 2, 8))):
                if changed:
                    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        case 2:
            changed[place : place + span] = chance.randbytes(span)
        case 3:
            width = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) & ((1 << (8 * width)) - 1)
            order = chance.choice(("little", "big"))
            changed[place : place + width] = number.to_bytes(width, order)  # type: ignore[arg-type]
        case 4:
            del changed[place : place + span]
        case 5:
            changed[place:place] = bytes(changed[place : place + span]) * chance.choice((1, 2, 20))
        case 6:
            changed[place:place] = bytes(span)
        case 7:
            other = chance.choice(others)
            changed[place:] = other[chance.randrange(len(other) or 1) :]
    return bytes(changed)


def _in_words(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    match chance.randrange(4):
        case 0:
            del lines[chance.randrange(len(lines))]
            return b"".join(lines)
        case 1:
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            return b"".join(lines)
        case _:
            values = list(re.finditer(rb'-?\d[\d.e+-]*|"[^"]*"|true|false|\w+', data))
            if not values:
                return data
            found = chance.choice(values)
            return data[: found.start()] + chance.choice(WORDS) + data[found.end() :]


def case(room: Path, name: str, number: int, seed: int) -> bytes:
    """The mutated file of that number."""
    chance = random.Random(f"{seed} {name} {number}")
    good = sorted((room / "good").iterdir())
    others = [path.read_bytes() for path in chance.sample(good, 2)]
    data = (room / "good" / SOURCES.get(name, name)).read_bytes()
    return mutate(data, others, chance, name in TEXTS)


def peak() -> int:
    """Bytes that this process has held at most since ``forget``."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def one_line(error: Exception) -> bool:
    return bool(str(error)) and "\n" not in str(error).strip()


def read(path: Path, name: str) -> tuple[str, str]:
    """What becomes of the file, and why."""
    from mgdm_audio.errors import UserError

    try:
        READERS[name][0](path)
    except UserError as error:
        return ("refused", "") if one_line(error) else ("foreign", f"lines: {error!r}"[:300])
    except MemoryError as error:
        return "memory", repr(error)
    except Exception as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
        return "foreign", f"{type(error).__name__}: {error} at {place}"[:300]
    return "accepted", ""


def by_command(path: Path, name: str, room: Path) -> tuple[str, str]:
    """The same of a command, whose output must be whole or absent."""
    import shlex
    import shutil

    from click.testing import CliRunner

    from mgdm_audio.cli.main import main as command

    out = path.parent.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    words = READERS[name][2].replace("FILE", shlex.quote(str(path))).replace("OUT", str(out))
    words = words.replace("FOLDER", shlex.quote(str(path.parent)))
    os.chdir(room)
    result = CliRunner().invoke(command, shlex.split(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "foreign", f"{words}: {result.exception!r}"[:300]
    text = result.output
    if "internal error" in text or "Traceback" in text:
        return "foreign", f"{words}: {text[-300:]}"
    left = [p for p in out.rglob("*") if p.is_file()] if out.exists() else []
    if result.exit_code and left:
        return "foreign", f"{words}: exit {result.exit_code}, and left {left[0]}"
    return ("refused" if result.exit_code else "accepted"), ""


def batch(room: Path, scratch: Path, name: str, numbers: range, seed: int, report: int) -> int:
    """Read the files of those numbers, and write a line for each to the pipe ``report``."""
    path = furnish(room, scratch, name)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # decoders complain
    for number in numbers:
        os.write(report, f"{json.dumps([number, 'begun', ''])}\n".encode())
        path.write_bytes(case(room, name, number, seed))
        forget()
        before = peak()
        outcome, why = read(path, name)
        if outcome in ("accepted", "refused") and READERS[name][2] and not number % COMMANDS:
            told, reason = by_command(path, name, room)
            outcome, why = (outcome, why) if told in ("accepted", "refused") else (told, reason)
        if peak() - before > BYTES:
            outcome, why = "memory", f"{(peak() - before) / 1e9:.1f} GB"
        os.write(report, f"{json.dumps([number, outcome, why])}\n".encode())
    return 0


def watched(room: Path, scratch: Path, name: str, numbers: range, seed: int) -> list[list[Any]]:
    """The outcomes of a batch, whatever becomes of the process that reads it."""
    found: list[list[Any]] = []
    while numbers:
        reader, writer = os.pipe()
        child = fork(lambda n=numbers, w=writer: batch(room, scratch, name, n, seed, w))  # type: ignore[misc]
        os.close(writer)
        text, begun, hung = b"", time.monotonic(), False
        while True:
            ready, _, _ = select.select([reader], [], [], 1.0)
            if ready:
                part = os.read(reader, 1 << 16)
                begun = time.monotonic()
                text += part
                used = _processor(child)
                if not part:
                    break
            elif _processor(child) - used > SECONDS or time.monotonic() - begun > 60 * SECONDS:
                os.kill(child, signal.SIGKILL)
                hung = True
        code = wait(child)
        os.close(reader)
        lines = [json.loads(line) for line in text.splitlines()]
        done = [line for line in lines if line[1] != "begun"]
        found += done
        numbers = numbers[len(done) :]
        if numbers and lines:
            reason = "hang" if hung else "crash"
            found.append([numbers[0], reason, f"the process ended with {code}"])
            numbers = numbers[1:]
        elif numbers:
            raise SystemExit(f"error: {name}: a batch ended with {code} before its first file")
    return found


def _processor(process: int) -> float:
    """Seconds of processor time that a process has taken."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(room: Path, exp: Path, names: list[str], cases: int, seed: int) -> dict[str, Any]:
    """{format: {"cases", outcome: count, ..., "faults": [[number, outcome, why]]}}."""
    results: dict[str, Any] = {}
    each = -(-cases // len(names))
    for name in names:
        found = []
        for start in range(0, each, BATCH):
            numbers = range(start, min(start + BATCH, each))
            found += watched(room, exp / "scratch", name, numbers, seed)
        counts = Counter(outcome for _, outcome, _ in found)
        faults = [line for line in found if line[1] not in ("accepted", "refused")]
        results[name] = {"cases": each, **counts, "faults": faults}
        print(f"{name}: {dict(counts)}", flush=True)
        text = json.dumps({"seed": seed, "formats": results}, indent=1)
        (exp / "mutations.json").write_text(text)
    return results


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("room", type=Path)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(READERS))
    parser.add_argument("--one", nargs=2, metavar=("FORMAT", "NUMBER"))
    return parser.parse_args()


if __name__ == "__main__":
    chosen = options()
    where, exp = chosen.room.resolve(), chosen.exp.resolve()
    if chosen.one:
        name, number = chosen.one[0], int(chosen.one[1])
        path = furnish(where, exp / "scratch", name)
        path.write_bytes(case(where, name, number, chosen.seed))
        print(path)
        READERS[name][0](path)
        sys.exit()
    warm_up()
    found = run(where, exp, chosen.formats.split(","), chosen.cases, chosen.seed)
    sys.exit(any(entry["faults"] for entry in found.values()))
