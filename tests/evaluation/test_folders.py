import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.engine.processes import run_jobs
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation import folders as folders_module
from mgdm_audio.evaluation.bss_eval import bss_eval
from mgdm_audio.evaluation.folders import score
from mgdm_audio.evaluation.metric_registry import METRICS
from mgdm_audio.evaluation.metrics import sdr, si_sdr
from mgdm_audio.evaluation.score_table import to_csv, to_markdown, to_text
from mgdm_audio.evaluation.spectral import log_mel_l1

RATE = 1000
STEMS = ("bass", "drums", "piano")
ALL = tuple(METRICS)
Counts = dict[str, int]


def stem(track: int, k: int, seconds: float) -> np.ndarray:
    """float32 noise; the piano of track 1 is silent at first, the drums of track 2 always."""
    generator = np.random.default_rng([track, k])
    samples = 0.1 * generator.standard_normal(round(seconds * RATE)).astype(np.float32)
    if (track, k) == (1, 2):
        samples[: 4 * RATE] = 0
    return samples * np.float32((track, k) != (2, 1))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four tracks of three stems, 7.3 s long: the third window is short."""
    for track in range(4):
        truth = [stem(track, k, 7.3) for k in range(3)]
        for k, name in enumerate(STEMS):
            guess = truth[k] + 0.2 * truth[k - 1] + 0.1 * stem(track + 10, k, 7.3)
            for root, samples in (("true", truth[k]), ("guess", guess)):
                path = tmp_path / root / f"track{track}" / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, RATE, "FLOAT")
    return tmp_path / "true", tmp_path / "guess"


def load(folder: Path, track: str) -> np.ndarray:
    """[stem, time]"""
    paths = sorted((folder / track).iterdir())  # the order of STEMS
    return np.stack([soundfile.read(path)[0] for path in paths])


@pytest.fixture
def few(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    """Three tracks of bass and drums: museval takes long."""
    for folder in folders:
        shutil.rmtree(folder / "track3")
        for path in folder.glob("*/piano.wav"):
            path.unlink()
    return folders


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often each metric is computed."""
    found: Counts = {}

    def counting(name: str, compute: Callable[..., Any], *arguments: Any) -> Any:
        found[name] = found.get(name, 0) + 1
        return compute(*arguments)

    for name, metric in METRICS.items():
        compute = partial(counting, name, metric.compute)
        monkeypatch.setitem(METRICS, name, replace(metric, compute=compute))
    return found


def ratio(e: np.ndarray, s: np.ndarray) -> float:
    """SI-SDR of the evaluation protocol, in dB."""
    scaled = (np.sum(e * s) + 1e-8) / (np.sum(s**2) + 1e-8) * s
    return 10 * np.log10((np.sum(scaled**2) + 1e-8) / (np.sum((scaled - e) ** 2) + 1e-8))


def test_si_sdr_improvement_is_the_protocol_s(folders: tuple[Path, Path]) -> None:
    result = score(*folders)
    for track, record in result["tracks"].items():
        s, e = load(folders[0], track), load(folders[1], track)
        mixture, gains = s.sum(0), []
        for begin in (0, 2000, 4000):  # ceil((7300 - 2000) / 2000) = 3 windows, the last of 3.3 s
            part = slice(begin, begin + 4000)
            length = s[0, part].size
            if sum(np.linalg.norm(x[part]) / length >= 1.5e-5 for x in s) < 2:
                continue
            gains.append(
                [ratio(e[k, part], s[k, part]) - ratio(mixture[part], s[k, part]) for k in range(3)]
            )
        means = np.mean(gains, 0)
        assert record["windows"] == 3
        # Sums of float32 samples in float64, in another order: far below 1e-6 dB. Only the mixture
        # is a float32 sum in the package: 1e-7 of it, -140 dB, against errors of -15 dB and less,
        # and 1e-6 dB even where a silent stem's ratio is that of two numbers of 1e-8.
        found = [record["si_sdri"][name] for name in STEMS]
        assert found == pytest.approx(means, abs=1e-6)
        assert record["si_sdri"]["all"] == pytest.approx(np.mean(means), abs=1e-6)


def test_stems_of_any_format_are_scored(few: tuple[Path, Path]) -> None:
    """Not those of WAV and FLAC alone: the samples decide, whatever the suffix."""
    want = score(*few)
    for folder, suffix in zip(few, (".aiff", ".caf"), strict=True):
        for path in folder.glob("*/bass.wav"):
            samples, rate = soundfile.read(path)
            form = {".aiff": "AIFF", ".caf": "CAF"}[suffix]
            subtype = soundfile.info(path).subtype
            soundfile.write(path.with_suffix(suffix), samples, rate, subtype, format=form)
            path.unlink()
    assert score(*few) == want


def test_every_metric_is_the_function_of_its_name(few: tuple[Path, Path]) -> None:
    for folder in few:
        shutil.rmtree(folder / "track2")
    result = score(*few, metrics=ALL)
    s, e = (torch.from_numpy(load(folder, "track0")).float()[:, None] for folder in few)
    record = result["tracks"]["track0"]
    whole = {"si_sdr": si_sdr(e, s)[:, 0], "sdr": sdr(e, s)[:, 0], "mel": log_mel_l1(e, s, RATE)}
    for column, values in whole.items():
        expected = [*values.tolist(), values.mean().item()]
        # Sums in another order, in float64 (mel: in float32) and on any number of threads.
        assert list(record[column].values()) == pytest.approx(expected, abs=1e-5)
    for name, frames in bss_eval(e, s, RATE)[0].items():
        expected = [*np.median(frames, 1), np.median(frames, 1).mean()]
        found = list(record[f"bss_{name.lower()}"].values())
        assert found == pytest.approx(expected, abs=1e-5)
    columns = [c for m in METRICS.values() for c in m.columns]
    assert list(result["summaries"]) == [c for c in columns if c != "leak"]  # nothing rests
    assert record["sounding"] == record["si_sdri"]
    assert result["summary"]["si_sdri"] == result["summaries"]["si_sdri"]["value"]


def test_what_has_no_score_is_none_with_the_reason(few: tuple[Path, Path], tmp_path: Path) -> None:
    result = score(*few, metrics=["bss", "sdr", "mel"], museval=tmp_path / "museval")
    record = result["tracks"]["track2"]
    for column in ("bss_sdr", "bss_isr", "sdr"):
        assert record[column]["drums"] is None
        assert record[column]["all"] == record[column]["bass"]
    assert record["mel"]["drums"] > 0
    assert record["unscored"] == {
        "bss": {"drums": "silent reference"},
        "sdr": {"drums": "silent reference"},
    }
    # The means and medians are over the tracks that have one.
    for column, average in (("sdr", np.mean), ("bss_sdr", np.median)):
        for name, tracks in (("bass", (0, 1, 2)), ("drums", (0, 1))):
            own = [result["tracks"][f"track{t}"][column][name] for t in tracks]
            assert result["summaries"][column]["value"][name] == pytest.approx(average(own))
    assert "summary" not in result
    json.dumps(result, allow_nan=False)
    check_museval_files(tmp_path / "museval" / "test", result["tracks"])


def test_bss_says_why_even_where_museval_is_content() -> None:
    stems = torch.from_numpy(np.stack([stem(0, k, 2.0) for k in range(2)]))[:, None]
    turns = stems.clone()
    turns[0, :, :RATE], turns[1, :, RATE:] = 0, 0
    for estimates, references, why in (
        (turns, turns, "no second in which all stems sound"),
        # Infinite, since museval's three errors sum to estimate - reference = 0.
        (stems, stems, "no error at all"),
    ):
        entry = METRICS["bss"].compute(estimates, references, RATE, ["bass", "drums"])
        assert entry["bss_sdr"] == {"bass": None, "drums": None, "all": None}
        assert entry["unscored"] == {"bass": why, "drums": why}


def check_museval_files(folder: Path, tracks: dict[str, Any]) -> None:
    for track, record in tracks.items():
        store = json.loads((folder / f"{track}.json").read_text())
        assert [target["name"] for target in store["targets"]] == ["bass", "drums"]
        for target in store["targets"]:
            frames = target["frames"]
            assert [(f["time"], f["duration"]) for f in frames] == [(t, 1) for t in range(7)]
            values = np.array([f["metrics"]["SDR"] for f in frames])
            found = record["bss_sdr"][target["name"]]
            if found is None:
                assert np.isnan(values).all()
            else:
                assert np.nanmedian(values) == found


def test_a_second_run_computes_nothing(
    folders: tuple[Path, Path], tmp_path: Path, counts: Counts
) -> None:
    run = partial(score, *folders, cache=tmp_path / "cache")
    assert run(["mel", "sdr"]) == score(*folders, ["mel", "sdr"])
    counts.clear()
    # A metric more: only that is computed.
    first = run(["mel", "sdr", "si-sdr"])
    assert counts == {"si-sdr": 4}
    counts.clear()
    assert json.dumps(run(["mel", "sdr", "si-sdr"])) == json.dumps(first)
    assert not counts


def test_what_changed_is_computed_again(
    folders: tuple[Path, Path], tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = partial(score, *folders, ["mel", "sdr"], cache=tmp_path / "cache")
    before = run()
    counts.clear()
    path = folders[1] / "track3" / "bass.wav"
    soundfile.write(path, 0.9 * soundfile.read(path)[0], RATE, "FLOAT")
    after = run()
    assert counts == {"mel": 1, "sdr": 1}
    assert after["tracks"]["track3"] != before["tracks"]["track3"]
    assert after["tracks"]["track2"] == before["tracks"]["track2"]
    counts.clear()
    monkeypatch.setitem(METRICS, "sdr", replace(METRICS["sdr"], revision=99))
    assert run() == after
    assert counts == {"sdr": 4}
    counts.clear()
    for path in (tmp_path / "cache").iterdir():
        path.write_text(path.read_text()[:-1])  # cut short
    assert run() == after
    assert counts == {"mel": 4, "sdr": 4}


@pytest.mark.parametrize(
    "entry",
    [
        *("", "[", "[]", "3", "{}", "[" * 10**5, '{"sdr": NaN}', '{"sdr": 3}', '{"sdr": {}}'),
        '{"sdr": {"bass": "1", "drums": 1, "all": 1}}',
        '{"sdr": {"bass": 1, "all": 1}}',
        '{"sdr": {"bass": 1, "drums": 1, "all": 1e999}}',
        '{"sdr": {"bass": 1, "drums": 1, "all": 1}, "unscored": [1]}',
        '{"sdr": {"bass": 1, "drums": 1, "all": 1}, "unscored": {"bass": 1}}',
    ],
)
def test_an_entry_of_the_cache_that_is_none_is_computed_again(
    few: tuple[Path, Path], tmp_path: Path, counts: Counts, entry: str
) -> None:
    run = partial(score, *few, ["sdr"], cache=tmp_path / "cache")
    before = run()
    counts.clear()
    paths = list((tmp_path / "cache").iterdir())
    for path in paths:
        path.write_text(entry)
    assert run() == before
    assert counts == {"sdr": len(paths)}
    assert list((tmp_path / "cache").iterdir()) == paths


def test_a_stopped_run_continues(
    folders: tuple[Path, Path], tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["si-sdri", "sdr"]
    whole = score(*folders, names)
    run = partial(score, *folders, names, cache=tmp_path / "cache")
    counts.clear()
    with monkeypatch.context() as patch:

        def stop(*arguments: Any) -> Any:
            if counts.get("sdr", 0) == 2:
                raise KeyboardInterrupt
            return counted(*arguments)

        counted = METRICS["sdr"].compute
        patch.setitem(METRICS, "sdr", replace(METRICS["sdr"], compute=stop))
        with pytest.raises(KeyboardInterrupt):
            run()
    assert counts == {"si-sdri": 3, "sdr": 2}  # track 2 has lost its second metric
    resumed = run()
    assert counts == {"si-sdri": 4, "sdr": 4}
    assert json.dumps(resumed) == json.dumps(whole)


def test_two_processes_give_the_same_bytes(few: tuple[Path, Path], tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    one, two = (
        score(*few, ALL, nj=nj, cache=cache, on_progress=lambda *n: done.append(n))
        for nj, cache in ((1, None), (2, tmp_path / "cache"))
    )
    assert json.dumps(one) == json.dumps(two)
    assert done == 2 * [(1, 3), (2, 3), (3, 3)]
    assert len(list((tmp_path / "cache").iterdir())) == 3 * len(ALL)


def test_a_nan_names_its_file(folders: tuple[Path, Path]) -> None:
    soundfile.write(folders[1] / "track1" / "bass.wav", np.full(7300, np.nan), RATE, "FLOAT")
    why = score(*folders)["tracks"]["track1"]["failed"]
    assert "track1/bass.wav: sample 0 of channel 0 is nan" in why
    for path in folders[1].glob("*/bass.wav"):
        soundfile.write(path, np.full(7300, np.nan), RATE, "FLOAT")
    with pytest.raises(UserError, match=r"no track can be scored; .*sample 0 of channel 0"):
        score(*folders)


@pytest.mark.parametrize("nj", [1, 2])
def test_jobs_keep_their_order_and_raise(nj: int) -> None:
    jobs = {"b": partial(int, "2"), "a": partial(int, "1"), "c": partial(int, "x")}
    results = run_jobs(jobs, nj)
    assert [next(results), next(results)] == [("b", 2), ("a", 1)]
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)


def test_a_killed_process_is_told() -> None:
    with pytest.raises(UserError, match="killed, perhaps because memory ran out"):
        list(run_jobs({"a": partial(exec, "import os; os._exit(1)")}, 2))


def test_metrics_that_cannot_be_had(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match=r"metric 'sdri' is unknown; did you mean .*si-sdri"):
        score(*folders, ["sdr", "sdri"])
    with pytest.raises(UserError, match="no metrics are named; known: activity, bss, mel"):
        score(*folders, [])
    with pytest.raises(UserError, match="add it to the metrics"):
        score(*folders, ["sdr"], museval=folders[0] / "museval")


RESULT: dict[str, Any] = {
    "tracks": {
        "a": {"sdr": {"bass": 1.25, "drums": 3.0, "all": 2.125}},
        "b": {
            "sdr": {"bass": 2.25, "drums": None, "all": 2.25},
            "unscored": {"sdr": {"drums": "silent reference"}},
        },
        "c": {"sdr": {"bass": 4.0, "drums": 5.0, "all": 4.5}, "windows": 0, "skipped": "too short"},
    },
    "summaries": {
        "sdr": {
            "metric": "sdr",
            "title": "SDR, dB",
            "over_tracks": "mean",
            "value": {"bass": 2.5, "drums": 4.0, "all": 3.25},
            "n": 3,
            "interval_95": {"bass": [2.0, 3.0], "drums": None, "all": [3.0, 3.5]},
        }
    },
}


def test_tables_by_hand() -> None:
    assert to_text(RESULT).splitlines() == [
        "SDR, dB            bass     drums       all",
        "a                  1.25      3.00      2.12",
        "b                  2.25         -      2.25",
        "c                  4.00      5.00      4.50",
        "mean of 3          2.50      4.00      3.25",
        "95 % interval     ±0.50         -     ±0.25",
        "",
        "sdr has no score for b/drums: silent reference",
        "si-sdri has no score for c: too short",
    ]
    assert to_markdown(RESULT).splitlines()[:3] == [
        "| | bass | drums | all | tracks |",
        "|---|---:|---:|---:|---:|",
        "| SDR, dB, mean | 2.50 ± 0.50 | 4.00 | 3.25 ± 0.25 | 3 |",
    ]
    median = {**RESULT["summaries"]["sdr"], "over_tracks": "median"}
    assert to_markdown({"tracks": {}, "summaries": {"sdr": median}}).splitlines()[2] == (
        "| SDR, dB, median | 2.50 (2.00..3.00) | 4.00 | 3.25 (3.00..3.50) | 3 |"
    )
    assert to_csv(RESULT).splitlines() == [
        "metric,over,track,stem,value,low,high,note",
        "sdr,track,a,bass,1.25,,,",
        "sdr,track,a,drums,3.0,,,",
        "sdr,track,a,all,2.125,,,",
        "sdr,track,b,bass,2.25,,,",
        "sdr,track,b,drums,,,,silent reference",
        "sdr,track,b,all,2.25,,,",
        "sdr,track,c,bass,4.0,,,",
        "sdr,track,c,drums,5.0,,,",
        "sdr,track,c,all,4.5,,,",
        "sdr,mean,,bass,2.5,2.0,3.0,",
        "sdr,mean,,drums,4.0,,,",
        "sdr,mean,,all,3.25,3.0,3.5,",
    ]


def test_a_score_is_kept_under_what_was_read(
    few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes after it was hashed and before it is read gets no entry in the cache."""
    path = few[1] / "track1" / "bass.wav"
    original = folders_module.read

    def change(file: Path, **options: Any) -> Any:
        if file == path:
            soundfile.write(path, stem(9, 9, 7.3), RATE, "FLOAT")
        return original(file, **options)

    monkeypatch.setattr(folders_module, "read", change)
    result = score(*few, ["sdr"], cache=tmp_path / "cache")
    assert f"{path}: changed while it was read" in result["tracks"]["track1"]["failed"]
    assert len(list((tmp_path / "cache").iterdir())) == 2  # of the other tracks
