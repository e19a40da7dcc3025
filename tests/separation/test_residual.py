import math

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.resampling import PASSBAND, resample, resample_back
from mgdm_audio.separation import residual as bandwidth
from mgdm_audio.separation.residual import share_residual

RATE, CUTOFF = 44100, PASSBAND * 11025


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def band(x: Tensor, low: float, high: float) -> Tensor:
    bins = torch.fft.rfft(x)
    frequency = torch.fft.rfftfreq(x.shape[-1], 1 / RATE)
    bins[..., (frequency < low) | (frequency > high)] = 0
    return torch.fft.irfft(bins, n=x.shape[-1])


def level(x: Tensor) -> float:
    return 10 * math.log10(float(x.double().square().mean()) + 1e-30)


@pytest.mark.parametrize("time", [1, 2, 63, 700, 50_000])
@pytest.mark.parametrize("rate", [100, 8000, 44100, 192_000])
def test_the_stems_sum_to_the_mixture(time: int, rate: int) -> None:
    mixture, stems = noise(2, time, seed=1), noise(4, 2, time, seed=2)
    shared = share_residual(mixture, stems, rate, CUTOFF)
    assert shared.shape == stems.shape
    # Four float32 sums of values of about 0.5: some units of 2^-25 (-140 dB).
    assert (shared.sum(0) - mixture).abs().max() < 2e-7


def test_what_is_complete_is_left_alone() -> None:
    stems = noise(3, 2, 10_000)
    assert torch.equal(share_residual(stems.sum(0), stems, RATE, CUTOFF), stems)


def test_a_high_band_goes_to_the_stem_that_is_active_below_it() -> None:
    time = 2 * RATE
    seconds = torch.arange(time) / RATE
    gate = ((seconds % 0.5) < 0.1).float()  # hits of 100 ms twice a second
    hat = noise(1, time) * gate
    bass = 0.5 * torch.sin(2 * math.pi * 80 * seconds)[None]
    guitar = band(noise(1, time, seed=3), 100, 8000) * (1 - gate)  # sounds between the hits only
    mixture = hat + bass + guitar
    low = torch.stack(
        [resample_back(resample(x, RATE, 22050), 22050, RATE, time) for x in (hat, bass, guitar)]
    )
    shared = share_residual(mixture, low, RATE, CUTOFF)
    high = [level(band(x, 11_500, 22_050)) for x in (*shared, hat)]
    assert high[0] == pytest.approx(high[3], abs=0.3)  # dB: the hi-hat has its top back
    assert high[1] < high[3] - 40  # the bass gets none of it
    assert high[2] < high[3] - 15  # the guitar what spills over a frame's edges
    assert level(shared[0] - hat) < level(low[0] - hat) - 10  # and this is nearer to the truth


def test_below_the_cutoff_the_power_in_the_bin_decides() -> None:
    seconds = torch.arange(RATE) / RATE
    stems = 0.5 * torch.stack([torch.sin(2 * math.pi * f * seconds) for f in (500.0, 3000.0)])
    stems = stems[:, None]
    mixture = 1.1 * stems[0] + stems[1]  # a tenth of the first one was lost
    shared = share_residual(mixture, stems, RATE, CUTOFF)
    assert level(shared[0] - 1.1 * stems[0]) < -60
    assert level(shared[1] - stems[1]) < -60


def test_silent_frames_are_shared_equally() -> None:
    mixture = noise(2, 30_000)
    shared = share_residual(mixture, torch.zeros(4, 2, 30_000), RATE, CUTOFF)
    torch.testing.assert_close(shared, mixture.expand(4, 2, -1) / 4, atol=1e-7, rtol=0)


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture, stems = noise(1, 40_000, seed=1), band(noise(3, 1, 40_000, seed=2), 0, 9000)
    whole = share_residual(mixture, stems, RATE, CUTOFF)
    monkeypatch.setattr(bandwidth, "_BLOCK", 4096)
    # The same frames, transformed in other batches: float32 rounding.
    torch.testing.assert_close(
        share_residual(mixture, stems, RATE, CUTOFF), whole, atol=1e-6, rtol=0
    )


def test_a_cutoff_must_be_positive() -> None:
    with pytest.raises(ValueError, match="cutoff_hz"):
        share_residual(noise(1, 10), noise(2, 1, 10), RATE, 0)
