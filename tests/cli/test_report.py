"""``mgdm-audio report`` as a user meets it: pages out, or one clear line."""

from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

from mgdm_audio.cli.main import main
from tests.toys import STEMS, song

FAST = ("--sampler", "wiener", "--set", "num_steps=2", "--device", "cpu")


@pytest.fixture
def out(tiny_prior: Path, tmp_path: Path) -> Path:
    """One song, separated with --report."""
    path, out = tmp_path / "song.wav", tmp_path / "out"
    soundfile.write(path, song(1, 1, 60_000, 22050).T.numpy(), 22050)
    quick = ["separate", *FAST, "--samples", "2", "--prior", str(tiny_prior)]
    result = CliRunner().invoke(main, [*quick, "--report", "-o", str(out), str(path)])
    assert result.exit_code == 0, result.output
    assert f"written: {out / 'song' / 'report.html'}" in result.stdout
    return out


def report(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    # Anything else is a traceback in a user's face.
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def test_it_makes_the_same_page_as_separate_does(out: Path) -> None:
    made = (out / "song" / "report.html").read_bytes()
    for stem in STEMS:
        assert made.count(f'data-name="{stem}"'.encode()) == 1
    result = report(out)
    assert result.exit_code == 0, result.output
    assert [line.split(" (")[0] for line in result.stdout.splitlines()] == [
        f"written: {out / 'song' / 'report.html'}",
        f"written: {out / 'index.html'}",
    ]
    assert (out / "song" / "report.html").read_bytes() == made


def test_one_track_needs_no_index(out: Path) -> None:
    assert report(out / "song").exit_code == 0
    assert not (out / "index.html").exists()


def test_references_add_scores(out: Path) -> None:
    result = report(out, "--reference", out)  # the stems themselves will do
    assert result.exit_code == 0, result.output
    assert "SI-SDRi, dB" in (out / "song" / "report.html").read_text()


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_folder_that_is_no_result_is_one_clear_line(tmp_path: Path, name: str) -> None:
    result = report(tmp_path / name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {tmp_path / name}: ")
    assert len(result.stderr.splitlines()) == 1


def test_separate_refuses_names_that_leave_no_folder_for_a_page(
    tiny_prior: Path, tmp_path: Path
) -> None:
    (tmp_path / "song.wav").touch()
    names = ["--report", "--filename", "{track} ({stem})", "--prior", str(tiny_prior)]
    result = CliRunner().invoke(
        main, ["separate", *names, "-o", str(tmp_path / "out"), str(tmp_path / "song.wav")]
    )
    assert result.exit_code == 1
    assert "--report needs a folder a track" in result.stderr
    assert not (tmp_path / "out").exists()
