"""Names that cannot be shown, and streams that are closed, full or read by nobody: no traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mgdm_audio.cli.streams import Lasting
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_unet
from tests.toys import STEMS, song

RATE = 8000
NAME = b"caf\xe9\n\x1b"  # no UTF-8, and no single line
PROGRAM = (sys.executable, "-m", "mgdm_audio.cli.main")
QUICK = ("--sampler", "wiener", "--set", "num_steps=1", "--samples", "1", "--device", "cpu")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names and devices of Linux")


def run(*words: object, shell: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The command, or a line of a shell in which ``"$@"`` is the command."""
    command = [*PROGRAM, *map(os.fsencode, map(str, words))]
    if shell:
        command = ["bash", "-c", shell, "bash", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    result = subprocess.run(command, capture_output=True, env=environment)
    assert b"Traceback" not in result.stderr, result.stderr.decode(errors="replace")
    assert b"Exception ignored" not in result.stderr
    return result


def put(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:  # libsndfile wants names in UTF-8
        samples = song(1, 1, int(seconds * RATE), RATE).T.numpy()
        soundfile.write(file, samples, RATE, format="WAV")


def named(folder: Path, suffix: bytes = b"") -> Path:
    return folder / os.fsdecode(NAME + suffix)


def test_names_that_are_no_utf8(tiny_prior: Path, tmp_path: Path) -> None:
    """Every command that takes a folder or a file of the user's, one after the other."""
    album, out = tmp_path / "album", tmp_path / "out"
    put(named(album, b".wav"))
    put(album / "z.wav")
    separate = ("separate", album, "-o", out, "--prior", tiny_prior, *QUICK, "--report")
    assert run(*separate).returncode == 0
    for track in (named(out), out / "z"):
        assert {"separation.json", "report.html"} <= {path.name for path in track.iterdir()}
    # The record's name is read again as it was: nothing has to be done.
    assert run(*separate, "--skip-existing").stdout.count(b"there already, unchanged") == 2
    truth = tmp_path / "truth"
    for stem in STEMS:
        put(named(truth) / f"{stem}.wav", 4.5)
    score = ("score", "--reference", truth, "--estimate", truth)
    files = [word for end in ("json", "csv", "md") for word in ("-o", tmp_path / f"s.{end}")]
    assert run(*score, *files).returncode == 0
    (tmp_path / "map.toml").write_text('[stems]\nbass = ["bass"]\n')
    prepare = ("prepare", "stems", truth, "--map", tmp_path / "map.toml", "--nj", "1")
    assert run(*prepare, "-o", tmp_path / "data").returncode == 0
    (tmp_path / "suite.toml").write_text('sets = ["mine"]\nsystems = ["mixture"]\ndevice = "cpu"\n')
    bench = ("bench", tmp_path / "suite.toml", "--reference", f"mine={truth}")
    assert run(*bench, "-o", tmp_path / "bench", "--prior", tiny_prior).returncode == 0
    save_trained(tmp_path / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    picture = named(tmp_path, b".png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture)
    restore = ("restore", picture, "--task", "sr4", "--prior", tmp_path / "toy", "--device", "cpu")
    quick = ("--sampler", "dps", "--set", "num_steps=3", "-o", tmp_path / "restored")
    assert run(*restore, *quick).returncode == 0
    assert (named(tmp_path / "restored") / "report.json").is_file()


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ('"$@" >&-', 0),
        ('"$@" 2>&-', 0),
        ('"$@" <&- >&- 2>&-', 0),
        ('"$@" >/dev/full', 1),  # what was asked for cannot all be told
        ('"$@" 2>/dev/full', 0),
        ('"$@" | true; exit ${PIPESTATUS[0]}', 1),
        ('"$@" 2> >(true)', 0),
    ],
)
def test_streams_that_do_not_last(shell: str, code: int, tiny_prior: Path, tmp_path: Path) -> None:
    put(tmp_path / "a.wav")
    words = ("separate", tmp_path / "a.wav", "-o", tmp_path / "out", "--prior", tiny_prior, *QUICK)
    result = run(*words, shell=shell)
    assert result.returncode == code
    # The work was done all the same, and nothing that was printed is in a file of it.
    assert len(list((tmp_path / "out/a").iterdir())) == len(STEMS) + 2
    for stem in STEMS:
        assert soundfile.info(tmp_path / f"out/a/{stem}.wav").frames == RATE // 10
    if "full" in shell and code:
        last = result.stderr.decode().splitlines()[-1]
        assert last == "error: standard output: cannot be written (No space left on device)"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_that_cannot_show_a_name(encoding: str) -> None:
    result = run("priors", "list", "żółw", PYTHONIOENCODING=encoding)
    assert result.returncode == 1
    shown = "żółw" if encoding != "latin-1" else "\\u017có\\u0142w"  # click takes UTF-8 for ASCII
    assert shown in result.stderr.decode(encoding.replace("ascii", "utf-8"))


def test_names_do_not_steer_the_terminal() -> None:
    """A name may hold ECMA-48's sequences: that of the colour red, that which sets the title."""
    names = ["\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "\x7f\b"]
    for name in names:
        result = run("priors", "list", name)
        said = result.stderr.decode()
        assert result.returncode == 1
        assert said.isprintable() or said[:-1].isprintable()
        # click drops a colour's sequence where there is no terminal; other characters are escaped.
        shown = "red" if name.endswith("red") else f"\\x{ord(name[0]):02x}"
        assert said.startswith(f"error: {shown}")
    stream = Lasting(io.BytesIO(), "utf-8")
    text = "a\tü\r50 %\n"
    assert stream.write(text) == len(text)
    assert stream.write("\x1b") == 1
    stream.flush()
    assert stream.buffer.getvalue() == "a\tü\r50 %\n\\x1b".encode()


def test_an_unbuffered_stream_keeps_nothing_back(tmp_path: Path) -> None:
    """With PYTHONUNBUFFERED, as containers set it, Python's streams write through."""
    program = (
        "import sys; from mgdm_audio.cli.streams import steady; steady(); "
        "sys.stderr.write('a line\\n'); sys.stderr.write('50 %'); "
        "sys.stdout.write(open(sys.argv[1]).read())"
    )
    with open(tmp_path / "log", "wb") as log:
        result = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "log"],
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    assert result.stdout == b"a line\n50 %"


@pytest.mark.parametrize("shell", ['"$@" >&-', '"$@" >/dev/full', '"$@" 2>&-', '"$@" | true'])
def test_help_is_no_exception(shell: str) -> None:
    run("--help", shell=shell)
    run("--version", shell=shell)
    run("separate", "--sed", shell=shell)


def test_a_stream_drops_what_cannot_be_written_and_remembers_why() -> None:
    with open("/dev/full", "wb") as full:
        stream = Lasting(full, "ascii", "backslashreplace")
        assert stream.write("ü") == 1
        stream.flush()
        assert stream.error is not None
        assert stream.error.strerror == "No space left on device"
        stream.write("more")
        stream.flush()  # to the null device
