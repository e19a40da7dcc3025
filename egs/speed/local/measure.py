"""Times every system on every sound, each in a process of its own; the systems take turns.

    python measure.py EXP --systems default htdemucs --seconds 30 --channels 2 --threads 1

Appends a line of JSON a timing to EXP/times.jsonl: wall and CPU seconds and the peak resident set
of the process from its start to its end, the load average before it, and the share of the
processors that other programs took meanwhile. What is there already for this prior and commit is
not timed again.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from peer import FULL, MISSING

HERE = Path(__file__).parent
KEY = ("system", "seconds", "channels", "threads", "round", "prior", "commit")


def command(system: str, source: Path, out: Path, options: argparse.Namespace) -> list[str] | None:
    """Returns the command of a system; None for a peer whose environment is missing."""
    if system.startswith("default"):
        words = ["-m", "mgdm_audio", "separate", str(source), "-o", str(out), "--device", "cpu"]
        words += ["--report"] if system == "default+page" else []
        return [sys.executable, *words, *(["--prior", options.prior] if options.prior else [])]
    python = Path(options.peers) / "bin" / "python"
    if not python.is_file():
        return None
    return [str(python), str(HERE / "peer.py"), system, str(source), str(out)]


def busy() -> float:
    """Returns the seconds that all programs have had of the processors."""
    user, nice, system, _, _, irq, soft = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def timed(words: list[str] | None, threads: int, limit: float, log: Path) -> dict[str, Any]:
    """Runs a command and returns what it took, or in "status" why there are no figures."""
    if words is None:
        return {"status": "not installed"}
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    bound = partial(resource.setrlimit, resource.RLIMIT_DATA, (int(1e9 * limit),) * 2)
    load, before, start = os.getloadavg()[0], busy(), time.monotonic()
    with open(log, "ab") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=output, env=os.environ | count, preexec_fn=bound
        )
        _, code, used = os.wait4(process.pid, 0)
    wall, cpu = time.monotonic() - start, used.ru_utime + used.ru_stime
    process.returncode = os.waitstatus_to_exitcode(code)
    reasons = {0: "ok", MISSING: "not installed", FULL: f"more than {limit:.3g} GB"}
    status = reasons.get(process.returncode, f"failed ({process.returncode}), see {log.name}")
    if status != "ok":
        return {"status": status}
    others = max(0.0, busy() - before - cpu) / (wall * (os.cpu_count() or 1))
    figures = {"wall": wall, "cpu": cpu, "peak_mib": used.ru_maxrss / 1024}
    return {"status": status, **figures, "load": load, "others": others}


def plan(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what is to be timed, in turn: all systems on one sound, then on the next one."""
    same = (options.prior or "", commit())
    rows = [
        dict(zip(KEY, (system, seconds, channels, threads, number, *same), strict=True))
        for number in range(options.rounds)
        for seconds in options.seconds
        for channels in options.channels
        for threads in options.threads
        for system in options.systems
    ]
    if options.files:
        sizes = (options.files * options.file_seconds, 2)
        for number in range(options.rounds):
            for threads in options.threads:
                key = (f"default, {options.files} files", *sizes, threads, number, *same)
                rows.append(dict(zip(KEY, key, strict=True)))
    return rows


def commit() -> str:
    """Returns the commit of this code, or "unknown"."""
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("--systems", nargs="+", required=True)
    for name in ("seconds", "channels", "threads"):
        parser.add_argument(f"--{name}", type=int, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--file-seconds", type=int, default=2)
    parser.add_argument("--peers", default="none")
    parser.add_argument("--prior")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    parser.add_argument("--memory", type=float, default=0.8 * pages / 1e9)
    options = parser.parse_args()
    times, out = options.exp / "times.jsonl", options.exp / "out"
    known = [json.loads(line) for line in times.read_text().splitlines()] if times.is_file() else []
    done = [{key: row.get(key) for key in KEY} for row in known if row["status"] == "ok"]
    for row in plan(options):
        if row in done:
            continue
        shutil.rmtree(out, ignore_errors=True)
        source = options.exp / "sounds" / f"{row['seconds']}s_{row['channels']}.wav"
        if "files" in row["system"]:
            source = options.exp / "sounds" / f"{options.files}x{options.file_seconds}s"
        words = command(row["system"], source, out, options)
        found = row | timed(words, row["threads"], options.memory, options.exp / "log")
        with open(times, "a") as file:
            file.write(json.dumps(found) + "\n")
        figures = f"{found['wall']:.1f} s" if found["status"] == "ok" else found["status"]
        print(*(f"{key} {row[key]}" for key in KEY[:5]), figures, sep=", ", flush=True)
    shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
