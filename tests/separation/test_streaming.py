"""Files of any length: the samples of the whole track at once, in memory that does not grow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mgdm_audio.audio.decoding import sndfile
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Reading
from mgdm_audio.audio.store import Spool
from mgdm_audio.errors import UserError
from mgdm_audio.output.layout import Layout
from mgdm_audio.priors.folder import load_prior
from mgdm_audio.samplers.presets import load_preset
from mgdm_audio.separation import pipeline
from mgdm_audio.separation import residual as bandwidth
from mgdm_audio.separation.separator import Separator
from tests.toys import STEMS, song

RATE = 22050
Make = Callable[..., Separator]


@pytest.fixture(scope="module")
def make(tiny_prior: Path) -> Make:
    """Segments of 0.3 s, so that a short file has many."""
    loaded, preset = load_prior(tiny_prior), load_preset("wiener", ["num_steps=1", "draws=2"])

    def build(**options: Any) -> Separator:
        settings = {"device": "cpu", "precision": "float32", "segment": 0.3, "overlap": 0.05}
        return Separator(loaded, preset, **{**settings, **options})

    return build


def shorten_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """To some thousand samples, so that a short file has many."""
    monkeypatch.setattr(bandwidth, "_BLOCK", 2**13)
    monkeypatch.setattr(pipeline, "_SECONDS", 1)
    monkeypatch.setattr(sndfile, "_BLOCK", 3000)


@pytest.fixture
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_spans(monkeypatch)


def put(folder: Path, channels: int, time: int, rate: int, gain: float = 1.0) -> Path:
    path = folder / "a.wav"
    samples = gain * song(1, channels, time, rate)
    soundfile.write(path, samples.T.numpy(), rate, "FLOAT", format="WAV")
    return path


def separate_to_files(
    separator: Separator, path: Path, layout: Layout, subtype: str = "PCM_24", **how: Any
) -> dict[str, Any]:
    """As the command does: what lies between waits in temporary files."""
    with separator.separate(path, folder=layout.root, **how) as found:
        return found.save(layout, subtype)


def sound(path: Path) -> Tensor:
    return torch.from_numpy(soundfile.read(path, always_2d=True)[0].T)


@pytest.mark.parametrize("two_stems", [None, "drums"])
@pytest.mark.parametrize(
    ("channels", "time", "rate", "gain", "level", "join"),
    [
        (2, 60_001, 44100, 1.0, "rms", "crossfade"),
        (1, 30_000, RATE, 1.0, "none", "condition"),
        (2, 25_000, 22051, 1e-3, "rms", "crossfade"),  # phases from a table
        (1, 9_000, 8000, 4.0, "none", "condition"),
        (1, 1, 44100, 1.0, "rms", "condition"),
        (2, 9_000, RATE, 0.0, "rms", "condition"),
    ],
)
def test_the_samples_are_those_of_the_whole_track_at_once(
    make: Make,
    tmp_path: Path,
    channels: int,
    time: int,
    rate: int,
    gain: float,
    level: str,
    join: str,
    two_stems: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = put(tmp_path, channels, time, rate, gain)
    options = {"level": level, "join": join}
    whole = make(**options).separate(path, seed=3, keep_draws=True)
    whole = whole if two_stems is None else whole.two_stems(two_stems)
    want = whole.save(tmp_path / "whole", "FLOAT")
    layout = Layout(tmp_path, "blocks/{stem}", "a")
    shorten_spans(monkeypatch)
    how: dict[str, Any] = {
        "subtype": "FLOAT",
        "seed": 3,
        "keep_draws": True,
        "two_stems": two_stems,
    }
    got = separate_to_files(make(**options), path, layout, **how)
    assert got == json.loads((tmp_path / "blocks" / "separation.json").read_text())
    assert got["files"].keys() == want["files"].keys()
    assert sum(name.endswith(".wav") for name in got["files"]) == 3 * len(whole.stems)
    for name in got["files"]:
        if name.endswith(".wav"):
            a, b = sound(tmp_path / "blocks" / name), sound(tmp_path / "whole" / name)
            # float32 sums in another order: the filters' 500 taps, and the network on what they
            # gave. A seam that was a sample off would be a thousand times as much.
            assert (a - b).abs().max() <= 1e-5 * max(gain, 1e-30)
    assert got["peak"] == pytest.approx(want["peak"], rel=0, abs=1e-5 * gain)
    measured = {"seconds", "seconds_per_second", "residual_db", "peak"}
    for key in got.keys() - measured - {"files", "filename"}:
        assert got[key] == want[key], key
    assert got["residual_db"] < -120
    uncertainty = [
        json.loads((tmp_path / place / "uncertainty.json").read_text())
        for place in ("blocks", "whole")
    ]
    for stem in whole.stems:
        a, b = (record["std"][stem] for record in uncertainty)
        assert a == pytest.approx(b, rel=0.02, abs=1e-6 * gain)  # three digits are written
        a, b = (torch.tensor(record["std_db"][stem]) for record in uncertainty)
        assert (a - b).abs().max() <= 1  # whole decibels
        a, b = (record["confidence_db"][stem] for record in uncertainty)
        assert a == (b if b is None else pytest.approx(b, abs=0.02))


@pytest.mark.usefixtures("short_spans")
def test_pcm_sums_to_the_mixture_and_one_gain_is_common(make: Make, tmp_path: Path) -> None:
    path = put(tmp_path, 2, 60_001, 44100, gain=4.0)
    layout = Layout(tmp_path, "{track}/{stem}", "a")
    record = separate_to_files(make(), path, layout, "PCM_16")
    assert 0 < record["gain"] < 0.6
    total = sum(sound(tmp_path / "a" / f"{stem}.wav") for stem in STEMS)
    # Half a step, and the rounding of float32 stems.
    assert (total - record["gain"] * sound(path)).abs().max() <= 2.0**-16 + 1e-6


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes, in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        for x in result if isinstance(result, tuple | list) else [result]:
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.usefixtures("short_spans")
@pytest.mark.parametrize("join", ["crossfade", "condition"])
def test_no_tensor_grows_with_the_track(make: Make, tmp_path: Path, join: str) -> None:
    largest = []
    for factor in (1, 2):
        path = put(tmp_path, 1, factor * 60_000, 44100)
        with Largest() as mode:
            separate_to_files(
                make(join=join), path, Layout(tmp_path, "{stem}", "a"), keep_draws=True
            )
        largest.append(mode.numbers)
    assert largest[0] == largest[1]
    assert largest[0] < 4 * 60_000  # the stems of the shorter one: the measure sees such a tensor
    with Largest() as mode:
        make(join=join).separate(path).stems.values()
    assert mode.numbers >= 4 * 2 * 60_000


@pytest.mark.usefixtures("short_spans")
def test_a_store_is_read_as_often_whatever_the_number_of_draws(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read_spool, counts = put(tmp_path, 1, 30_000, 44100), Spool.read, []

    def counted(spool: Spool, start: int, stop: int) -> Tensor:
        counts[-1] += 1
        return read_spool(spool, start, stop)

    monkeypatch.setattr(Spool, "read", counted)
    for draws in (1, 3):
        counts.append(0)
        layout = Layout(tmp_path, "{stem}", "a")
        separate_to_files(make(), path, layout, draws=draws, keep_draws=True)
    assert counts[0] == counts[1] > 0


def test_a_full_disk_is_one_line_and_leaves_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, 1, 5000, RATE)

    append = Spool.append

    def full(spool: Spool, x: Tensor) -> None:
        if len(spool.shape) == 3:
            raise OSError(28, "No space left on device")
        append(spool, x)

    monkeypatch.setattr(Spool, "append", full)
    with pytest.raises(UserError, match=r"out: cannot be written \(No space left on device\)"):
        separate_to_files(make(), path, Layout(tmp_path / "out", "{stem}", "a"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_spool_is_read_anywhere(tmp_path: Path) -> None:
    x = torch.randn(3, 2, 50, generator=torch.Generator().manual_seed(0))
    spool = Spool((3, 2), tmp_path)
    for part in x.split([20, 0, 29, 1], -1):
        spool.append(part)
    assert torch.equal(spool.read(0, 50), x)
    assert torch.equal(spool.read(19, 21), x[..., 19:21])
    assert spool.read(7, 7).shape == (3, 2, 0)
    with pytest.raises(ValueError, match="samples 49 to 51 of 50"):
        spool.read(49, 51)
    assert list(tmp_path.iterdir()) == []
    spool.close()


@pytest.mark.usefixtures("short_spans")
def test_blocks_are_the_file(tmp_path: Path) -> None:
    path = put(tmp_path, 2, 7001, RATE)
    blocks = list(Reading(path))
    assert [block.samples.shape[-1] for block in blocks] == [3000, 3000, 1001]
    assert torch.equal(torch.cat([block.samples for block in blocks], -1), read(path).samples)


@pytest.mark.usefixtures("short_spans")
def test_damage_in_the_middle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = song(1, 1, 7001, RATE)
    samples[0, 4321] = float("inf")
    path = tmp_path / "a.wav"
    soundfile.write(path, samples.T.numpy(), RATE, "FLOAT")
    with pytest.raises(UserError, match="sample 4321 of channel 0 is inf"):
        list(Reading(path))

    class Damaged(soundfile.SoundFile):
        def read(self, *arguments: Any, **options: Any) -> Any:
            if self.tell() >= 3000:
                raise soundfile.LibsndfileError(7)
            return super().read(*arguments, **options)

    monkeypatch.setattr(soundfile, "SoundFile", Damaged)
    with pytest.raises(UserError, match=r"damaged at 0\.1 s"):
        list(Reading(path))
