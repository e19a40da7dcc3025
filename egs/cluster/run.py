"""Separates many short files on a cluster of two nodes, of which workers and one node are killed.

    python egs/cluster/run.py EXP [--tracks 2000]

The nodes are processes of this machine. The network is small and not trained, and the sampler only
counts its calls. Afterwards every tenth file is separated without a cluster, for its bytes, and all
are asked for again with --skip-existing, which verifies the hashes of each. Prints a table of what
became of them, and exits with 1 if a file was lost, done twice or differs.
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import ray
import soundfile
import torch
from ray.cluster_utils import Cluster

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.networks.tf_unet import TFUNet, TFUNetConfig
from mgdm_audio.priors.folder import save_prior

RATE = 22050
STEMS = ("bass", "drums", "guitar", "piano")
KILLS = (0.1, 0.25, 0.4, 0.7)  # of a worker, when this share of the tracks is done
LOSS, GAIN = 0.5, 0.6  # of a node
SAMPLER = '''
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.samplers import SAMPLERS


@dataclass(frozen=True)
class Counted:
    """Equal shares of the mixture."""

    def sample(self, prior, likelihood, *, generator, x_T=None, on_step=None):
        with open(Path(__file__).with_name("calls"), "a") as calls:
            calls.write(".")
        return likelihood.operator.pinv(likelihood.y)


SAMPLERS.register("counted", Counted)
'''


def prepare(folder: Path, tracks: int) -> None:
    """Writes the files, the prior and the sampler."""
    (folder / "songs").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(tracks):
        samples = 0.1 * generator.standard_normal(generator.integers(500, 4000))
        soundfile.write(folder / "songs" / f"{i:04}.wav", samples, RATE)
    config = TFUNetConfig(
        bins=64, channels=(16, 32), blocks=(1, 2), embedding=16, mixing=4, mixing_hidden=16
    )
    torch.manual_seed(0)
    network = TFUNet(config)
    details = {
        "schedule": NoiseSchedule.karras().to_config(),
        "stems": list(STEMS),
        "sample_rate": RATE,
        "mixture_rms": 0.1,
        "segment": 2**14,
    }
    save_prior(folder / "prior", network, config, "tf_unet", details)
    for out in ("stems", "alone"):
        (folder / f"{out}_sampler").mkdir()
        (folder / f"{out}_sampler" / "counted.py").write_text(SAMPLER)
        (folder / f"{out}_sampler" / "counted.toml").write_text('sampler = "counted"\n')


def command(folder: Path, out: str, songs: list[Path], *more: str) -> list[str | Path]:
    own = folder / f"{out}_sampler"
    words = [sys.executable, "-m", "mgdm_audio", "separate", *songs, "-o", folder / out, *more]
    words += ["--prior", folder / "prior", "--sampler", own / "counted.toml", "--samples", "1"]
    return [*words, "--import", own / "counted.py", "--device", "cpu"]


def workers() -> list[int]:
    """Numbers of the workers' processes."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().startswith(b"ray::Worker")
    ]


def separate(folder: Path, tracks: int) -> tuple[int, str, str]:
    """Runs the command on a cluster and kills what ``KILLS`` says; returns status and output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    small = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "ray_client_server_port": port, **small})
    nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
    plan = [(share, "worker") for share in KILLS] + [(LOSS, "node"), (GAIN, "another node")]
    chance, done, lines = random.Random(0), 0, []
    where = ("--executor", f"ray://127.0.0.1:{port}")
    words = command(folder, "stems", [folder / "songs"], *where)
    log = folder / "errors.txt"
    with (
        open(log, "w") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            done += ": bass, drums, guitar, piano (" in line
            for event in [each for each in plan if done >= each[0] * tracks]:
                there = workers()
                if event[1] == "worker" and not there:
                    continue  # at the next track
                plan.remove(event)
                if event[1] == "worker":
                    os.kill(chance.choice(there), signal.SIGKILL)
                elif event[1] == "node":
                    cluster.remove_node(nodes.pop(), allow_graceful=False)
                else:
                    nodes.append(cluster.add_node(num_cpus=1, **small))
    cluster.shutdown()
    return process.returncode, "".join(lines), log.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tracks", type=int, default=2000)
    chosen = parser.parse_args()
    folder, tracks = chosen.folder.resolve(), chosen.tracks
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    prepare(folder, tracks)
    status, said, errors = separate(folder, tracks)
    calls = len((folder / "stems_sampler" / "calls").read_text())
    names = [f"{i:04}" for i in range(tracks)]
    songs = [folder / "songs" / f"{name}.wav" for name in names[::10]]
    subprocess.run(command(folder, "alone", songs), check=True, stdout=subprocess.DEVNULL)
    again = subprocess.run(
        command(folder, "stems", [folder / "songs"], "--skip-existing"),
        check=True,
        capture_output=True,
        text=True,
    )
    reported = Counter(re.findall(r"^\S+/(\d{4}): bass", said, re.M))
    rows = Counter(re.findall(r"^(\d{4}) .* ok *$", said, re.M))
    files = [f"{name}/{stem}.wav" for name in names[::10] for stem in STEMS]
    equal = [
        (folder / "stems" / file).read_bytes() == (folder / "alone" / file).read_bytes()
        for file in files
    ]
    ended = re.findall(r"^(\S+): its worker on \S+ ended", errors, re.M)
    hidden = [path for path in (folder / "stems").rglob("*") if path.name.startswith(".")]
    table = {
        "tracks": tracks,
        "with one row, ok": sum(rows[name] == 1 for name in names),
        "reported once": sum(reported[name] == 1 for name in names),
        "whole, by the hashes of each file": again.stdout.count(": there already, unchanged\n"),
        "of every tenth, files": len(files),
        "of them equal to those of a run without a cluster": sum(equal),
        "workers killed": len(KILLS),
        "nodes killed, and added": 1,
        "workers that ended on a track": len(ended),
        "draws beyond one a track": calls - tracks,
        "hidden files left": len(hidden),
        "exit status": status,
    }
    print("| ray " + ray.__version__ + " | |\n|---|---:|")
    for what, number in table.items():
        print(f"| {what} | {number} |")
    kinds = ("with one row, ok", "reported once", "whole, by the hashes of each file")
    fine = all(table[kind] == tracks for kind in kinds) and all(equal)
    sys.exit(0 if fine and status == 0 and calls - tracks <= len(ended) else 1)


if __name__ == "__main__":
    main()
