import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from mgdm_audio.evaluation import spectral
from mgdm_audio.evaluation.spectral import log_mel, log_mel_l1, multi_resolution_stft

RATE = 22050


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_equal_to_the_definition_in_numpy() -> None:
    x = noise(5000)
    padded = np.pad(x.double().numpy(), 1024)  # frames are centred on multiples of the hop
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    frames = np.stack([padded[i : i + 2048] * window for i in range(0, 5001, 512)])
    power = np.abs(np.fft.rfft(frames) / window.sum()) ** 2
    bank = melscale_fbanks(1025, 0.0, RATE / 2, 80, RATE, mel_scale="slaney").double().numpy()
    expected = 10 * np.log10(np.maximum(power @ bank, 1e-8))
    # Sums of float32: 1e-6 of the power, 1e-5 dB and some more where a bin is small.
    assert log_mel(x, RATE).numpy() == pytest.approx(expected, abs=1e-3)


def test_a_gain_is_its_decibels_and_silence_is_at_the_floor() -> None:
    references = noise(3, 2, 6000)
    gains = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    same, half, silent = log_mel_l1(gains * references, references, RATE).tolist()
    assert same == 0
    # All bands are far above the floor, so every term is the gain; float32 as above.
    assert half == pytest.approx(20 * math.log10(2), abs=1e-3)
    assert silent == pytest.approx(float((log_mel(references[2], RATE) + 80).mean()), abs=1e-3)


def test_nothing_below_the_floor_counts() -> None:
    references = torch.zeros(1, 1, 3000)
    assert log_mel_l1(references + 1e-5, references, RATE).item() == 0
    assert log_mel_l1(references + 1e-3, references, RATE).item() > 0


@pytest.mark.parametrize("rate", [1000, 4000, 48000])
def test_any_rate_and_sounds_shorter_than_a_window(rate: int) -> None:
    x = noise(1, 1, 50)
    assert log_mel_l1(0.5 * x, x, rate).isfinite().all()


def test_the_multi_resolution_distance_is_auraloss_own() -> None:
    generator = torch.Generator().manual_seed(0)
    references = 0.1 * torch.randn(2, 1, 22050, generator=generator)
    estimates = references + 0.05 * torch.randn(2, 1, 22050, generator=generator)
    # auraloss 0.4.0, freq.MultiResolutionSTFTLoss() on each, which computes in float32.
    expected = torch.tensor([0.73612356, 0.73232394], dtype=torch.float64)
    found = multi_resolution_stft(estimates, references)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_multi_resolution_distance_of_a_gain() -> None:
    reference = noise(1, 2, 4000)
    for gain in (0.5, 2.0):
        found = multi_resolution_stft(gain * reference, reference)
        # |1 - g| and |ln g| in every bin, but in the few near the floor of 1e-4.
        assert float(found) == pytest.approx(abs(1 - gain) + abs(math.log(gain)), rel=1e-3)
    assert float(multi_resolution_stft(reference, reference)) == 0
    assert math.isnan(float(multi_resolution_stft(reference, 0 * reference)))


def test_the_multi_resolution_distance_does_not_depend_on_its_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimate, reference = noise(1, 1, 9000), 0.1 * torch.randn(1, 1, 9000)
    whole = multi_resolution_stft(estimate, reference)
    monkeypatch.setattr(spectral, "FRAMES", 7)
    # The same sums of float64 in another order.
    found = multi_resolution_stft(estimate, reference)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize("time", [1, 100, 1025])
def test_a_sound_shorter_than_a_frame_has_a_distance(time: int) -> None:
    assert multi_resolution_stft(noise(1, 1, time), 2 * noise(1, 1, time)).isfinite().all()
