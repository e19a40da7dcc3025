"""The comparison of the two ways to separate stereo, egs/mini_slakh/separate/stereo.py."""

import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.evaluation.metrics import si_sdr
from tests.toys import STEMS, song

RATE = 22050
SCRIPT = Path(__file__).parents[2] / "egs/mini_slakh/separate/stereo.py"


@pytest.fixture
def stereo(load_script: Any) -> Any:
    return load_script(SCRIPT)


def power(x: Tensor) -> Tensor:
    return x.square().mean(-1)


def test_a_pan_keeps_the_power_and_a_slope_goes_from_one_side_to_the_other(stereo: Any) -> None:
    mono = song(0, 1, 20_000, RATE)[0]
    for pan, ratio in ((-1.0, 0.0), (0.0, 1.0), (0.5, 1 / torch.tan(torch.tensor(torch.pi / 8)))):
        left, right = stereo.panned(mono, pan)
        torch.testing.assert_close(power(left) + power(right), power(mono))
        assert float(right.norm()) == pytest.approx(float(ratio * left.norm()), abs=1e-4)
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    for frequency in (0.25 * RATE / 2, RATE / 2 - 1):
        tone = torch.sin(2 * torch.pi * round(frequency) * time)
        left, right = stereo.sloped(tone, -1, 1)
        want = stereo.panned(tone, 2 * (round(frequency) / (RATE / 2)) ** 0.5 - 1)
        # The bins of the spectrum are whole Hz: only the tone's is not 0.
        torch.testing.assert_close(torch.stack([left, right]), want, rtol=0, atol=1e-4)


def test_the_room_is_12_db_below_and_differs_between_channels(stereo: Any) -> None:
    noise = torch.randn(4, 3 * RATE, generator=torch.Generator().manual_seed(0))
    stems = stereo.panned(noise, 0.0)
    added = stereo.in_a_room(stems, RATE, 0) - stems
    assert float(added[..., : round(0.008 * RATE)].abs().max()) < 1e-5  # by an FFT in float32
    left, right = added.flatten(1)
    assert abs(float(left @ right)) < 0.1 * float(left.norm() * right.norm())
    # White noise of unit energy keeps the power of what it filters on average, up to its end.
    level = 10 * torch.log10(power(left) / power(stems[0].flatten()))
    assert float(level) == pytest.approx(-12, abs=2)


def test_improvement_is_that_of_both_channels_as_one_vector(stereo: Any) -> None:
    truth = torch.stack([song(i, 3, 9000, RATE) for i in range(2)])
    truth[:, 2] *= 1e-3  # does not sound
    estimate = truth + 0.1 * song(5, 3, 9000, RATE)
    found = stereo.improvement(estimate, truth)
    mixture = truth.sum(1).flatten()
    want = [
        si_sdr(estimate[:, k].flatten(), truth[:, k].flatten())
        - si_sdr(mixture, truth[:, k].flatten())
        for k in range(2)
    ]
    assert found == pytest.approx(float(sum(want) / 2), abs=1e-3)


def test_the_table_has_a_row_for_each_way(
    stereo: Any,
    tiny_prior: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The songs' guitar is scored against the rest, which is the sum of the other stems."""
    for number in range(2):
        folder = tmp_path / "songs" / f"Track{number}"
        folder.mkdir(parents=True)
        for name, samples in zip(STEMS, song(number, 4, RATE, RATE), strict=True):
            soundfile.write(folder / f"{name}.flac", samples.numpy(), RATE)
    for package in ("one", "two"):
        folder = tmp_path / "debian" / stereo.fretsonfire.SONGS / package / "a song"
        folder.mkdir(parents=True)
        for index, part in enumerate(("guitar", "song")):
            samples = song(index, 2, 44100, 44100).T.numpy()
            soundfile.write(folder / f"{part}.ogg", samples, 44100)
    monkeypatch.setattr(stereo, "SECONDS", 0.25)
    words = [str(tmp_path / "songs"), "--prior", str(tiny_prior), "--sampler", "wiener"]
    words += ["--set", "num_steps=1", "--set", "draws=1", "--debian", str(tmp_path / "debian")]
    monkeypatch.setattr(sys, "argv", ["stereo.py", *words])
    stereo.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["pan", "room", "wide", "real"]
    assert [row[1] for row in rows] == ["2", "2", "2", "8"]
    for row in rows:
        difference = float(row[4].split(" ±")[0])
        assert difference == pytest.approx(float(row[3]) - float(row[2]), abs=0.011)  # rounded
