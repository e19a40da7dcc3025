"""Leakage as a disturbance of training examples: what its levels and sums must be."""

import pytest
import torch
from torch import Tensor

from mgdm_audio.training.augmentation import Leakage

RATE = 22050


def examples(batch: int = 64, time: int = 4096) -> Tensor:
    scale = torch.tensor([0.2, 0.05, 0.02, 0.1])[:, None]
    return scale * torch.randn(batch, 4, time, generator=torch.Generator().manual_seed(1))


def drawn(leakage: Leakage, x_0: Tensor, sigma: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return leakage.draw(x_0, torch.full((len(x_0),), sigma), RATE, generator)


def test_leaks_sum_to_zero_and_come_from_one_stem() -> None:
    leaks = drawn(Leakage(share=1.0), examples(), 0.05)
    rms = leaks.square().mean(-1).sqrt()
    # Float32 sums of four terms of one waveform.
    assert (leaks.sum(1).abs().amax(1) < 1e-6 * leaks.abs().amax((1, 2))).all()
    # One stem loses what the others together gain: its rms is the largest, and the sum of theirs.
    assert (rms.amax(1) * 2 - rms.sum(1)).abs().max() < 1e-5
    assert {int(k) for k in rms.argmax(1)} == {0, 1, 2, 3}


def test_the_level_is_within_its_bounds() -> None:
    """Between least and most times sigma where the content is loud, else the content's own."""
    leakage, x_0 = Leakage(share=1.0, least=0.5, most=8.0, gain=12.0), examples()
    quiet = drawn(leakage, x_0, 1e-4).square().mean(-1).sqrt().amax(1) / 1e-4
    assert float(quiet.min()) >= 0.5 - 1e-4
    assert float(quiet.max()) <= 8.0 + 1e-3
    assert float(quiet.max()) > 4.0
    assert float(quiet.min()) < 1.0
    loud = drawn(leakage, x_0, 1e3).square().mean(-1).sqrt().amax(1)
    content = x_0.square().mean(-1).sqrt()
    limit = 10 ** (12 / 20) * torch.stack([content, content.roll(-1, 0)]).flatten(0, 1).flatten()
    assert all((limit / level - 1).abs().min() < 1e-4 for level in loud)


def test_the_share_of_the_examples_and_silence() -> None:
    x_0 = examples(256, 512)
    touched = drawn(Leakage(share=0.25), x_0, 0.05).abs().amax((1, 2)) > 0
    # A binomial count of 256 x .25 = 64 has a standard deviation of 7.
    assert 40 < int(touched.sum()) < 88
    assert not drawn(Leakage(share=0.0), x_0, 0.05).any()
    assert not drawn(Leakage(share=1.0), torch.zeros(4, 4, 512), 0.05).any()


@pytest.mark.parametrize(
    ("change", "says"),
    [({"share": 1.5}, "share"), ({"least": 0.0}, "least"), ({"least": 2.0, "most": 1.0}, "most")],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Leakage(**change)
