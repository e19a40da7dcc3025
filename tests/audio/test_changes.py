"""Streams that change their rate or channels on the way are converted to what they began as."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.audio.decoding.following import Resampled
from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Reading
from mgdm_audio.audio.resampling import resample
from mgdm_audio.audio.store import Held, Spool
from mgdm_audio.errors import SoundWarning
from tests.toys import song

WRITTEN = Path(__file__).parent / "written"
# Narrow: 8000 Hz, mono. Wide: the same 0.25 s of sound at 16,000 Hz, twice.
PAIRS = [
    ("lame.mp3", "lame_wide.mp3"),
    ("oggenc.ogg", "oggenc_wide.ogg"),
    ("opusenc.opus", "opusenc_wide.opus"),
    ("oggenc.ogg", "opusenc_wide.opus"),
]


@pytest.mark.parametrize(("narrow", "wide"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_the_rest_is_converted_with_one_warning(
    tmp_path: Path, narrow: str, wide: str, turned: bool
) -> None:
    names = (wide, narrow) if turned else (narrow, wide)
    first, second = (read(WRITTEN / name) for name in names)
    data = b"".join((WRITTEN / name).read_bytes() for name in (*names, *names))
    (tmp_path / "a").write_bytes(data)
    with pytest.warns(SoundWarning, match=r"a: at 0\.2 s [12] channels? at ") as warned:
        found = read(tmp_path / "a", damaged="refuse")
    assert len(warned) == 1
    channels, time = first.samples.shape
    rate = first.sample_rate
    assert (found.sample_rate, found.samples.shape) == (rate, (channels, 4 * time))
    converted = resample(second.samples, second.sample_rate, rate)
    converted = converted.expand(2, -1) if turned else converted.mean(0, keepdim=True)
    want = torch.cat([first.samples, converted] * 2, 1)
    # Mixing and filtering in another order is off by float32's rounding.
    assert (found.samples - want).abs().max() < 1e-6


def test_aac_that_turns_to_two_channels_goes_on_in_one(tmp_path: Path) -> None:
    """The decoder itself begins anew at the change: a frame of 1024 samples is blended there."""
    pytest.importorskip("av")
    names = ("ffmpeg.aac", "ffmpeg_wide.aac")
    first, second = (read(WRITTEN / name) for name in names)
    (tmp_path / "a").write_bytes(b"".join((WRITTEN / name).read_bytes() for name in names))
    with pytest.warns(SoundWarning, match=r"a: at 0\.\d s 1 channel at 16000 Hz become 2 channels"):
        found = read(tmp_path / "a", damaged="refuse")
    time = first.samples.shape[1]
    assert found.samples.shape == (1, time + second.samples.shape[1])
    assert torch.equal(found.samples[:, :time], first.samples)
    rest = slice(time + 2048, None)
    assert (found.samples[:, rest] - second.samples.mean(0)[2048:]).abs().max() < 1e-6


def test_joined_wav_files_of_other_forms(tmp_path: Path) -> None:
    one, two = song(0, 2, 5000, 22050), song(1, 1, 4000, 44100)
    soundfile.write(tmp_path / "1.wav", one.T.numpy(), 22050, "FLOAT")
    soundfile.write(tmp_path / "2.wav", two.T.numpy(), 44100, "FLOAT")
    data = (tmp_path / "1.wav").read_bytes() + (tmp_path / "2.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data)
    notes: list[str] = []
    blocks = list(Reading(tmp_path / "a.wav", on_note=notes.append))
    samples = torch.cat([block.samples for block in blocks], 1)
    want = torch.cat([one, resample(two, 44100, 22050).expand(2, -1)], 1)
    assert (samples - want).abs().max() < 1e-6
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("old", "new"), [(16000, 8000), (8000, 16000), (44100, 48000), (44056, 22050)]
)
def test_resampling_block_by_block_is_that_of_the_whole(old: int, new: int) -> None:
    x = song(3, 2, 70001, old)
    stream = Resampled(old, new)
    parts = [part for block in x.split(9999, 1) for part in stream.add(block)]
    got = torch.cat([*parts, *stream.end()], 1)
    want = resample(x, old, new)
    assert got.shape == want.shape
    # Sums of the same products in another order, in float32.
    assert (got - want).abs().max() < 1e-5 * x.abs().max()


def test_what_is_held_of_a_long_stream_does_not_grow() -> None:
    stream = Resampled(48000, 44100)
    most = 0
    for _ in range(40):
        list(stream.add(torch.zeros(1, 30000)))
        assert stream._held is not None
        most = max(most, stream._held.shape[1])
    assert most < 150_000  # two blocks of 2^16, and filters


def test_a_store_refuses_another_shape(tmp_path: Path) -> None:
    for store in (Held((2,)), Spool((2,), tmp_path)):
        store.append(torch.zeros(2, 5))
        for wrong in (torch.zeros(1, 5), torch.zeros(5), torch.zeros(3, 2, 5)):
            with pytest.raises(ValueError, match=r"\[2\], time\] is stored here"):
                store.append(wrong)
        assert store.time == 5
        store.close()


def test_noise_changes_nothing_of_what_was_before(tmp_path: Path) -> None:
    """A link of another rate behind it leaves the first as it is, bit for bit."""
    x = 0.1 * np.random.default_rng(0).standard_normal(3000)
    for name, rate in (("1", 22050), ("2", 44100)):
        soundfile.write(tmp_path / name, x, rate, format="WAV")
    joined = (tmp_path / "1").read_bytes() + (tmp_path / "2").read_bytes()
    (tmp_path / "a").write_bytes(joined)
    with pytest.warns(SoundWarning):
        assert torch.equal(read(tmp_path / "a").samples[:, :3000], read(tmp_path / "1").samples)
