"""Prepared stems are the sums of their sources, sample by sample, however they were made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.atomic import room
from mgdm_audio.audio.decoding import sndfile
from mgdm_audio.audio.resampling import resample
from mgdm_audio.data import slakh, summing
from mgdm_audio.data.manifest import MANIFEST, RECORD, is_intact, load_record, read
from mgdm_audio.data.mapping import Mapping, planner
from mgdm_audio.data.plan import find_tracks
from mgdm_audio.data.preparation import Options, Outcome, prepare
from mgdm_audio.data.summing import narrowest_subtype
from mgdm_audio.errors import UserError
from tests.data.data_sets import FRAMES, RATE, noise, put, slakh_tree, small_track
from tests.killing import killed_at_every_moment, leftovers

FAILED = {
    "train/Track00003": "S01.flac: is empty (0 bytes)",
    "validation/Track00004": "S02.flac: ",  # libsndfile and FFmpeg each have their words for it
    "validation/Track00005": f"S02.wav: cut short, {(FRAMES - 1) / RATE:.4f} of ",
    "validation/Track00006": "metadata.yaml: is damaged",
    "validation/Track00007": "metadata.yaml: is missing",
    "validation/Track00008": "a track so named is in test too",
    "test/Track00008": "a track so named is in validation too",
}


def run(root: Path, out: Path, *splits: str, workers: int = 1, **options: Any) -> list[Outcome]:
    tracks = find_tracks(root, splits, slakh.SPLITS, (slakh.OMITTED,))
    return prepare(tracks, out, slakh.plan, Options(**options), workers)


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {f"{o.track.split}/{o.track.name}": o.state for o in outcomes}


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def records(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / MANIFEST).read_text().splitlines()
    return {f"{r['split']}/{r['track']}": r for r in map(json.loads, lines)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    pytest.importorskip("yaml")
    root = tmp_path_factory.mktemp("slakh")
    return root, slakh_tree(root)


@pytest.fixture(scope="module")
def made(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    out = tmp_path_factory.mktemp("out") / "prepared"
    return out, run(tree[0], out)


def test_stems_are_the_sums_of_their_sources(tree: Any, made: Any) -> None:
    out, truth = made[0], tree[1]
    found = records(out)
    assert list(found) == sorted(truth)
    for name, stems in truth.items():
        assert found[name]["sample_rate"] == RATE
        assert list(found[name]["stems"]) == list(slakh.STEMS)
        for stem, steps in stems.items():
            entry = found[name]["stems"][stem]
            samples, rate = soundfile.read(out / entry["path"], dtype="float64")
            assert rate == RATE
            # Sums of 16-bit integers below 2^24: exact in every subtype.
            np.testing.assert_array_equal(samples * 2**15, steps)
            assert entry["frames"] == found[name]["frames"] == len(steps)
    assert {p.name for p in (out / "train").iterdir()} == {"Track00001", "Track00002"}


def test_the_manifest_lists_every_decision_and_source(made: Any) -> None:
    found = records(made[0])

    def decisions(name: str) -> list[tuple[str, str, str]]:
        return [(d["of"], d["what"], d["why"]) for d in found[name]["decisions"]]

    assert decisions("train/Track00001") == [
        ("metadata.yaml", "ignored", "audio_dir is 'elsewhere', the audio is in stems"),
        ("stems/S02.flac", "padded", f"{FRAMES - 700} of {FRAMES} samples"),
        ("stems/S05.flac", "ignored", "program 48 is of no stem"),
        ("stems/S06", "unrendered", "audio_rendered is false"),
        ("stems/S07", "missing", "program 5, piano"),
        ("stems/S08.wav", "duplicate", "of stems/S08.flac"),
        ("stems/S09.flac", "ignored", "not in metadata.yaml"),
    ]
    lacking = "the track has no source of it"
    assert decisions("train/Track00002") == [
        ("bass", "float", f"peaks at {50001 / 2**15:.4f}, beyond full scale"),
        *[(stem, "silent", lacking) for stem in ("drums", "guitar", "piano")],
    ]
    assert decisions("test/Track00009") == [("piano", "silent", lacking)]
    bass = found["train/Track00002"]["stems"]["bass"]
    assert (bass["path"], bass["subtype"]) == ("train/Track00002/bass.wav", "FLOAT")
    guitar = found["train/Track00001"]["stems"]["guitar"]
    assert (guitar["path"], guitar["subtype"]) == ("train/Track00001/guitar.flac", "PCM_16")
    short, whole = guitar["sources"]
    assert len(short["sha256"]) == 64
    assert short | {"bytes": 0, "mtime_ns": 0, "sha256": ""} == {
        "path": "stems/S02.flac",
        "program": 27,
        "bytes": 0,
        "mtime_ns": 0,
        "sha256": "",
        "sample_rate": RATE,
        "frames": FRAMES - 700,
        "channels": 1,
    }
    assert (whole["program"], whole["frames"]) == (30, FRAMES)


def test_damaged_tracks_are_named_and_stop_no_other(tree: Any, made: Any) -> None:
    outcomes = {f"{o.track.split}/{o.track.name}": o for o in made[1]}
    assert {name for name, o in outcomes.items() if o.state == "made"} == set(tree[1])
    assert {name for name, o in outcomes.items() if o.state == "failed"} == set(FAILED)
    for name, why in FAILED.items():
        assert why in outcomes[name].error
        assert str(tree[0] / name) in outcomes[name].error
        assert "\n" not in outcomes[name].error


def test_two_workers_write_the_same_bytes_and_nothing_is_made_twice(
    tree: Any, made: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcomes = run(tree[0], out, workers=2)
    assert states(outcomes) == states(made[1])
    assert contents(out) == contents(made[0])
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if p.name != MANIFEST}
    again = run(tree[0], out)
    assert set(states(again).values()) == {"kept", "failed"}
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if p.name != MANIFEST} == times
    assert contents(out) == contents(made[0])


def ended_process() -> int:
    """The number of a process that was there."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def damage(out: Path, how: str) -> None:
    track = out / "train" / "Track00001"
    if how == "a stem is gone":
        (track / "bass.flac").unlink()
    elif how == "a stem is cut short":
        (track / "bass.flac").write_bytes((track / "bass.flac").read_bytes()[:-1])
    elif how == "a stem was changed":
        shutil.copy(track / "drums.flac", track / "bass.flac")
    elif how == "the record is cut short":
        (track / RECORD).write_bytes((track / RECORD).read_bytes()[:-9])
    elif how == "killed while it was written":
        with room(track.parent) as partial:
            name = partial.name.replace(str(os.getpid()), str(ended_process()))
        track.rename(partial := track.with_name(name))
        (partial / RECORD).unlink()
        (partial / "piano.flac").write_bytes(b"fLaC")
    (out / MANIFEST).unlink()


@pytest.mark.parametrize(
    "how",
    [
        "a stem is gone",
        "a stem is cut short",
        "a stem was changed",
        "the record is cut short",
        "killed while it was written",
    ],
)
def test_what_was_stopped_or_damaged_is_made_again_alone(
    how: str, tree: Any, made: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    damage(out, how)
    found = states(run(tree[0], out))
    assert {name for name, state in found.items() if state == "made"} == {"train/Track00001"}
    assert contents(out) == contents(made[0])


@pytest.fixture
def one(tmp_path: Path) -> tuple[Path, Path, dict[str, Any]]:
    """A data set of one track without splits, an output folder, and the true sums."""
    pytest.importorskip("yaml")
    return tmp_path / "set", tmp_path / "out", small_track(tmp_path / "set" / "a", 5)


def test_other_options_and_newer_sources_make_a_track_again(one: Any) -> None:
    root, out, _ = one
    assert states(run(root, out)) == {"all/a": "made"}
    assert states(run(root, out, format="wav")) == {"all/a": "made"}
    stems = {f"{stem}.wav" for stem in slakh.STEMS}
    assert {p.name for p in (out / "all" / "a").iterdir()} == {RECORD, *stems}
    assert states(run(root, out, format="wav", sample_rate=16000)) == {"all/a": "made"}
    assert states(run(root, out, format="wav", sample_rate=16000)) == {"all/a": "kept"}
    source = root / "a" / "stems" / "S00.flac"
    later = (out / "all" / "a" / RECORD).stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))  # of the same content: the hash tells
    assert states(run(root, out, format="wav", sample_rate=16000)) == {"all/a": "kept"}
    soundfile.write(source, np.zeros(FRAMES), RATE, "PCM_16")
    os.utime(source, (1, 1))  # other content, and older than what was made of the former
    assert states(run(root, out, format="wav", sample_rate=16000)) == {"all/a": "made"}
    (root / "a" / "stems" / "S02.flac").unlink()
    assert states(run(root, out, format="wav", sample_rate=16000)) == {"all/a": "made"}
    assert {"of": "stems/S02", "what": "missing", "why": "program 25, guitar"} in records(out)[
        "all/a"
    ]["decisions"]


def test_a_track_that_is_killed_is_the_old_or_the_new_one(one: Any) -> None:
    """All of its stems and the record of them, at every moment."""
    root, out, _ = one
    seen = []

    def old() -> None:
        run(root, out, format="wav")
        assert leftovers(out) == []

    for _ in killed_at_every_moment(lambda: run(root, out, sample_rate=16000), out, old):
        record = load_record(out / "all" / "a")
        assert record is not None
        assert is_intact(record, out)
        stems = {Path(stem["path"]).name for stem in record["stems"].values()}
        assert {p.name for p in (out / "all" / "a").iterdir()} == {RECORD, *stems}
        seen.append(record["sample_rate"])
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {RATE, 16000}


def test_other_rates_are_resampled_as_the_package_does_it(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    steps = small_track(tmp_path / "set" / "a", 5, 44100)
    more = put(tmp_path / "set" / "a" / "stems" / "S01.flac", noise(9, 2 * FRAMES + 1), 44100)
    run(tmp_path / "set", tmp_path / "out")
    found = records(tmp_path / "out")["all/a"]
    assert found["frames"] == FRAMES + 1  # half of 6001, rounded up
    for stem, wave in (steps | {"drums": more}).items():
        whole = np.pad(wave, (0, 2 * FRAMES + 1 - len(wave))).astype(np.float32) / 2**15
        want = resample(torch.from_numpy(whole), 44100, RATE).double().numpy()
        got, _ = soundfile.read(tmp_path / "out" / found["stems"][stem]["path"], dtype="float64")
        # Half a step of 24 bits: the written subtype's rounding.
        assert np.abs(got - want).max() <= 2.0**-24
        assert found["stems"][stem]["subtype"] == "PCM_24"


@pytest.mark.parametrize("rate", [RATE, 44100, 48000])
def test_blocks_leave_no_seams(rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any size, read or made: sums are exact, and resampling differs by float32's rounding."""
    pytest.importorskip("yaml")
    small_track(root := tmp_path / "set" / "a", 5, rate)
    put(root / "stems" / "S01.flac", noise(9, FRAMES - 777), rate)
    run(tmp_path / "set", tmp_path / "whole", format="wav")
    monkeypatch.setattr(summing, "_BLOCK", 701)
    monkeypatch.setattr(sndfile, "_BLOCK", 499)
    run(tmp_path / "set", tmp_path / "blocks", format="wav")
    for stem in slakh.STEMS:
        a, b = (
            soundfile.read(tmp_path / out / "all" / "a" / f"{stem}.wav", dtype="float64")[0]
            for out in ("whole", "blocks")
        )
        assert len(a) == len(b)
        # Half a step of float32 at the peak of 1/4 may become a whole step of 24 bits.
        assert np.abs(a - b).max() <= (0 if rate == RATE else 2.0**-23)


def test_rates_and_channels_may_be_mixed(tmp_path: Path) -> None:
    """A constant survives resampling, but for the filter's ends: what is summed is at one time."""
    root, length = tmp_path / "set", 8000
    put(root / "a" / "x" / "high.wav", np.full(2 * length, 4096, np.int16), 2 * RATE)
    both = np.stack([np.full(length, 1024), np.full(length, 3072)], 1).astype(np.int16)
    put(root / "a" / "x" / "low.wav", both)
    mapping = planner(Mapping({"x": ["x/*"]}))
    prepare(find_tracks(root, (), ()), tmp_path / "out", mapping, Options())
    found = records(tmp_path / "out")["all/a"]
    assert found["decisions"] == [{"of": "x/low.wav", "what": "averaged", "why": "2 channels"}]
    got, _ = soundfile.read(tmp_path / "out" / found["stems"]["x"]["path"])
    assert len(got) == length
    # 1e-6: the filter is flat within 1e-4 dB; its ends are some hundred samples long.
    assert np.abs(got[1000:-1000] * 2**15 - (4096 + 2048)).max() < 4096 * 1.2e-5


@pytest.mark.parametrize(
    ("samples", "subtype"),
    [
        ([0.0, 0.0], "PCM_16"),
        ([-1.0, 1 - 2**-15], "PCM_16"),
        ([0.5, 1 - 2**-16], "PCM_24"),
        ([2**-16, 0.0], "PCM_24"),
        ([2**-30, 0.1], "PCM_24"),  # rounded
        ([-1.0, 1 - 2**-23], "PCM_24"),
        ([0.0, 1.0], "FLOAT"),
        ([-1.00001, 0.0], "FLOAT"),
    ],
)
def test_the_narrowest_subtype_that_does_not_clip(samples: list[float], subtype: str) -> None:
    assert narrowest_subtype(torch.tensor(samples, dtype=torch.float64)) == subtype


def test_splits_of_earlier_calls_stay_in_the_manifest(tree: Any, made: Any, tmp_path: Path) -> None:
    for split in ("test", "train", "omitted"):
        run(tree[0], tmp_path, split)
    assert list(records(tmp_path)) == ["omitted/Track00010", *records(made[0])]
    omitted = {name: data for name, data in contents(tmp_path).items() if "omitted" in name}
    assert len(omitted) == 5
    rest = {k: v for k, v in contents(tmp_path).items() if k not in {*omitted, MANIFEST}}
    assert rest == {k: v for k, v in contents(made[0]).items() if k != MANIFEST}


def test_files_of_others_are_not_replaced(one: Any) -> None:
    root, out, _ = one
    (out / "all" / "a").mkdir(parents=True)
    (mine := out / "all" / "a" / "bass.flac").write_text("mine")
    (outcome,) = run(root, out)
    assert f"{mine}: is no result of an earlier run" in outcome.error
    mine.unlink()
    assert states(run(root, out)) == {"all/a": "made"}
    (notes := out / "all" / "a" / "notes.txt").write_text("mine")
    assert states(run(root, out)) == {"all/a": "kept"}
    (outcome,) = run(root, out, format="wav")
    assert f"{notes}: is no result of an earlier run" in outcome.error
    assert notes.read_text() == "mine"


def test_a_single_sample_is_padded_and_said(one: Any) -> None:
    root, out, _ = one
    put(root / "a" / "stems" / "S01.flac", noise(9, FRAMES + 1))
    run(root, out)
    why = f"{FRAMES} of {FRAMES + 1} samples"
    assert records(out)["all/a"]["decisions"] == [
        {"of": f"stems/{name}.flac", "what": "padded", "why": why} for name in ("S00", "S02", "S03")
    ]


def test_a_track_that_was_damaged_since_leaves_the_manifest(one: Any) -> None:
    root, out, _ = one
    run(root, out)
    before = contents(out)
    (root / "a" / "stems" / "S00.flac").write_bytes(b"")
    assert states(run(root, out)) == {"all/a": "failed"}
    # What was made of the whole source stays on the disk.
    assert contents(out) == before | {MANIFEST: b""}


@pytest.mark.parametrize("out", [".", "train", "train/Track00001", "x/.."])
def test_the_output_may_not_lie_among_the_tracks(out: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    small_track(tmp_path / "train" / "Track00001", 1)
    (tmp_path / "x").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="lies among the tracks"):
        run(tmp_path, tmp_path / out)
    assert contents(tmp_path) == before
    small_track(tmp_path / "x" / "all" / "set" / "Track00001", 1)
    with pytest.raises(UserError, match="lies among the tracks"):
        run(tmp_path / "x" / "all" / "set", tmp_path / "x")
    assert states(run(tmp_path, tmp_path / "stems")) == {"train/Track00001": "made"}


def test_threads_are_as_before(one: Any) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(one[0], one[1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_tracks_are_found_by_split(tmp_path: Path) -> None:
    def names(*splits: str, known: tuple[str, ...] = slakh.SPLITS) -> list[str]:
        return [f"{t.split}/{t.name}" for t in find_tracks(tmp_path, splits, known, ("omitted",))]

    def refusal(*splits: str) -> str:
        with pytest.raises(UserError) as caught:
            names(*splits)
        return str(caught.value)

    assert "holds no folder of a track" in refusal()
    for name in ("b", "a", ".c"):
        (tmp_path / name).mkdir()
    assert names() == ["all/a", "all/b"]
    assert names("dev") == ["dev/a", "dev/b"]
    assert "has no split 'dev'" in refusal("dev", "test")
    assert "is no name of a folder" in refusal("../x")
    (tmp_path / "omitted" / "o").mkdir(parents=True)
    assert "has no split 'train'" in refusal()
    for split in ("train", "test"):
        (tmp_path / split / split).mkdir(parents=True)
    assert names() == ["test/test", "train/train"]
    assert names("omitted", "train") == ["omitted/o", "train/train"]
    assert "has no split 'tset'; did you mean test" in refusal("tset")
    with pytest.raises(UserError, match="none: is missing"):
        find_tracks(tmp_path / "none", (), ())


def test_a_manifest_is_read_by_split(made: Any, tmp_path: Path) -> None:
    found = read(made[0] / MANIFEST, "train")
    assert list(found) == ["Track00001", "Track00002"]
    assert found["Track00002"]["bass"] == made[0] / "train" / "Track00002" / "bass.wav"
    with pytest.raises(UserError, match="no track of split 'dev'; its splits: test, train"):
        read(made[0] / MANIFEST, "dev")
    line = (made[0] / MANIFEST).read_text().splitlines()[0]
    wrong = [
        *("{}", "[]", "{", "[" * 10**5, "\xff", line[:-2]),
        line.replace("test/Track00009/bass", "../../bass"),
        line.replace("test/Track00009/bass", "test/\\u0000/bass"),
        line.replace('"split": "test"', '"split": "../test"'),
        line.replace('"track": "Track00009"', '"track": 9'),
        line.replace('"stems": {', '"stems": [], "more": {'),
        line.replace('"sha256": "', '"sha256": 1, "more": "'),
    ]
    assert line not in wrong
    for text in wrong:
        (path := tmp_path / MANIFEST).write_text(f"{line}\n{text}\n")
        with pytest.raises(UserError, match="line 2 is damaged"):
            read(path, "test")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "none.jsonl", "train")
