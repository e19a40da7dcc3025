import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from mgdm_audio.cli.main import main
from mgdm_audio.evaluation.folders import score
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.evaluation.metrics import si_sdr_improvement
from mgdm_audio.evaluation.score_table import to_csv, to_markdown, to_text

RATE, TIME = 2000, 12_000  # 6 s: two windows
STEMS = ("bass", "drums")


def noise(seed: int, *shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(path: Path, samples: Tensor, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T.numpy(), rate, "FLOAT" if path.suffix == ".wav" else "PCM_24")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three tracks of two stems, in stereo, and estimates of them with some noise."""
    reference, estimate = tmp_path / "reference", tmp_path / "estimate"
    for t in range(3):
        for k, stem in enumerate(STEMS):
            truth = noise(10 * t + k, 2, TIME)
            save(reference / f"track{t}" / f"{stem}.wav", truth)
            guess = truth + 0.1 * noise(100 + 10 * t + k, 2, TIME)
            save(estimate / f"track{t}" / f"{stem}.wav", guess)
    return reference, estimate


def run(folders: tuple[Path, Path], *more: str) -> Result:
    reference, estimate = folders
    arguments = ["--reference", str(reference), "--estimate", str(estimate), *more]
    return CliRunner().invoke(main, ["score", *arguments])


def scores(folders: tuple[Path, Path]) -> dict[str, Any]:
    out = folders[0].parent / "scores.json"
    result = run(folders, "--out", str(out))
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the JSON")

    return json.loads(out.read_text(), parse_constant=refuse)


def expected(folders: tuple[Path, Path], track: str) -> list[float]:
    reference, estimate = (
        torch.stack(
            [
                torch.from_numpy(soundfile.read(root / track / f"{stem}.wav", dtype="float32")[0].T)
                for stem in STEMS
            ]
        )
        for root in folders
    )
    return si_sdr_improvement(estimate, reference, RATE).mean(0).tolist()


def test_scores_are_means_over_windows_then_stems_then_tracks(folders: tuple[Path, Path]) -> None:
    result = scores(folders)
    values = []
    for track in ("track0", "track1", "track2"):
        bass, drums = expected(folders, track)
        values.append([bass, drums, (bass + drums) / 2])
        assert list(result["tracks"][track]["si_sdri"].items()) == [
            ("bass", pytest.approx(bass, abs=1e-9)),
            ("drums", pytest.approx(drums, abs=1e-9)),
            ("all", pytest.approx((bass + drums) / 2, abs=1e-9)),
        ]
        assert result["tracks"][track]["windows"] == 2
    mean, half = np.mean(values, 0), 1.96 * np.std(values, 0, ddof=1) / np.sqrt(3)
    summary = result["summary"]
    assert summary["n"] == 3
    assert list(summary["si_sdri"].values()) == pytest.approx(list(mean), abs=1e-9)
    for k, name in enumerate((*STEMS, "all")):
        low, high = summary["interval_95"][name]
        assert (low, high) == pytest.approx((mean[k] - half[k], mean[k] + half[k]), abs=1e-9)


def test_the_table_says_the_same(folders: tuple[Path, Path]) -> None:
    lines = run(folders).output.splitlines()
    assert lines[0].split() == ["SI-SDRi,", "dB", "bass", "drums", "all"]
    bass, drums = expected(folders, "track1")
    assert lines[2].split() == [
        "track1",
        f"{bass:.2f}",
        f"{drums:.2f}",
        f"{(bass + drums) / 2:.2f}",
    ]
    assert lines[4].startswith("mean of 3 ")
    assert lines[5].startswith("95 % interval ")
    assert len({len(line) for line in lines}) == 1  # the columns stand under each other


def test_mixtures_hidden_files_and_surplus_estimates_are_no_stems(
    folders: tuple[Path, Path],
) -> None:
    before = scores(folders)
    reference, estimate = folders
    save(reference / "track0" / "mixture.wav", noise(0, 2, TIME))
    (reference / "track0" / ".bass.wav").touch()
    (reference / ".cache").mkdir()
    (reference / "README.txt").touch()
    save(estimate / "track0" / "residual.wav", noise(0, 2, TIME))
    save(estimate / "another" / "bass.wav", noise(0, 2, TIME))
    assert scores(folders) == before


def test_flac_and_wav_may_be_mixed(folders: tuple[Path, Path]) -> None:
    before = scores(folders)["summary"]["si_sdri"]
    for path in folders[1].rglob("*.wav"):
        save(path.with_suffix(".flac"), torch.from_numpy(soundfile.read(path)[0].T))
        path.unlink()
    # 24 bits: an error of -150 dB below estimates with errors of -20 dB.
    assert scores(folders)["summary"]["si_sdri"] == pytest.approx(before, abs=1e-4)


def test_a_single_track_has_no_interval(folders: tuple[Path, Path]) -> None:
    for t in (1, 2):
        shutil.rmtree(folders[0] / f"track{t}")
    summary = scores(folders)["summary"]
    assert (summary["n"], summary["interval_95"]["all"]) == (1, None)


def test_perfect_and_silent_estimates_are_finite(folders: tuple[Path, Path]) -> None:
    reference, estimate = folders
    shutil.copy(reference / "track0" / "bass.wav", estimate / "track0" / "bass.wav")
    save(estimate / "track0" / "drums.wav", torch.zeros(2, TIME))
    assert scores(folders)["tracks"]["track0"]["si_sdri"]["bass"] > 60


def test_a_track_without_a_scorable_window_is_skipped_and_says_why(
    folders: tuple[Path, Path],
) -> None:
    save(folders[0] / "track1" / "drums.wav", torch.zeros(2, TIME))
    result = scores(folders)
    assert result["tracks"]["track1"] == {
        "windows": 0,
        "skipped": "no window has two active stems",
    }
    assert result["summary"]["n"] == 2
    assert "skipped: no window has two active stems" in run(folders).output


def spoil(kind: str, reference: Path, estimate: Path) -> None:
    bass = estimate / "track1" / "bass.wav"
    match kind:
        case "no reference":
            shutil.rmtree(reference)
        case "a file":
            shutil.rmtree(estimate)
            estimate.touch()
        case "empty":
            shutil.rmtree(reference)
            reference.mkdir()
        case "flat":
            shutil.rmtree(reference)
            save(reference / "bass.wav", noise(0, 2, TIME))
        case "track":
            shutil.rmtree(estimate / "track1")
        case "stem":
            bass.unlink()
        case "one stem":
            (reference / "track1" / "bass.wav").unlink()
        case "twice":
            save(bass.with_suffix(".flac"), noise(0, 2, TIME))
        case "length":
            save(bass, noise(0, 2, TIME - 1))
        case "rate":
            save(bass, noise(0, 2, TIME), 4000)
        case "channels":
            save(bass, noise(0, 1, TIME))
        case "nan":
            save(bass, torch.full((2, TIME), torch.nan))
        case "text":
            bass.write_text("no sound")
        case "short":
            for path in [*reference.rglob("*.wav"), *estimate.rglob("*.wav")]:
                save(path, noise(0, 2, 2 * RATE))
        case "silent":
            for path in reference.rglob("*.wav"):
                save(path, torch.zeros(2, TIME))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no reference", "reference: is missing"),
        ("a file", "estimate: is not a folder"),
        ("empty", "contains no <track>/<stem>.wav, .flac or the like"),
        ("flat", "contains no <track>/<stem>.wav, .flac or the like"),
        ("track", "estimate/track1: missing"),
        ("stem", "estimate/track1: has no stem 'bass'"),
        ("one stem", "reference/track1: has one stem"),
        ("twice", "as wav and as flac"),
        ("short", "no track can be scored; track0: 2.00 s long"),
        ("silent", "no track can be scored; track0: no window has two active stems"),
    ],
)
def test_bad_input_is_one_clear_line(folders: tuple[Path, Path], kind: str, says: str) -> None:
    spoil(kind, *folders)
    out = folders[0].parent / "scores.json"
    result = run(folders, "--out", str(out))
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("length", "estimate/track1/bass.wav: 11999 samples"),
        ("rate", "estimate/track1/bass.wav: 4000 Hz"),
        ("channels", "estimate/track1/bass.wav: 1 channels"),
        ("nan", "sample 0 of channel 0 is nan"),
        ("text", "check that it is a sound file"),
    ],
)
def test_a_track_that_cannot_be_scored_stops_no_other(
    folders: tuple[Path, Path], kind: str, says: str
) -> None:
    without = score(*folders)["tracks"]
    spoil(kind, *folders)
    out = folders[0].parent / "scores.json"
    result = run(folders, "--out", str(out))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line
    found = json.loads(out.read_text())
    assert found["tracks"].pop("track1") == {"failed": line.removeprefix("error: ")}
    del without["track1"]
    assert found["tracks"] == without
    assert found["summary"]["n"] == len(without)


def test_an_unwritable_output(folders: tuple[Path, Path]) -> None:
    result = run(folders, "--out", str(folders[0] / "none" / "scores.json"))
    assert result.exit_code == 1
    assert "make it first" in result.stderr


def test_all_metrics_are_in_the_help() -> None:
    text = CliRunner().invoke(main, ["score", "--help"]).output
    for name in METRICS:
        assert f"\n    {name} " in text


def test_the_suffix_of_an_output_is_its_form(folders: tuple[Path, Path], tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("scores.json", "scores.csv", "scores.md")]
    arguments = [word for out in outs for word in ("-o", str(out))]
    result = run(folders, "--metrics", "si-sdri, sdr,mel", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(outs[0].read_text())
    assert list(found["summaries"]) == ["si_sdri", "sdr", "mel"]
    assert outs[1].read_text() == to_csv(found)
    assert outs[2].read_text() == to_markdown(found)
    assert result.output.startswith(to_text(found))
    # The cache is beside them, and gives the same bytes.
    before = [out.read_bytes() for out in outs]
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / ".scores").iterdir()}
    assert len(stored) == 9
    assert run(folders, "--metrics", "si-sdri,sdr,mel", *arguments).output == result.output
    assert [out.read_bytes() for out in outs] == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".scores").iterdir()} == stored


def test_without_an_output_nothing_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(folders).exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert run(folders, "--cache", str(tmp_path / "cache")).exit_code == 0
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--metrics", "si_sdr"], "metric 'si_sdr' is unknown; did you mean si-sdr"),
        (
            ["--metrics", ","],
            "no metrics are named; known: activity, bss, mel, mr-stft, sdr, si-sdr, si-sdri",
        ),
        (["--museval", "frames"], "frames: museval's files contain the metric bss; add it"),
        (["--cache", "/dev/null"], "/dev/null: cannot be written"),
    ],
)
def test_options_that_do_not_fit(folders: tuple[Path, Path], options: list[str], says: str) -> None:
    result = run(folders, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_both_folders_must_be_named() -> None:
    assert CliRunner().invoke(main, ["score", "--estimate", "x"]).exit_code == 2


def test_draws_are_scored_one_by_one_and_told_from_their_mean(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """The score of a track's draws is the mean of their scores, not that of their mean."""
    reference, estimate = folders
    assert "scored" not in run(folders).output  # nothing records how these were made
    alone = []
    for number in range(2):
        copy = tmp_path / f"draw {number}"
        for file in sorted(estimate.glob("track*/*.wav")):
            samples, _ = soundfile.read(file, dtype="float32")
            one = samples + 0.1 * noise(50 + number, 2, TIME).T.numpy()
            for folder in (copy / file.parent.name, file.parent / "samples" / str(number)):
                folder.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / file.name, one, RATE, subtype="FLOAT")
        alone.append(scores((reference, copy)))
    for track in ("track0", "track1", "track2"):
        (estimate / track / "separation.json").write_text('{"draws": 2}')
    found = run(folders, "--draws", "--metrics", "si-sdri,si-sdr", "--out", f"{tmp_path}/d.json")
    assert found.exit_code == 0, found.output
    assert "scored: each of 2 draws by itself\n" in found.output
    drawn = json.loads((tmp_path / "d.json").read_text())
    for track, entry in drawn["tracks"].items():
        for stem, value in entry["si_sdri"].items():
            want = sum(each["tracks"][track]["si_sdri"][stem] for each in alone) / 2
            # The same floats in the same order.
            assert value == want
    assert "scored: the mean of 2 draws\n" in run(folders).output
    at_once = {"draws": 1, "options": {"num_steps": 1, "amortised": True}}
    for record, said in ((at_once, "the mean by one call"), ({"draws": 1}, "one draw")):
        for track in ("track0", "track1", "track2"):
            (estimate / track / "separation.json").write_text(json.dumps(record))
        assert f"scored: {said}\n" in run(folders).output
    line = run(folders, "--draws", "--museval", str(tmp_path / "m"), "--metrics", "bss").output
    assert "museval's files are of one estimate a track" in line
    shutil.rmtree(estimate / "track0" / "samples")
    line = run(folders, "--draws").output
    assert "track0/samples: has no draws; separate with --keep-samples" in line
