"""A benchmark: its numbers are the scorer's, it goes on where it stopped, and failures stay put."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.io import read, write
from mgdm_audio.digest import hash_file, hash_json
from mgdm_audio.engine.memory import CLEAR_REFS, PeakMemory
from mgdm_audio.engine.sharding import Shard
from mgdm_audio.errors import RefusedError, UserError
from mgdm_audio.evaluation.benchmark import bench as benchmark
from mgdm_audio.evaluation.benchmark.baselines import baselines
from mgdm_audio.evaluation.benchmark.bench import Bench
from mgdm_audio.evaluation.benchmark.measuring import Measuring, load_stems
from mgdm_audio.evaluation.benchmark.suite import (
    Suite,
    System,
    TrackSet,
    load_suite,
    with_references,
)
from mgdm_audio.evaluation.benchmark.table import lines_of, to_csv, to_markdown
from mgdm_audio.evaluation.folders import score
from mgdm_audio.evaluation.spectral import multi_resolution_stft
from mgdm_audio.samplers import MGDM, WienerGuidance
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.separator import Separator
from tests.killing import killed_at_every_moment
from tests.toys import STEMS, song

RATE = 22050
QUICK = ("num_steps=2", "draws=1")
WIENER = System("quick", "wiener", QUICK)
SMALL_MGDM = System("mgdm", "", ("num_steps=4", "gibbs_steps=1", "denoise_steps=2", "vi_steps=1"))


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks of four stems, 2.5 s: one window each."""
    root = tmp_path_factory.mktemp("stems")
    for number in (7, 12):
        for stem, wave in zip(STEMS, song(number, 4, 5 * RATE // 2, RATE), strict=True):
            (root / f"Track{number:05d}").mkdir(exist_ok=True)
            write(root / f"Track{number:05d}" / f"{stem}.wav", wave[None], RATE)
    return root


Make = Callable[..., Bench]


@pytest.fixture
def make(stems: Path, tiny_prior: Path, tmp_path: Path) -> Make:
    def build(*systems: System, reference: Path = stems, **changes: Any) -> Bench:
        sets = changes.pop("sets", (TrackSet("test", str(reference)),))
        shard = changes.pop("shard", None)
        suite = Suite(sets, systems or (WIENER,), str(tiny_prior), device="cpu", **changes)
        return Bench(suite, tmp_path / "out", shard)

    return build


def computed(bench: Bench) -> list[str]:
    rows: list[str] = []
    bench.run(lambda row, record: rows.append(row.name))
    return rows


def row(system: str, track: int = 7) -> str:
    return f"test/{system}/Track{track:05d}"


def test_the_table_has_the_numbers_of_the_scorer(make: Make, stems: Path, tmp_path: Path) -> None:
    bench = make(System("mixture"), WIENER)
    lines = bench.run()
    for track in ("Track00007", "Track00012"):
        files = {stem: stems / track / f"{stem}.wav" for stem in STEMS}
        mixture = sum(read(path).samples.double() for path in files.values())
        assert isinstance(mixture, Tensor)
        separator = Separator(bench.loaded, bench.presets["quick"], device="cpu")
        parts = separator.separate(mixture.float(), RATE, seed=int(track[5:]))
        for stem, samples in parts.items():
            (tmp_path / "estimates" / track).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "estimates" / track / f"{stem}.wav", samples, RATE, "FLOAT")
    summary = score(stems, tmp_path / "estimates")["summary"]
    by_name = {line["system"]: line for line in lines}
    assert by_name["quick"]["si_sdri"] == pytest.approx(summary["si_sdri"], abs=1e-9)
    for stem, interval in summary["interval_95"].items():
        assert by_name["quick"]["interval_95"][stem] == pytest.approx(interval, abs=1e-9)
    # The mixture itself, but for its eps against silence.
    nothing = dict.fromkeys([*STEMS, "all"], 0.0)
    assert by_name["mixture"]["si_sdri"] == pytest.approx(nothing, abs=1e-6)
    assert json.loads((tmp_path / "out/table.json").read_text())["lines"] == lines
    assert (tmp_path / "out/table.csv").read_text() == to_csv(lines)
    assert (tmp_path / "out/table.md").read_text().startswith(to_markdown(lines))


def test_the_table_has_other_metrics_where_they_are_asked_for(make: Make, stems: Path) -> None:
    bench = make(System("oracle-mask"), metrics=("mr-stft",))
    (line,) = bench.run()
    columns = line["scores"]["mr_stft"]["value"]
    truth, _ = load_stems({stem: stems / "Track00007" / f"{stem}.wav" for stem in STEMS})
    other, _ = load_stems({stem: stems / "Track00012" / f"{stem}.wav" for stem in STEMS})
    oracle = baselines(bench.loaded)["oracle-mask"]
    want = torch.zeros(len(STEMS), dtype=torch.float64)
    for sound in (truth, other):
        estimates = oracle(sound.double().sum(0).float(), sound, list(STEMS))
        want += multi_resolution_stft(estimates, sound) / 2
    # The same arithmetic: means of two.
    assert [columns[stem] for stem in STEMS] == pytest.approx(want.tolist(), rel=1e-12)
    head, _, cells, *_ = to_markdown([line]).splitlines()
    assert head.split("|")[7].strip() == "multi-resolution STFT"
    assert cells.split("|")[7].strip() == f"{columns['all']:.2f}"
    titles, values = (text.split(",") for text in to_csv([line]).splitlines()[:2])
    assert float(values[titles.index("mr_stft_all")]) == columns["all"]
    assert computed(make(System("oracle-mask"), metrics=("mr-stft",))) == []
    assert len(computed(make(System("oracle-mask")))) == 2
    with pytest.raises(UserError, match="metric 'mr-sftf' is unknown; did you mean mr-stft"):
        make(metrics=("mr-sftf",))


def test_a_killed_run_leaves_tables_of_one_state_or_none(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """table.json is the first to go and the last to come: where it is, the others belong to it."""
    monkeypatch.setattr(benchmark, "cost_plot", lambda *given: "a plot")
    bench, out, states = make(), tmp_path / "out", []
    row = {"set": "test", "system": "quick", "track": "a", "status": "failed"}

    def put(reason: str, plot: bool) -> None:
        bench.why_no_plot = "" if plot else "no matplotlib"
        bench._write([row | {"reason": reason}])

    def found() -> dict[str, str]:
        return {path.name: path.read_text() for path in out.glob("[tc]*")}

    for state in (("old", True), ("new", False)):
        put(*state)
        states.append(found())
    assert [sorted(state) for state in states] == [
        ["cost.svg", "table.csv", "table.json", "table.md"],
        ["table.csv", "table.json", "table.md"],
    ]
    seen = set()
    for _ in killed_at_every_moment(lambda: put("new", False), out, lambda: put("old", True)):
        there = found()
        seen.add(states.index(there) if "table.json" in there else None)
    assert seen == {0, None, 1}


def test_shares_of_the_rows_make_the_table_of_one_process(make: Make, tmp_path: Path) -> None:
    done = [computed(make(WIENER, System("mixture"), shard=Shard(i, 3))) for i in range(3)]
    assert sorted(name for rows in done for name in rows) == sorted(
        row(system, track) for system in ("quick", "mixture") for track in (7, 12)
    )
    table = (tmp_path / "out" / "table.json").read_bytes()
    assert computed(make(WIENER, System("mixture"))) == []
    assert (tmp_path / "out" / "table.json").read_bytes() == table


def test_costs_are_what_the_sampler_asks_for(make: Make, tmp_path: Path) -> None:
    lines = make(System("oracle-mask"), replace(WIENER, draws=3), SMALL_MGDM).run()
    oracle, wiener, mgdm = lines
    assert oracle["calls_per_segment"] == {"forward": None, "gradient": None, "backward": None}
    assert oracle["share_outside_denoiser"] is None
    assert wiener["calls_per_segment"] == {"forward": 2 * 3, "gradient": 0, "backward": 0}
    # At each of three levels one gradient step and, for one step of DDIM, D(x_s); D(x_T) before.
    assert mgdm["calls_per_segment"] == {"forward": 4, "gradient": 3, "backward": 3}
    for line in (wiener, mgdm):
        assert 0 < line["share_outside_denoiser"] < 1
        assert line["seconds_per_second"] > 0
    record = json.loads((tmp_path / f"out/rows/{row('mgdm')}.json").read_text())
    assert 0 < record["denoiser_seconds"] < record["seconds"]
    assert record["settings"]["seed"] == 7
    assert record["settings"]["options"]["gibbs_steps"] == 1


def test_what_is_finished_is_not_computed_again(make: Make, tmp_path: Path) -> None:
    first = make()
    assert computed(first) == [row("quick"), row("quick", 12)]
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/rows").rglob("*.json")}
    assert computed(make()) == []
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out/rows").rglob("*.json")} == kept
    assert make().run() == first.run()
    (tmp_path / f"out/rows/{row('quick')}.json").write_text('{"key": ')  # as a full disk leaves it
    assert computed(make()) == [row("quick")]
    (tmp_path / f"out/rows/{row('quick', 12)}.json").unlink()
    assert computed(make(System("mixture"), WIENER)) == [
        row("mixture"),
        row("mixture", 12),
        row("quick", 12),
    ]


@pytest.mark.parametrize("harm", [{"si_sdri": 3}, {"si_sdri": {"all": "x"}}, {"seconds": "x"}])
def test_a_record_that_no_table_can_be_made_of_is_computed_again(
    make: Make, tmp_path: Path, harm: dict[str, Any]
) -> None:
    """Its key may be right all the same."""
    make().run()
    path = sorted((tmp_path / "out" / "rows").rglob("*.json"))[0]
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | harm))
    assert len(make().finished()) == 1
    make().run()
    assert json.loads(path.read_text())["si_sdri"] == record["si_sdri"]
    path.write_text("[" * 10**5)
    assert len(make().finished()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"systems": (replace(WIENER, overrides=("num_steps=1", "draws=1")),)},
        {"systems": (replace(WIENER, draws=2),)},
        {"seed": 1},
        {"precision": "bfloat16"},
        {"level": "none"},
        {"seconds": 2.2},
    ],
    ids=str,
)
def test_what_changed_is_computed_again(make: Make, stems: Path, change: dict[str, Any]) -> None:
    computed(make(precision="float32"))
    systems = change.pop("systems", (WIENER,))
    if "seconds" in change:
        change["sets"] = (TrackSet("test", str(stems), change.pop("seconds")),)
    again = make(*systems, **{"precision": "float32"} | change)
    assert computed(again) == [row("quick"), row("quick", 12)]
    assert computed(again) == []


def test_another_input_or_version_or_prior_is_computed_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (track := tmp_path / "mine/Track00007").mkdir(parents=True)
    for stem, wave in zip(STEMS, song(1, 4, 5 * RATE // 2, RATE), strict=True):
        write(track / f"{stem}.wav", wave[None], RATE)
    assert computed(make(reference=tmp_path / "mine")) == [row("quick")]
    write(track / "bass.wav", song(2, 1, 5 * RATE // 2, RATE), RATE)
    assert computed(make(reference=tmp_path / "mine")) == [row("quick")]
    monkeypatch.setattr("mgdm_audio.evaluation.benchmark.bench.__version__", "0.0.0")
    assert computed(make(reference=tmp_path / "mine")) == [row("quick")]
    bench = make(reference=tmp_path / "mine")
    before = bench.settings(bench.rows[0])
    bench.loaded = replace(bench.loaded, sha256="0" * 64)
    assert computed(Bench(bench.suite, bench.output)) == []
    monkeypatch.setattr("mgdm_audio.evaluation.benchmark.bench.load_prior", lambda *_: bench.loaded)
    other = Bench(bench.suite, bench.output)
    assert other.settings(other.rows[0]) == before | {"prior_sha256": "0" * 64}
    assert computed(other) == [row("quick")]


def bad(answer: float | Exception) -> Callable[..., Tensor]:
    def sample(self: MGDM, prior: Any, likelihood: Any, **rest: Any) -> Tensor:
        if isinstance(answer, Exception):
            raise answer
        return torch.full((len(likelihood.y), *prior.event_shape), answer)

    return sample


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            RuntimeError("not\nthat much | memory"),
            "internal error (RuntimeError: not that much | mem",
        ),
        (
            MemoryError(),
            "sampler mgdm: out of memory on cpu; free some, or choose another device or sampler",
        ),
        (float("nan"), "sampler mgdm diverged; go back to its preset's options"),
    ],
    ids=str,
)
def test_a_row_that_fails_is_recorded_and_stops_no_other(
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: float | Exception,
    reason: str,
) -> None:
    monkeypatch.setattr(MGDM, "sample", bad(answer))
    bench = make(SMALL_MGDM, WIENER)
    mgdm, wiener = bench.run()
    ((found, tracks),) = mgdm["failures"].items()
    assert (found.startswith(reason), tracks) == (True, ["Track00007", "Track00012"])
    reason = found
    assert (mgdm["failed"], mgdm["scored"], mgdm["si_sdri"]) == (2, 0, {})
    assert (wiener["failed"], wiener["scored"]) == (0, 2)
    assert json.loads((tmp_path / f"out/rows/{row('mgdm')}.json").read_text())["reason"] == reason
    table = (tmp_path / "out/table.md").read_text()
    assert "0, 2 failed" in table
    assert f"mgdm failed on Track00007, Track00012: {reason.replace('|', '/')}" in table
    assert reason in (tmp_path / "out/table.csv").read_text()
    monkeypatch.undo()  # once the cause is gone
    assert computed(make(SMALL_MGDM, WIENER)) == [row("mgdm"), row("mgdm", 12)]


def put(track: Path, **stems: Tensor) -> None:
    track.mkdir(parents=True)
    for stem, wave in stems.items():
        write(track / f"{stem}.wav", wave, RATE)


def refusal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line of a bench that computes nothing and writes nothing."""

    def measure(*arguments: Any) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr(Measuring, "measure", measure)
    with pytest.raises(RefusedError) as error:
        bench.run()
    assert not bench.output.exists()
    assert (error.value.exit_code, "\n" in str(error.value)) == (2, False)
    return str(error.value)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("one", "bad: has one stem; separation needs two or more"),
        ("foreign", "vocals.wav: the prior's stems are bass, drums, guitar, piano"),
        ("ragged", "drums.wav: differs from"),
        ("broken", "bad/bass.wav: "),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_computed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    """Also where it comes last: hours of other rows would have been computed before."""
    bass, drums = song(1, 2, 5 * RATE // 2, RATE)[:, None]
    put(tmp_path / "mine" / "a good", bass=bass, drums=drums)
    stems = {
        "one": {"bass": bass},
        "foreign": {"bass": bass, "vocals": drums},
        "ragged": {"bass": bass, "drums": drums[:, :-1]},
        "broken": {"bass": bass, "drums": drums},
    }[fault]
    put(tmp_path / "mine" / "bad", **stems)
    if fault == "broken":
        (tmp_path / "mine/bad/bass.wav").write_bytes(b"RIFF")
    line = refusal(make(reference=tmp_path / "mine"), monkeypatch)
    assert line.startswith("set 'test': ")
    assert says in line


def test_a_set_without_a_window_is_refused_and_a_track_without_one_is_skipped(
    make: Make, tmp_path: Path, stems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bass, drums = song(1, 2, 5 * RATE // 2, RATE)[:, None]
    put(tmp_path / "mine" / "silent", bass=bass, drums=0 * drums)
    put(tmp_path / "mine" / "z good", bass=bass, drums=drums)
    bench = make(reference=tmp_path / "mine")
    assert bench.unscored() == {"test": ["guitar", "piano"]}
    (line,) = bench.run()
    assert (line["scored"], line["skipped"], line["failed"]) == (1, 1, 0)
    assert line["si_sdri"].keys() == {"bass", "drums", "all"}
    shutil.rmtree(tmp_path / "mine/z good")
    shutil.rmtree(tmp_path / "out")
    line = refusal(make(reference=tmp_path / "mine"), monkeypatch)
    assert "(silent: no window has two active stems); give longer" in line
    # A window begins every 2 s as long as more than 2 s are left.
    line = refusal(make(sets=(TrackSet("short", str(stems), seconds=2.0),)), monkeypatch)
    assert line.startswith("set 'short': no track can be scored (Track00007: 2.00 s long, and a ")


def test_a_share_of_silent_tracks_is_no_set_without_a_window(make: Make, tmp_path: Path) -> None:
    bass, drums = song(1, 2, 5 * RATE // 2, RATE)[:, None]
    put(tmp_path / "mine" / "a silent", bass=bass, drums=0 * drums)
    put(tmp_path / "mine" / "z good", bass=bass, drums=drums)
    bench = make(reference=tmp_path / "mine", shard=Shard(0, 2))
    assert [row.track for row in bench.mine] == ["a silent"]
    bench.require_scorable()


def test_an_interrupt_leaves_the_table_so_far_and_is_no_failure(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = WienerGuidance.sample

    def sample(self: WienerGuidance, *arguments: Any, **rest: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **rest)

    monkeypatch.setattr(WienerGuidance, "sample", sample)
    with pytest.raises(KeyboardInterrupt):
        make().run()
    assert json.loads((tmp_path / "out/table.json").read_text())["lines"][0]["tracks"] == 1
    assert [p.name for p in (tmp_path / "out/rows").rglob("*.*")] == ["Track00007.json"]
    assert computed(make()) == [row("quick", 12)]


def test_progress_counts_rows(make: Make) -> None:
    seen: list[tuple[str, float]] = []
    computed(make(System("mixture")))
    make(System("mixture"), WIENER).run(on_progress=lambda row, done: seen.append((row.name, done)))
    values = [done for _, done in seen]
    assert values == sorted(values)
    assert values[0] == 2  # what was there before
    assert values[-1] == 4
    assert {name for name, _ in seen} == {row("quick"), row("quick", 12)}


def test_an_excerpt_is_the_middle_or_where_it_is_asked_for(tmp_path: Path) -> None:
    wave = song(1, 1, 1000, 100)
    write(tmp_path / "a.wav", wave, 100, "FLOAT")
    files = {"a": tmp_path / "a.wav"}
    for seconds, start, want in (
        (None, None, wave),
        (4.0, None, wave[:, 300:700]),
        (4.0, 1.5, wave[:, 150:550]),
        (4.0, 8.0, wave[:, 800:]),
        (20.0, None, wave),
    ):
        stems, rate = load_stems(files, seconds, start)
        assert rate == 100
        assert torch.equal(stems[0], want)
    assert torch.equal(load_stems(files, 4.0, position=0.25)[0][0], wave[:, 150:550])
    with pytest.raises(UserError, match=r"a\.wav: ends at 10 s, before start = 10"):
        load_stems(files, 1.0, 10.0)


def test_excerpts_of_a_track_are_rows_of_their_own(make: Make, stems: Path) -> None:
    bench = make(System("mixture"), sets=(TrackSet("test", str(stems), 2.1, None, 2, 1),))
    assert [(row.track, row.position) for row in bench.rows] == [
        ("Track00007-0", 0.25),
        ("Track00007-1", 0.75),
    ]
    keys = [bench.settings(row) for row in bench.rows]
    assert keys[0] != keys[1]
    assert bench.run()[0]["scored"] == 2


def test_lines_add_up_costs_over_tracks() -> None:
    def record(track: str, **values: Any) -> dict[str, Any]:
        calls = {"forward": 10, "gradient": 4, "backward": 5}
        base = {"set": "s", "system": "x", "track": track, "status": "scored", "calls": calls}
        return base | {"settings": {"draws": 3, "options": {}}} | values

    a = record("a", si_sdri={"bass": 1.0, "all": 1.0}, seconds=6.0, audio_seconds=2.0, segments=1,
               denoiser_seconds=3.0, peak_memory_bytes=5)  # fmt: skip
    b = record("b", si_sdri={"bass": 3.0, "all": 3.0}, seconds=4.0, audio_seconds=8.0, segments=3,
               denoiser_seconds=4.5, peak_memory_bytes=None)  # fmt: skip
    line = lines_of([a, b], {"x": "A row, Table 1"})[0]
    assert line["seconds_per_second"] == 1.0
    assert line["share_outside_denoiser"] == 0.25
    assert line["calls_per_segment"] == {"forward": 5, "gradient": 2, "backward": 2.5}
    assert line["peak_memory_bytes"] == 5
    assert line["si_sdri"] == {"bass": 2.0, "all": 2.0}
    low, high = line["interval_95"]["all"]
    assert (high - low) / 2 == pytest.approx(1.96)  # deviation sqrt 2 over sqrt 2 tracks
    costs = "2 | mean of 3 | 2 / 5 | 1 | 25 % | 0 MB | A row, Table 1 |"
    assert f"| x | 2.00 ± 1.96 | 2.00 ± 1.96 | {costs}" in to_markdown([line])
    assert "| one draw |" in to_markdown([line | {"draws": 1}])
    at_once = line | {"draws": 1, "options": {"num_steps": 1, "amortised": True}}
    assert "| mean by one call |" in to_markdown([at_once])
    assert to_csv([line]).splitlines()[1].endswith(',5,"A row, Table 1",')
    assert lines_of([a, b], {})[0]["published"] == "none"


def test_a_changed_system_stands_for_no_row_but_the_one_it_names(make: Make) -> None:
    row = "MGDM, R = 2, Fig. 3"
    bench = make(
        System("mgdm"),
        System("mgdm-6", "mgdm", ("gibbs_steps=6",), draws=1),
        System("mgdm-2", "mgdm", ("gibbs_steps=2",)),
        System("mgdm-r2", "mgdm", ("gibbs_steps=2", f"published={row}")),
        System("two draws", "mgdm", draws=2),
    )
    whole = "MGDM, R = 6, Tables 3 and 9"
    found = [preset.published for preset in bench.presets.values()]
    assert found == [whole, whole, "none", row, "none"]
    assert bench.presets["two draws"].draws == 2


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="no Linux")
def test_the_peak_is_of_what_lies_between() -> None:
    cpu = torch.device("cpu")
    size = 200_000_000
    held = torch.ones(size // 4)
    del held
    before = PeakMemory(cpu).read()
    if before is None:
        pytest.skip("the kernel resets no peak here")
    peak = PeakMemory(cpu)
    held = torch.ones(size // 4)
    del held
    after = peak.read()
    assert after is not None
    assert 0.9 * size < after - before < 1.5 * size  # half as much again for whatever else runs


SUITE = """
prior = "mini-slakh-v2"
[[sets]]
name = "test"
reference = "my stems"
seconds = 4
[[systems]]
name = "mixture"
[[systems]]
name = "mine"
preset = "mine.toml"
overrides = ["gibbs_steps=2"]
"""


def test_the_suite_of_the_recipe_names_presets_that_exist() -> None:
    suite = load_suite(Path(__file__).parents[3] / "egs/mini_slakh/bench/conf/samplers.toml")
    presets = [load_preset(s.source, s.overrides) for s in suite.systems if not s.is_reference]
    assert {"mgdm", "default", "dps"} <= {preset.name for preset in presets}


def test_paths_of_a_suite_are_relative_to_it(tmp_path: Path) -> None:
    (path := tmp_path / "suite.toml").write_text(SUITE)
    suite = load_suite(path)
    assert suite.sets == (TrackSet("test", str(tmp_path / "my stems"), 4.0),)
    mine = System("mine", str(tmp_path / "mine.toml"), ("gibbs_steps=2",))
    assert suite.systems == (System("mixture"), mine)
    assert suite.prior == "mini-slakh-v2"
    assert with_references(suite, {"test": "b"}).sets[0].reference == "b"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seconds = 4", "second = 4", "unknown key 'second'; did you mean seconds?"),
        ("seconds = 4", "seconds = 0", "set 'test': seconds = 0.0: give more than 0"),
        ("seconds = 4", "start = 4", "set 'test': start must be >= 0 and needs seconds"),
        ("seconds = 4", "per_track = 2", "set 'test': per_track must be >= 1 and needs seconds"),
        ("seconds = 4", "tracks = 0", "set 'test': tracks = 0: give at least 1"),
        ("seconds = 4", 'seconds = "4"', "seconds: '4' is not a number"),
        ('name = "mixture"', 'name = "mine"', "two systems are named 'mine'; rename one"),
        ('name = "mixture"', 'name = "../x"', "name '../x': use letters"),
        ('name = "mixture"', 'name = "mixture"\ndraws = 2', "mixture has no options; remove them"),
        ("overrides = [", "draws = 0\noverrides = [", "system 'mine': draws = 0: give at least 1"),
        ("[[sets]]", "batch_size = 0\n[[sets]]", "batch_size = 0: give at least 1"),
        ("[[sets]]", "[[set]]", "unknown key 'set'; did you mean sets or seed?"),
        ("[[systems]]", "[[systems", "not TOML"),
    ],
)
def test_a_bad_suite_is_one_line_with_its_remedy(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    (path := tmp_path / "suite.toml").write_text(SUITE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        load_suite(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_suite_names_what_is_missing(tmp_path: Path) -> None:
    (path := tmp_path / "suite.toml").write_text("sets = []\nsystems = []\n")
    with pytest.raises(UserError, match=r"sets are missing; give at least one \[\[sets\]\]"):
        load_suite(path)


@pytest.mark.parametrize(
    ("systems", "reference", "says"),
    [
        (
            (System("wienr"),),
            None,
            "no preset 'wienr', nor a .toml file; did you mean wiener",
        ),
        ((replace(WIENER, overrides=("steps=2",)),), None, "system 'quick': wiener: options"),
        ((System("x", "no.toml"),), None, "no.toml: cannot be read"),
        ((WIENER,), "missing", "set 'test': missing: is missing"),
        ((WIENER,), "", "set 'test': has no reference; give a folder of stems"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    make: Make, tmp_path: Path, systems: tuple[System, ...], reference: str | None, says: str
) -> None:
    sets = {} if reference is None else {"sets": (TrackSet("test", reference),)}
    with pytest.raises(UserError) as error:
        make(*systems, **sets)
    assert says in str(error.value)
    assert not (tmp_path / "out").exists()


def test_stems_are_those_that_a_row_s_key_names(tmp_path: Path) -> None:
    files = {stem: tmp_path / f"{stem}.wav" for stem in ("bass", "drums")}
    for k, path in enumerate(files.values()):
        write(path, torch.full((1, 100), 0.1 * k), 8000)
    key = hash_json({stem: hash_file(path) for stem, path in files.items()})
    assert load_stems(files, sha256=key)[0].shape == (2, 1, 100)
    write(files["bass"], torch.full((1, 100), 0.3), 8000)
    with pytest.raises(UserError, match="changed meanwhile"):
        load_stems(files, sha256=key)
