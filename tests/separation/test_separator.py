"""The separator: what holds for any prior and sampler, good or bad."""

import hashlib
import importlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio import __version__
from mgdm_audio.audio.files import find_tracks
from mgdm_audio.audio.resampling import resample
from mgdm_audio.diffusion import EDMDenoiser
from mgdm_audio.errors import UserError
from mgdm_audio.measurement import MixtureSum
from mgdm_audio.networks.unet_1d import UNet1d, UNet1dConfig
from mgdm_audio.output.layout import Layout
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.rng import generator_for, randn
from mgdm_audio.samplers import Step
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.former import separate_to_files
from mgdm_audio.separation.segments import active_level
from mgdm_audio.separation.separator import Separator
from tests.toys import STEMS, song

RATE = 22050
SMALL = UNet1dConfig(
    channels=16, patch=4, multipliers=(1, 1), factors=(2,), blocks=(1,), attentions=(False,)
)


@dataclass(frozen=True)
class Stub:
    """A sampler that is a function of (y, noise): [batch, 1, time], [batch, sources, time]."""

    answer: Callable[[Tensor, Tensor], Tensor]
    steps: int = 3

    def sample(
        self,
        prior: Any,
        likelihood: Any,
        *,
        generator: Any,
        x_T: Tensor | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Tensor:
        y = likelihood.y
        noise = randn((len(y), *prior.event_shape), generator=generator)
        for i in range(self.steps):
            if on_step is not None:
                on_step(Step(i, self.steps, 0, y, y))
        return self.answer(y, noise)


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Callable[..., Separator]:
    """A separator by the tiny prior: two steps of Wiener guidance, or a stub's answer."""
    loaded = load_prior(tiny_prior)
    wiener = load_preset("wiener", ["num_steps=2", "draws=2"])

    def build(
        answer: Callable[[Tensor, Tensor], Tensor] | None = None, draws: int = 2, **options: Any
    ) -> Separator:
        preset = replace(wiener, draws=draws)
        if answer is not None:
            preset = Preset("stub", Stub(answer), 1e-4, draws, {})
        batch_size = options.pop("batch_size", None)
        settings = {"device": "cpu", "precision": "float32", **options}
        separator = Separator(loaded, preset, **settings)
        if batch_size is not None:
            separator.batch_size = batch_size  # as on a GPU
        return separator

    return build


Make = Callable[..., Separator]


def stacked(stems: dict[str, Tensor]) -> Tensor:
    assert tuple(stems) == STEMS
    return torch.stack(list(stems.values()))


def residual_db(stems: dict[str, Tensor], mixture: Tensor) -> float:
    error = (stacked(stems).double().sum(0) - mixture).square().mean()
    return float(10 * (error / mixture.double().square().mean()).log10())


@pytest.mark.parametrize(
    ("channels", "time", "rate"),
    [
        (2, 20000, 44100),
        (1, 4000, 8000),
        (1, 10000, RATE),
        (1, 20000, 384000),
        (8, 5000, RATE),
        (1, 1, 44100),
        (2, 1, RATE),
        (1, 7, 384000),
        (1, 3000, 22051),
    ],
)
def test_stems_sum_to_the_mixture_and_have_its_shape(
    make: Make, channels: int, time: int, rate: int
) -> None:
    mixture = song(1, channels, time, rate)
    stems = make().separate(mixture, rate)
    for stem in stems.values():
        assert stem.shape == mixture.shape
        assert stem.dtype == torch.float32
        assert stem.isfinite().all()
    # float32's 24 bits are -144 dB; four stems, each possibly louder than the mixture, add a few.
    assert residual_db(stems, mixture) < -120


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
def test_a_mixture_is_left_as_it_is_where_that_is_asked(make: Make, gain: float) -> None:
    """To the last bit: on the way it is scaled by powers of two alone."""
    seen: list[Tensor] = []

    def answer(y: Tensor, noise: Tensor) -> Tensor:
        seen.append(y)
        return y.expand_as(noise) / 4

    mixture, separator = gain * song(1, 1, 6000, RATE), make(answer, draws=1, level="none")
    separator.separate_batch(mixture[None])
    separator.separate(mixture, RATE)
    for y in seen:
        assert torch.equal(y[0, :, :6000], mixture)
    assert len(seen) == 2
    assert separator.settings()["level"] == "none"
    with pytest.raises(UserError, match="level 'loud': choose one of rms, none"):
        make(level="loud")


def test_bfloat16_takes_nothing_from_the_sum(make: Make) -> None:
    mixture = song(1, 2, 9000, RATE)
    separator = make(precision="bfloat16")
    assert residual_db(separator.separate(mixture, RATE), mixture) < -120


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_silence_gives_silent_stems_and_asks_no_network(make: Make, rate: int) -> None:
    separator = make()
    stems = separator.separate(torch.zeros(2, 3000), rate)
    assert stacked(stems).count_nonzero() == 0
    assert separator.calls.forward == 0


def test_a_silent_channel_or_pause_is_shared_equally(make: Make) -> None:
    separator = make(segment=0.05, overlap=0.0, batch_size=8)
    mixture = song(1, 2, 5 * separator.segment, RATE)
    mixture[1] = 0
    mixture[0, separator.segment : 3 * separator.segment] *= 1e-5
    stems = stacked(separator.separate(mixture, RATE))
    assert stems[:, 1].count_nonzero() == 0
    pause = stems[:, 0, separator.segment : 3 * separator.segment]
    assert pause.abs().max() > 2e-7
    # The music around it leaves a rounding residual of 1e-8, whose share reaches into the pause.
    assert (pause - pause.mean(0)).abs().max() < 1e-8
    assert separator.calls.forward == 3 * 2  # segments that sound x steps; two draws in a batch


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make: Make) -> None:
    mixture = song(1, 2, 6000, RATE)
    a = stacked(make().separate(mixture, RATE, seed=5))
    state = torch.get_rng_state()
    b = stacked(make().separate(mixture, RATE, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a, b)
    c = stacked(make().separate(mixture, RATE, seed=6))
    assert (a - c).abs().max() > 1e-3


@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_the_batch_size_does_not_change_the_draws(make: Make, batch_size: int) -> None:
    mixture = song(1, 2, 6000, RATE)
    options = {"draws": 3, "segment": 0.2, "overlap": 0.05}
    a = make(**options, batch_size=6).separate(mixture, RATE, keep_draws=True)
    b = make(**options, batch_size=batch_size).separate(mixture, RATE, keep_draws=True)
    assert a.spread is not None
    assert b.spread is not None
    assert a.draws is not None
    assert b.draws is not None
    # Matrix products of another height are summed in another order, in float32.
    assert (stacked(a.stems) - stacked(b.stems)).abs().max() < 1e-5
    assert (stacked(a.spread.std) - stacked(b.spread.std)).abs().max() < 1e-5
    assert (a.draws - b.draws).abs().max() < 1e-5


def test_equal_channels_give_equal_stems(make: Make) -> None:
    mixture = song(1, 1, 6000, RATE)
    one = stacked(make().separate(mixture, RATE))
    three = stacked(make().separate(mixture.expand(3, -1), RATE))
    assert (three - one).abs().max() < 1e-5  # other matrix products, as above


def test_items_of_a_batch_share_their_random_numbers(make: Make) -> None:
    y = torch.ones(3, 1, 50)
    stems = stacked(make(lambda y, noise: noise).separate_batch(y))
    assert torch.equal(stems, stems[:, :1].expand_as(stems))
    assert stems[0, 0].std() > 0


def test_draws_are_averaged_and_the_residual_shared(make: Make) -> None:
    # The stub's answer is pure noise. Brought to sum to y, its mean over the draws is known: draw d
    # of 4 starts d / 4 frames before the segment.
    y = song(1, 2, 300, RATE)[:, None]
    separator = make(lambda y, noise: noise, draws=4, batch_size=3)
    stems = stacked(separator.separate_batch(y, seed=7, level=0.04)).transpose(0, 1)
    total = torch.zeros(2, 4, 300)
    for draw in range(4):
        source = generator_for(7, "segment", 0, "draw", draw)
        offset = draw * separator.hop // 4
        noise = randn((4, 300 + separator.hop), generator=source)[:, offset : offset + 300]
        total += noise - noise.mean(0)
    want = y / 4 + total / 4 * 0.04 / separator.loaded.mixture_rms
    assert (stems - want).abs().max() < 1e-6
    # A number of draws given outright replaces the preset's.
    one = stacked(separator.separate_batch(y, seed=7, level=0.04, draws=1)).transpose(0, 1)
    noise = randn((4, 300), generator=generator_for(7, "segment", 0, "draw", 0))
    want = y / 4 + (noise - noise.mean(0)) * 0.04 / separator.loaded.mixture_rms
    assert (one - want).abs().max() < 1e-6


def rms(x: Tensor, hop: int) -> Tensor:
    """Over windows of the last axis."""
    return torch.stack([part.square().mean(-1).sqrt() for part in x.split(hop, -1)], -1)


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_the_draws_that_are_kept_sum_to_the_mixture_and_spread_as_reported(
    make: Make, rate: int
) -> None:
    mixture = song(1, 2, 5 * rate // 22, rate)
    mixture[1] *= 0.1
    separator = make(draws=4, batch_size=3)
    blind = replace(separator.preset.sampler, covariance="isotropic")  # reports no deviation
    separator.preset = replace(separator.preset, sampler=blind)
    result = separator.separate(mixture, rate, keep_draws=True)
    assert result.draws is not None
    assert result.spread is not None
    assert result.draws.shape == (4, 4, *mixture.shape)
    for draw in result.draws:
        assert residual_db(dict(zip(STEMS, draw, strict=True)), mixture) < -120
    std = stacked(result.spread.over_time)
    assert std.shape == (4, 2, 3)
    assert result.spread.hop == 0.1
    if rate == RATE:  # resampling and what lies above the prior's band change draws one by one
        assert (stacked(result.stems) - result.draws.mean(0)).abs().max() < 1e-6
        assert (std - rms(result.draws.std(0), 2205)).abs().max() < 1e-6
    else:
        at_prior_s = resample(result.draws, rate, RATE)
        # The band between 0.93 of the prior's Nyquist frequency and the latter is lost on the way.
        assert (std / rms(at_prior_s.std(0), 2205) - 1).abs().max() < 0.1


def test_the_spread_does_not_need_the_draws_nor_change_the_stems(make: Make) -> None:
    mixture = song(1, 2, 6000, RATE)
    options = {"draws": 3, "segment": 0.2, "overlap": 0.05}
    kept = make(**options).separate(mixture, RATE, keep_draws=True)
    plain = make(**options).separate(mixture, RATE)
    assert plain.draws is None
    assert plain.spread is not None
    assert kept.spread is not None
    assert torch.equal(stacked(plain.stems), stacked(kept.stems))
    assert torch.equal(stacked(plain.spread.std), stacked(kept.spread.std))
    assert torch.equal(stacked(plain.stems), stacked(make(**options).separate(mixture, RATE)))


def test_a_single_draw_has_no_spread(make: Make) -> None:
    result = make(draws=1).separate(song(1, 1, 3000, RATE), RATE)
    assert result.spread is None
    assert result.confidence_db is None


@pytest.mark.parametrize("scale", [1.0, 2.0**20, 2.0**-20])
def test_the_spread_is_that_of_blended_draws_where_segments_overlap(
    make: Make, scale: float
) -> None:
    # White noise of variance 1 less the mean of four sources: 3/4. In the middle of an overlap two
    # independent draws, each by a half, leave half of the variance.
    separator = make(lambda y, noise: noise, draws=40, segment=0.6, overlap=0.2, batch_size=8)
    mixture = scale * 0.1 * torch.ones(1, RATE)
    result = separator.separate(mixture, RATE)
    assert result.spread is not None
    w = torch.sin(math.pi / 2 * (torch.arange(4410) + 0.5) / 4410) ** 2
    want = torch.ones(10)
    want[4:6] = ((1 - w) ** 2 + w**2).reshape(2, 2205).mean(1).sqrt()  # 0.4 to 0.6 s
    unit = math.sqrt(0.75) * 0.1 * scale / separator.loaded.mixture_rms
    # A standard deviation from 2205 x 39 degrees of freedom is good to 0.25 %: five of these.
    assert (stacked(result.spread.over_time)[:, 0] / unit / want - 1).abs().max() < 0.0125


@pytest.mark.parametrize("draws", [1, 40])
def test_what_a_draw_leaves_open_is_added_to_the_spread(make: Make, draws: int) -> None:
    """Equal draws that report white noise: its variance everywhere, and where segments overlap."""

    class Means(Stub):
        def sample(self, prior: Any, likelihood: Any, **options: Any) -> Tensor:
            y = likelihood.y
            noise = randn((len(y), *prior.event_shape), generator=options["generator"])
            options["on_step"](Step(0, 1, 0, y, y, noise))
            return torch.zeros_like(noise)

    loaded = make().loaded
    preset = Preset("means", Means(lambda y, noise: noise), 1e-4, draws, {})
    preset = replace(preset, options={"num_steps": 1, "amortised": True})
    options = {"device": "cpu", "precision": "float32", "segment": 0.6, "overlap": 0.2}
    result = Separator(loaded, preset, **options).separate(0.1 * torch.ones(1, RATE), RATE)
    assert result.spread is not None
    unit = 0.1 / loaded.mixture_rms
    # A standard deviation from n degrees of freedom is good to 1 / sqrt(2 n): five of these.
    bound = 5 / math.sqrt(2 * 2205 * draws)
    assert (stacked(result.spread.over_time)[:, 0] / unit - 1).abs().max() < bound
    assert result.confidence_db is not None
    power = float(result.stems["bass"].square().mean())  # a quarter of the mixture
    assert result.confidence_db["bass"] == pytest.approx(10 * math.log10(power / unit**2), abs=0.1)


def test_segments_have_random_numbers_of_their_own(make: Make) -> None:
    separator = make(lambda y, noise: noise, draws=1, segment=0.01, overlap=0.0)
    stems = stacked(separator.separate_batch(torch.ones(1, 1, 2 * separator.segment)))
    first, second = stems.split(separator.segment, -1)
    assert (first - second).abs().max() > 0.1


@pytest.mark.parametrize("overlap", [0.0, 0.01, 0.024])
@pytest.mark.parametrize("time", [50, 1102, 1103, 5000])
def test_a_sampler_of_constant_shares_is_stitched_without_a_seam(
    make: Make, overlap: float, time: int
) -> None:
    shares = torch.tensor([0.5, 0.4, 0.3, -0.2])
    separator = make(lambda y, noise: shares[:, None] * y, segment=0.05, overlap=overlap)
    mixture = song(1, 2, time, RATE)
    stems = stacked(separator.separate(mixture, RATE))
    assert (stems - shares[:, None, None] * mixture).abs().max() < 1e-6  # float32, peaks of 0.25


def test_a_sampler_that_ignores_the_mixture_gives_equal_shares(make: Make) -> None:
    mixture = song(1, 2, 2000, RATE)
    stems = stacked(make(lambda y, noise: torch.zeros_like(noise)).separate(mixture, RATE))
    assert (stems - mixture / 4).abs().max() < 1e-6


@pytest.mark.parametrize("rate", [RATE, 44100])
@pytest.mark.parametrize("gain", [2.0**-20, 2.0**9, 2.0**100, 0.3])
def test_the_level_of_a_file_does_not_matter(make: Make, gain: float, rate: int) -> None:
    mixture = song(1, 2, 6000, rate)
    a = stacked(make().separate(mixture, rate))
    b = stacked(make().separate(gain * mixture, rate)) / gain
    if gain == 0.3:  # is rounded, and the network's input with it
        assert (a - b).abs().max() < 1e-5
    else:
        assert torch.equal(a, b)


def test_the_network_hears_the_mixture_at_the_level_it_was_trained_on(make: Make) -> None:
    heard = []

    def listen(y: Tensor, noise: Tensor) -> Tensor:
        heard.append(y)
        return noise

    separator = make(listen, draws=1)
    y = torch.randn(1, 1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    y[..., RATE : 2 * RATE] *= 1e-3  # a pause: it does not count
    separator.separate_batch(5 * y)
    loud = torch.cat([heard[0][..., :RATE], heard[0][..., 2 * RATE :]], -1)
    assert float(loud.square().mean().sqrt()) == pytest.approx(0.08, rel=1e-5)


def test_the_active_level_is_that_of_seconds_within_40_db() -> None:
    x = torch.ones(2, 35)
    x[:, 10:20] *= 0.02
    x[:, 20:30] *= 0.005  # 46 dB down
    # Three of four "seconds" of ten samples, the last one cut short, count.
    assert float(active_level(x, 10)) == pytest.approx(((1 + 0.02**2 + 1) / 3) ** 0.5)
    assert float(active_level(torch.zeros(2, 35), 10)) == 0
    assert float(active_level(torch.full((1, 1), 0.5), 10)) == 0.5


def test_progress_rises_to_its_total(make: Make) -> None:
    mixture = song(1, 2, 4000, RATE)
    mixture[1, :1500] = 0
    separator = make(draws=3, batch_size=2, segment=0.05, overlap=0.01)
    seen: list[tuple[int, int]] = []
    separator.separate(mixture, RATE, on_progress=lambda *pair: seen.append(pair))
    done = [d for d, _ in seen]
    (total,) = {t for _, t in seen}
    assert done == sorted(done)
    assert 0 < done[0] < total
    assert done[-1] == total


def test_a_file_comes_with_a_report(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a song.wav"
    mixture = song(1, 2, 8820, 44100)
    soundfile.write(path, mixture.T.numpy(), 44100, "PCM_24")
    separator = make(batch_size=5, segment=0.5, overlap=0.1)
    result = separator.separate(path, seed=3, draws=3)
    assert result.sample_rate == 44100
    assert tuple(result.stems) == STEMS
    assert {stem.shape for stem in result.stems.values()} == {(2, 8820)}
    report = json.loads(json.dumps(result.report))
    assert report.pop("seconds") > 0
    assert report.pop("seconds_per_second") > 0
    assert len(report.pop("prior_sha256")) == 64
    assert len(report.pop("prior_config_sha256")) == 64
    assert report.pop("input_sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.pop("options")["num_steps"] == 2
    assert report == {
        "version": __version__,
        "input": "a song.wav",
        "missing": [],
        "sample_rate": 44100,
        "channels": 2,
        "samples": 8820,
        "prior": "tiny",
        "prior_revision": None,
        "sampler": "wiener",
        "noise_std": 1e-4,
        "own_code_sha256": None,
        "start_from": None,
        "speeds": [0.0],
        "published": "none",
        "draws": 3,
        "keep_draws": False,
        "two_stems": None,
        "chosen": None,
        "seed": 3,
        "segment_seconds": 0.5,
        "overlap_seconds": 0.1,
        "stereo": "channels",
        "level": "rms",
        "join": "crossfade",
        "batch_size": 5,
        "device": "cpu",
        "device_reason": "asked for",
        "precision": "float32",
        # 2 channels x 3 draws in batches of 5, two steps each.
        "denoiser_calls": {"forward": 4, "gradient": 0, "backward": 0},
    }
    again = separator.separate(path, draws=1)
    assert again.report["denoiser_calls"]["forward"] == 2  # of this file alone


def test_pretrained_takes_names_and_overrides(tiny_prior: Path) -> None:
    separator = Separator.from_pretrained(
        tiny_prior, "wiener", overrides=["num_steps=3", "draws=4"], device="cpu", batch_size=2
    )
    assert separator.stems == STEMS
    assert separator.preset.draws == 4
    assert separator.preset.options["num_steps"] == 3
    assert (separator.batch_size, separator.segment) == (1, 12 * RATE)  # it is a CPU


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"overlap": 6.0}, "overlap 6.0 s"),
        ({"overlap": -1.0}, "overlap -1.0 s"),
        ({"precision": "float16"}, "precision 'float16'"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"device": "meta"}, "device 'meta'"),
        ({"device": ""}, "device ''"),
    ],
)
def test_impossible_settings_are_refused(make: Make, options: dict[str, Any], want: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**options)
    assert want in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(100,), (1, 100), (1, 2, 100), (1, 1, 0)])
def test_a_mixture_of_another_shape_is_refused(make: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"give \[batch, 1, time >= 1\]"):
        make().separate_batch(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 0), (0, 100), (1, 1, 100)])
def test_samples_of_another_shape_are_refused(make: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"give \[channel, time >= 1\]"):
        make().separate(torch.zeros(shape), RATE)


def test_samples_need_their_rate_and_a_file_has_its_own(make: Make, tmp_path: Path) -> None:
    x = song(1, 1, 3000, RATE)
    with pytest.raises(UserError, match="give their sample_rate in Hz"):
        make().separate(x)
    for rate in (0, 99, 2_000_000):
        with pytest.raises(UserError, match=f"sample_rate {rate}: give 100 to 1000000 Hz"):
            make().separate(x, rate)
    soundfile.write(tmp_path / "a.wav", x[0].numpy(), RATE)
    with pytest.raises(UserError, match=f"has {RATE} Hz, not 44100; leave sample_rate out"):
        make().separate(tmp_path / "a.wav", 44100)
    want = make().separate(tmp_path / "a.wav")
    for same in (
        make().separate(str(tmp_path / "a.wav"), RATE),
        make().separate(want.mixture, RATE),
    ):
        assert torch.equal(stacked(same), stacked(want))


def test_former_names_warn_and_give_the_same(make: Make, tmp_path: Path) -> None:
    x = song(1, 1, 3000, RATE)
    soundfile.write(tmp_path / "a.wav", x[0].numpy(), RATE, "FLOAT")
    want = stacked(make().separate(x, RATE))
    with pytest.warns(DeprecationWarning, match=r"write separate\(samples, rate\).stems"):
        assert torch.equal(stacked(make().separate_audio(x, RATE)), want)
    with pytest.warns(DeprecationWarning, match=r"write separate\(samples, rate\)"):
        assert torch.equal(stacked(make().posterior(x, RATE)), want)
    with pytest.warns(DeprecationWarning, match=r"write separate\(path\)"):
        assert torch.equal(stacked(make().separate_file(tmp_path / "a.wav")), want)


def test_former_places_warn_and_lead_to_the_present_ones(make: Make, tmp_path: Path) -> None:
    moved = {"tracks": find_tracks, "layout": Layout, "streaming": separate_to_files}
    for place, thing in moved.items():
        module = importlib.import_module(f"mgdm_audio.audio.{place}")
        with pytest.warns(DeprecationWarning, match=f"import {thing.__name__} from "):
            assert getattr(module, thing.__name__) is thing
        with pytest.raises(AttributeError):
            module.__nothing__  # noqa: B018
    soundfile.write(tmp_path / "a.wav", song(1, 1, 3000, RATE)[0].numpy(), RATE, "FLOAT")
    layout = Layout(tmp_path / "o", "{track}/{stem}", "a")
    record = separate_to_files(make(), tmp_path / "a.wav", layout)
    want = make().separate(tmp_path / "a.wav").save(tmp_path / "want")
    assert list(record["files"].values()) == list(want["files"].values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused(make: Make, value: float) -> None:
    samples = song(1, 1, 6000, RATE)
    samples[0, 100] = value
    with pytest.raises(UserError, match="not all finite"):
        make().separate(samples, RATE)
    with pytest.raises(UserError, match="not all finite"):
        make().separate_batch(samples[None])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_samples_of_any_precision_are_separated_in_float32(make: Make, dtype: torch.dtype) -> None:
    samples = song(1, 1, 6000, 44100).to(dtype)
    want = make().separate(samples.float(), 44100)
    got = make().separate(samples.requires_grad_(), 44100)
    for stem in STEMS:
        assert torch.equal(got[stem], want[stem])
        assert not got[stem].requires_grad


def test_a_gradient_sampler_works_too(tiny_prior: Path) -> None:
    overrides = ["num_steps=5", "gibbs_steps=1", "denoise_steps=2", "vi_steps=2", "min_index=1"]
    separator = Separator.from_pretrained(tiny_prior, "mgdm", overrides=overrides, device="cpu")
    mixture = song(1, 1, 3000, RATE)
    stems = separator.separate(mixture, RATE)
    assert residual_db(stems, mixture) < -120
    assert separator.calls.gradient > 0
    assert MixtureSum(4)(stacked(stems).transpose(0, 1)).isfinite().all()


def test_only_the_network_runs_in_low_precision(make: Make) -> None:
    products = []

    def multiply(y: Tensor, noise: Tensor) -> Tensor:
        products.append((torch.ones(4, 1) @ y / 4).dtype)  # what a weighted operator does
        return y / 4 + 0 * noise

    mixture = song(1, 1, 3000, RATE)
    make(multiply, precision="bfloat16").separate(mixture, RATE)
    assert set(products) == {torch.float32}
    exact, rough = (
        stacked(make(precision=precision).separate(mixture, RATE))
        for precision in ("float32", "bfloat16")
    )
    assert 1e-6 < (exact - rough).abs().max() < 0.05


@pytest.mark.parametrize("time", [1, 800, 5000])
def test_a_network_gets_the_lengths_it_takes(make: Make, time: int) -> None:
    heard = []

    def listen(y: Tensor, noise: Tensor) -> Tensor:
        heard.append(y.shape[-1])
        return y / 4 + 0 * noise

    separator = make(listen, segment=0.05, overlap=0.01)  # 1102 samples
    loaded = separator.loaded
    network = UNet1d(replace(SMALL, factors=(32,)))  # x patch 4
    prior = replace(loaded.prior, denoiser=EDMDenoiser(network, 0.2))
    picky = Separator(
        replace(loaded, prior=prior), separator.preset, device="cpu", segment=0.05, overlap=0.01
    )
    mixture = song(1, 1, time, RATE)
    stems = stacked(picky.separate(mixture, RATE))
    assert (stems - mixture / 4).abs().max() < 1e-6
    assert {length % 128 for length in heard} == {0}
    assert max(heard) <= 1024


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), torch.OutOfMemoryError()]
)
def test_a_batch_too_large_for_the_memory_is_halved(make: Make, error: Exception) -> None:
    sizes = []

    def answer(y: Tensor, noise: Tensor) -> Tensor:
        sizes.append(len(y))
        if len(y) > 2:
            raise error
        return noise

    mixture = song(1, 2, 3000, RATE)
    options = {"draws": 5, "segment": 0.1, "overlap": 0.01}
    want = make(lambda y, noise: noise, **options, batch_size=1).separate(mixture, RATE)
    separator = make(answer, **options, batch_size=9)
    seen: list[tuple[int, int]] = []
    got = separator.separate(mixture, RATE, on_progress=lambda *pair: seen.append(pair))
    assert torch.equal(stacked(got), stacked(want))
    assert sizes[:3] == [9, 4, 2]
    assert set(sizes[3:]) == {2}  # it is not tried again
    assert separator.batch_size == 2
    assert seen[-1][0] == seen[-1][1]


def test_no_memory_for_a_single_draw_is_one_line(make: Make) -> None:
    def answer(y: Tensor, noise: Tensor) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(UserError, match="out of memory on cpu"):
        make(answer, batch_size=4).separate(song(1, 1, 3000, RATE), RATE)

    def broken(y: Tensor, noise: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")  # no lack of memory: a bug, which keeps its traceback

    with pytest.raises(RuntimeError, match="shapes differ"):
        make(broken, batch_size=4).separate(song(1, 1, 3000, RATE), RATE)
