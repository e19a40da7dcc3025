"""Steps at cuts: sounds whose answer is known."""

import math

import pytest
import torch

from mgdm_audio.evaluation.seams import steps

RATE, WINDOW = 8000, 0.05  # windows of 400 samples


def tone(frequency: float, phase: float = 0.0) -> torch.Tensor:
    return 0.1 * torch.sin(2 * math.pi * frequency / RATE * torch.arange(4000) + phase)[None]


def test_a_steady_tone_takes_no_step() -> None:
    level, spectrum, click = steps(tone(1000), [400, 2000, 3600], RATE, WINDOW)[:, 0]
    # Whole periods in every window, in float32.
    assert level.max() < 1e-4
    assert spectrum.max() < 1e-3
    assert click.max() < 1e-3


def test_a_step_of_the_level_is_measured() -> None:
    x = tone(1000)
    x[:, 2000:] /= 2
    level, _, _ = steps(x, [1000, 2000], RATE, WINDOW)[:, 0]
    assert level.tolist() == pytest.approx([0, 20 * math.log10(2)], abs=1e-4)


def test_another_pitch_is_a_step_of_the_spectrum_alone() -> None:
    x = torch.cat([tone(1000)[:, :2000], tone(2000)[:, 2000:]], 1)
    level, spectrum, _ = steps(x, [1000, 2000], RATE, WINDOW)[:, 0]
    assert level.max() < 1e-3
    assert spectrum[0] < 1e-3
    assert spectrum[1] > 3


def test_a_reversed_phase_is_a_click_alone() -> None:
    x = torch.cat([tone(1000)[:, :2002], tone(1000, math.pi)[:, 2002:]], 1)  # at a peak
    level, spectrum, click = steps(x, [1000, 2002], RATE, WINDOW)[:, 0]
    assert level.max() < 1e-3
    assert spectrum.max() < 0.1
    assert click[0] < 1e-3
    assert click[1] > 3


def test_silence_takes_no_step_and_a_cut_needs_room() -> None:
    assert steps(torch.zeros(2, 1000), [400], RATE, WINDOW).count_nonzero() == 0
    for cut in (399, 601):
        with pytest.raises(ValueError, match=f"cut {cut}: needs 400 samples"):
            steps(torch.zeros(1, 1000), [cut], RATE, WINDOW)
