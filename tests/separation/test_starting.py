"""Where a sampler starts: the stems of another preset, of the whole track, segment by segment."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch import Tensor

from mgdm_audio.audio.files import Given
from mgdm_audio.cli.main import main
from mgdm_audio.errors import UserError
from mgdm_audio.generation.generator import Generator
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.rng import randn
from mgdm_audio.samplers.presets import Preset, load_preset
from mgdm_audio.separation.separator import Separator
from tests.toys import song

RATE = 22050


@dataclass(frozen=True)
class Echo:
    """Its estimate is where it starts. Keeps the noise that it was given."""

    takes_start: bool = True
    noise: list[Tensor] = field(default_factory=list)

    def sample(
        self,
        prior: Any,
        likelihood: Any,
        *,
        generator: Any,
        x_T: Any = None,
        start: Any = None,
        on_step: Any = None,
    ) -> Tensor:
        shape = (len(likelihood.y), *prior.event_shape)
        self.noise.append(randn((len(likelihood.y), 4), generator=generator))
        if start is None:
            return torch.zeros(shape)
        assert start.shape == shape
        return start  # type: ignore[no-any-return]


Make = Callable[..., tuple[Separator, Separator]]


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Make:
    """A separator that echoes its start, and the separator of that start alone."""
    loaded = load_prior(tiny_prior)

    def build(draws: int = 1, **options: Any) -> tuple[Separator, Separator]:
        start = load_preset("wiener", ["num_steps=1", "draws=2", "separation.speeds=[0, -3]"])
        settings: dict[str, Any] = {"device": "cpu", "segment": 0.2, "overlap": 0.04} | options
        echo = Preset("echo", Echo(), 1e-4, draws, {}, start=start)
        alone = Separator(loaded, start, **{k: v for k, v in settings.items() if k != "speeds"})
        return Separator(loaded, echo, **settings), alone

    return build


@pytest.mark.parametrize(
    ("options", "channels", "time", "rate"),
    [
        ({}, 2, 9_000, RATE),
        ({"join": "condition"}, 1, 9_000, RATE),
        ({"level": "none"}, 1, 9_000, RATE),
        ({"draws": 2, "speeds": (0, 3)}, 2, 9_000, RATE),
        ({}, 2, 20_001, 44100),
        ({}, 1, 1, RATE),
    ],
)
def test_the_start_is_what_its_preset_alone_gives(
    make: Make, tmp_path: Path, options: dict[str, Any], channels: int, time: int, rate: int
) -> None:
    """At the speeds of its own, joined as asked for, and held in files."""
    mixture = song(1, channels, time, rate)
    echo, alone = make(**options)
    want = alone.separate(mixture, rate, seed=3)
    found = echo.separate(mixture, rate, seed=3, folder=tmp_path / "there")
    for stem, samples in want.stems.items():
        # Float32 sums: the residual is shared twice; at other speeds, filters of 500 taps.
        torch.testing.assert_close(found[stem], samples, rtol=0, atol=2e-6)
    assert found.report["denoiser_calls"] == want.report["denoiser_calls"]


def test_a_batch_starts_there_too(make: Make) -> None:
    mixture = song(1, 2, 9_000, RATE)[:, None]
    echo, alone = make()
    found, want = (separator.separate_batch(mixture, seed=3) for separator in (echo, alone))
    for stem, samples in want.items():
        torch.testing.assert_close(found[stem], samples, rtol=0, atol=2e-6)


def test_the_noise_is_not_that_of_which_the_start_was_made(make: Make) -> None:
    """Else the start's own error would be in the noise that is added to it."""
    noises = []
    for start in (load_preset("wiener", ["num_steps=1"]), None):
        separator, echo = make()[0], Echo()
        separator.preset = replace(separator.preset, sampler=echo, start=start)
        separator.separate(song(1, 1, 4000, RATE), RATE)
        noises.append(echo.noise[0])
    assert not torch.equal(*noises)


def test_progress_waits_for_the_start(make: Make) -> None:
    echo, _ = make()
    seen: list[tuple[int, int]] = []
    echo.separate(song(1, 1, 9_000, RATE), RATE, on_progress=lambda *pair: seen.append(pair))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1]


QUICK = ("num_steps=10", "gibbs_steps=1", "denoise_steps=2", "refine_from=0.7", "draws=2")


def test_the_command_refines_and_says_from_what(tiny_prior: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, song(1, 1, 9000, RATE).T.numpy(), RATE)

    def separate(out: str, *more: str) -> dict[str, Any]:
        words = ["separate", str(path), "-o", str(tmp_path / out), "--prior", str(tiny_prior)]
        words += ["--sampler", "mgdm-refine", "--device", "cpu"]
        sets = [word for option in QUICK for word in ("--set", option)]
        result = CliRunner().invoke(main, [*words, *sets, *more])
        assert result.exit_code == 0, result.output
        record = json.loads((tmp_path / out / "a/separation.json").read_text())
        return record | {"output": result.stdout}

    record, default = separate("out"), load_preset("default")
    assert record["start_from"].pop("stereo") == "image"
    assert record["start_from"] == json.loads(
        json.dumps(
            {
                "sampler": "default",
                "options": default.options,
                "noise_std": default.noise_std,
                "draws": default.draws,
                "separation": default.separation,
                "own_code_sha256": None,
            }
        )
    )
    # Two draws of one level at or below .7 with an s that counts, .2; two calls a sweep.
    assert record["denoiser_calls"]["forward"] == default.draws + 2 * 2
    assert "there already" in separate("out", "--skip-existing")["output"]
    other = separate("out", "--skip-existing", "--set", "start_from=wiener")
    assert "there already" not in other["output"]
    assert other["start_from"]["sampler"] == "wiener"
    assert other["files"] != record["files"]
    noise = separate("out", "--set", "start_from=none")
    assert noise["start_from"] is None
    assert noise["denoiser_calls"]["forward"] > 2 * 2 * 5  # from the top on


def test_where_nothing_is_separated_a_start_is_one_line(tiny_prior: Path) -> None:
    generator = Generator(load_prior(tiny_prior), load_preset("mgdm-refine"), device="cpu")
    given = Given({"bass": song(1, 1, 4000, RATE)}, RATE)
    with pytest.raises(
        UserError, match=r"mgdm-refine starts from the stems of default.*start_from=none"
    ):
        next(generator.impute(given))
