"""A separation's folder: what is in it, that it is whole, and that it spares the user's files."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.engine.device import Autocast
from mgdm_audio.errors import UserError
from mgdm_audio.output.result_folder import require_writable
from mgdm_audio.separation.result import Separation
from mgdm_audio.separation.uncertainty import Spread
from tests.toys import song

RATE, TIME = 1000, 250


@pytest.fixture
def separation() -> Separation:
    """Two stems of two channels, three draws whose mean they are; windows of 0.1 s."""
    mixture = song(0, 2, TIME, RATE)
    noise = 0.05 * torch.randn(3, 2, TIME, generator=torch.Generator().manual_seed(0))
    draws = torch.stack([0.25 * mixture + noise, 0.75 * mixture - noise], 1)
    stems = dict(zip(("bass", "drums"), draws.mean(0), strict=True))
    std = {"bass": torch.tensor([[0.3, 0.1, 0.2], [0.4, 0.1, 0.2]]), "drums": torch.zeros(2, 3)}
    shares = torch.tensor([0.6, 0.8])  # of two bands: their squares sum to 1
    spread = Spread({n: x[..., None] * shares for n, x in std.items()}, 0.1, (0.0, 200.0, 500.0))
    return Separation.of(mixture, stems, RATE, {"draws": 3}, spread, draws)


def changed(separation: Separation, **changes: Any) -> Separation:
    """The same but for what is named, as ``Separation.of`` takes it."""
    names = ("mixture", "stems", "sample_rate", "report", "spread", "draws")
    return Separation.of(**{name: getattr(separation, name) for name in names} | changes)


def sound(path: Path) -> Tensor:
    return torch.from_numpy(soundfile.read(path, always_2d=True)[0].T)


def test_confidence_compares_energies(separation: Separation) -> None:
    found = separation.confidence_db
    assert found is not None
    # The last window has half as many samples as the others.
    variance = ((0.09 + 0.16) / 2 + 0.01 + 0.04 / 2) / 2.5
    power = float(separation.stems["bass"].square().mean())
    assert found["bass"] == pytest.approx(10 * math.log10(power / variance), rel=1e-5)
    assert found["drums"] == pytest.approx(300)  # equal draws
    nothing = {"bass": torch.zeros(2, TIME)}
    quiet = Spread({"bass": torch.zeros(2, 3, 2)}, 0.1, (0.0, 200.0, 500.0))
    silent = changed(separation, stems=nothing, spread=quiet, draws=None)
    assert silent.confidence_db == {"bass": None}
    assert changed(separation, spread=None).confidence_db is None


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_every_draw_sums_to_the_mixture_in_every_format(
    separation: Separation, tmp_path: Path, subtype: str
) -> None:
    record = separation.save(tmp_path / "a", subtype)
    assert record == json.loads((tmp_path / "a" / "separation.json").read_text())
    assert (record["subtype"], record["gain"], record["draws"]) == (subtype, 1.0, 3)
    step = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 2.0**-24}[subtype]
    folders = [tmp_path / "a", *(tmp_path / "a" / "samples" / str(i) for i in range(3))]
    assert separation.draws is not None
    wholes = [torch.stack(list(separation.stems.values())), *separation.draws]
    for folder, stems in zip(folders, wholes, strict=True):
        read = torch.stack([sound(folder / f"{stem}.wav") for stem in ("bass", "drums")])
        assert (read - stems).abs().max() <= step
        # The sum is the mixture to half a step, and to the rounding of two float32 stems.
        assert (read.sum(0) - separation.mixture).abs().max() <= step / 2 + 2.0**-24


def test_a_gain_against_clipping_is_common_to_all_that_is_written(
    separation: Separation, tmp_path: Path
) -> None:
    draws = separation.draws
    assert draws is not None
    draws = draws.clone()
    draws[1, 0, 0, 7] += 3  # one draw alone would clip
    draws[1, 1, 0, 7] -= 3
    record = changed(separation, draws=draws).save(tmp_path / "a", "PCM_16")
    gain = record["gain"]
    assert 0.25 < gain < 0.4
    for folder in (tmp_path / "a", tmp_path / "a" / "samples" / "1"):
        total = sound(folder / "bass.wav") + sound(folder / "drums.wav")
        assert (total - gain * separation.mixture).abs().max() <= 2.0**-16 + 1e-7
    uncertainty = json.loads((tmp_path / "a" / "uncertainty.json").read_text())
    joined = [math.sqrt((0.09 + 0.16) / 2), 0.1, 0.2]
    assert uncertainty["std"]["bass"] == pytest.approx([gain * v for v in joined], rel=5e-3)
    assert uncertainty["std"]["drums"] == [0, 0, 0]


def test_what_an_earlier_result_left_is_replaced_and_the_user_s_files_stay(
    separation: Separation, tmp_path: Path
) -> None:
    separation.save(tmp_path / "a")
    mine = [tmp_path / "a" / name for name in ("notes.txt", "samples/1/notes.txt", "bass.flac")]
    for path in mine:
        path.write_text("mine")
    draws = separation.draws
    assert draws is not None
    changed(separation, draws=draws[:1]).save(tmp_path / "a")
    names = {str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*.*")}
    written = {"bass.wav", "drums.wav", "separation.json", "uncertainty.json"}
    kept = {"notes.txt", "samples/1/notes.txt", "bass.flac"}
    assert names == written | kept | {"samples/0/bass.wav", "samples/0/drums.wav"}
    for path in mine:
        path.unlink()
    changed(separation, draws=None).save(tmp_path / "a")
    assert not (tmp_path / "a" / "samples" / "0").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_nothing_is_left_of_a_result_that_cannot_be_written(
    separation: Separation, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("kept")
    with pytest.raises(UserError, match="cannot be written"):
        separation.save(tmp_path / "a")
    with pytest.raises(UserError, match="cannot be written"):
        require_writable(tmp_path / "a")
    stems = {name: stem.clone() for name, stem in separation.stems.items()}
    stems["bass"][0, 0] = float("nan")
    broken = changed(separation, mixture=separation.mixture * float("nan"), stems=stems)
    with pytest.raises(UserError, match="nan"):
        broken.save(tmp_path / "b", "FLOAT")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "kept"


class Products:
    """A network that says in what precision it multiplies."""

    hop = 7

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x @ x.mT

    def posterior(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return x @ x.mT, x


def test_autocast_surrounds_the_network_s_calls_and_nothing_else() -> None:
    x, sigma = torch.ones(1, 2, 3), torch.ones(())
    network = Autocast(Products(), "cpu", torch.bfloat16)
    assert network(x, sigma).dtype == torch.bfloat16
    assert network.posterior(x, sigma)[0].dtype == torch.bfloat16
    assert (x @ x.mT).dtype == torch.float32
    assert network.hop == 7
    # Samplers ask whether there is a posterior.
    assert not hasattr(Autocast(lambda x, sigma: x, "cpu", torch.bfloat16), "posterior")


def test_nothing_is_touched_where_not_all_can_be_replaced(
    separation: Separation, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    changed(separation, draws=None).save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "samples").write_text("the user's own")  # where the draws have to go
    with pytest.raises(UserError, match="cannot be written"):
        separation.save(folder, "PCM_16")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after == before | {"samples": b"the user's own"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_unknown_format_is_named(separation: Separation, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format wav has no subtype 'PCM_32'; use PCM_16"):
        separation.save(tmp_path / "a", "PCM_32")
    assert not (tmp_path / "a").exists()


def test_confidence_is_the_si_sdr_of_the_mean_of_many_draws() -> None:
    """Truth and draws from one Gaussian: the mean of N errs by std^2 (1 + 1 / N)."""
    n, time = 400, 20_000
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(1, time, generator=generator)
    draws = center + 0.3 * torch.randn(n, 1, time, generator=generator)
    truth = center + 0.3 * torch.randn(1, time, generator=generator)
    std = draws.std(0).square().mean().sqrt().expand(1, 1, 1)
    spread = Spread({"bass": std}, 1.0, (0.0, time / 2))
    found = Separation.of(center, {"bass": draws.mean(0)}, time, {"draws": n}, spread)
    assert found.confidence_db is not None
    error = (draws.mean(0) - truth).square().mean()
    sdr = 10 * math.log10(float(center.square().mean() / error))
    # 20,000 samples: a hundredth of the energies, .05 dB; 1 / N is .01 dB.
    assert found.confidence_db["bass"] == pytest.approx(sdr, abs=0.2)
