"""The page that separates what is dropped on it: what it answers, refuses and leaves behind."""

import asyncio
import io
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mgdm_audio.audio.encoding.formats import FormatName
from mgdm_audio.errors import UserError
from mgdm_audio.separation.separator import Separator
from tests.audio.test_io import encode
from tests.guides import ROOT
from tests.toys import STEMS

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from mgdm_audio.serve import Jobs, make_app, separation
from mgdm_audio.serve.app import file_name
from mgdm_audio.serve.jobs import Job
from tests.serve.serving import HERE, OURS, PORT, Worker, client_of, put, wait, wav


def test_a_file_waits_is_worked_on_and_its_results_are_there(tmp_path: Path) -> None:
    worker = Worker()
    with client_of(worker, tmp_path / "room") as client:
        first = put(client, data=b"one")
        assert first.status_code == 201
        second = put(client, "b.wav", b"two").json()
        assert (second["state"], second["ahead"]) == ("waiting", 1)
        assert worker.begun.wait(20)
        state = client.get(f"/tracks/{first.json()['id']}").json()
        assert (state["state"], state["share"], state["name"]) == ("working", 0.5, "a song.wav")
        worker.go.set()
        done = wait(client, second["id"])
        assert (done["state"], done["results"]) == ("done", ["report.html", "bass.wav"])
        assert worker.seen == [b"one", b"two"]
        stem = client.get(f"/tracks/{second['id']}/bass.wav")
        assert stem.content == b"bass of two"
        assert "b%20%28bass%29.wav" in stem.headers["content-disposition"]
        page = client.get(f"/tracks/{second['id']}/report.html")
        assert page.text == "<p>page</p>"
        assert "sandbox" in page.headers["content-security-policy"]
        assert not list((tmp_path / "room").glob("*/in/*"))  # the inputs are gone already
        assert client.delete(f"/tracks/{second['id']}", headers=OURS).status_code == 204
        assert client.get(f"/tracks/{second['id']}").status_code == 404
        assert client.get(f"/tracks/{second['id']}/bass.wav").status_code == 404
        assert len(list((tmp_path / "room").iterdir())) == 1
    assert not (tmp_path / "room").exists()


@pytest.mark.parametrize(
    "result", ["in", "separation.json", "%2e%2e", "..%2fbass.wav", "in%2Fa song.wav"]
)
def test_results_are_all_that_is_sent(tmp_path: Path, result: str) -> None:
    worker = Worker()
    worker.go.set()
    with client_of(worker, tmp_path / "room") as client:
        identity = put(client).json()["id"]
        wait(client, identity)
        assert client.get(f"/tracks/{identity}/{result}").status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (f"127.0.0.1:{PORT}", 200),
        (f"localhost:{PORT}", 200),
        (f"LOCALHOST:{PORT}", 200),
        (f"evil.example:{PORT}", 403),
        ("127.0.0.1:1", 403),
        ("127.0.0.1", 403),
        (f"127.0.0.1.evil.example:{PORT}", 403),
        ("", 403),
    ],
)
def test_only_our_own_name_is_answered(tmp_path: Path, host: str, status: int) -> None:
    with client_of(Worker(), tmp_path / "room") as client:
        assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1", f"https://127.0.0.1:{PORT}"]
)
def test_another_site_changes_nothing(tmp_path: Path, method: str, origin: str | None) -> None:
    worker = Worker()
    headers = {"origin": origin} if origin else {}
    with client_of(worker, tmp_path / "room") as client:
        identity = put(client).json()["id"]
        for path in ("/tracks?name=evil.wav", f"/tracks/{identity}"):
            answer = client.request(method, path, headers=headers, content=b"x")
            assert answer.status_code == 403
            assert not [name for name in answer.headers if name.startswith("access-control")]
        assert client.get(f"/tracks/{identity}").status_code == 200
        assert len(list((tmp_path / "room").iterdir())) == 1
        worker.go.set()


def test_the_page_runs_its_own_script_alone_and_escapes(tmp_path: Path) -> None:
    with client_of(Worker(), tmp_path / "room", megabytes=2.5) as client:
        answer = client.get("/")
    assert "&lt;tiny&gt; &amp; co" in answer.text
    assert "up to 2.5 MB each" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("song.mp3", "song.mp3"),
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\x.wav", "x.wav"),
        ("..", "track"),
        ("", "track"),
        (".wav", "wav"),
        ("a\0b\n.wav", "ab.wav"),
        ("ü" * 200 + ".flac", "ü" * 75 + ".flac"),
        ("<img src=x>.wav", "<img src=x>.wav"),
    ],
)
def test_a_name_is_a_name_in_the_folder(name: str, kept: str) -> None:
    assert file_name({"name": name}) == kept


def chunks() -> Iterator[bytes]:
    """1.2 MB whose length is not announced."""
    for _ in range(12):
        yield b"x" * 100_000


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    tmp_path: Path, announced: bool
) -> None:
    with client_of(Worker(), tmp_path / "room") as client:
        data: Any = b"x" * 1_200_000 if announced else chunks()
        answer = put(client, data=data)
        assert answer.status_code == 413
        assert answer.json()["message"] == "larger than 1 MB, as --max-megabytes says"
        assert list((tmp_path / "room").iterdir()) == []


def test_a_file_that_is_not_sent_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    jobs = Jobs(Worker(), room)
    app = make_app(jobs, PORT, about="")
    messages = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = [(b"host", f"127.0.0.1:{PORT}".encode()), (b"origin", HERE.encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/tracks",
        "query_string": b"name=a.wav",
        "headers": headers,
    }

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    asyncio.run(app(scope, receive, send))
    assert list(room.iterdir()) == []
    jobs.close()


def test_only_so_many_files_wait(tmp_path: Path) -> None:
    worker = Worker()
    with client_of(worker, tmp_path / "room", waiting=2) as client:
        identities = [put(client).json()["id"] for _ in range(2)]
        answer = put(client)
        assert answer.status_code == 503
        assert answer.json()["message"] == "2 files wait already; try again when some are done"
        worker.go.set()
        wait(client, identities[1])
        assert put(client).status_code == 201


def test_the_oldest_results_go(tmp_path: Path) -> None:
    worker = Worker()
    worker.go.set()
    with client_of(worker, tmp_path / "room", kept=1) as client:
        identities = [put(client).json()["id"] for _ in range(3)]
        assert wait(client, identities[2])["state"] == "done"
        assert [client.get(f"/tracks/{i}").status_code for i in identities] == [404, 404, 200]
        assert [path.name for path in (tmp_path / "room").iterdir()] == [identities[2]]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UserError("a song.wav: is empty;\n export it again"), "a song.wav: is empty; export it"),
        (ZeroDivisionError(), "a song.wav: internal error (ZeroDivisionError at serving.py:"),
    ],
)
def test_a_failure_is_one_line_and_the_next_file_is_worked_on(
    tmp_path: Path, error: Exception, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker()
    worker.error = error
    worker.go.set()
    with client_of(worker, tmp_path / "room") as client:
        failed = wait(client, put(client).json()["id"])
        assert failed["state"] == "failed"
        assert failed["message"].startswith(says)
        worker.error = None
        assert wait(client, put(client).json()["id"])["state"] == "done"
    assert capsys.readouterr().err == ""
    assert (tmp_path / "log").exists() == isinstance(error, ZeroDivisionError)


def test_work_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    worker = Worker()
    worker.go.set()
    with client_of(worker, tmp_path / "room", minutes=-1) as client:
        failed = wait(client, put(client).json()["id"])
        assert failed["message"] == "a song.wav: took longer than -1 minutes, as --max-minutes says"


@pytest.mark.parametrize("end", ["delete", "close"])
def test_removing_a_file_or_stopping_stops_the_work_on_it(tmp_path: Path, end: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(path: Path, out: Path, on_progress: Callable[[int, int], None]) -> dict[str, Path]:
        out.mkdir()
        try:
            while True:
                on_progress(0, 1)
                begun.set()
        finally:
            ended.set()

    with client_of(endless, room := tmp_path / "room") as client:
        identity = put(client).json()["id"]
        assert begun.wait(20)
        if end == "delete":
            assert client.delete(f"/tracks/{identity}", headers=OURS).status_code == 204
            assert client.get(f"/tracks/{identity}").status_code == 404
            assert ended.wait(20)
    assert ended.is_set()
    assert not room.exists()


def test_a_sound_file_becomes_stems_and_a_listening_page(tiny: Separator, tmp_path: Path) -> None:
    with client_of(separation(tiny), tmp_path / "room") as client:
        done = wait(client, put(client, "<b>ü.wav", wav()).json()["id"])
        assert done["state"] == "done", done
        assert done["results"] == ["report.html", *(f"{stem}.wav" for stem in STEMS)]
        for stem in STEMS:
            data = client.get(f"/tracks/{done['id']}/{stem}.wav").content
            info = soundfile.info(io.BytesIO(data))
            assert (info.frames, info.samplerate, info.channels) == (4000, 8000, 2)
        page = client.get(f"/tracks/{done['id']}/report.html").text
        assert "<h1>&lt;b&gt;ü</h1>" in page
        assert "<b>" not in page
        failed = wait(client, put(client, "bad.wav", b"no sound").json()["id"])
        assert failed["state"] == "failed"
        assert failed["message"].startswith("bad.wav: ")
        assert str(tmp_path) not in failed["message"]


def test_m4a_needs_no_other_extra(tiny: Separator, tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    assert set(extras["formats"]) <= set(extras["serve"])
    pytest.importorskip("av")
    encode(tmp_path / "song.m4a", "mp4", "aac")
    with client_of(separation(tiny), tmp_path / "room") as client:
        data = (tmp_path / "song.m4a").read_bytes()
        done = wait(client, put(client, "song.m4a", data).json()["id"])
        assert done["state"] == "done", done


def test_jobs_that_were_not_asked_for_are_not_known(tmp_path: Path) -> None:
    with client_of(Worker(), tmp_path / "room") as client:
        assert client.get("/tracks/x").status_code == 404
        assert client.get("/tracks/x/report.html").status_code == 404
        assert client.delete("/tracks/x", headers=OURS).status_code == 404
    assert len({Job("a", tmp_path).id for _ in range(100)}) == 100


@pytest.mark.parametrize("form", ["flac", "stem.mp4"])
def test_stems_are_of_the_format_that_was_asked_for(
    tmp_path: Path, tiny: Separator, form: FormatName
) -> None:
    pytest.importorskip("av")
    with client_of(separation(tiny, format=form), tmp_path / "room") as client:
        done = wait(client, put(client, data=wav()).json()["id"])
        one = form == "stem.mp4"
        files = ["a song.stem.mp4"] if one else [f"{stem}.flac" for stem in STEMS]
        assert (done["message"], done["results"]) == ("", ["report.html", *files])
        answer = client.get(f"/tracks/{done['id']}/{files[0]}")
        saved = "a%20song.stem.mp4" if one else "a%20song%20%28bass%29.flac"
        assert saved in answer.headers["content-disposition"]
        assert answer.content[:8][4 * one :][:4] == (b"ftyp" if one else b"fLaC")
