"""Stems out of a prior: what holds for any prior, and the exact posterior under a Gaussian one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.files import Given, read_given
from mgdm_audio.diffusion import GaussianDenoiser, NoiseSchedule, Prior
from mgdm_audio.errors import UserError
from mgdm_audio.generation.generator import MAX_SECONDS, Generator, Sample, expected_level
from mgdm_audio.priors.folder import LoadedPrior, load_prior
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation.segments import active_level
from tests.toys import STEMS, song

RATE = 22050
Make = Callable[..., Generator]


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Make:
    loaded = load_prior(tiny_prior)

    def build(sampler: str = "ancestral", **options: Any) -> Generator:
        preset = load_preset(sampler, ["num_steps=4"])
        return Generator(loaded, preset, device="cpu", precision="float32", **options)

    return build


def given(*names: str, channels: int = 1, time: int = 3000, rate: int = RATE) -> Given:
    stems = {name: song(i, channels, time, rate) for i, name in enumerate(names)}
    return Given(stems, rate, {name: f"{name}.wav" for name in names})


def stacked(sample: Sample) -> Tensor:
    return torch.stack(list(sample.stems.values()))


def test_all_stems_come_from_nothing_at_the_length_asked_for(make: Make) -> None:
    (sample,) = make().generate(0.1)
    assert tuple(sample.stems) == STEMS
    assert stacked(sample).shape == (4, 1, 2205)
    assert (sample.sample_rate, sample.given) == (RATE, frozenset())
    assert sample.report["denoiser_calls"] == {"forward": 3, "gradient": 0, "backward": 0}
    assert torch.equal(sample.mixture, stacked(sample).double().sum(0).float())


@pytest.mark.parametrize("sampler", ["ancestral", "impute"])
def test_a_sample_is_a_function_of_its_seed_and_number(make: Make, sampler: str) -> None:
    def draw(batch_size: int, seed: int = 0) -> list[Tensor]:
        generator = make(sampler)
        generator.batch_size = batch_size  # as on a GPU
        if sampler == "impute":
            drawn = generator.impute(given("drums"), samples=3, seed=seed)
        else:
            drawn = generator.generate(0.1, samples=3, seed=seed)
        return [stacked(sample) for sample in drawn]

    state = torch.get_rng_state()
    alone = draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(alone, draw(1), strict=True))
    for a, b in zip(alone, draw(3), strict=True):
        # Convolutions round differently for a batch of 3: float32, a few calls.
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(a.abs().max()))
    assert not torch.allclose(alone[0], alone[1])
    assert not torch.allclose(alone[0], draw(1, seed=1)[0])


@pytest.mark.parametrize(("channels", "rate"), [(1, RATE), (2, 44100), (3, 8000)])
def test_given_stems_come_out_as_they_were(make: Make, channels: int, rate: int) -> None:
    put_in = given("piano", "bass", channels=channels, time=2001, rate=rate)
    (sample,) = make("impute").impute(put_in)
    assert tuple(sample.stems) == STEMS
    assert stacked(sample).shape == (4, channels, 2001)
    assert sample.given == {"bass", "piano"}
    for name, stem in put_in.stems.items():
        assert torch.equal(sample.stems[name], stem)
    for name in ("drums", "guitar"):
        made = sample.stems[name]
        assert made.abs().max() > 0
        assert torch.equal(made, made[:1].expand_as(made))
    assert sample.report["given"] == ["bass", "piano"]


def test_the_level_of_the_given_stems_is_the_level_of_all(make: Make) -> None:
    generator = make("impute")
    loud = given("bass", "drums")
    quiet = Given({name: x / 64 for name, x in loud.stems.items()}, RATE)
    (a,), (b,) = generator.impute(loud), generator.impute(quiet)
    # A power of two rounds nothing, and the level is brought to the prior's in either case.
    torch.testing.assert_close(stacked(a), 64 * stacked(b), rtol=1e-4, atol=1e-6)
    heard = sum(loud.stems.values(), start=torch.zeros(1, 3000))
    scale = generator.loaded.network.scale.double()[:2]
    want = scale.square().mean(1).sum().sqrt() / active_level(heard, RATE)
    assert a.report["level_gain"] == pytest.approx(float(want), rel=1e-5)
    silent = Given({"bass": torch.zeros(1, 3000)}, RATE)
    (c,) = generator.impute(silent)
    assert c.report["level_gain"] == 1
    assert c.stems["drums"].isfinite().all()


def test_without_a_scale_stems_share_the_mixture_s_level_equally(gaussian: LoadedPrior) -> None:
    assert expected_level(gaussian, ("b",)) == pytest.approx(0.2 / 3**0.5)


SOURCES, TIME = 3, 8


@pytest.fixture
def gaussian() -> LoadedPrior:
    """Three sources at 8 Hz, correlated over sources and time."""
    root = torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser = GaussianDenoiser(0.04 * root @ root.T / 24 + 1e-3 * torch.eye(24))
    prior = Prior(denoiser, NoiseSchedule.karras(), (SOURCES, TIME))
    return LoadedPrior(prior, "gaussian", ("a", "b", "c"), TIME, 0.2, {}, Path(), "")


def test_under_a_gaussian_prior_what_is_missing_is_the_exact_conditional(
    gaussian: LoadedPrior,
) -> None:
    n = 256
    options = ["covariance=reported", "project=true", "gibbs_steps=4", "denoise_steps=10"]
    preset = load_preset("mgdm-covariance", [*options, "num_steps=20"])
    generator = Generator(gaussian, preset, device="cpu", precision="float32")
    generator.batch_size = n
    y = 0.2 * torch.randn(2, 1, TIME, generator=torch.Generator().manual_seed(1))
    drawn = list(generator.impute(Given({"c": y[1], "a": y[0]}, TIME), samples=n))
    gain = drawn[0].report["level_gain"]
    assert gain == pytest.approx(0.2 * (2 / 3) ** 0.5 / float(y.sum(0).square().mean().sqrt()))
    draws = gain * torch.stack([sample.stems["b"][0] for sample in drawn]).double()
    c = gaussian.prior.denoiser.covariance  # type: ignore[attr-defined]
    known, missing = [*range(8), *range(16, 24)], [*range(8, 16)]
    inverse = torch.linalg.inv(c[known][:, known])
    mean = c[missing][:, known] @ inverse @ (gain * y.double().flatten())
    covariance = c[missing][:, missing] - c[missing][:, known] @ inverse @ c[known][:, missing]
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (draws - mean).T, upper=False)
    # Five standard errors of 256 draws are .31 and .44 (of a variance), and the sweeps' bias is
    # less. Blind to the given stems, draws would have the mean 0, which lies far off.
    assert float(white.mean(1).abs().max()) < 5 / n**0.5
    assert float((white @ white.T / n - torch.eye(8)).abs().max()) < 5 * (2 / n) ** 0.5
    blind = torch.linalg.solve_triangular(root, mean[:, None], upper=False)
    assert float(blind.abs().max()) > 1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_the_folder_holds_the_stems_their_sum_and_the_record(
    make: Make, tmp_path: Path, subtype: str
) -> None:
    put_in = given("bass", channels=2)
    on_grid = Given({"bass": (put_in.stems["bass"] * 2**15).round() / 2**15}, RATE, put_in.inputs)
    (sample,) = make("impute").impute(on_grid)
    record = sample.save(tmp_path / "a", subtype)
    assert record == json.loads((tmp_path / "a" / "sample.json").read_text())
    assert {"prior_sha256", "options", "seed", "seconds", "version"} <= record.keys()
    assert (record["input"], record["gain"]) == ({"bass": "bass.wav"}, 1.0)
    names = sorted([*(f"{stem}.wav" for stem in STEMS), "mixture.wav", "sample.json"])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    read = {
        name: torch.from_numpy(soundfile.read(tmp_path / "a" / f"{name}.wav")[0].T)
        for name in (*STEMS, "mixture")
    }
    assert torch.equal(read["bass"].float(), on_grid.stems["bass"])
    step = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 2.0**-23}[subtype]
    total = torch.stack([read[stem] for stem in STEMS]).sum(0)
    # Half a step of rounding for each of three generated stems and the sum.
    assert (read["mixture"] - record["mixture_gain"] * total).abs().max() <= 2 * step
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_given_stems_are_never_lowered(tmp_path: Path) -> None:
    stems = {"bass": torch.full((1, 9), 0.75), "drums": torch.full((1, 9), -1.5)}
    stems["drums"][0, 0] = 1.5
    record = Sample(stems, frozenset({"bass"}), RATE, {}).save(tmp_path / "a", "PCM_16")
    assert record["gain"] == pytest.approx(1 / 1.5, rel=1e-3)
    assert record["mixture_gain"] == pytest.approx(1 / 1.75, rel=1e-3)
    read = {path.stem: soundfile.read(path)[0] for path in (tmp_path / "a").glob("*.wav")}
    assert read["bass"].tolist() == [0.75] * 9
    assert read["mixture"][0] == pytest.approx(1, abs=1e-3)


def test_impossible_requests_are_refused(make: Make) -> None:
    for seconds in (0.0, -1.0, 1e-9, MAX_SECONDS + 1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"seconds: give a length of up to 120"):
            make().generate(seconds)
    with pytest.raises(UserError, match="sampler impute needs given stems; use ancestral"):
        make("impute").generate(0.1)
    with pytest.raises(UserError, match="sampler ancestral takes no given stems; use impute"):
        make().impute(given("bass"))
    for names in ([], STEMS, ["flute"]):
        with pytest.raises(UserError, match="give some of bass, drums, guitar, piano"):
            make("impute").impute(given(*names))
    long = Given({"bass": torch.zeros(1, int(MAX_SECONDS) + 1)}, 1)
    with pytest.raises(UserError, match=r"121.0 s: give at most 120 s"):
        make("impute").impute(long)
    with pytest.raises(UserError, match="needs a MixtureSum, got KnownSources"):
        list(make("default").impute(given("bass")))


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    def put(name: str, channels: int = 1, time: int = 100, rate: int = 8000) -> Path:
        soundfile.write(tmp_path / name, song(0, channels, time, rate).T.numpy(), rate)
        return tmp_path / name

    a = put("a.wav")
    found = read_given({"bass": a}, STEMS)
    assert (found.stems["bass"].shape, found.sample_rate) == ((1, 100), 8000)
    assert found.inputs == {"bass": "a.wav"}
    for other, says in (
        (put("b.wav", rate=9000), "b.wav: 9000 Hz, but .*a.wav has 8000"),
        (put("c.wav", time=99), "c.wav: 99 samples, but .*a.wav has 100"),
        (put("d.wav", channels=2), "d.wav: 2 channels, but .*a.wav has 1"),
        (tmp_path / "none.wav", "none.wav"),
    ):
        with pytest.raises(UserError, match=says):
            read_given({"bass": a, "drums": other}, STEMS)
    with pytest.raises(UserError, match="no stem 'bas'; did you mean bass"):
        read_given({"bas": a}, STEMS)
    with pytest.raises(UserError, match="all stems are given"):
        read_given(dict.fromkeys(STEMS, a), STEMS)
