import math

import pytest
import torch
from torch import Tensor

from mgdm_audio.evaluation.metrics import (
    by_activity,
    sdr,
    si_sdr,
    si_sdr_improvement,
    why_none,
    windows,
)

RATE = 100  # a window is then 400 samples: small enough for loops over samples


def by_hand(estimate: list[float], reference: list[float]) -> float:
    """The formula, sample by sample."""
    eps = 1e-8
    scale = (math.fsum(e * s for e, s in zip(estimate, reference, strict=True)) + eps) / (
        math.fsum(s * s for s in reference) + eps
    )
    target = math.fsum((scale * s) ** 2 for s in reference)
    error = math.fsum((scale * s - e) ** 2 for e, s in zip(estimate, reference, strict=True))
    return 10 * math.log10((target + eps) / (error + eps))


def protocol(estimates: list[list[float]], references: list[list[float]]) -> list[list[float]]:
    """The evaluation protocol, window by window and stem by stem."""
    time = len(references[0])
    mixture = [math.fsum(samples) for samples in zip(*references, strict=True)]
    rows = []
    for i in range(math.ceil((time - 2 * RATE) / (2 * RATE))):
        part = slice(i * 2 * RATE, i * 2 * RATE + 4 * RATE)
        active = 0
        for reference in references:
            s = reference[part]
            active += math.sqrt(math.fsum(v * v for v in s)) / len(s) >= 1.5e-5
        if active <= 1:
            continue
        rows.append(
            [
                by_hand(e[part], s[part]) - by_hand(mixture[part], s[part])
                for e, s in zip(estimates, references, strict=True)
            ]
        )
    return rows


def random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("time", [201, 399, 400, 401, 600, 601, 1189, 2000])
def test_equal_to_the_protocol_loop_by_loop(time: int) -> None:
    references = 0.1 * random(4, time, seed=time)
    references[0, 300:] = 0  # windows with silent stems, and with a single active one
    references[1, 700:] = 0
    references[2, 900:] = 1e-9
    estimates = references + 0.02 * random(4, time, seed=1)
    result = si_sdr_improvement(estimates, references, RATE)
    expected = protocol(estimates.tolist(), references.tolist())
    assert result.shape == (len(expected), 4)
    assert torch.allclose(result, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_by_activity_is_the_protocol_where_a_stem_sounds_and_its_level_where_it_rests() -> None:
    references = 0.1 * random(3, 1200, seed=0)
    references[0, 400:] = 0  # rests in the third and fourth of five windows, and in the last
    estimates = references.clone()
    estimates[0, 400:] = 0.01 * (references[1] + references[2])[400:]
    estimates[1] *= 3  # of no effect: scale-invariant
    gains, leaks = by_activity(estimates, references, RATE)
    improvement = si_sdr_improvement(estimates, references, RATE)
    rests = torch.zeros(5, 3, dtype=torch.bool)
    rests[2:, 0] = True
    assert torch.equal(gains.isnan(), rests)
    assert torch.equal(leaks.isnan(), ~rests)
    assert torch.equal(gains[~rests], improvement[~rests])
    # A hundredth of the mixture is 40 dB below it; the floor of 1e-9 adds 1e-5 of that.
    assert torch.allclose(leaks[rests], torch.tensor(-40.0).double(), atol=1e-4, rtol=0)
    silent = by_activity(torch.zeros_like(references), references, RATE)[1]
    assert torch.allclose(silent[rests], torch.tensor(-90.0).double())
    short = by_activity(estimates[:, :200], references[:, :200], RATE)
    assert [v.shape for v in short] == [(0, 3)] * 2


def test_values_computed_by_hand() -> None:
    s = torch.tensor([1.0, 0.0])
    # <e, s> = 2, so the target is [2, 0] and the error [0, -1]: 4 to 1.
    assert si_sdr(torch.tensor([2.0, 1.0]), s).item() == pytest.approx(10 * math.log10(4), abs=1e-6)
    assert si_sdr(torch.tensor([1.0, 1.0]), s).item() == pytest.approx(0, abs=1e-6)
    # Perfect: the error is eps alone. Silent estimate: the target is eps / (1 + eps), squared.
    assert si_sdr(s, s).item() == pytest.approx(80, abs=1e-6)
    assert si_sdr(torch.zeros(2), s).item() == pytest.approx(0, abs=1e-6)
    # <e, s> = -eps: the scale is 0, of the target and of the error remain eps and 2 eps.
    tiny = torch.tensor([1e-4], dtype=torch.float64)
    assert si_sdr(-tiny, tiny).item() == pytest.approx(-10 * math.log10(2), abs=1e-6)
    # Silent reference: eps over the estimate's energy.
    assert si_sdr(torch.tensor([3.0, 4.0]), torch.zeros(2)).item() == pytest.approx(
        10 * math.log10(1e-8 / 25), abs=1e-6
    )


def test_plain_sdr_by_hand() -> None:
    s = torch.tensor([3.0, 4.0])
    # ||s||^2 = 25; the errors' energies are 1, 25 (silence: 0 dB) and 25 (twice as loud: 0 dB).
    for e, energy in (([3.0, 3.0], 1), ([0.0, 0.0], 25), ([6.0, 8.0], 25)):
        assert sdr(torch.tensor(e), s).item() == pytest.approx(
            10 * math.log10(25 / energy), abs=1e-6
        )
    assert sdr(s, s).item() == pytest.approx(10 * math.log10(25 / 1e-8), abs=1e-6)


def test_the_mean_is_not_removed() -> None:
    s = torch.tensor([1.0, -1.0, 1.0, -1.0])
    # The offset is orthogonal to s, and an error as large as s itself.
    assert si_sdr(s + 1, s).item() == pytest.approx(0, abs=1e-6)


def test_scaling_the_estimate_changes_nothing() -> None:
    s, e = random(1000, seed=0), random(1000, seed=1) + random(1000, seed=0)
    # eps against energies of 100 to 1e5: 1e-10 of them, 1e-9 dB.
    for scale in (0.1, -1.0, 10.0):
        assert si_sdr(scale * e, s).item() == pytest.approx(si_sdr(e, s).item(), abs=1e-6)


def test_the_mixture_improves_on_itself_by_nothing() -> None:
    references = random(3, 900, seed=0)
    mixture = references.sum(0)
    result = si_sdr_improvement(mixture.expand(3, -1), references, RATE)
    assert torch.equal(result, torch.zeros(4, 3, dtype=torch.float64))


def test_channels_count_as_one_vector() -> None:
    references, estimates = random(2, 2, 400, seed=0), random(2, 2, 400, seed=1)
    result = si_sdr_improvement(estimates, references, RATE)
    joined = si_sdr_improvement(estimates.flatten(1), references.flatten(1), 2 * RATE)
    assert torch.allclose(result, joined, atol=1e-9, rtol=0)  # sums in another order


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(0, 0), (2, 0), (2.01, 1), (4, 1), (4.5, 2), (8, 3), (2**18 / 22050, 5)],
)
def test_the_number_of_windows(seconds: float, count: int) -> None:
    time = round(seconds * 22050)
    parts = windows(time, 22050)
    assert len(parts) == count
    assert all(0 < part.stop - part.start <= 4 * 22050 for part in parts)
    assert not parts or parts[-1].stop == time  # nothing is left unscored


def test_activity_is_the_norm_over_the_length() -> None:
    for norm, kept in ((0.99 * 1.5e-5 * 400, 0), (1.01 * 1.5e-5 * 400, 1)):
        references = torch.zeros(2, 400, dtype=torch.float64)
        references[0, 0], references[1, 5] = 1.0, norm
        assert len(si_sdr_improvement(references, references, RATE)) == kept


def test_no_window_is_no_row_and_a_reason() -> None:
    alone = torch.zeros(2, 900)
    alone[0] = 0.1
    assert si_sdr_improvement(alone, alone, RATE).shape == (0, 2)
    assert why_none(900, RATE) == "no window has two active stems"
    assert si_sdr_improvement(alone[:, :200], alone[:, :200], RATE).shape == (0, 2)
    assert why_none(200, RATE) == "2.00 s long, and a window needs more than 2 s"


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        si_sdr_improvement(torch.zeros(2, 900), torch.zeros(3, 900), RATE)
