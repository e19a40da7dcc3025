"""egs/mini_slakh/five_stems: a network with one more source, twice the bins, and its examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.config import from_mapping, load_toml
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.metrics import si_sdr
from mgdm_audio.networks.tf_unet import SCALE_FLOOR, TFUNetConfig
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.separation.separator import Separator
from mgdm_audio.training.stem_run import StemRun
from tests.toys import TINY, song, tiny_network

RECIPE = Path(__file__).parents[2] / "egs" / "mini_slakh" / "five_stems"
RATE, FOUR = 22050, ("bass", "drums", "guitar", "piano")


@pytest.fixture
def widen(load_script: Any) -> Any:
    return load_script(RECIPE / "local" / "widen.py")


@pytest.fixture
def examples(load_script: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path])
    return load_script(RECIPE / "local" / "examples.py")


def write_song(folder: Path, number: int, seconds: float, rests: bool) -> None:
    folder.mkdir(parents=True)
    waves = song(number, 5, int(seconds * RATE), RATE) * 0.4
    for name, wave in zip((*FOUR, "other"), waves, strict=True):
        samples = wave.numpy() * (not (rests and name == "other"))
        soundfile.write(folder / f"{name}.flac", samples, RATE, subtype="PCM_16")


def test_without_the_mixture_the_other_stems_are_denoised_as_before(widen: Any) -> None:
    """Only the mixture's share depends on how many sources there are."""
    network = tiny_network(0)
    level = torch.full((TINY.bins,), 0.03)
    wide = widen.with_source(network, level).eval()
    x, sigma = torch.randn(2, 5, 8 * TINY.bins) * 0.1, torch.tensor([0.05, 0.4])
    with torch.no_grad():
        before, after = network(x[:, :4], sigma), wide(x, sigma)
        torch.testing.assert_close(after[:, :4], before, rtol=0, atol=1e-6)  # float32
        # The new one is shrunk by the static filter alone.
        shrink = 0.03**2 / (0.03**2 + sigma**2)
        torch.testing.assert_close(after[:, 4], shrink[:, None] * x[:, 4], rtol=0, atol=1e-6)


def test_a_source_without_power_changes_nothing(widen: Any) -> None:
    network = tiny_network(0)
    network.scale.fill_(0.05)
    wide = widen.with_source(network, torch.full((TINY.bins,), SCALE_FLOOR)).eval()
    x, mixture = torch.randn(1, 5, 8 * TINY.bins) * 0.1, torch.randn(1, 1, 8 * TINY.bins) * 0.1
    x[:, 4] = 0
    with torch.no_grad():
        before = network(x[:, :4], torch.tensor([0.3]), mixture)
        after = wide(x, torch.tensor([0.3]), mixture)
    # Its share of the mixture is (1e-3 / .05)^2 / 4 = 1e-4.
    assert float((after[:, :4] - before).abs().max()) < 1e-3 * float(before.abs().max())
    assert float(after[:, 4].abs().max()) < 1e-3 * float(before.abs().max())


def test_each_bin_of_a_pair_has_the_weights_of_the_one(widen: Any) -> None:
    network = tiny_network(0)
    wide = widen.with_double_bins(network)
    config, k, p = wide.config, TINY.sources, TINY.patch
    assert (config.bins, config.patch, config.channels) == (2 * TINY.bins, 2 * p, TINY.channels)
    h = torch.randn(3, TINY.channels[0])
    for layer in ("leave", "log_variance"):
        one, pair = (getattr(net, layer)(h).unflatten(1, (-1, p * (1 + i)))
                     for i, net in enumerate((network, wide)))  # fmt: skip
        torch.testing.assert_close(pair, one.repeat_interleave(2, 2))
    # Coefficients share the power of the one's, levels are its level.
    features = torch.randn(3, 2 * k + 4, p)
    linear = [*range(k), 2 * k, 2 * k + 2]
    pairs = features.repeat_interleave(2, 2)
    pairs[:, linear] *= 0.5**0.5
    torch.testing.assert_close(
        wide.enter(pairs.flatten(1)), network.enter(features.flatten(1)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("double", "bins"), [([], TINY.bins), (["--double-bins"], 2 * TINY.bins)])
def test_the_start_is_a_prior_over_five_stems(
    widen: Any, tiny_prior: Path, tmp_path: Path, double: list[str], bins: int
) -> None:
    for number in range(2):
        write_song(tmp_path / "songs" / f"Track{number}", number, 2.0, rests=number == 1)
    options = ["--stem", "other", "--songs", str(tmp_path / "songs"), *double]
    widen.main([str(tiny_prior), str(tmp_path / "start"), *options])
    start = load_prior(tmp_path / "start")
    assert start.stems == (*load_prior(tiny_prior).stems, "other")
    assert start.network.scale.shape == (5, bins)


def test_examples_have_the_stems_of_the_teacher_and_of_the_songs(
    examples: Any, tmp_path: Path
) -> None:
    songs, debian = tmp_path / "songs", tmp_path / "debian"
    for number in range(3):
        write_song(songs / f"Track{number}", number, 30.0, rests=number == 1)
    for name in ("first", "last"):  # the last is a test
        folder = debian / examples.fretsonfire.SONGS / "package" / name
        folder.mkdir(parents=True)
        for part in ("guitar", "song"):
            wave = 0.1 * np.random.default_rng(0).standard_normal((60 * RATE, 2))
            soundfile.write(folder / f"{part}.ogg", wave, RATE)
    count = examples.write_mixtures(songs, tmp_path / "mixtures", debian, 3)
    written = sorted(path.stem for path in (tmp_path / "mixtures").iterdir())
    assert count == len(written) == 5
    assert [name for name in written if "Track" not in name] == [
        "package_first_1",
        "package_first_2",
    ]
    mixture, _ = soundfile.read(tmp_path / "mixtures" / "Track0.flac")
    start = (30 * RATE - 24 * RATE) // 2
    stems = [
        soundfile.read(songs / "Track0" / f"{stem}.flac", start=start, frames=24 * RATE)[0]
        for stem in FOUR
    ]
    assert np.abs(mixture - sum(stems)).max() < 2**-22  # of 24 bits

    for name in written:  # what the other separator writes
        for stem in FOUR:
            path = tmp_path / "teacher" / name / f"{stem}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, mixture / 4, RATE, subtype="PCM_24")
    out = tmp_path / "examples"
    assert examples.join(tmp_path / "teacher", songs, out) == 3 + 5
    fifth = [(out / f"taught_{name}" / "other.flac").is_file() for name in written]
    assert fifth == [True, False, True, False, True]
    read, _ = soundfile.read(out / f"taught_{written[0]}" / "other.flac")
    assert np.sqrt(np.square(read).mean()) > examples.SOUNDS
    assert (out / "Track1" / "bass.flac").samefile(songs / "Track1" / "bass.flac")
    assert examples.join(tmp_path / "teacher", songs, out) == 8  # again


def test_the_configuration_has_the_shape_of_the_start(widen: Any) -> None:
    table = load_toml(RECIPE / "conf" / "five_stems.toml")
    config = StemRun.read(table, "five_stems.toml")
    teacher = load_toml(RECIPE.parent / "prior" / "conf" / "tf_unet_large.toml")["model"]
    shape = from_mapping(TFUNetConfig, teacher, "model")
    assert config.shape == widen.replace(shape, sources=5, pivot=True)


def test_a_foreign_stem_is_added_to_the_four_and_taken_from_none(
    load_script: Any,
    monkeypatch: pytest.MonkeyPatch,
    tiny_prior: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(2):
        write_song(tmp_path / "songs" / f"Track{number}", number, 1.0, rests=False)
    foreign = load_script(RECIPE / "local" / "foreign.py")
    heard = []

    def found(separator: Any, truth: torch.Tensor, seed: int) -> Any:
        heard.append(truth)
        return {stem: (float(len(heard)), 3.0 - seed * len(heard)) for stem in FOUR}

    monkeypatch.setattr(foreign, "found", found)
    songs = ["foreign.py", str(tmp_path / "songs"), "--prior", str(tiny_prior)]
    monkeypatch.setattr(sys, "argv", [*songs, "--seconds", "0.5"])
    foreign.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    # Calls 1 and 3 are without it, 2 and 4 with it; the seeds are 0 and 1.
    assert rows == [f"| {stem} | 2.00 | 3.00 | 1.50 | 1.00 | 0 of 2 |" for stem in FOUR]
    for alone, whole in (heard[:2], heard[2:]):
        assert whole.shape == (5, RATE // 2)
        assert torch.equal(alone[:4], whole[:4])
        assert not alone[4].any()
        assert whole[4].any()
    (tmp_path / "songs" / "Track1" / "other.flac").unlink()
    with pytest.raises(UserError, match="Track1: has no stem other"):
        foreign.main()


def test_confidence_and_score_are_of_the_stems_that_sound(
    load_script: Any, tiny_prior: Path
) -> None:
    foreign = load_script(RECIPE / "local" / "foreign.py")
    separator = Separator.from_pretrained(tiny_prior, device="cpu")
    truth = song(3, 5, RATE, RATE) * 0.2
    truth[1] = 0
    result = separator.separate(truth.sum(0, keepdim=True), RATE, seed=4)
    assert result.confidence_db is not None
    found = foreign.found(separator, truth, 4)
    assert list(found) == ["bass", "guitar", "piano"]  # drums are silent, other is no stem of it
    for stem, (score, confidence) in found.items():
        assert score == float(si_sdr(result[stem][0], truth[[*FOUR].index(stem)]))
        assert confidence == result.confidence_db[stem]
