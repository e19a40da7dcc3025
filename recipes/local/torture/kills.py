"""Commands that are killed, at a file-system call or at any time, and run again.

    python kills.py ROOM EXP --kills 300 --seed 0 [--commands separate,train]

For each command: an unbroken run; then runs that end by SIGKILL, half of them before a file-system
call that concerns the output (all calls in turn, as far as the number goes), half at a random time.
After each, nothing in the output may be half-written or of no run, and the same command must end
well and leave what the unbroken run left. Writes EXP/kills.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from children import calls_of, fork, main, wait, warm_up
from outputs import Contents, contents, faults, litter
from room import COMMANDS, Command

LIMIT = 300.0  # seconds of a run, which takes a few


@dataclass
class Runs:
    """Runs of one command in a room, each in the same output folder."""

    name: str
    command: Command
    room: Path
    exp: Path
    before: Contents = field(default_factory=dict)
    whole: Contents = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    litter: int = 0

    @property
    def out(self) -> Path:
        return self.exp / "out"

    @property
    def log(self) -> Path:
        return self.exp / f"{self.exp.name}.log"

    def words(self, again: bool = False) -> str:
        words = self.command.words + (f" {self.command.again}" if again else "")
        return words.replace("OUT", str(self.out))

    def prepare(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        if self.command.given:
            shutil.copytree(self.room / self.command.given, self.out)

    def start(self, *, at: int = 0, again: bool = False) -> int:
        """The process of a run; ``at``: the call to be killed at."""
        words = self.words(again)
        return fork(lambda: main(words, self.room, self.log, folder=self.out, at=at))

    def unbroken(self) -> None:
        self.prepare()
        self.before = contents(self.out) if self.out.exists() else {}
        begun = time.monotonic()
        code = wait(self.start(), LIMIT)
        self.seconds = time.monotonic() - begun
        if code:
            raise SystemExit(f"error: {self.name}: ends with {code}: {self.log.read_text()[-400:]}")
        self.whole, self.calls = contents(self.out), calls_of(self.log)

    def killed_at(self, call: int) -> bool:
        self.prepare()
        return wait(self.start(at=call), LIMIT) == -signal.SIGKILL

    def killed_after(self, seconds: float) -> bool:
        self.prepare()
        return wait(self.start(), seconds) == -signal.SIGKILL

    def check(self) -> list[str]:
        """What is wrong after a kill, and after the same command has been run once more."""
        said = faults(self.out, self.whole, self.before, self.command.exact)
        code = wait(self.start(again=True), LIMIT)
        text = self.log.read_text(errors="replace")
        if code < 0 or "Traceback" in text or "internal error" in text:
            return [*said, f"the rerun ends with {code}: {text[-300:]}"]
        refused = code == 1 and "exist" in text  # it was done before it was killed
        if code and not refused:
            return [*said, f"the rerun ends with {code}: {text[-300:]}"]
        try:
            found = contents(self.out)
        except ValueError as error:
            return [*said, f"after the rerun: {error}"]
        for name in sorted(found.keys() | self.whole.keys()):
            if found.get(name) != self.whole.get(name):
                said.append(f"after the rerun: {name} is not what the unbroken run left")
        self.litter += litter(self.out)
        return said


def torture(runs: Runs, kills: int, seed: int) -> dict[str, Any]:
    runs.unbroken()
    chance = random.Random(f"{seed} {runs.name}")
    by_call = min(runs.calls, -(-kills // 2))
    calls = sorted(chance.sample(range(1, runs.calls + 1), by_call))
    record: dict[str, Any] = {"calls": runs.calls, "at a call": 0, "at a time": 0, "faults": []}
    for call in calls:
        if runs.killed_at(call):
            record["at a call"] += 1
            record["faults"] += [[f"call {call}", said] for said in runs.check()]
    tries = 0
    while record["at a call"] + record["at a time"] < kills and tries < 3 * kills:
        tries += 1
        seconds = chance.uniform(0, runs.seconds)
        if runs.killed_after(seconds):
            record["at a time"] += 1
            record["faults"] += [[f"{seconds:.3f} s", said] for said in runs.check()]
    return record | {"litter": runs.litter}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("room", type=Path)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=";".join(COMMANDS), help="separated by ;")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = options()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    warm_up()
    results: dict[str, Any] = {}
    names = chosen.commands.split(";")
    for number, name in enumerate(names):
        left = chosen.kills - sum(r["at a call"] + r["at a time"] for r in results.values())
        share = -(-left // (len(names) - number))
        runs = Runs(name, COMMANDS[name], chosen.room.resolve(), chosen.exp.resolve())
        results[name] = torture(runs, share, chosen.seed)
        print(
            f"{name}: { ({**results[name], 'faults': len(results[name]['faults'])}) }", flush=True
        )
        text = json.dumps({"seed": chosen.seed, "commands": results}, indent=1)
        (chosen.exp / "kills.json").write_text(text)
    sys.exit(any(record["faults"] for record in results.values()))
