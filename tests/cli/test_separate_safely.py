"""``separate`` and ``sample`` spare the user's files, and say what they read."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mgdm_audio.audio.io import read
from mgdm_audio.cli.main import main
from mgdm_audio.digest import hash_file
from mgdm_audio.errors import UserError
from mgdm_audio.output.layout import Layout
from mgdm_audio.separation.separator import Separator
from tests.cli.test_separate import Separate, complaint, separate
from tests.toys import song

__all__ = ["separate"]  # the fixture
WRITTEN = Path(__file__).parents[1] / "audio" / "written"
TEMPLATE = ("--filename", "{stem}")


@pytest.mark.parametrize("named", ["plainly", "by a link", "by a hard link", "by another way"])
def test_an_input_is_never_replaced(separate: Separate, named: str) -> None:
    path = given = separate.put("mine/bass.wav", song(1, 1, 2000, 22050))
    if named == "by a link":
        given = separate.folder / "link.wav"
        given.symlink_to(path)
    elif named == "by a hard link":
        given = separate.folder / "hard.wav"
        os.link(path, given)
    elif named == "by another way":
        given = path.parent / ".." / "mine" / "bass.wav"
    before = path.read_bytes()
    line = complaint(separate(given, *TEMPLATE, out=path.parent))
    assert line.startswith(f"error: {given}: would be replaced by a result ({path})")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["bass.wav"]


def test_neither_is_another_input(separate: Separate) -> None:
    """The stems of the first are named as the second and the third are."""
    first = separate.put("first.wav", song(1, 1, 2000, 22050))
    drums = separate.put("out/first/drums.wav", song(2, 1, 2000, 22050))
    before = drums.read_bytes()
    result = separate(first, drums)
    assert result.exit_code == 1
    assert f"error: {drums}: would be replaced" in result.stderr
    assert drums.read_bytes() == before
    assert (separate.out / "drums" / "separation.json").exists()  # it fails alone


def test_nor_is_what_an_earlier_result_would_lose(separate: Separate) -> None:
    """Of an earlier result the files go: not those that are to be separated now."""
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    assert separate(path, "--samples", "2", "--keep-samples").exit_code == 0
    draw = separate.out / "a" / "samples" / "0" / "bass.wav"
    result = separate(path, draw)
    assert f"error: {draw}: would be replaced" in result.stderr
    assert draw.exists()


def test_nor_in_python(separate: Separate) -> None:
    path = separate.put("bass.wav", song(1, 1, 2000, 22050))
    before = path.read_bytes()
    separator = Separator.from_pretrained(separate.prior, "wiener", device="cpu")
    with pytest.raises(UserError, match=r"bass\.wav: would be replaced by a result"):
        separator.separate(path, draws=1).save(path.parent)
    assert path.read_bytes() == before


@pytest.mark.parametrize("samples", ["1", "2"])
def test_nor_is_a_given_stem(separate: Separate, samples: str) -> None:
    place = "out/bass.wav" if samples == "1" else "out/1/bass.wav"
    path = separate.put(place, song(1, 1, 2000, 22050))
    before = path.read_bytes()
    command = ["sample", "--prior", str(separate.prior), "-o", str(separate.out), "--device", "cpu"]
    given = ["--given", f"bass={path}", "--samples", samples, "--set", "num_steps=2"]
    result = CliRunner().invoke(main, [*command, *given])
    assert result.exit_code == 1
    assert f"error: {path}: would be replaced by a result" in result.stderr
    assert path.read_bytes() == before


def test_damaged_files_are_refused_unless_kept(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 22050, 22050))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 15000])
    line = complaint(separate(path))
    assert "a.wav: cut short, 0.7 of 1.0 s can be read" in line
    assert line.endswith("; fetch it again, or go on with what is left: --damaged keep")
    result = separate(path, "--damaged", "keep")
    assert result.exit_code == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert "0.32 s missing at 0.7 s (the file ends before)" in warning
    (part,) = separate.report("a")["missing"]  # type: ignore[misc]
    assert part == {
        "at": pytest.approx(15000 / 22050),
        "seconds": pytest.approx(7050 / 22050),
        "why": "the file ends before",
    }
    assert separate.stems("a").shape[-1] == 15000
    skipping = ("--skip-existing", "--damaged", "keep")
    assert "there already" in separate(path, *skipping).stdout
    # Who does not ask for what is left is told, whatever is there.
    assert "cut short" in complaint(separate(path, "--skip-existing"))


@pytest.mark.parametrize("command", ["sample", "score"])
def test_other_commands_refuse_damage_always(separate: Separate, command: str) -> None:
    for stem in ("bass", "drums"):
        separate.put(f"true/a/{stem}.wav", song(1, 1, 22050, 22050))
        path = separate.put(f"found/a/{stem}.wav", song(1, 1, 22050, 22050))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 15000])
    folder = separate.folder
    lines = {
        "sample": ["--prior", separate.prior, "-o", separate.out, "--given", f"drums={path}"],
        "score": ["--reference", folder / "true", "--estimate", folder / "found"],
    }
    result = CliRunner().invoke(main, [command, *map(str, lines[command])])
    assert result.exit_code == 1
    assert f"{path}: cut short, 0.7 of 1.0 s can be read" in result.stderr


def test_a_change_on_the_way_is_one_warning(separate: Separate) -> None:
    names = ("oggenc.ogg", "oggenc_wide.ogg")
    path = separate.folder / "radio.ogg"
    path.write_bytes(b"".join((WRITTEN / name).read_bytes() for name in names))
    result = separate(path)
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert line.startswith(f"warning: {path}: at 0.2 s 1 channel at 8000 Hz become 2 channels at ")
    assert separate.stems("radio").shape[1:] == (1, 4000)


def test_surround_goes_out_as_it_came_in(separate: Separate) -> None:
    path = WRITTEN / "oggenc_51.ogg"
    assert separate(path, "--subtype", "FLOAT").exit_code == 0
    bass = read(separate.out / "oggenc_51" / "bass.wav")
    assert bass.mask == 0x3F
    total = separate.stems("oggenc_51").sum(0)
    assert np.abs(total.numpy() - read(path).samples.numpy()).max() < 1e-5


def test_a_limit_in_hours(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 22050, 22050))
    line = complaint(separate(path, "--max-duration", "0.0001"))
    assert "a.wav: decodes to 0.0002778 hours or more, over the 0.0001 allowed" in line


def test_the_record_is_of_what_was_separated(separate: Separate) -> None:
    """The input is replaced at the sampler's first step: the record holds the old file's hash."""
    old = separate.put("a.wav", song(1, 1, 2000, 22050))
    new = separate.put("b.wav", song(2, 1, 2000, 22050))
    sha, samples = hash_file(old), read(old).samples
    separator = Separator.from_pretrained(separate.prior, "wiener", device="cpu")

    def step(done: int, total: int) -> None:
        if done and new.exists():
            os.replace(new, old)

    with separator.separate(old, draws=1, folder=separate.out, on_progress=step) as found:
        record = found.save(Layout(separate.out, "{track}/{stem}", "a", "wiener"))
    assert not new.exists()
    assert record["input_sha256"] == sha != hash_file(old)
    # PCM_24 is exact to a step of 24 bits for each of four stems.
    assert (separate.stems("a").sum(0) - samples).abs().max() < 4 * 2**-23
    assert "there already" not in separate(old, "--skip-existing").stdout


def test_an_input_that_is_written_to_meanwhile_fails_alone(
    separate: Separate, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = separate.put("in/a.wav", song(1, 1, 2000, 22050))
    separate.put("in/b.wav", song(2, 1, 2000, 22050))
    original = soundfile.SoundFile.read

    def read_slowly(self: soundfile.SoundFile, *arguments: object, **options: object) -> object:
        block = original(self, *arguments, **options)
        with open(a, "r+b") as file:
            file.seek(50)
            file.write(b"\1\2\3")
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", read_slowly)
    result = separate(separate.folder / "in")
    assert result.exit_code == 1
    assert f"error: {a}: changed while it was read" in result.stderr
    assert json.loads((separate.out / "b" / "separation.json").read_text())["input"] == "b.wav"


def test_what_a_folder_leaves_out_is_said(separate: Separate) -> None:
    separate.put("in/a.wav", song(1, 1, 2000, 22050))
    (separate.folder / "in" / "cover.jpg").touch()
    result = separate(separate.folder / "in")
    assert result.exit_code == 0
    assert f"{separate.folder / 'in'}: left out cover.jpg" in result.stderr.splitlines()


def test_scores_do_not_replace_what_they_are_of(separate: Separate) -> None:
    for stem in ("bass", "drums"):
        for place in ("true", "found"):
            separate.put(f"{place}/a/{stem}.wav", song(1, 1, 22050, 22050))
    folder, path = separate.folder, separate.folder / "found" / "a" / "bass.wav"
    before = path.read_bytes()
    folders = ["--reference", str(folder / "true"), "--estimate", str(folder / "found")]
    result = CliRunner().invoke(main, ["score", *folders, "-o", str(path)])
    assert result.exit_code == 1
    assert f"error: {path}: would be replaced by a result" in result.stderr
    assert path.read_bytes() == before
