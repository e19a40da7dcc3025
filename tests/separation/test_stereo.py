"""The stems of two channels from those of their mean and a rougher estimate of each channel."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor

from mgdm_audio.cli.main import main
from mgdm_audio.errors import UserError
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.samplers import Step
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.separator import Separator
from mgdm_audio.separation.stereo import WIDTH, placed
from tests.toys import STEMS, song

RATE = 22050
PANS = torch.tensor([-0.6, 0.5])
MEANS = {"num_steps": 1, "amortised": True}  # options of a sampler whose draws are means


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def panned(mid: Tensor, pans: Tensor) -> Tensor:
    """[2, sources, time] of sources [sources, time]."""
    side = pans[:, None] * mid
    return torch.stack([mid + side, mid - side])


def test_exact_estimates_are_returned() -> None:
    """The innovation is 0, so that the conditional mean is (m_k, s_k)."""
    truth = panned(noise(2, 9000), PANS)
    mid, side = truth.mean(0), (truth[0] - truth[1]) / 2
    found = placed(mid, side, truth.sum(1), RATE)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)  # float32, two transforms


def test_the_stems_sum_to_the_mixture_of_each_channel() -> None:
    mixture, mid = noise(2, 9000), noise(3, 9000, seed=1)
    mid = mid + (mixture.mean(0) - mid.sum(0)) / 3
    found = placed(mid, noise(3, 9000, seed=2), mixture, RATE)
    torch.testing.assert_close(found.sum(1), mixture, rtol=0, atol=1e-6)


def test_equal_channels_have_the_stems_of_their_mean() -> None:
    mid = noise(3, 5000)
    found = placed(mid, noise(3, 5000, seed=1), mid.sum(0).expand(2, -1), RATE)
    assert torch.equal(found[0], mid)
    assert torch.equal(found[1], mid)


def test_the_side_corrects_errors_of_the_mid_by_the_closed_form() -> None:
    """Of an error e that two sources exchange, with pans p and q, 4 u / ((p - q)^2 + 4 u) is left.

    The variances V_k of two sources are equal, v_1 v_2 / (v_1 + v_2), but for the last share of
    1e-3 v_k; and the pans are known, as the side that is given is that of the mid that is given.
    """
    truth, error = noise(2, 60_000), 0.3 * noise(60_000, seed=1)
    mid = truth + torch.stack([error, -error])
    found = placed(mid, PANS[:, None] * mid, panned(truth, PANS).sum(1), RATE)
    left = found.mean(0) - truth
    distance = float((PANS[0] - PANS[1]) ** 2)
    want = 4 * WIDTH / (distance + 4 * WIDTH)
    assert float(left.norm() / (mid - truth).norm()) == pytest.approx(want, rel=0.05)


@pytest.mark.parametrize("gain", [-0.99, -0.995, -0.999, -0.9999])
@pytest.mark.parametrize("sources", [1, 4])
def test_channels_that_are_nearly_opposite_have_finite_stems(gain: float, sources: int) -> None:
    """Their pans are up to 2e4, so that a determinant of float32 numbers would cancel."""
    shares = torch.arange(1.0, sources + 1)[:, None]
    x = shares / shares.sum() * noise(1, 9000)
    truth = torch.stack([x, gain * x])
    found = placed(truth.mean(0), (truth[0] - truth[1]) / 2, truth.sum(1), RATE)
    # A pan of 2e4 loses four of the seven digits of float32.
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-2)


def test_a_silent_channel_has_silent_stems() -> None:
    mid = noise(3, 5000)
    mixture = torch.stack([2 * mid.sum(0), torch.zeros(5000)])
    found = placed(mid, noise(3, 5000, seed=1), mixture, RATE)
    assert torch.equal(found, torch.stack([2 * mid, 0 * mid]))


def test_a_side_that_no_pan_explains_is_kept() -> None:
    """With w_k = 1, d_k keeps 1 - ERROR of itself, where its source is alone."""
    time = torch.arange(30_000) / RATE
    low, high = noise(30_000), (torch.sin(2 * torch.pi * 9000 * time) / 10)
    low = torch.fft.irfft(torch.fft.rfft(low) * (torch.arange(15_001) < 2000), 30_000)
    mid = torch.stack([low, high])
    wide = torch.fft.irfft(1j * torch.fft.rfft(low), 30_000)  # as loud, and orthogonal in each bin
    side = torch.stack([wide, 0 * high])
    truth = torch.stack([mid + side, mid - side])
    found = placed(mid, side, truth.sum(1), RATE)
    error = (found - truth).norm() / side.norm()
    assert float(error) < 0.05  # ERROR, of which the innovation gives back the most


@pytest.mark.parametrize("time", [1, 1000, 1024, 1025, 9 * 1024 + 512, 9 * 1024 + 1022, 10239])
def test_the_end_is_as_if_silence_followed(time: int) -> None:
    """Also where the last of the frames, 1024 samples apart, begins just before it."""
    mid, side = noise(3, time), 0.3 * noise(3, time, seed=1)
    mixture = torch.stack([mid.sum(0), mid.sum(0)]) + torch.stack([side[0], -side[0]])
    longer = placed(*(F.pad(x, (0, 4096)) for x in (mid, side, mixture)), RATE)
    # The floor of the powers is relative to their mean, which the silence lowers.
    torch.testing.assert_close(
        placed(mid, side, mixture, RATE), longer[..., :time], rtol=0, atol=1e-5
    )


@dataclass(frozen=True)
class Share:
    """A stub whose stems are fixed shares of the mixture; it counts what it was given."""

    seen: list[Tensor]

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
        self.seen.append(y)
        if on_step is not None:
            on_step(Step(0, 1, 0, y, y))
        return y * torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Callable[..., tuple[Separator, list[Tensor]]]:
    loaded = load_prior(tiny_prior)

    def build(draws: int = 3, **options: Any) -> tuple[Separator, list[Tensor]]:
        seen: list[Tensor] = []
        preset = Preset("share", Share(seen), 1e-4, draws, dict(MEANS))
        settings = {"device": "cpu", "speeds": (0, -3, 3), "level": "none"} | options
        return Separator(loaded, preset, **settings), seen

    return build


Make = Callable[..., tuple[Separator, list[Tensor]]]


def stacked(stems: Mapping[str, Tensor]) -> Tensor:
    assert tuple(stems) == STEMS
    return torch.stack(list(stems.values()))


@pytest.mark.parametrize(
    ("draws", "stereo", "right", "calls"),
    [
        (3, "auto", 0.4, 4),  # both channels at their own speed, their mean at two others
        (1, "auto", 0.4, 2),
        (6, "image", 0.4, 8),
        (3, "channels", 0.4, 6),
        (3, "auto", 1.0, 3),  # one of equal channels
    ],
)
def test_the_mean_alone_is_drawn_at_other_speeds(
    make: Make, draws: int, stereo: str, right: float, calls: int
) -> None:
    separator, seen = make(draws, stereo=stereo)
    mixture = song(1, 1, 9000, RATE) * torch.tensor([[1.0], [right]])
    found = separator.separate(mixture, RATE)
    assert len(seen) == calls
    assert found.report["stereo"] == ("channels" if stereo == "channels" else "image")
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    # Every side is its mid's with one pan, so that the innovation is 0. Resampling and the
    # transforms keep the shares, but for rounding: filters of 500 taps in float32.
    torch.testing.assert_close(stacked(found.stems), shares * mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("other", [1.0, 0.0, -1.0])
def test_equal_silent_and_opposite_channels(tiny_prior: Path, other: float) -> None:
    """Under a network the stems are finite and sum to the mixture; of equal ones they are equal."""
    overrides = ["num_steps=1", "draws=3", "separation.speeds=[0, -3, 3]"]
    separator = Separator.from_pretrained(tiny_prior, "wiener", overrides=overrides, device="cpu")
    left = song(1, 1, 9000, RATE)
    found = separator.separate(torch.cat([left, other * left]), RATE)
    stems = stacked(found.stems)
    torch.testing.assert_close(stems.sum(0), found.mixture, rtol=0, atol=1e-5)
    assert found.confidence_db is not None
    assert None not in found.confidence_db.values()
    if other == 1:
        torch.testing.assert_close(stems[:, 0], stems[:, 1], rtol=0, atol=0)
        alone = stacked(separator.separate(left, RATE).stems)
        torch.testing.assert_close(stems[:, :1], alone, rtol=0, atol=1e-6)  # shared twice


def test_files_and_segments_do_not_matter(tiny_prior: Path, tmp_path: Path) -> None:
    """A long track by three workers from a file, and in memory by one."""
    overrides = ["num_steps=1", "draws=2", "separation.speeds=[0, -3]"]
    separator = Separator.from_pretrained(
        tiny_prior, "wiener", overrides=overrides, device="cpu", segment=0.2, overlap=0.04
    )
    mixture = song(1, 2, 30_000, 44100)
    soundfile.write(tmp_path / "a.wav", mixture.T.numpy(), 44100, "FLOAT")
    want = stacked(separator.separate(mixture, 44100).stems)
    separator.workers = 3
    with separator.separate(tmp_path / "a.wav", folder=tmp_path / "there") as found:
        assert torch.equal(stacked(found.stems), want)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"join": "condition"}, "stereo image needs join crossfade; use stereo channels"),
        ({"keep_draws": True}, "stereo image needs no draws that are kept; use stereo channels"),
        ({"speeds": None, "means": False}, "stereo image needs a sampler whose draws are cond"),
    ],
)
def test_where_it_does_not_apply(tiny_prior: Path, options: dict[str, Any], message: str) -> None:
    """It is refused if asked for; else the channels are separated."""
    keep, means = options.pop("keep_draws", False), options.pop("means", True)
    preset = load_preset("wiener", ["num_steps=1" if means else "num_steps=2"])
    mixture = song(1, 2, 3000, RATE)
    with pytest.raises(UserError, match=message):
        Separator(load_prior(tiny_prior), preset, stereo="image", **options).separate(
            mixture, RATE, keep_draws=keep
        )
    auto = Separator(load_prior(tiny_prior), preset, **options)
    assert auto.separate(mixture, RATE, keep_draws=keep).report["stereo"] == "channels"


def test_another_choice_separates_again(tiny_prior: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", song(1, 2, 3000, RATE).T.numpy(), RATE)
    words = ["separate", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "--skip-existing"]
    words += ["--prior", str(tiny_prior), "--sampler", "wiener", "--set", "num_steps=1"]

    def record(*more: str) -> tuple[str, int]:
        assert CliRunner().invoke(main, [*words, *more]).exit_code == 0
        path = tmp_path / "out/a/separation.json"
        return json.loads(path.read_text())["stereo"], path.stat().st_mtime_ns

    first = record()
    assert first[0] == "image"
    assert record() == first  # unchanged
    assert record("--stereo", "channels")[0] == "channels"


def test_the_command_refuses_it_in_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", song(1, 2, 3000, RATE).T.numpy(), RATE)
    words = ["separate", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "--stereo", "image"]
    words += ["--prior", str(tiny_prior), "--sampler", "wiener"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "stereo image needs a sampler whose draws are conditional means" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
