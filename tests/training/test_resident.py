"""Songs in memory: the same samples as in the files, drawn by the generator alone."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.training.augmentation import Augmentation
from mgdm_audio.training.resident import ResidentStems
from mgdm_audio.training.stems import StemFolder
from tests.toys import STEMS

RATE, FRAMES = 8000, 300
Open = Callable[[Collection[str]], StemFolder]
PLAIN = Augmentation(remix=0, gain=0, polarity=False, equalise=0, loudness=0)


def put(root: Path, song: int, frames: int = FRAMES) -> None:
    """Samples that say where they come from: 16-bit integers song * 4000 + stem * 1000 + time."""
    for k, stem in enumerate(STEMS):
        path = root / f"song{song}" / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = (np.arange(frames) + 1000 * k + 4000 * song).astype(np.int16)
        soundfile.write(path, samples, RATE, subtype="PCM_16")


def decode(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(song, stem, time) of each value."""
    n = (x * 2**15).long()
    return n // 4000, n % 4000 // 1000, n % 1000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for song in range(4):
        put(tmp_path, song, FRAMES + 10 * song)
    return tmp_path


@pytest.fixture
def opened(root: Path) -> Open:
    return lambda skip: StemFolder(root, STEMS, RATE, skip=skip)


def test_segments_are_cut_from_one_place_of_one_song(opened: Open) -> None:
    x = ResidentStems(opened, "cpu").batch(200, 60, PLAIN, generator())
    song, stem, time = decode(x)
    assert torch.equal(song, song[:, :1, :1].expand_as(song))
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))
    assert torch.equal(time, time[:, :1, :1] + torch.arange(60).expand_as(time))
    assert set(song.flatten().tolist()) == set(range(4))
    # Uniform on 0..240 to 0..270: of 200 the outermost are within 5 % of the ends but for .95^200.
    assert time.min() < 0.05 * FRAMES
    assert time.max() > 0.95 * FRAMES


def test_a_remix_takes_every_stem_from_a_place_of_its_own(
    opened: Open,
) -> None:
    remix = Augmentation(**{**vars(PLAIN), "remix": 1.0})
    song, stem, time = decode(ResidentStems(opened, "cpu").batch(400, 10, remix, generator()))
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))
    # Two stems share a song once in four, by five standard deviations of 400, and then no start.
    same = song[:, 0, 0] == song[:, 1, 0]
    assert abs(float(same.float().mean()) - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5
    assert float((time[:, 0, 0] == time[:, 1, 0]).float().mean()) < 0.05


def test_a_remix_takes_a_stem_from_songs_that_have_it(root: Path, opened: Open) -> None:
    guitar = STEMS.index("guitar")
    for stem in STEMS:
        if stem != "guitar":
            (root / "song3" / f"{stem}.wav").unlink()
    songs = ResidentStems(opened, "cpu")
    remix = Augmentation(**{**vars(PLAIN), "remix": 1.0})
    song, stem, _ = decode(songs.batch(400, 10, remix, generator()))
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))  # none is silent
    for k in range(4):
        # Three songs for four draws: one of them comes twice as often.
        assert set(song[:, k, 0].tolist()) == ({0, 1, 2, 3} if k == guitar else {0, 1, 2})
    x = songs.batch(200, 10, PLAIN, generator())
    alone = x[:, guitar, 0] >= 3 * 4000 / 2**15
    assert alone.any()
    assert not x[alone][:, [k for k in range(4) if k != guitar]].any()


def test_a_batch_is_a_function_of_its_generator(opened: Open) -> None:
    songs = ResidentStems(opened, "cpu")
    x = songs.batch(5, 64, Augmentation(), generator(3))
    songs.batch(2, 64, Augmentation(), generator(9))
    assert torch.equal(x, songs.batch(5, 64, Augmentation(), generator(3)))
    assert not torch.equal(x, songs.batch(5, 64, Augmentation(), generator(4)))


def test_songs_that_appear_are_taken_in_once(root: Path, opened: Open) -> None:
    songs = ResidentStems(opened, "cpu")
    before = songs.samples[:, : songs.used].clone()
    put(root, 5, 100)
    put(root, 6, 120)
    for _ in range(2):
        songs.refresh()
        assert songs._coming is not None
        songs._coming.result()
    songs.refresh()
    assert songs.frames == [300, 310, 320, 330, 100, 120]
    assert torch.equal(songs.samples[:, : songs.used][:, : before.shape[1]], before)
    song, _, time = decode(songs.batch(300, 100, PLAIN, generator()))
    assert {5, 6} <= set(song.flatten().tolist())
    assert time[song == 5].max() == 99
    # A song too short for a segment is left out of the draw.
    assert 5 not in decode(songs.batch(300, 110, PLAIN, generator()))[0]


def test_what_cannot_be_done_is_refused(opened: Open) -> None:
    songs = ResidentStems(opened, "cpu")
    with pytest.raises(UserError, match="1000 samples"):
        songs.batch(1, 1000, PLAIN, generator())
    with pytest.raises(UserError, match="pitch"):
        songs.batch(1, 10, Augmentation(pitch=1), generator())
