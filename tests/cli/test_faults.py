"""One item of many that meets a bug: its row says so, the others are done, and the end is 1."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from PIL import Image

from mgdm_audio.cli.main import main
from mgdm_audio.data import preparation
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import LOG, UserError, recorded
from mgdm_audio.evaluation import folders
from mgdm_audio.evaluation.benchmark.measuring import Measuring
from mgdm_audio.images.restorer import Restorer
from mgdm_audio.priors.images.trained_images import save_trained
from mgdm_audio.report import pages
from mgdm_audio.separation.separator import Separator
from tests.images.toys import tiny_unet
from tests.toys import STEMS, song

RATE = 8000
QUICK = ("--sampler", "wiener", "--set", "num_steps=1", "--samples", "1", "--device", "cpu")


def put(folder: Path, *names: str, seconds: float = 0.2) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, song(1, 1, int(seconds * RATE), RATE).T, RATE)


def stems(folder: Path, *tracks: str) -> Path:
    put(folder, *(f"{track}/{stem}.wav" for track in tracks for stem in STEMS), seconds=4.5)
    return folder


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


Patch = Callable[[Any, str, str], None]


@pytest.fixture
def break_at(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """A method that raises what no code expects when an argument of it holds a word."""

    def patch(owner: Any, name: str, word: str) -> None:
        whole = getattr(owner, name)

        def broken(*arguments: Any, **options: Any) -> Any:
            if any(word in str(argument) for argument in arguments):
                raise AttributeError("no such thing\nin this library")
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, broken)

    return patch


def check(result: Result, out: Path, item: str) -> None:
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    lines = {line for line in result.stderr.splitlines() if "internal error" in line}
    assert len(lines) == 1, result.stderr
    line = lines.pop()
    assert item in line
    assert "internal error (AttributeError: no such thing in this library at " in line
    assert f"please report it with its traceback, in {out / LOG}" in line
    text = (out / LOG).read_text()
    assert text.count("Traceback (most recent call last)") == 1
    assert item in text.splitlines()[0]


def test_separate(tiny_prior: Path, tmp_path: Path, break_at: Patch) -> None:
    put(album := tmp_path / "album", "a.wav", "bad.wav", "z.wav")
    break_at(Separator, "separate", "bad.wav")
    out = tmp_path / "out"
    result = run("separate", album, "-o", out, "--prior", tiny_prior, *QUICK)
    check(result, out, "bad.wav")
    assert (out / "a/separation.json").is_file()
    assert (out / "z/separation.json").is_file()
    assert "bad" not in [path.name for path in out.iterdir()]
    rows = [line for line in result.stdout.splitlines() if line.startswith("bad ")]
    assert "internal error" in rows[0]


def test_restore(tmp_path: Path, break_at: Patch) -> None:
    save_trained(tmp_path / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    names = [tmp_path / f"{name}.png" for name in ("a", "bad", "z")]
    for name in names:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(name)
    break_at(Restorer, "observe", "bad")
    out = tmp_path / "out"
    options = ("--task", "sr4", "--prior", tmp_path / "toy", "--sampler", "dps", "--device", "cpu")
    result = run("restore", *names, "-o", out, *options, "--set", "num_steps=3")
    check(result, out, "bad.png")
    assert sorted(path.name for path in out.iterdir()) == ["a", LOG, "z"]


def test_prepare(tmp_path: Path, break_at: Patch) -> None:
    source, out = stems(tmp_path / "in", "a", "bad", "z"), tmp_path / "out"
    (tmp_path / "map.toml").write_text('[stems]\nbass = ["bass"]\n')
    break_at(preparation, "_make", "bad")
    words = ("prepare", "stems", source, "--map", tmp_path / "map.toml", "-o", out, "--nj", "1")
    result = run(*words)
    check(result, out, "all/bad")
    manifest = (out / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["track"] for line in manifest] == ["a", "z"]


def test_score(tmp_path: Path, break_at: Patch) -> None:
    truth = stems(tmp_path / "truth", "a", "bad", "z")
    break_at(folders, "score_track", "/bad/")
    (out := tmp_path / "out").mkdir()
    words = ("score", "--reference", truth, "--estimate", truth)
    result = run(*words, *(w for end in ("json", "md", "csv") for w in ("-o", out / f"s.{end}")))
    check(result, out, "bad")
    found = json.loads((out / "s.json").read_text())
    assert list(found["tracks"]["bad"]) == ["failed"]
    assert found["summaries"]["si_sdri"]["n"] == 2
    for text in (result.stdout, *((out / f"s.{end}").read_text() for end in ("md", "csv"))):
        assert "bad" in text
        assert "internal error" in text


def test_bench(tiny_prior: Path, tmp_path: Path, break_at: Patch) -> None:
    truth, out = stems(tmp_path / "truth", "a", "bad", "z"), tmp_path / "out"
    suite = tmp_path / "suite.toml"
    suite.write_text('sets = ["mine"]\nsystems = ["mixture"]\ndevice = "cpu"\n')
    break_at(Measuring, "measure", "track='bad'")
    result = run("bench", suite, "-o", out, "--reference", f"mine={truth}", "--prior", tiny_prior)
    assert result.exit_code == 1
    rows = {path.stem: json.loads(path.read_text()) for path in out.glob("rows/*/*/*.json")}
    assert [rows[name]["status"] for name in ("a", "bad", "z")] == ["scored", "failed", "scored"]
    assert rows["bad"]["reason"].startswith("internal error (AttributeError: no such thing in")
    assert rows["bad"]["reason"].endswith(f"please report it with its traceback, in {out / LOG}")
    assert "mine/mixture/bad" in (out / LOG).read_text()


def test_report(tiny_prior: Path, tmp_path: Path, break_at: Patch) -> None:
    put(album := tmp_path / "album", "a.wav", "bad.wav", "damaged.wav", "z.wav")
    out = tmp_path / "out"
    assert run("separate", album, "-o", out, "--prior", tiny_prior, *QUICK).exit_code == 0
    break_at(pages, "write_page", "/bad")
    (out / "damaged/separation.json").write_text("{")
    result = run("report", out)
    check(result, out, "bad")
    damaged = f"error: {out / 'damaged/separation.json'}: is damaged; separate it again"
    assert damaged in result.stderr.splitlines()
    assert [page.parent.name for page in sorted(out.glob("*/report.html"))] == ["a", "z"]
    index = (out / "index.html").read_text()
    assert ("a/report.html" in index, "bad/report.html" in index) == (True, False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a.wav: is\n empty"), "a.wav: is empty"),
        (OSError(28, "No space left on device", "/x/y"), "/x/y: No space left on device"),
        (OSError(5, "Input/output error"), "song: Input/output error"),
        (MemoryError(), "song: not enough memory; give a smaller one, or close other programs"),
        (KeyError("a"), "song: internal error (KeyError: 'a'); please report it"),
    ],
)
def test_what_can_be_mended_is_no_bug(error: Exception, line: str, tmp_path: Path) -> None:
    assert recorded(error, None, "song") == line
    assert recorded(error, tmp_path, "song").startswith(line)
    assert (tmp_path / LOG).exists() == isinstance(error, KeyError)


def test_a_log_that_cannot_be_written_is_not_promised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = recorded(KeyError("a"), tmp_path / "file" / "out", "song")
    assert line == "song: internal error (KeyError: 'a'); please report it"
