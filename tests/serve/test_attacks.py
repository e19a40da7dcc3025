"""Who attacks the server finds it within its limits, and everybody else is answered."""

import asyncio
import contextlib
import dataclasses
import io
import json
import os
import shutil
import socket
import stat
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mgdm_audio.errors import UserError
from mgdm_audio.separation.separator import Separator

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from mgdm_audio.serve import Jobs, Limits, make_app, private_room, separation
from tests.serve.serving import HERE, OURS, PORT, Worker, client_of, put, served, wait, wav

PATIENCE = 60  # seconds after which something is wrong; what is waited for takes a part of one


def connect(url: str, data: bytes = b"") -> socket.socket:
    host, port = url.removeprefix("http://").strip("/").split(":")
    attacker = socket.socket()
    attacker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    attacker.settimeout(PATIENCE)
    attacker.connect((host, int(port)))
    attacker.sendall(data)
    return attacker


def is_dropped(attacker: socket.socket) -> bool:
    """Waits until the server has ended the connection; what it said before is passed over."""
    try:
        while attacker.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def is_answered(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return b"Drop sound files here" in answer.read()


def upload(url: str, announced: int, sent: bytes) -> bytes:
    host = url.removeprefix("http://").strip("/")
    head = f"POST /tracks?name=a.wav HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
    return f"{head}Content-Length: {announced}\r\n\r\n".encode() + sent


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_200_connections_keep_nobody_out(tmp_path: Path, data: bytes) -> None:
    with served(Worker(), tmp_path / "room", connections=16) as (url, connections):
        attackers = [connect(url, data) for _ in range(200)]
        assert is_answered(url)
        assert len(connections) <= 17  # and the one that is answered
        # Those that came first were dropped, but for as many as are allowed.
        assert all(is_dropped(attacker) for attacker in attackers[: 200 - 16])
        for attacker in attackers:
            attacker.close()


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nX-Slow: ", b"GET / HTTP/1.1\r\n" + b"X-Slow: y\r\n" * 50]
)
def test_a_head_that_does_not_end(tmp_path: Path, data: bytes) -> None:
    with served(Worker(), tmp_path / "room", stall=0.2) as (url, _):
        attacker = connect(url, data)
        assert is_dropped(attacker)
        assert is_answered(url)


def test_a_head_that_comes_byte_by_byte(tmp_path: Path) -> None:
    """Each byte is no progress: only the end of the head is."""
    with served(Worker(), tmp_path / "room", stall=0.2) as (url, connections):
        attacker = connect(url, b"GET / HTTP/1.1\r\nX-Slow: ")
        with contextlib.suppress(ConnectionError):
            while is_answered(url):  # which takes some time
                attacker.sendall(b"y")
        assert not any(c.client == attacker.getsockname() for c in set(connections))
        assert is_answered(url)


def test_an_upload_that_stops(tmp_path: Path) -> None:
    with served(Worker(), tmp_path / "room", stall=0.2) as (url, _):
        attacker = connect(url, upload(url, 1000, b"half"))
        assert is_dropped(attacker)
        while list((tmp_path / "room").iterdir()):  # it is removed in another thread
            assert is_answered(url)
        assert is_answered(url)


def test_an_upload_that_takes_too_long(tmp_path: Path) -> None:
    (room := tmp_path / "room").mkdir()
    jobs = Jobs(Worker(), room, Limits(upload=0.1, free_gigabytes=0))
    app = make_app(jobs, PORT, about="")
    sent: list[Any] = []

    async def receive() -> Any:
        if not sent:
            await asyncio.sleep(0.01)  # a block now and then, for ever
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", f"127.0.0.1:{PORT}".encode()), (b"origin", HERE.encode())]
    scope = {"type": "http", "method": "POST", "path": "/tracks", "headers": headers}
    asyncio.run(app(scope | {"query_string": b"name=a.wav"}, receive, send))
    assert sent[0]["status"] == 408
    assert b"a.wav: it did not arrive in 0.1 s" in sent[1]["body"]
    assert list(room.iterdir()) == []
    jobs.close()


def test_who_does_not_read_is_dropped(tmp_path: Path) -> None:
    def work(path: Path, out: Path, on_progress: Any) -> dict[str, Path]:
        out.mkdir()
        (out / "bass.wav").write_bytes(bytes(30_000_000))  # more than the system holds for a reader
        return {"bass.wav": out / "bass.wav"}

    with served(work, tmp_path / "room", stall=0.2) as (url, connections):
        origin = {"Origin": url.strip("/")}
        request = urllib.request.Request(f"{url}tracks?name=a.wav", b"x", origin)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            identity = json.loads(answer.read())["id"]
        while json.loads(get(f"{url}tracks/{identity}"))["state"] != "done":
            pass
        host = url.removeprefix("http://").strip("/")
        attacker = connect(
            url, f"GET /tracks/{identity}/bass.wav HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        )
        assert attacker.recv(12) == b"HTTP/1.1 200"
        while any(c.client == attacker.getsockname() for c in set(connections)):
            assert is_answered(url)
        attacker.close()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read()  # type: ignore[no-any-return]


NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x.wav",
    "a\0b.wav",
    "a\r\nSet-Cookie: x=y.wav",
    "\u202egnp.wav",
    "{track}{stem}{sample}.wav",
    "$(touch x);`touch x`.wav",
    "-rf.wav",
    "in",
    "out",
    "samples.wav",
    "separation.json",
    "con.wav",
    "x" * 6000 + ".wav",
    "\U0001f3b5" * 300 + ".wav",
    ".",
    "...",
    " .wav",
    "\ud800.wav".encode("utf-8", "surrogatepass").decode("latin-1"),
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    worker = Worker()
    with client_of(worker, tmp_path / "room") as client:
        job = put(client, name).json()
        (file,) = (tmp_path / "room").glob("*/in/*")
        assert file.parent.parent.name == job["id"]
        assert file.name == job["name"]
        assert file.name.isprintable()
        assert len(os.fsencode(file.name)) <= 200
        assert {path.name for path in tmp_path.iterdir()} == {"room"}
        worker.go.set()
        wait(client, job["id"])
        answer = client.get(f"/tracks/{job['id']}/bass.wav")
        assert answer.headers["content-disposition"].isprintable()
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", ["{track}{stem}.wav", "samples.wav", "separation.json", "...wav"])
def test_what_is_made_of_hostile_names(tiny: Separator, tmp_path: Path, name: str) -> None:
    with client_of(separation(tiny, Limits(free_gigabytes=0)), tmp_path / "room") as client:
        done = wait(client, put(client, name, wav(1, 0.1)).json()["id"])
        assert done["state"] == "done", done


@pytest.mark.parametrize(("seconds", "state"), [(6, "done"), (7, "failed")])
def test_a_small_file_that_holds_much_sound(
    tiny: Separator, tmp_path: Path, seconds: int, state: str
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000 * seconds), 8000, format="FLAC")
    assert len(buffer.getvalue()) < 10_000
    limits = Limits(sound_minutes=0.1, free_gigabytes=0)
    with client_of(separation(tiny, limits), tmp_path / "room") as client:
        found = wait(client, put(client, "bomb.flac", buffer.getvalue()).json()["id"])
        assert found["state"] == state
        if state == "failed":
            why = "bomb.flac: holds more than 0.1 minutes of sound, as --max-sound-minutes says"
            assert found["message"] == why
            assert list((tmp_path / "room").iterdir()) == []


def test_some_of_the_disk_stays_free(tiny: Separator, tmp_path: Path) -> None:
    with client_of(Worker(), tmp_path / "room", free_gigabytes=1e9) as client:
        answer = put(client)
        assert answer.status_code == 503
        assert "1e+09 GB are to stay free" in answer.json()["message"]
        assert list((tmp_path / "room").iterdir()) == []
    (tmp_path / "a.wav").write_bytes(wav())
    with pytest.raises(UserError, match="GB of temporary files are needed"):
        separation(tiny, Limits(free_gigabytes=1e9))(
            tmp_path / "a.wav", tmp_path / "out", lambda done, total: None
        )
    assert not (tmp_path / "out").exists()


def test_no_other_user_reaches_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with private_room() as room:
        assert stat.S_IMODE(room.stat().st_mode) == 0o700
        jobs = Jobs(Worker(), room, Limits(free_gigabytes=0))
        assert stat.S_IMODE(jobs.open("a.wav").folder.stat().st_mode) == 0o700
        # Somebody has moved it away, and put a folder of theirs in its place.
        room.rename(tmp_path / "moved")
        room.mkdir()
        with pytest.raises(UserError, match="is gone; start the server again"):
            jobs.open("b.wav")
        shutil.rmtree(room)
        with pytest.raises(UserError, match="is gone; start the server again"):
            jobs.open("b.wav")
        jobs.close()
    shutil.rmtree(tmp_path / "moved")
    tmp_path.chmod(0o777)
    with pytest.raises(UserError, match="other users can rename"), private_room():
        pass
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o1777)  # as /tmp is
    with private_room():
        pass


def test_a_bug_is_an_answer_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with client_of(Worker(), tmp_path / "room") as client:
        monkeypatch.setattr(Jobs, "open", lambda self, name: {}[name])
        answer = put(client)
        assert answer.status_code == 500
        assert answer.json()["message"].startswith(
            "/tracks: internal error (KeyError: 'a song.wav'"
        )
        assert "Traceback" in (tmp_path / "log/internal-errors.log").read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_every_limit_is_said() -> None:
    values = {f.name: 1000 + n for n, f in enumerate(dataclasses.fields(Limits))}
    said = str(Limits(**values))
    assert all(f"{value}" in said for value in values.values())
    assert "\n" not in said


def test_an_origin_alone_is_not_enough(tmp_path: Path) -> None:
    """A page on another name that leads here sends our own name as neither Host nor Origin."""
    worker = Worker()
    with client_of(worker, tmp_path / "room") as client:
        for host, origin in (("evil.example", HERE), (f"127.0.0.1:{PORT}", "http://evil.example")):
            headers = {"host": host, "origin": origin}
            assert client.post("/tracks?name=a.wav", headers=headers).status_code == 403
        assert client.post("/tracks?name=a.wav", headers=OURS).status_code == 201
        worker.go.set()
