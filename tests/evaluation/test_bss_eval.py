import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.bss_eval import (
    NAMES,
    bss_eval,
    median_over_frames,
    museval_metrics,
    museval_text,
    to_museval,
)

RATE = 4000  # of short sounds: museval takes long


def sounds(channels: int, seconds: float = 2.5, stems: int = 2) -> tuple[Tensor, Tensor]:
    """Estimates and references: noise, some of which leaks to the next stem."""
    generator = torch.Generator().manual_seed(channels)
    shape = (stems, channels, round(seconds * RATE))
    references = 0.1 * torch.randn(shape, generator=generator)
    leaked = 0.3 * references.roll(1, 0)
    return references + leaked + 0.01 * torch.randn(shape, generator=generator), references


def direct(estimates: Tensor, references: Tensor) -> dict[str, np.ndarray]:
    """The call of museval.evaluate in its mode v4."""
    s, e = (np.moveaxis(x.numpy().astype(np.float64), 1, 2) for x in (references, estimates))
    found = museval_metrics().bss_eval(
        s,
        e,
        compute_permutation=False,
        window=int(1.0 * RATE),
        hop=int(1.0 * RATE),
        framewise_filters=False,
        bsseval_sources_version=False,
    )
    return dict(zip(("SDR", "ISR", "SIR", "SAR"), found, strict=False))


@pytest.mark.parametrize(("channels", "seconds"), [(1, 2.5), (1, 0.6), (2, 2.0)])
def test_equal_to_museval(channels: int, seconds: float) -> None:
    estimates, references = sounds(channels, seconds)
    values, why = bss_eval(estimates, references, RATE)
    expected = direct(estimates, references)
    assert not why
    assert values["SDR"].shape == (2, max(1, int(seconds)))
    for name in NAMES:
        assert np.isfinite(values[name]).all()
        assert np.array_equal(values[name], expected[name])  # the same call: to the last bit


def test_a_second_without_one_stem_is_nan_for_all_as_in_museval() -> None:
    estimates, references = sounds(1)
    references[0, :, :RATE] = 0
    values, why = bss_eval(estimates, references, RATE)
    assert not why
    for name, expected in direct(estimates, references).items():
        assert np.array_equal(values[name], expected, equal_nan=True)
        assert np.isnan(values[name][:, 0]).all()
        assert np.isfinite(values[name][:, 1]).all()


def test_a_silent_reference_is_left_out() -> None:
    estimates, references = sounds(1, stems=3)
    references[1] = 0
    with pytest.raises(ValueError, match="non-silent"):  # museval's own word
        direct(estimates, references)
    values, why = bss_eval(estimates, references, RATE)
    expected = direct(estimates[[0, 2]], references[[0, 2]])
    assert why == {1: "silent reference"}
    for name in NAMES:
        assert np.isnan(values[name][1]).all()
        assert np.array_equal(values[name][[0, 2]], expected[name])


def test_a_silent_estimate_has_no_score_and_leaves_those_of_others() -> None:
    estimates, references = sounds(2)
    expected, _ = bss_eval(estimates, references, RATE)
    estimates[0, 0], estimates[0, 1] = 0.5, -0.5  # museval looks at the sum of the channels
    with pytest.raises(ValueError, match="non-silent"):
        direct(estimates, references)
    values, why = bss_eval(estimates, references, RATE)
    assert why == {0: "silent estimate"}
    for name in NAMES:
        assert np.isnan(values[name][0]).all()
        # Stem 0 still counts as what leaks into stem 1: nothing about stem 1 has changed.
        assert np.array_equal(values[name][1], expected[name][1])


def test_nothing_but_silence() -> None:
    estimates, references = sounds(1)
    values, why = bss_eval(estimates, torch.zeros_like(references), RATE)
    assert why == {0: "silent reference", 1: "silent reference"}
    assert all(np.isnan(values[name]).all() and values[name].shape == (2, 2) for name in NAMES)


def test_singular_references_are_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(np.linalg, "solve", fail)
    # Else museval's own way out, least squares, would be taken where numpy still has the name.
    monkeypatch.setattr(np.linalg, "lstsq", fail)
    values, why = bss_eval(*sounds(1), RATE)
    assert why == dict.fromkeys((0, 1), "linearly dependent references")
    assert np.isnan(values["SDR"]).all()


def test_museval_is_loaded_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = find_spec("museval")
    assert spec is not None
    assert spec.origin is not None
    assert museval_metrics().__file__ == str(Path(spec.origin).with_name("metrics.py"))
    museval_metrics.cache_clear()
    monkeypatch.setattr("mgdm_audio.evaluation.bss_eval.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs museval: pip install 'mgdm_audio\[bss\]'"):
        museval_metrics()


def made_up() -> dict[str, np.ndarray]:
    """Two stems, four frames; infinity is where there is no error."""
    sdr = np.array([[1.0, 5.0, 2.0, np.nan], [np.nan, np.nan, np.inf, np.nan]])
    return {name: sdr + i for i, name in enumerate(NAMES)}


def test_medians_over_frames_by_hand() -> None:
    store = to_museval(made_up(), ["bass", "drums"])
    assert median_over_frames(store, "SDR") == [2.0, None]  # of 1, 2, 5; infinity is left out
    assert median_over_frames(store, "SAR") == [5.0, None]
    json.dumps(store, allow_nan=False)


def test_the_file_is_what_museval_reads_and_aggregates(tmp_path: Path) -> None:
    if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
        pytest.skip("museval cannot be imported without ffmpeg and ffprobe")
    museval = pytest.importorskip("museval")
    (tmp_path / "test").mkdir()
    values, medians = made_up(), []
    for i in range(3):  # tracks
        moved = {name: value * (i + 1) for name, value in values.items()}
        store = to_museval(moved, ["bass", "drums"])
        (tmp_path / "test" / f"track{i}.json").write_text(museval_text(store))
        medians.append(median_over_frames(store, "SIR")[0])
        own = museval.TrackStore(f"track{i}")
        for k, stem in enumerate(("bass", "drums")):
            own.add_target(stem, {name: list(moved[name][k]) for name in NAMES})
        # Equal but for museval's rounding to five decimals, which these values do not need.
        assert json.loads(own.json, parse_constant=str) == json.loads(
            museval_text(store), parse_constant=str
        )
        own.scores = json.loads(museval_text(store))
        own.validate()
    result = museval.EvalStore()
    result.add_eval_dir(tmp_path)
    found = result.agg_frames_tracks_scores()
    assert medians == [4.0, 8.0, 12.0]
    assert found["bass"]["SIR"] == 8.0
    assert np.isnan(found["drums"]["SIR"])
