"""How segments are joined: exact answers where the prior is Gaussian, and what holds for any."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.segments import JOINS
from mgdm_audio.separation.separator import Separator
from tests.toys import STEMS, song

RATE, SEGMENT, OVERLAP, NOISE = 22050, 24, 10, 0.01
HELD = OVERLAP // 2
Double = torch.float64


class GaussianMean:
    """The posterior mean under independent Gaussian sources, by dense matrices.

    ``covariance``: [sources, time, time]. It does not ask the prior, and draws nothing.
    """

    def __init__(self) -> None:
        distance = (torch.arange(SEGMENT)[:, None] - torch.arange(SEGMENT)).abs()
        memory = torch.tensor([0.95, 0.8, 0.5, 0.0], dtype=Double)[:, None, None]
        self.covariance = torch.block_diag(*(memory**distance))
        self.batches: list[int] = []

    def mean(self, rows: Tensor, seen: Tensor) -> Tensor:
        """E[x | rows x + NOISE eps = seen]: [size, 4 SEGMENT], [size] -> [4, SEGMENT]."""
        total = rows @ self.covariance @ rows.T + NOISE**2 * torch.eye(len(rows), dtype=Double)
        return (self.covariance @ rows.T @ torch.linalg.solve(total, seen)).reshape(4, SEGMENT)

    def sample(self, prior: Any, likelihood: Any, **options: Any) -> Tensor:
        y, size = likelihood.y, 4 * SEGMENT
        self.batches.append(len(y))
        unit = torch.eye(size, dtype=Double).reshape(size, 1, 4, SEGMENT)
        columns = [likelihood.operator(x.expand(len(y), -1, -1)) for x in unit]
        rows = torch.stack(columns, -1).flatten(1, 2)  # [batch, observation, size]
        found = [self.mean(a, b) for a, b in zip(rows, y.double().flatten(1), strict=True)]
        return torch.stack(found).float()


Make = Callable[..., Separator]


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Make:
    loaded = load_prior(tiny_prior)

    def build(sampler: Any = None, draws: int = 2, **options: Any) -> Separator:
        preset = load_preset("wiener", ["num_steps=2", f"draws={draws}"])
        if sampler is not None:
            preset = Preset("stub", sampler, NOISE, draws, {})
        batch_size = options.pop("batch_size", None)
        settings = {"device": "cpu", "precision": "float32", "join": "condition", **options}
        separator = Separator(loaded, preset, **settings)
        if batch_size is not None:
            separator.batch_size = batch_size  # as on a GPU
        return separator

    return build


def gaussian(make: Make, sampler: GaussianMean, **options: Any) -> Separator:
    """Segments of SEGMENT samples that overlap by OVERLAP."""
    return make(sampler, 1, segment=SEGMENT / RATE, overlap=OVERLAP / RATE, **options)


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_known_samples_enter_as_in_the_closed_form(
    make: Make, segments: int, batch_size: int
) -> None:
    sampler, hop = GaussianMean(), SEGMENT - OVERLAP
    separator = gaussian(make, sampler, batch_size=batch_size)
    time = segments * hop + OVERLAP
    y = torch.randn(1, 1, time, generator=torch.Generator().manual_seed(segments))
    level = separator.loaded.mixture_rms  # a gain of 1
    found = torch.stack(list(separator.separate_batch(y, level=level).values()))[:, 0]

    identity = torch.eye(4 * SEGMENT, dtype=Double)
    mixture_rows = identity.reshape(4, SEGMENT, -1).sum(0)
    alone = {}
    for i in range(0, segments, 2):
        x = sampler.mean(mixture_rows, y[0, 0, i * hop :][:SEGMENT].double())
        alone[i] = x + (y[0, 0, i * hop :][:SEGMENT] - x.sum(0)) / 4
    want = torch.zeros(4, time, dtype=Double)
    for i in range(0, segments, 2):  # an odd segment has its own between those around it
        first = i * hop + (HELD if i else 0)
        last = i * hop + SEGMENT - (HELD if i + 1 < segments else 0)
        want[:, first:last] = alone[i][:, first - i * hop : last - i * hop]
    for i in range(1, segments, 2):
        part = y[0, 0, i * hop :][:SEGMENT].double()
        times = torch.zeros(SEGMENT, dtype=torch.bool)
        times[:HELD] = True
        times[SEGMENT - HELD :] = i + 1 < segments
        decided = want[:, i * hop :][:, :SEGMENT][:, times]
        rows = torch.cat([mixture_rows, identity[times.repeat(4)]])
        x = sampler.mean(rows, torch.cat([part, decided.flatten()]))
        x = x + (part - x.sum(0)) / 4
        # Its neighbours' samples are met to the noise that they were said to have, and kept.
        assert (x[:, times] - decided).abs().max() < 5 * NOISE
        free = ~times
        want[:, i * hop :][:, :SEGMENT][:, free] = x[:, free]
    # float32 in and out, and a condition of 1e4 between.
    assert (found - want).abs().max() < 1e-4
    if batch_size == 3 and segments == 8:
        assert sampler.batches == [3, 2, 1, 2]  # segments 0 2 4, 1 3, 6, 5 7


@pytest.mark.parametrize("join", JOINS)
def test_a_pass_fills_a_batch_and_keeps_the_result(make: Make, join: str) -> None:
    mixture = song(1, 2, 9000, RATE)
    options = {"segment": 0.1, "overlap": 0.03, "join": join}
    one = make(**options, batch_size=1).separate(mixture, RATE, keep_draws=True)
    for batch_size in (3, 8, 100):
        separator = make(**options, batch_size=batch_size)
        many = separator.separate(mixture, RATE, keep_draws=True)
        assert one.spread is not None
        assert many.spread is not None
        assert one.draws is not None
        assert many.draws is not None
        # Matrix products of another height are summed in another order, in float32.
        assert (one.draws - many.draws).abs().max() < 1e-5
        for stem in STEMS:
            assert (one.stems[stem] - many.stems[stem]).abs().max() < 1e-5
            assert (one.spread.std[stem] - many.spread.std[stem]).abs().max() < 1e-5
    # Six segments, two channels, two draws, two steps: all in one call, or odd ones after even.
    assert separator.calls.forward == (2 if join == "crossfade" else 4)


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("rate", [RATE, 44100])
def test_the_same_seed_gives_the_same_bits(make: Make, join: str, rate: int) -> None:
    mixture = song(1, 1, 9000, rate)
    options = {"segment": 0.1, "overlap": 0.03, "join": join}
    a, b = (make(**options).separate(mixture, rate, seed=5, keep_draws=True) for _ in range(2))
    c = make(**options).separate(mixture, rate, seed=6)
    assert a.draws is not None
    assert b.draws is not None
    assert torch.equal(a.draws, b.draws)
    for stem in STEMS:
        assert torch.equal(a.stems[stem], b.stems[stem])
        assert not torch.equal(a.stems[stem], c.stems[stem])
    for draw in (*a.draws, torch.stack(list(a.stems.values()))):
        residual = (draw.double().sum(0) - mixture).square().mean() / mixture.square().mean()
        assert 10 * residual.log10() < -120  # float32's 24 bits are -144 dB


@pytest.mark.parametrize("time", [3, 24, 25, 38, 39, 52, 53, 200])
@pytest.mark.parametrize("overlap", [0, 1, 2, 5, 11])
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_pieces_are_the_track(make: Make, time: int, overlap: int, batch_size: int) -> None:
    shares = torch.tensor([0.5, 0.4, 0.3, -0.2])[:, None]

    class Shares:
        def sample(self, prior: Any, likelihood: Any, **options: Any) -> Tensor:
            return shares * likelihood.y[:, :1]

    y = torch.arange(1.0, time + 1)[None, None]
    options = {"segment": 24 / RATE, "overlap": overlap / RATE, "batch_size": batch_size}
    found = make(Shares(), 1, **options).separate_batch(y)
    assert (torch.stack(list(found.values()))[:, 0] - shares * y[0]).abs().max() < 1e-4


def test_draws_meet_at_the_joins(make: Make) -> None:
    """White noise that is told its ends: in each draw they are the neighbours' own."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Noise:
        def sample(self, prior: Any, likelihood: Any, *, generator: Any, **options: Any) -> Tensor:
            y = likelihood.y
            x = torch.stack([torch.randn(4, y.shape[-1], generator=g) for g in generator])
            if y.shape[1] > 1:
                mask = likelihood.operator.operators[1].mask
                seen.append((mask, y[:, 1:]))
                x = torch.where(mask, y[:, 1:], x)
            return x

    separator = make(Noise(), 3, segment=SEGMENT / RATE, overlap=OVERLAP / RATE, batch_size=4)
    hop, pad = SEGMENT - OVERLAP, separator.hop
    y = torch.zeros(1, 4 * hop + OVERLAP) + 0.1
    result = separator.separate(y, RATE, keep_draws=True)
    assert result.draws is not None
    unit = 0.1 / separator.loaded.mixture_rms
    told = [pair for batch in seen for pair in zip(*batch, strict=True)]
    assert len(told) == 2 * 3  # segments 1 and 3, three draws
    for n, (mask, known) in enumerate(told):
        segment, draw = 1 + 2 * (n // 3), n % 3
        offset = pad * draw // 3
        times = mask[0, offset : offset + SEGMENT]
        assert int(mask.sum()) == int(times.sum()) == (2 * HELD if segment == 1 else HELD)
        part = result.draws[draw, :, 0, segment * hop :][:, :SEGMENT] / unit
        assert (known[:, offset : offset + SEGMENT] - part)[:, times].abs().max() < 1e-5


def test_a_sampler_that_cannot_condition_is_one_line(make: Make) -> None:
    separator = make(segment=0.1, overlap=0.03)
    msdm = load_preset("msdm-dirac", ["num_steps=2"])
    cannot = Separator(
        separator.loaded, msdm, device="cpu", segment=0.1, overlap=0.03, join="condition"
    )
    with pytest.raises(UserError, match=r"msdm-dirac takes no known .*; use join crossfade"):
        cannot.separate(song(1, 1, 5000, RATE), RATE)
    assert cannot.separate(song(1, 1, 500, RATE), RATE).keys() == set(STEMS)  # no join
    with pytest.raises(UserError, match="join 'fade': choose one of"):
        make(join="fade")


def test_amortised_guidance_is_told_too(make: Make) -> None:
    loaded, preset = make().loaded, load_preset("default", ["draws=2", "separation.speeds=[0]"])
    options = {"device": "cpu", "precision": "float32", "segment": 0.3, "overlap": 0.1}
    segment, overlap = round(0.3 * RATE), round(0.1 * RATE)
    hop = segment - overlap
    mixture = song(1, 1, hop + segment, RATE)
    faded, told = (
        torch.stack(
            list(
                Separator(loaded, preset, join=join, **options)
                .separate_batch(mixture[None])
                .values()
            )
        )[:, 0]
        for join in JOINS
    )
    difference = (faded - told).abs().amax(0)
    join = hop + overlap // 2
    assert difference[:hop].max() < 1e-6  # where one segment alone is heard
    assert difference[segment:].max() < 1e-6  # by then, 17 frames, what was told is forgotten
    # Just after the join the second segment goes on from the first, and not from its own estimate.
    step = (told[:, join] - told[:, join - 1]).abs().max()
    assert step < 2 * told[:, join - 50 : join].diff().abs().max()
    assert difference[join : join + 64].max() > 1e-3
