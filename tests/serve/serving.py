"""A server for the tests: within the process, or a real one."""

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import soundfile
import uvicorn
from starlette.testclient import TestClient

from mgdm_audio.serve import Jobs, Limits, bounded, make_app
from mgdm_audio.serve.jobs import Work
from tests.toys import song

PORT = 8765
HERE = f"http://127.0.0.1:{PORT}"
OURS = {"origin": HERE}
SMALL = {"megabytes": 1, "free_gigabytes": 0}


class Worker:
    """Work that each test lets go on: ``begun`` is set by it, and it waits for ``go``."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.steps = 2
        self.error: Exception | None = None
        self.seen: list[bytes] = []

    def __call__(
        self, path: Path, out: Path, on_progress: Callable[[int, int], None]
    ) -> dict[str, Path]:
        self.seen.append(path.read_bytes())
        on_progress(1, self.steps)
        self.begun.set()
        assert self.go.wait(20)
        on_progress(self.steps, self.steps)
        if self.error is not None:
            raise self.error
        out.mkdir()
        (out / "bass.wav").write_bytes(b"bass of " + self.seen[-1])
        (out / "report.html").write_text("<p>page</p>")
        return {name: out / name for name in ("report.html", "bass.wav")}


@contextmanager
def client_of(work: Work, room: Path, **limits: Any) -> Iterator[TestClient]:
    room.mkdir(exist_ok=True)
    jobs = Jobs(work, room, Limits(**(SMALL | limits)), room.parent / "log")
    app = make_app(jobs, PORT, about="<tiny> & co")
    with TestClient(app, base_url=HERE) as client:
        client.jobs = jobs  # type: ignore[attr-defined]
        yield client


def put(client: TestClient, name: str = "a song.wav", data: bytes = b"x", **headers: str) -> Any:
    return client.post("/tracks", params={"name": name}, content=data, headers=OURS | headers)


def wait(client: TestClient, identity: str) -> dict[str, Any]:
    """Its state when the work on it is over."""
    jobs: Jobs = client.jobs  # type: ignore[attr-defined]
    job = jobs.find(identity)
    assert job is not None
    assert jobs.wait(job, 60)
    return client.get(f"/tracks/{identity}").json()  # type: ignore[no-any-return]


def wav(channels: int = 2, seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, song(1, channels, int(8000 * seconds), 8000).T, 8000, format="WAV")
    return buffer.getvalue()


@contextmanager
def served(work: Work, room: Path, **limits: Any) -> Iterator[tuple[str, set[Any]]]:
    """The address of a real server, and its open connections."""
    room.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        port = listener.getsockname()[1]
        limits = Limits(**(SMALL | limits))
        app = make_app(Jobs(work, room, limits), port, about="tiny")
        config = uvicorn.Config(app, http=bounded(limits), log_level="error", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/", server.server_state.connections
        finally:
            server.should_exit = True
            thread.join()
