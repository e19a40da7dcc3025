"""``mgdm-audio separate`` on folders, again and again, and under names of the user's choice."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from tests.cli.test_separate import FILES, Separate, complaint, hashes, nothing_written, separate
from tests.toys import STEMS, song

__all__ = ["separate"]  # the fixture


def written(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_is_walked_and_its_shape_kept(separate: Separate) -> None:
    for name in ("in/b.wav", "in/a/c d.WAV", "in/a/é.wav", "in/.hidden.wav", "in/.git/x.wav"):
        separate.put(name, song(1, 1, 2000, 22050))
    (separate.folder / "in" / "notes.txt").write_text("no sound")
    out = separate.folder / "in" / "stems"  # below the input: its stems are no input
    for _ in range(2):
        result = separate(separate.folder / "in", out=out)
        assert result.exit_code == 0, result.output
        tracks = ["a/c d", "a/é", "b"]
        assert written(out) == sorted(f"{track}/{file}" for track in tracks for file in FILES)
    table = result.stdout.splitlines()[-4:]
    assert [line[: len(track)] for line, track in zip(table[1:], tracks, strict=True)] == tracks
    assert all(line.endswith("  ok") for line in table[1:])


def test_a_folder_s_bad_file_fails_alone(separate: Separate) -> None:
    separate.put("in/a.wav", song(1, 1, 2000, 22050))
    (separate.folder / "in" / "b.wav").write_text("no sound")
    result = separate(separate.folder / "in")
    assert result.exit_code == 1
    assert [p.name for p in separate.out.iterdir()] == ["a"]
    assert "error: " in result.stdout.splitlines()[-1]


def test_a_folder_without_sound_or_of_the_output_is_refused(separate: Separate) -> None:
    folder = separate.folder / "in"
    folder.mkdir()
    assert "holds no sound" in complaint(separate(folder))
    assert "is the output folder as well" in complaint(separate(folder, out=folder))
    assert nothing_written(separate)


def test_files_that_differ_in_their_suffix_alone_are_told_apart(separate: Separate) -> None:
    separate.put("in/a.wav", song(1, 1, 2000, 22050))
    separate.put("in/a.aiff", song(2, 1, 2000, 22050))
    assert separate(separate.folder / "in").exit_code == 0
    assert sorted(path.name for path in separate.out.iterdir()) == ["a.aiff", "a.wav"]
    assert separate.report("a.wav")["input"] == "a.wav"


@pytest.fixture
def done(separate: Separate) -> "Done":
    """A separation, and when each of its files was written."""
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    assert separate(path, "--skip-existing").exit_code == 0
    return separate, path, times(separate.out)


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file stands under a name: a new one may take the number of one that was removed."""
    stats = {name: (folder / name).stat() for name in written(folder)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


Done = tuple[Separate, Path, dict[str, tuple[int, int]]]


def test_an_unchanged_result_is_kept(done: Done) -> None:
    separate, path, before = done
    os.utime(path)  # the content decides
    result = separate(path, "--skip-existing", "--device", "auto")
    assert result.exit_code == 0
    assert "there already, unchanged" in result.stdout
    assert times(separate.out) == before
    assert separate(path).exit_code == 0  # not asked to skip
    assert times(separate.out).keys() == before.keys()
    assert times(separate.out) != before


@pytest.mark.parametrize(
    "change",
    [
        *("input", "a stem", "a lost stem", "uncertainty", "record", "empty record"),
        *("--seed", "--samples", "--set", "--subtype", "--sampler", "--two-stems"),
        *("--format", "--stems", "--mix"),
        *("--keep-samples", "--join", "--level", "--set=noise_std=0.01"),
    ],
)
def test_a_change_makes_the_result_again(done: Done, change: str) -> None:
    separate, path, before = done
    folder = separate.out / "a"
    options = {
        "--seed": ["1"],
        "--samples": ["2"],
        "--set": ["num_steps=1"],
        "--set=noise_std=0.01": [],
        "--subtype": ["FLOAT"],
        "--sampler": ["wiener", "--set", "noise_max=2"],
        "--two-stems": ["bass"],
        "--format": ["flac"],
        "--stems": ["bass,drums"],
        "--mix": ["bass+drums"],
        "--keep-samples": [],
        "--join": ["condition"],
        "--level": ["none"],
    }
    if change == "input":
        separate.put("a.wav", song(2, 1, 2000, 22050))
    elif change == "a stem":
        data = bytearray((folder / "bass.wav").read_bytes())
        data[-1] ^= 1
        (folder / "bass.wav").write_bytes(data)
    elif change == "a lost stem":
        (folder / "bass.wav").unlink()
    elif change == "uncertainty":
        (folder / "uncertainty.json").write_text("{}")
    elif change == "record":
        (folder / "separation.json").write_text("{")
    elif change == "empty record":
        record = json.loads((folder / "separation.json").read_text())
        (folder / "separation.json").write_text(json.dumps(record | {"files": {}}))
    arguments = [change, *options[change]] if change in options else []
    result = separate(path, "--skip-existing", *arguments)
    assert result.exit_code == 0, result.output
    assert "there already" not in result.stdout
    after = times(separate.out)
    assert all(after[name] != before.get(name) for name in after)
    for name, sha in separate.report("a")["files"].items():  # type: ignore[attr-defined]
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha


def test_a_change_of_the_prior_s_config_makes_the_result_again(
    separate: Separate, tmp_path: Path
) -> None:
    """With the same weights: they are hashed for themselves."""
    prior = tmp_path / "prior" / separate.prior.name
    shutil.copytree(separate.prior, prior)
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    options = ("--skip-existing", "--prior", prior)
    assert separate(path, *options).exit_code == 0
    assert "there already" in separate(path, *options).stdout
    config = json.loads((prior / "config.json").read_text())
    (prior / "config.json").write_text(json.dumps(config | {"mixture_rms": 0.05}))
    assert "there already" not in separate(path, *options).stdout


def test_a_folder_s_pages_have_an_index_and_are_kept(separate: Separate) -> None:
    for name in ("in/a.wav", "in/b/c.wav"):
        separate.put(name, song(1, 1, 2000, 22050))
    options = (separate.folder / "in", "--skip-existing", "--report")
    pages = [separate.out / track / "report.html" for track in ("a", "b/c")]
    index = separate.out / "index.html"
    first = separate(*options)
    assert first.exit_code == 0, first.output
    assert [line for line in first.stdout.splitlines() if line.startswith("written")] == [
        f"written: {path}" for path in (*pages, index)
    ]
    assert all(address in index.read_text() for address in ("a/report.html", "b/c/report.html"))
    kept, made = pages[0].stat().st_mtime_ns, pages[1].read_bytes()
    pages[1].unlink()
    again = separate(*options)  # a track that is there already has a page too, made once
    assert [line for line in again.stdout.splitlines() if line.startswith("written")] == [
        f"written: {pages[1]}",
        f"written: {index}",
    ]
    assert pages[0].stat().st_mtime_ns == kept
    assert pages[1].read_bytes() == made
    # Another result, made while the clock was behind: its page is the old one's, though newer.
    assert separate(*options[:1], "--seed", "1").exit_code == 0
    for path in (separate.out / "a").iterdir():
        if path.name != "report.html":
            os.utime(path, (0, 0))
    stale = pages[0].read_bytes()
    assert f"written: {pages[0]}" in separate(*options, "--seed", "1").stdout
    assert pages[0].read_bytes() != stale


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_two_stems_are_one_and_the_rest(separate: Separate, subtype: str) -> None:
    mixture = song(1, 2, 3000, 44100)
    path = separate.put("a.wav", mixture, 44100)
    whole = separate.folder / "whole"
    options = ("--subtype", subtype, "--samples", "2", "--keep-samples")
    assert separate(path, *options, out=whole).exit_code == 0
    assert separate(path, *options).exit_code == 0
    result = separate(path, *options, "--two-stems", "drums")
    assert result.exit_code == 0, result.output
    names = ["drums.wav", "no_drums.wav"]
    draws = [f"samples/{i}/{name}" for i in range(2) for name in names]
    json_files = ["separation.json", "uncertainty.json"]
    assert written(separate.out / "a") == sorted([*names, *draws, *json_files])
    read = torch.from_numpy(soundfile.read(path)[0].T)
    for place in ("", "samples/0", "samples/1"):
        folder = separate.out / "a" / place
        stem, rest = (torch.from_numpy(soundfile.read(folder / name)[0].T) for name in names)
        # 16 bits are exact in either grid; a float32 difference of numbers under 1 is to 2^-25.
        assert (stem + rest - read).abs().max() <= (2**-24 if subtype == "FLOAT" else 0)
        alone = torch.from_numpy(soundfile.read(whole / "a" / place / "drums.wav")[0].T)
        assert (stem - alone).abs().max() <= {"PCM_16": 2**-14, "PCM_24": 2**-22, "FLOAT": 0}[
            subtype
        ]
    std = json.loads((separate.out / "a" / "uncertainty.json").read_text())["std"]
    assert std["drums"] == std["no_drums"]
    assert separate.report("a")["two_stems"] == "drums"


def test_two_stems_that_would_clip_are_lowered_together(separate: Separate) -> None:
    path = separate.put("hot.wav", 8 * song(1, 1, 3000, 22050), subtype="FLOAT")
    result = separate(path, "--two-stems", "bass")
    assert "lowered by" in result.stderr
    gain = separate.report("hot")["gain"]
    parts = [soundfile.read(separate.out / "hot" / f"{n}.wav")[0] for n in ("bass", "no_bass")]
    error = sum(map(torch.from_numpy, parts)) - gain * torch.from_numpy(soundfile.read(path)[0])  # type: ignore[operator]
    assert error.abs().max() < 2**-22


def test_an_unknown_stem_is_one_line(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    result = separate(path, "--two-stems", "drum")
    assert "no stem 'drum'; did you mean drums" in complaint(result, 2)
    assert nothing_written(separate)


@pytest.mark.parametrize(
    ("template", "stem", "draw", "record"),
    [
        ("{stem}/{track}", "bass/a b.wav", "bass/samples/1/a b.wav", "separation/a b.json"),
        ("{track} ({stem})", "a b (bass).wav", "samples/1/a b (bass).wav", "a b (separation).json"),
        (
            "{sampler}-{seed}/{track}/{sample}-{stem}",
            "wiener-4/a b/mean-bass.wav",
            "wiener-4/a b/1-bass.wav",
            "wiener-4/a b/mean-separation.json",
        ),
        ("x/{stem}.{track}", "x/bass.a b.wav", "x/samples/1/bass.a b.wav", "x/separation.a b.json"),
    ],
)
def test_names_by_a_template(
    separate: Separate, template: str, stem: str, draw: str, record: str
) -> None:
    path = separate.put("a b.wav", song(1, 1, 2000, 22050))
    options = ("--filename", template, "--samples", "2", "--keep-samples", "--seed", "4")
    assert separate(path, *options).exit_code == 0
    found = written(separate.out)
    assert len(found) == 3 * len(STEMS) + 2
    assert {stem, draw, record} <= set(found)
    before = times(separate.out)
    assert "there already" in separate(path, *options, "--skip-existing").stdout
    assert times(separate.out) == before
    # Fewer files by the same names: what the record lists and is not written again goes.
    (separate.out / "mine.txt").write_text("mine")
    assert separate(path, *options, "--two-stems", "bass").exit_code == 0
    assert len(written(separate.out)) == 3 * 2 + 2 + 1


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{trak}/{stem}", "unknown name {trak}; did you mean track?"),
        ("{}/{stem}", "unknown name {}"),
        ("{stem.__class__}", "unknown name {stem.__class__}"),
        ("{stem!r}", "{stem} takes no format"),
        ("{stem:>9}", "{stem} takes no format"),
        ("{stem", "expected '}'"),
        ("{track}", "has no {stem}"),
        ("{stem}/", "names a folder"),
        ("../{stem}", "leaves the output folder"),
        ("/tmp/{stem}", "leaves the output folder"),
        ("{track}/../../{stem}", "leaves the output folder"),
    ],
)
def test_a_bad_template_is_one_line(separate: Separate, template: str, why: str) -> None:
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    result = separate(path, "--filename", template)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert why in line
    assert nothing_written(separate)


def test_tracks_that_a_template_does_not_tell_apart_are_refused(separate: Separate) -> None:
    paths = [separate.put(f"{name}.wav", song(1, 1, 2000, 22050)) for name in "ab"]
    line = complaint(separate(*paths, "--filename", "{stem}"))
    assert "'a' and 'b' would be one file" in line
    assert nothing_written(separate)


def test_a_record_that_lists_other_files_removes_none_of_them(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 2000, 22050))
    assert separate(path).exit_code == 0
    mine = separate.folder / "mine.txt"
    mine.write_text("mine")
    place = separate.out / "a" / "separation.json"
    record = json.loads(place.read_text())
    sha = hashlib.sha256(b"mine").hexdigest()
    place.write_text(json.dumps(record | {"files": {"../../mine.txt": sha, str(mine): sha}}))
    assert separate(path).exit_code == 0
    assert mine.read_text() == "mine"
    assert len(hashes(separate.out)) == 4
