"""Bad input to every command and to the Python interface: one line, 1 or 2, nothing written."""

import json
import os
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

import mgdm_audio
from mgdm_audio.audio.io import write
from mgdm_audio.cli.main import main
from mgdm_audio.cli.priors import priors
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.images.io import read_image
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.tasks import build_operator
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.trained_images import save_trained
from mgdm_audio.rng import generator_for
from tests.bad_inputs import COMMANDS
from tests.images.toys import tiny_unet
from tests.toys import STEMS, TINY_TOML, song

RATE = 8000
TRAIN_TOML = """
[data]
train = "true"
sample_rate = 8000
segment = 512
[schedule]
steps = 1
[training]
batch = 1
precision = "no"
"""


def fill(room: Path, prior: Path) -> None:
    """Good files of every kind, and bad ones."""
    (room / "tiny").symlink_to(prior)
    sound = song(1, 1, RATE // 10, RATE).T.numpy()
    soundfile.write(room / "song.wav", sound, RATE)
    (room / "again").mkdir()
    soundfile.write(room / "again/song.wav", sound, RATE)
    soundfile.write(room / "long.wav", np.concatenate([sound, sound]), RATE)
    soundfile.write(room / "nan.wav", np.full(99, np.nan), RATE, "FLOAT")
    soundfile.write(room / "none.wav", np.zeros(0), RATE)
    (room / "cut.flac").write_bytes(b"fLaC" + bytes(range(100)))
    (room / "empty.wav").touch()
    (room / "text.wav").write_text("no sound at all\n")
    (room / "silent").mkdir()
    (room / "file").write_text("a file\n")
    for stem in STEMS:
        (room / "true/a").mkdir(parents=True, exist_ok=True)
        soundfile.write(room / f"true/a/{stem}.wav", song(2, 1, 36000, RATE).T.numpy(), RATE)
    (room / "done/a").mkdir(parents=True)
    (room / "done/a/separation.json").write_text("{")
    save_trained(room / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    (room / "restored/i").mkdir(parents=True)
    Image.new("RGB", (16, 16), 99).save(room / "i.png")
    Image.new("RGB", (16, 16), 99).save(room / "again/i.png")
    np.save(room / "flat.npy", np.zeros(7))
    (room / "broken.toml").write_text("a = [\n")
    (room / "odd.toml").write_text("what = 1\n")
    (room / "no_sampler.toml").write_text("[options]\nnum_steps = 1\n")
    (room / "suite.toml").write_text('sets = ["mine"]\nsystems = ["mixture"]\ndevice = "cpu"\n')
    (room / "unknown.toml").write_text('sets = ["mine"]\nsystems = ["mixtures"]\n')
    (room / "map.toml").write_text('[stems]\nbass = ["bass"]\n')
    (room / "twice.toml").write_text('[stems]\nbass = ["bass"]\nlow = ["b*"]\n')
    (room / "train.toml").write_text(TRAIN_TOML + TINY_TOML)
    (room / "damaged").mkdir()
    for name in ("config.json", "model.safetensors"):
        (room / "damaged" / name).write_bytes((prior / name).read_bytes())
    with open(room / "damaged/model.safetensors", "r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    for name in ("pipe.wav", "pipe.png", "pipe.toml"):
        os.mkfifo(room / name)
    (room / "folder.wav").mkdir()
    (room / "loop.wav").symlink_to("loop.wav")
    data = (room / "song.wav").read_bytes()
    (room / "two.wav").write_bytes(data + data[data.index(b"data") :])
    (room / "rate.wav").write_bytes(data[:24] + (10**9).to_bytes(4, "little") + data[28:])
    (room / "deep.toml").write_text(f"a = {'[' * 5000}{']' * 5000}\n")
    np.save(room / "objects.npy", np.array([{}]), allow_pickle=True)
    np.save(room / "complex.npy", np.zeros((3, 16, 16), complex))
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 99999999, 99999999)}"
    (room / "huge.npy").write_bytes(b"\x93NUMPY\1\0\x76\0" + head.ljust(117).encode() + b"\n")
    for name in ("twice", "whole"):
        shutil.copytree(prior, room / name)
    text = (prior / "config.json").read_text()
    (room / "twice/config.json").write_text(text.replace("{", '{"stems": [],', 1))
    weights = room / "whole/model.safetensors"
    save_file({name: tensor.int() for name, tensor in load_file(weights).items()}, weights)
    config = json.loads(text) | {"sha256": hash_file(weights)}
    (room / "whole/config.json").write_text(json.dumps(config))
    (room / "raises.py").write_text("raise OSError('no\\nluck')\n")


@pytest.fixture(scope="module")
def room(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    fill(folder, tiny_prior)
    return folder


@pytest.fixture(autouse=True)
def here(room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the room, and what is in it stays as it is."""
    monkeypatch.chdir(room)
    before = files(room)
    yield
    assert files(room) == before


def files(room: Path) -> dict[str, tuple[int, int]]:
    """All but the byte code of modules, by size and time."""
    found = [p for p in room.rglob("*") if not p.is_dir() and p.suffix != ".pyc"]
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in found}


@pytest.mark.parametrize(("words", "says"), COMMANDS.items(), ids=COMMANDS)
def test_a_command_says_it_in_one_line(words: str, says: str, room: Path) -> None:
    if words.startswith("serve"):
        pytest.importorskip("uvicorn")
    result = CliRunner().invoke(main, shlex.split(words))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    if words == "prepare":  # a group alone: its help
        assert result.output.startswith("Usage: ")
        return
    notes = ("device: ", "limits: ")
    lines = [line for line in result.stderr.splitlines() if not line.startswith(notes)]
    if words.startswith("prepare") and len(lines) == 2:  # the track's line, and the command's
        assert lines.pop().startswith("error: ")
    else:
        assert lines[-1].startswith("error: ")
    assert len(lines) == 1, result.stderr
    assert says in lines[0]
    assert "internal error" not in lines[0]
    assert len(lines[0]) < 600  # to be read at once


def test_a_port_that_is_taken(room: Path) -> None:
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = ["serve", "--port", str(other.getsockname()[1])]
        result = CliRunner().invoke(main, words)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def separator() -> Any:
    return mgdm_audio.Separator.from_pretrained("tiny", "wiener", device="cpu")


def operator(name: str, shape: Any = (3, 16, 16), **options: Any) -> Any:
    return build_operator(name, shape, generator=generator_for(0), **options)


def restorer(**options: Any) -> Any:
    preset = load_image_preset("dps", "sr4", ["num_steps=3"])
    return mgdm_audio.Restorer(load_image_prior("toy", "cpu"), preset, **options)


WAVE = np.zeros((1, 99), np.float32)
CALLS: dict[str, Callable[[], Any]] = {
    "an unknown prior": lambda: mgdm_audio.load_prior("nope"),
    "a damaged prior": lambda: mgdm_audio.load_prior("damaged"),
    "a prior of pictures": lambda: mgdm_audio.load_prior("toy"),
    "an unknown preset": lambda: mgdm_audio.load_preset("nope"),
    "an unknown option": lambda: mgdm_audio.load_preset("mgdm", ["num_step=3"]),
    "no file": lambda: separator().separate("missing.wav"),
    "no sound": lambda: separator().separate("text.wav"),
    "a folder": lambda: separator().separate("silent"),
    "another rate": lambda: separator().separate("song.wav", 44100),
    "no rate": lambda: separator().separate(WAVE),
    "a negative rate": lambda: separator().separate(WAVE, -1),
    "three axes": lambda: separator().separate(WAVE[None], RATE),
    "no samples": lambda: separator().separate(WAVE[:, :0], RATE),
    "whole numbers": lambda: separator().separate(WAVE.astype(np.int16), RATE),
    "no number": lambda: separator().separate(WAVE + np.nan, RATE),
    "an unknown stem": lambda: separator().separate(WAVE, RATE, two_stems="vocals"),
    "a folder that is a file": lambda: separator().separate(WAVE, RATE, folder="file"),
    "an unknown subtype": lambda: separator().separate(WAVE, RATE).save("out", "MP3"),
    "a result in a file": lambda: separator().separate(WAVE, RATE).save("file"),
    "an unknown device": lambda: mgdm_audio.Separator.from_pretrained("tiny", device="tpu"),
    "an unknown level": lambda: mgdm_audio.Separator.from_pretrained("tiny", level="loud"),
    "no overlap": lambda: mgdm_audio.Separator.from_pretrained("tiny", overlap=99.0),
    "no time": lambda: mgdm_audio.Generator.from_pretrained("tiny").generate(-1.0),
    "no tracks": lambda: mgdm_audio.score(Path("nope"), Path("true")),
    "no metric": lambda: mgdm_audio.score(Path("true"), Path("true"), ["loudness"]),
    "no task": lambda: restorer(task="sr5"),
    "no option": lambda: restorer(task="blur", options={"std": "wide"}),
    "no shape": lambda: operator("sr4", (3, 16)),
    "no name of a folder": lambda: separator().separate("song.wav").save("a\0b"),
    "no name for temporary files": lambda: separator().separate("song.wav", folder="a\0b"),
    "no name of a file": lambda: separator().separate("a\0b.wav"),
    "no name of an output": lambda: write("a\0b.wav", torch.zeros(1, 9), RATE),
    "no limit": lambda: separator().separate("song.wav", max_seconds=float("nan")),
    "a pipe": lambda: separator().separate("pipe.wav"),
    "a rate of no sound": lambda: separator().separate("rate.wav"),
    "another policy": lambda: separator().separate("song.wav", damaged="mend"),
    "too long": lambda: separator().separate("song.wav", max_seconds=0.01),
    "an output that is a pipe": lambda: write("pipe.wav", torch.zeros(1, 9), RATE),
    "an output of another format": lambda: write("song.mp3", torch.zeros(1, 9), RATE),
    "a picture that is a pipe": lambda: read_image("pipe.png", (3, 16, 16)),
    "an array of objects": lambda: read_image("objects.npy", (3, 16, 16)),
    "a key that is there twice": lambda: mgdm_audio.load_prior("twice"),
    "weights of whole numbers": lambda: mgdm_audio.load_prior("whole"),
    "a track of one stem": lambda: mgdm_audio.score(Path("again"), Path("true")),
    "no stem of these": lambda: mgdm_audio.train("train.toml", "out", overrides=["data.segment=0"]),
    "no configuration": lambda: mgdm_audio.train("nope.toml", "out"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_python_says_it_in_one_line(call: Callable[[], Any], room: Path) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert json.dumps(str(caught.value))


def test_there_are_enough() -> None:
    assert len(COMMANDS) + len(CALLS) >= 200
    named = {words.split()[1] for words in COMMANDS if words.startswith("priors ")}
    assert named >= {*priors.commands}
    assert {words.split()[0] for words in COMMANDS} >= {*main.commands}
