"""Jobs on a cluster of Ray: as on one machine, whatever process or node is killed on the way.

Without Ray the tests of the cluster are skipped: pip install 'mgdm_audio[cluster]'.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

from mgdm_audio.cli.main import main
from mgdm_audio.engine import cluster as cluster_module
from mgdm_audio.engine.cluster import Executor, as_they_end, find_executor
from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.errors import UserError
from tests.killing import leftovers
from tests.toys import STEMS, song

ROOT = Path(__file__).parents[2]
TRACKS = [f"{name}.wav" for name in "abcdef"]
KILLER = '''
"""A sampler that has a worker killed at its first call, and a node at its second."""

import os, signal
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.samplers import SAMPLERS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Killer:
    def sample(self, prior, likelihood, *, generator, x_T=None, on_step=None):
        with open(HERE / "calls", "a") as calls:
            calls.write(".")
        for name, process in (("worker", os.getpid()), ("node", os.getppid())):
            try:
                open(HERE / name, "x").close()
            except FileExistsError:
                continue
            os.kill(process, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)  # with its node, the raylet, which is its parent
        return likelihood.operator.pinv(likelihood.y)


SAMPLERS.register("killer", Killer)
'''
ENDLESS = '''
"""A sampler that interrupts the command, and goes on until it is interrupted itself."""

import os, signal, time
from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.samplers import SAMPLERS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Endless:
    def sample(self, prior, likelihood, *, generator, x_T=None, on_step=None):
        os.kill(int((HERE / "command").read_text()), signal.SIGINT)
        try:
            while True:
                os.sched_yield()
        except KeyboardInterrupt:
            (HERE / "interrupted").touch()
            raise


SAMPLERS.register("endless", Endless)
'''


@pytest.mark.parametrize(
    ("text", "executor"),
    [
        ("local", None),
        ("ray", Executor()),
        ("ray,cpus=4", Executor(cpus=4.0)),
        ("ray://head:10001,workers=8,gpus=0.5", Executor("ray://head:10001", 8, gpus=0.5)),
        ("ray,gpus=0", Executor(gpus=0.0)),
    ],
)
def test_what_can_be_written(text: str, executor: Executor | None) -> None:
    assert find_executor(text) == executor


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("slurm", "write local, ray, or ray://HOST:PORT"),
        ("ray://head", "write local, ray, or ray://HOST:PORT"),
        ("ray,worker=2", "'worker' is unknown; did you mean workers?"),
        ("ray,cpus", "cpus= is no number"),
        ("ray,workers=1.5", "workers=1.5 is no number"),
        ("ray,workers=0", "workers=0 is out of range"),
        ("ray,cpus=0", "cpus=0 is out of range"),
        ("ray,gpus=nan", "gpus=nan is out of range"),
        ("ray,gpus=1.5", "gpus=1.5 is out of range"),
        ("ray,cpus=0.00001", "cpus=0.00001 is out of range"),
    ],
)
def test_what_cannot(text: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        list(run_jobs({"a": os.getpid}, 1, text))
    assert str(error.value) == f"executor {text!r}: {line}"


def test_without_ray_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails
    with pytest.raises(UserError, match=r"needs Ray; pip install 'mgdm_audio\[cluster\]'$"):
        list(run_jobs({"a": os.getpid}, 1, "ray"))


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_there_is_no_ray(
    scheme: str, listening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port at which nothing listens, and one that takes connections and never answers."""
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster_module, "REACH", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        if listening:
            taken.listen()
        if not scheme:
            monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserError) as error:
            list(run_jobs({"a": os.getpid}, 1, address if scheme else "ray"))
    why = "what listens there is not Ray" if listening else "Connection refused"
    assert str(error.value) == (
        f"executor ray: no cluster {address} can be reached ({why}); check the address and that "
        "its head node runs (ray start --head)"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a head node without processors, and two nodes of one each; this process is
    connected."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    python_path = os.pathsep.join([str(ROOT), *sys.path])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path)  # of the workers
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default: they would starve beside others
        small = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
        nodes = Cluster(True, head_node_args={"num_cpus": 0, **small})
        try:
            for _ in range(2):
                nodes.add_node(num_cpus=1, **small)
            ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
            yield nodes.address
        finally:
            ray.shutdown()
            nodes.shutdown()


def separate(prior: Path, folder: Path, out: str, sampler: str, *arguments: str | Path) -> Result:
    options = ("--prior", prior, "--sampler", folder / f"{sampler}.toml", "--samples", 1)
    options += ("--import", folder / f"{sampler}.py", "--device", "cpu", "-o", folder / out)
    return CliRunner().invoke(main, ["separate", *map(str, (*options, *arguments))])


def put(folder: Path, sampler: str, text: str) -> list[Path]:
    (folder / f"{sampler}.py").write_text(text)
    (folder / f"{sampler}.toml").write_text(f'sampler = "{sampler}"\n')
    (folder / "in").mkdir()
    for i, name in enumerate(TRACKS):
        soundfile.write(folder / "in" / name, song(i, 1, 3000, 22050).T.numpy(), 22050)
    return [folder / "in" / name for name in TRACKS]


def test_an_interrupt_reaches_the_workers(cluster: str, tiny_prior: Path, tmp_path: Path) -> None:
    """Workers clean up: the first leaves a file that says so, and no track leaves a hidden one."""
    put(tmp_path, "endless", ENDLESS)
    (tmp_path / "command").write_text(str(os.getpid()))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = separate(tiny_prior, tmp_path, "out", "endless", tmp_path / "in",
                          "--executor", "ray,workers=1")  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert (tmp_path / "interrupted").exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_worker_and_a_killed_node(
    cluster: str, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost or done twice: but for the two draws whose workers ended, which are repeated,
    every track is drawn once, and has one row and the files of a run on one machine."""
    monkeypatch.setattr(cluster_module, "PATIENCE", 600)  # no lines that a worker is slow to start
    paths = [*put(tmp_path, "killer", KILLER), tmp_path / "missing.wav"]
    result = separate(tiny_prior, tmp_path, "out", "killer", *paths, "--executor", "ray")
    drawn = (tmp_path / "calls").read_text()
    assert result.exit_code == 1, result.output  # of missing.wav
    assert len(drawn) == len(TRACKS) + 2
    lines = result.stderr.splitlines()
    node = socket.gethostname()
    assert lines[0] == "cluster: workers: 2, of 1 CPUs and 0 GPUs each; nodes: 3"
    tries = [re.fullmatch(rf".*: its worker on {node} ended \((\d) of 3 tries\)", s) for s in lines]
    ended = [int(found[1]) for found in tries if found]
    assert ended in ([1, 1], [1, 2])  # the track that is tried again may meet the killed node too
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert error.startswith(f"error: {paths[-1]}: ")
    assert error.endswith(f"(on node {node})")
    assert len(lines) == 4
    rows = [line.split() for line in result.stdout.partition("\ntrack ")[2].splitlines()[1:]]
    assert [row[:1] for row in rows] == [[path.stem] for path in paths], result.stdout
    assert [row[-1] for row in rows[:-1]] == ["ok"] * len(TRACKS)
    assert separate(tiny_prior, tmp_path, "here", "killer", *paths[:-1]).exit_code == 0
    for name in TRACKS:
        for file in (*(f"{stem}.wav" for stem in STEMS), "uncertainty.json"):
            there, here = (tmp_path / out / name[:-4] / file for out in ("out", "here"))
            assert there.read_bytes() == here.read_bytes()
    assert leftovers(tmp_path / "out") == []
    # The same resume by hashes.
    again = separate(tiny_prior, tmp_path, "out", "killer", tmp_path / "in", "--skip-existing")
    assert again.stdout.count("there already, unchanged") == len(TRACKS)


def test_the_recipe_s_jobs(cluster: str, tiny_prior: Path, tmp_path: Path) -> None:
    """They are of a script, which the workers cannot import."""
    for i, name in enumerate(TRACKS[:2]):
        (tmp_path / "mixtures").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "mixtures" / name, song(i, 1, 3000, 22050)[0].numpy(), 22050)
    (tmp_path / "w.toml").write_text('sampler = "wiener"\ndraws = 1\n[options]\nnum_steps = 2\n')
    script = [sys.executable, ROOT / "recipes/local/separate.py", tmp_path / "mixtures"]
    options = ["--prior", tiny_prior, "--sampler", tmp_path / "w.toml", "--device", "cpu"]
    for out, where in (("here", "local"), ("there", "ray,workers=1")):
        words = [*script, tmp_path / out, *options, "--executor", where]
        environment = os.environ | {"RAY_ADDRESS": cluster, "PYTHONPATH": str(ROOT)}
        subprocess.run(words, check=True, env=environment, capture_output=True)
    for name in TRACKS[:2]:
        for stem in STEMS:
            there, here = (tmp_path / out / name[:-4] / f"{stem}.wav" for out in ("there", "here"))
            assert there.read_bytes() == here.read_bytes()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_on_which_workers_end(cluster: str) -> None:
    """It counts as their cause after three; the jobs after it are done all the same."""
    jobs = {"a": partial(str, 1), "b": _die, "c": partial(str, 3)}
    lines: list[str] = []
    found = dict(as_they_end(_call, jobs, Executor(workers=1), say=lines.append))
    why = found.pop("b")
    assert found == {"a": "1", "c": "3"}
    assert isinstance(why, UserError)
    assert str(why).startswith("b: 3 workers ended on it, the last on ")
    assert sum(line.startswith("b: its worker on ") for line in lines) == 3


def _call(job: object) -> object:
    assert callable(job)
    return job()


def test_results_come_in_order_and_errors_in_their_turn(cluster: str) -> None:
    jobs = {"b": partial(int, "2"), "a": partial(int, "1"), "c": partial(int, "x")}
    results = run_jobs(jobs, 1, "ray,workers=1")
    assert next(results) == ("b", 2)
    assert next(results) == ("a", 1)
    with pytest.raises(ValueError, match="invalid literal for int"):
        next(results)


def test_scores_and_data_are_those_of_one_machine(cluster: str, tmp_path: Path) -> None:
    for i, stem in enumerate(("bass", "drums")):
        for track in "ab":
            for place in ("true", "found"):
                (tmp_path / place / track).mkdir(parents=True, exist_ok=True)
                sound = song(10 * i + ord(track) + len(place), 1, 5 * 22050, 22050)
                soundfile.write(tmp_path / place / track / f"{stem}.wav", sound[0].numpy(), 22050)
    folders = ["--reference", str(tmp_path / "true"), "--estimate", str(tmp_path / "found")]
    (tmp_path / "map.toml").write_text('[stems]\nbass = ["bass"]\ndrums = ["drums"]\n')
    data = ["stems", str(tmp_path / "true"), "--map", str(tmp_path / "map.toml"), "--nj", "1"]
    for name, where in (("here", []), ("there", ["--executor", "ray,workers=1"])):
        for line in (
            ["score", *folders, "-o", str(tmp_path / f"{name}.json"), "--cache",
             str(tmp_path / f"cache of {name}"), *where],
            ["prepare", *data, "-o", str(tmp_path / name), *where],
        ):  # fmt: skip
            result = CliRunner().invoke(main, line)
            assert result.exit_code == 0, result.output
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()
    made = [
        {str(p.relative_to(tmp_path / name)): p.read_bytes()
         for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("here", "there")
    ]  # fmt: skip
    assert len(made[0]) == 7  # two stems and a record a track, and the manifest
    assert made[0] == made[1]
