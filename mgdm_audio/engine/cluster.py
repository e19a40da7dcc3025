"""Runs jobs on a cluster of Ray (https://docs.ray.io): workers that keep what they have opened.

Each worker is an actor, a process with processors and GPUs of its own, which does one job at a time
and is given the next as soon as it is free. Ray says that a worker has ended, because its process
was killed or its node lost; which job comes next, and again, is decided here. Ray's own repetition
would wait for the place of the worker that ended, which its node may never give back.
"""

import os
import re
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from mgdm_audio.config import nearest
from mgdm_audio.engine.worker import GRACE, Worker, shown
from mgdm_audio.errors import UserError, described
from mgdm_audio.registry import imported_modules
from mgdm_audio.version import __version__

T = TypeVar("T")
R = TypeVar("R")
TRIES = 3  # of a job whose workers end, before it counts as their cause
REACH = 10.0  # seconds to reach a cluster
PATIENCE = 60.0  # seconds between lines that no worker runs
Say = Callable[[str], None]
_RANGES: dict[str, tuple[type, float]] = {
    "workers": (int, 1),
    "cpus": (float, 0),
    "gpus": (float, 0),
}


@dataclass(frozen=True)
class Executor:
    """A cluster, and the size of its workers.

    ``address``: "ray://HOST:PORT" of a cluster's client server, or "" for the cluster that this
    machine belongs to, which is started if there is none. ``workers``: how many, or None for as
    many as fit when the work begins. ``cpus``, ``gpus``: of each; without ``gpus`` it is one where
    the work can use one and the cluster has some.
    """

    address: str = ""
    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None


def find_executor(text: str) -> Executor | None:
    """Returns the executor of "ray[://HOST:PORT][,workers=N][,cpus=N][,gpus=N]"; None for "local".

    Raises UserError, in one line, for any other text.
    """
    place, *settings = text.split(",")
    if text == "local":
        return None
    if place != "ray" and not re.fullmatch(r"ray://[^/\s]+:\d{1,5}", place):
        raise UserError(f"executor {text!r}: write local, ray, or ray://HOST:PORT")
    found: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _RANGES:
            raise UserError(f"executor {text!r}: {name!r} is unknown{nearest(name, _RANGES)}")
        kind, least = _RANGES[name]
        try:
            found[name] = kind(value)
        except ValueError:
            raise UserError(f"executor {text!r}: {name}={value} is no number") from None
        # Ray gives away ten-thousandths of a processor or GPU, and above one whole ones alone.
        steps = round(found[name], 4) == found[name] and (found[name] < 1 or not found[name] % 1)
        if not least <= found[name] < 1e6 or not steps or (name == "cpus" and found[name] == 0):
            raise UserError(f"executor {text!r}: {name}={value} is out of range")
    return Executor(place if "://" in place else "", **found)


def as_they_end(
    work: Callable[[T], R],
    items: Mapping[str, T],
    executor: Executor,
    *,
    on_gpu: bool = False,
    say: Say = lambda line: None,
) -> Generator[tuple[str, R | Exception], None, None]:
    """Yields (name, ``work(item)``) of each item once, in the order in which they end.

    ``work`` and the items must be picklable; ``work`` is sent to a worker once. All run in this
    process's working directory, which every node must have, and import what ``import_modules`` did
    here. In place of a result comes the exception that the work raised, or a UserError for an item
    that ``TRIES`` workers ended on. ``on_gpu``: the work can use a GPU. ``say`` is called with
    lines on workers that were started, refused or lost.

    Raises UserError where Ray is not installed, the cluster cannot be reached within seconds, no
    node is large enough, or no worker can start. When the iterator is closed, or at Ctrl-C, the
    running jobs are interrupted, so that they clean up, and the workers end.
    """
    with _connected(executor.address) as ray:
        pool = _Pool(ray, work, executor, on_gpu, say)
        try:
            pool.start(len(items))
            yield from pool.run(items)
        except (ConnectionError, ray.exceptions.RaySystemError) as error:
            raise UserError(
                f"executor ray: the cluster was lost ({described(error)}); run the same command "
                "again, with --skip-existing if it has that"
            ) from None
        finally:
            pool.stop()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected; a connection that the caller has already is used, and kept."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else some starts report to Ray's makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a warning; see ``ready``
    try:
        import grpc  # of ray[client]
        import ray
    except ImportError:
        raise UserError("executor ray: needs Ray; pip install 'mgdm_audio[cluster]'") from None
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    _require_reachable(grpc, address)
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise _unreachable(address or "on this machine", described(error)) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(grpc: Any, address: str) -> None:
    """Raises UserError where nothing answers: Ray itself would try for minutes, or for ever."""
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port
    except ValueError:  # no number below 65536
        raise _unreachable(address, "no address") from None
    if host is None or port is None:  # RAY_ADDRESS may be "auto" or "local"
        return
    try:
        socket.create_connection((host, port), REACH).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=REACH)
        except grpc.FutureTimeoutError:
            raise _unreachable(address, "what listens there is not Ray") from None


def _unreachable(address: str, why: str) -> UserError:
    return UserError(
        f"executor ray: no cluster {address} can be reached ({why}); check the address and "
        "that its head node runs (ray start --head)"
    )


@dataclass(frozen=True)
class _Ended:
    """A worker has ended, in place of its answer."""

    why: str

    def __str__(self) -> str:
        return self.why


@dataclass
class _Hired:
    """A worker, where it runs once it has started, and its job."""

    actor: Any
    node: str = ""
    job: str | None = None


class _Pool(Generic[T, R]):
    """The workers, and which of them does what."""

    def __init__(
        self, ray: Any, work: Callable[[T], R], executor: Executor, on_gpu: bool, say: Say
    ) -> None:
        self.ray, self.executor, self.say = ray, executor, say
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        default = 1.0 if on_gpu and has_gpus else 0.0
        self.gpus = default if executor.gpus is None else executor.gpus
        self.work = ray.put((work, imported_modules()))
        self.busy: dict[Any, _Hired] = {}  # reference to an answer -> who gives it
        self.failures = 0  # workers that ended before they had started, since the last that did
        self.why = ""  # the last one did not start

    def start(self, jobs: int) -> None:
        """Starts as many workers as fit, or were asked for, but no more than jobs."""
        cpus, gpus = self.executor.cpus, self.gpus
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        shares = [(node.get("CPU", 0) // cpus, node.get("GPU", 0) // (gpus or 1)) for node in alive]
        fits = int(sum(min(share) if gpus else share[0] for share in shares))
        size = f"{cpus:g} CPUs and {gpus:g} GPUs"
        if not fits and self.executor.workers is None:
            raise UserError(f"executor ray: no node of the cluster has {size}; ask for less")
        count = min(self.executor.workers or fits, jobs)
        self.say(f"cluster: workers: {count}, of {size} each; nodes: {len(alive)}")
        if count > fits:
            self.say(f"cluster: {count - fits} of them wait for more nodes")
        for _ in range(count):
            self._hire()

    def _hire(self) -> None:
        options = {"num_cpus": self.executor.cpus, "num_gpus": self.gpus}
        # Two threads: while one works, the other can interrupt it.
        actor = self.ray.remote(Worker).options(max_concurrency=2, **options).remote(self.work)
        threads = max(1, int(self.executor.cpus))
        ready = actor.ready.remote(os.getcwd(), threads, self.gpus > 0, __version__)
        self.busy[ready] = _Hired(actor)

    def run(self, items: Mapping[str, T]) -> Iterator[tuple[str, R | Exception]]:
        """Gives jobs to the workers that are free, until every one has a result."""
        waiting, tries, left = deque(items), Counter[str](), len(items)

        def give(hired: _Hired) -> None:
            if waiting:
                hired.job = waiting.popleft()
                self.busy[hired.actor.run.remote(items[hired.job])] = hired
            else:
                self.ray.kill(hired.actor)  # its place may be wanted for another

        while left:
            hired, answer = self._next()
            name = hired.job
            if name is None:
                if self._has_started(hired, answer):
                    give(hired)
                continue
            if isinstance(answer, _Ended):
                tries[name] += 1
                self.say(
                    f"{name}: its worker on {hired.node} ended ({tries[name]} of {TRIES} tries)"
                )
                self._hire()
                if tries[name] < TRIES:
                    waiting.appendleft(name)
                    continue
                answer = UserError(
                    f"{name}: {TRIES} workers ended on it, the last on {hired.node}, perhaps "
                    "because memory ran out; run it alone, or ask for larger workers"
                )
            else:
                give(hired)
            left -= 1
            yield name, answer

    def _next(self) -> tuple[_Hired, Any]:
        """Waits for an answer of any worker: what it returned or raised, or that it has ended."""
        if not self.busy:
            raise UserError(f"executor ray: no worker could start ({self.why})")
        done: list[Any] = []
        while not done:
            done, _ = self.ray.wait(list(self.busy), num_returns=1, timeout=PATIENCE)
            if not done and not any(hired.node for hired in self.busy.values()):
                self.say("cluster: no worker has started; waiting for one")
        hired = self.busy.pop(done[0])
        try:
            return hired, shown(self.ray.get(done[0]))
        except self.ray.exceptions.RayTaskError as error:
            return hired, error.cause if isinstance(error.cause, Exception) else error
        except self.ray.exceptions.RayError as error:
            self.ray.kill(hired.actor)  # it may run on, out of reach
            return hired, _Ended(described(error))

    def _has_started(self, hired: _Hired, answer: Any) -> bool:
        """Returns whether a new worker can be given jobs; replaces one that ended, a few times."""
        if isinstance(answer, str):
            hired.node, self.failures = answer, 0
            return True
        self.why = str(answer)
        self.failures += isinstance(answer, _Ended)
        if isinstance(answer, _Ended) and self.failures < TRIES:
            self._hire()
        else:
            self.say(f"cluster: a worker less: {self.why}")
            self.ray.kill(hired.actor)
        return False

    def stop(self) -> None:
        """Interrupts what still runs, waits a while for it to clean up, and ends the workers."""
        with suppress(Exception):  # whatever is wrong with the cluster, this is the end
            stops = [hired.actor.stop.remote() for hired in self.busy.values() if hired.job]
            if stops:
                self.ray.wait(stops, num_returns=len(stops), timeout=GRACE)
            for hired in self.busy.values():
                self.ray.kill(hired.actor)
