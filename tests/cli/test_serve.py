"""``mgdm-audio serve``: what it says, what it leaves behind, and what it refuses."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from click.testing import CliRunner

from mgdm_audio.cli.main import main


def complaint(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == package or "audio.serve" in n]:
        monkeypatch.delitem(sys.modules, name)

    class Missing:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=package)

    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    line = f"error: serve needs {package}: pip install 'mgdm_audio[serve]'\n"
    assert complaint() == line


def test_a_port_that_is_taken_is_one_line() -> None:
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"--port {port}: cannot be listened on" in complaint("--port", port)


def test_an_unknown_prior_is_one_line() -> None:
    pytest.importorskip("uvicorn")
    assert "no prior named 'none'" in complaint("--port", "0", "--prior", "none")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped_and_leaves_nothing(
    tiny_prior: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    pytest.importorskip("uvicorn")
    from mgdm_audio.serve import Limits

    command = [sys.executable, "-m", "mgdm_audio.cli.main", "serve", "--port", "0"]
    command += ["--prior", str(tiny_prior), "--device", "cpu"]
    (room := tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(room), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url) as answer:
            assert b"Drop sound files here" in answer.read()
        # Something to leave behind.
        data = b"RIFF" + bytes(1000)
        request = urllib.request.Request(
            f"{url}/tracks?name=a.wav", data, {"Origin": url, "Content-Type": "audio/wav"}
        )
        urllib.request.urlopen(request).close()
        with pytest.raises(HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{url}/tracks?name=a.wav", data))
        assert len(list(room.glob("mgdm-audio-*"))) == 1
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in errors
    assert f"{Limits()}\n" in errors
    assert list(room.glob("mgdm-audio-*")) == []
