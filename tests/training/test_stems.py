"""Stem folders: every sample is where it should be, and only the generator decides which."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from mgdm_audio.audio.resampling import resample
from mgdm_audio.data.mapping import Mapping, planner
from mgdm_audio.data.plan import find_tracks
from mgdm_audio.data.preparation import Options, prepare
from mgdm_audio.errors import UserError
from mgdm_audio.training.augmentation import (
    NORMAL,
    Augmentation,
    at_speed,
    augmented,
    draw_speed,
    equalisers,
    span,
)
from mgdm_audio.training.stems import StemFolder
from tests.toys import STEMS

RATE, FRAMES, SONGS = 8000, 1000, 5
PLAIN = Augmentation(remix=0, gain=0, polarity=False, equalise=0, equalise_gain=0, loudness=0)


def code(song: int, stem: int, frames: int = FRAMES) -> np.ndarray:
    """Samples that say where they come from: integers below 2^24, exact in float32."""
    return (np.arange(frames) + 2**12 * (1 + stem) + 2**16 * song).astype(np.float32)


def decode(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(song, stem, sample) of each value."""
    n = x.long()
    return n // 2**16, n % 2**16 // 2**12 - 1, n % 2**12


def put(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for song in range(SONGS):
        for k, stem in enumerate(STEMS):
            put(tmp_path / f"song{song}" / f"{stem}.wav", code(song, k))
    return tmp_path


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_segments_are_cut_from_one_place_of_one_song(root: Path) -> None:
    x = StemFolder(root, STEMS, RATE).batch(200, 60, PLAIN, generator())
    assert x.shape == (200, 4, 60)
    song, stem, sample = decode(x)
    assert torch.equal(song, song[:, :1, :1].expand_as(song))
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))
    assert torch.equal(sample, sample[:, :1, :1] + torch.arange(60).expand_as(sample))
    assert set(song.flatten().tolist()) == set(range(SONGS))
    # 200 starts, uniform on 0..940: the outermost are within 5 % of the ends but for .95^200.
    assert sample.min() < 0.05 * FRAMES
    assert sample.max() > 0.95 * FRAMES


def test_a_remix_takes_its_stems_from_different_songs(root: Path) -> None:
    folder = StemFolder(root, STEMS, RATE)
    remix = Augmentation(**{**vars(PLAIN), "remix": 1.0})
    song, stem, sample = decode(folder.batch(400, 10, remix, generator()))
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))
    # Two stems share a song by chance, once in five; five standard deviations of 400.
    same = float((song[:, 0, 0] == song[:, 1, 0]).float().mean())
    assert abs(same - 1 / SONGS) < 5 * math.sqrt(0.2 * 0.8 / 400)
    assert (sample[:, 0, 0] != sample[:, 1, 0]).float().mean() > 0.9
    half = Augmentation(**{**vars(PLAIN), "remix": 0.5})
    song, _, sample = decode(folder.batch(400, 10, half, generator()))
    whole = (sample[:, :, 0] == sample[:, :1, 0]).all(1) & (song[:, :, 0] == song[:, :1, 0]).all(1)
    assert abs(float(whole.float().mean()) - 0.5) < 5 * math.sqrt(0.25 / 400)


def test_a_remix_takes_a_stem_from_songs_that_have_it(root: Path) -> None:
    """A song of a guitar alone is heard beside the others' stems; by itself it is all there is."""
    guitar = STEMS.index("guitar")
    put(root / "solo" / "guitar.wav", code(SONGS, guitar))
    folder = StemFolder(root, STEMS, RATE)
    remix = Augmentation(**{**vars(PLAIN), "remix": 1.0})
    x = folder.batch(300, 10, remix, generator())
    song, stem, _ = decode(x)
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))  # none is silent
    solo = song[:, :, 0] == SONGS
    assert not solo[:, [k for k in range(4) if k != guitar]].any()
    # One of six songs with a guitar; five standard deviations of 300.
    assert abs(float(solo[:, guitar].float().mean()) - 1 / 6) < 5 * math.sqrt(5 / 36 / 300)
    x = folder.batch(300, 10, PLAIN, generator())
    alone = x[:, guitar, 0] >= 2**16 * SONGS
    assert alone.any()
    assert not x[alone][:, [k for k in range(4) if k != guitar]].any()


def test_a_batch_is_a_function_of_its_generator(root: Path) -> None:
    folder, augment = StemFolder(root, STEMS, RATE), Augmentation()
    state = torch.get_rng_state()
    x = folder.batch(4, 64, augment, generator(3))
    assert torch.equal(x, StemFolder(root, STEMS, RATE).batch(4, 64, augment, generator(3)))
    folder.batch(2, 64, augment, generator(9))
    assert torch.equal(x, folder.batch(4, 64, augment, generator(3)))
    assert not torch.equal(x, folder.batch(4, 64, augment, generator(4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_of_draws_is_fixed(root: Path) -> None:
    """Runs that were begun with an earlier version go on through the same segments."""
    x, g = StemFolder(root, STEMS, RATE).batch(1, 60, PLAIN, generator(5)), generator(5)
    song, start = torch.randint(SONGS, (), generator=g), torch.randint(941, (), generator=g)
    assert [v[0, 0, 0] for v in decode(x)] == [song, 0, start]
    # An example that is loud enough is drawn once: asking for it changes nothing.
    loud = Augmentation(**{**vars(PLAIN), "active": 4})
    for seed in range(3):
        same = [
            StemFolder(root, STEMS, RATE).batch(5, 60, a, generator(seed)) for a in (PLAIN, loud)
        ]
        assert torch.equal(*same)


def test_examples_with_too_few_sounding_stems_are_drawn_again(tmp_path: Path) -> None:
    level = 1.5e-5 * math.sqrt(60)  # of a constant whose norm / samples is the threshold
    for song, sounding in enumerate(([], [0], [0, 1], [0, 1, 2, 3])):
        for k, stem in enumerate(STEMS):
            gain = 1.001 if k in sounding else 0.999
            put(tmp_path / str(song) / f"{stem}.wav", np.full(FRAMES, gain * level, np.float32))
    folder = StemFolder(tmp_path, STEMS, RATE)
    for remix in (0.0, 1.0):
        found = {}
        for active in (0, 2):
            augment = Augmentation(**{**vars(PLAIN), "remix": remix, "active": active})
            x = folder.batch(200, 60, augment, generator())
            assert torch.equal(x, folder.batch(200, 60, augment, generator()))
            found[active] = {int(n) for n in (x[:, :, 0] > level).sum(1)}
        assert min(found[0]) == 0
        # Half of the songs will do: 20 draws in vain have a chance of 2^-20 each.
        assert min(found[2]) == 2
    with pytest.raises(UserError, match="active = 5: there are 4 stems"):
        folder.batch(1, 60, Augmentation(active=5), generator())


def test_where_nothing_sounds_drawing_ends(tmp_path: Path) -> None:
    put(tmp_path / "a" / "bass.wav", np.zeros(FRAMES, np.float32))
    x = StemFolder(tmp_path, STEMS, RATE).batch(2, 60, Augmentation(active=1), generator())
    assert x.count_nonzero() == 0


def test_speeds_lie_within_their_semitones_and_zero_draws_nothing() -> None:
    g = generator()
    # 64 x 2^(-2/12) = 57.02 and 64 x 2^(2/12) = 71.84; a speed is missed by .93^500.
    assert {draw_speed(2.0, g) for _ in range(500)} == set(range(58, 72))
    assert {draw_speed(0.2, g) for _ in range(9)} == {NORMAL}
    before = g.get_state()
    assert draw_speed(0.0, g) == NORMAL
    assert torch.equal(g.get_state(), before)
    for wrong in (-1.0, 13.0):
        with pytest.raises(ValueError, match="0 to 12 semitones"):
            Augmentation(pitch=wrong)
    with pytest.raises(ValueError, match="active = -1"):
        Augmentation(active=-1)


@pytest.mark.parametrize("speed", [32, 57, 63, 64, 65, 72, 128])
def test_speed_multiplies_the_frequency_of_a_tone(speed: int) -> None:
    length, w = 1000, 0.7  # radians a sample; 1.4 at twice the speed
    n = span(length, speed)
    margin = 0 if speed == NORMAL else 5 * speed
    x = torch.sin(w * (torch.arange(n, dtype=torch.float64) - margin)).float()
    y = at_speed(x, speed, length)
    want = torch.sin(w * speed / NORMAL * torch.arange(length, dtype=torch.float64))
    # The filter is flat within 1e-4 dB, a factor of 1.2e-5; sums of 300 terms in float32.
    assert (y - want).abs().max() < 3e-5


def test_what_would_pass_the_nyquist_frequency_is_filtered_out() -> None:
    x = torch.sin(2.0 * torch.arange(span(1000, 128)))  # 4.0 radians a sample at twice the speed
    # The filter is 140 dB down; float32 sums of terms below 1 leave some 1e-6.
    assert at_speed(x, 128, 1000).abs().max() < 5e-6


def test_the_stems_of_a_song_change_speed_together(tmp_path: Path) -> None:
    tone = np.sin(0.3 * np.arange(3000)).astype(np.float32)
    for song in range(3):
        for stem in STEMS:
            put(tmp_path / str(song) / f"{stem}.wav", tone)
    folder = StemFolder(tmp_path, STEMS, RATE)

    def crossings(remix: float) -> Tensor:
        augment = Augmentation(**{**vars(PLAIN), "pitch": 6.0, "remix": remix})
        x = folder.batch(8, 1000, augment, generator())
        assert torch.equal(x, folder.batch(8, 1000, augment, generator()))
        assert remix or torch.equal(x, x[:, :1].expand_as(x))
        return (x.sign().diff() != 0).sum(-1)  # [example, stem]

    # 1000 x 0.3 / pi = 95 crossings at the normal speed, 2^(+-1/2) times as many at the extremes.
    together, apart = crossings(0.0), crossings(1.0)
    assert together.min() >= 66
    assert together.max() <= 136
    assert together[:, 0].unique().numel() > 4
    assert (apart != apart[:, :1]).any(1).all()


def test_prepared_data_are_read_by_split(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        for k, name in enumerate(STEMS[:3]):
            path = tmp_path / "set" / split / f"song{number}" / f"{name}.wav"
            put(path, code(number, k) / 2**20)
    mapping = planner(Mapping({name: [name] for name in STEMS}))
    out = tmp_path / "out"
    tracks = find_tracks(tmp_path / "set", ("train", "test"), ())
    prepare(tracks, out, mapping, Options(sample_rate=RATE))
    (out / "train" / "stray").mkdir()  # not in the manifest: no track
    (out / "train" / "stray" / "bass.wav").write_text("no sound")
    for root in (out, str(out / "manifest.jsonl")):
        folder = StemFolder(root, STEMS, RATE)
        assert [track.name for track in folder.tracks] == ["song0", "song1"]
        assert StemFolder(root, STEMS, RATE, "test").tracks[0].frames == FRAMES
        x = folder.batch(50, 60, PLAIN, generator())
        song, stem, _ = decode(x[:, :3] * 2**20)
        assert set(song.flatten().tolist()) == {0, 1}
        assert torch.equal(stem, torch.arange(3)[:, None].expand_as(stem))
        assert x[:, 3].count_nonzero() == 0
    with pytest.raises(UserError, match="no track of split 'dev'"):
        StemFolder(out, STEMS, RATE, "dev")
    (out / "train" / "song1" / "drums.flac").unlink()
    with pytest.raises(UserError, match=r"drums.flac: cannot be read"):
        StemFolder(out, STEMS, RATE)


def test_a_folder_that_is_being_written_is_no_track(root: Path) -> None:
    (root / "song0").rename(root / ".song0.partial")
    assert len(StemFolder(root, STEMS, RATE).tracks) == SONGS - 1


def test_a_missing_stem_is_silent_and_a_song_without_any_is_none(root: Path) -> None:
    (root / "song0" / "drums.wav").unlink()
    (root / "cover").mkdir()
    (root / "cover" / "cover.txt").write_text("no stem")
    (root / "notes.txt").write_text("no folder")
    folder = StemFolder(root, STEMS, RATE)
    assert [track.name for track in folder.tracks] == [f"song{i}" for i in range(SONGS)]
    track = folder.tracks[0]
    assert folder.read(track, 1, 0, 50).count_nonzero() == 0
    assert torch.equal(folder.read(track, 2, 7, 50), torch.from_numpy(code(0, 2)[7:57]))


def test_past_the_end_there_are_zeros(root: Path) -> None:
    folder = StemFolder(root, STEMS, RATE)
    x = folder.read(folder.tracks[1], 0, FRAMES - 3, 10)
    assert torch.equal(x[:3], torch.from_numpy(code(1, 0)[-3:]))
    assert x[3:].count_nonzero() == 0
    long = folder.batch(2, FRAMES + 5, PLAIN, generator())
    assert decode(long[:, :, :FRAMES])[2].equal(torch.arange(FRAMES).expand(2, 4, -1))
    assert long[:, :, FRAMES:].count_nonzero() == 0


def test_flac_is_read_and_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "bass.flac", np.full(10, 0.25), RATE)
    put(tmp_path / "a" / "drums.WAV", np.full(10, 0.5))
    put(tmp_path / "a" / "._bass.wav", np.full(10, 0.5))  # some systems' notes on a file
    folder = StemFolder(tmp_path, STEMS, RATE)
    assert folder.fixed(1, 10)[0, :, 3].tolist() == [0.25, 0.5, 0, 0]


def test_a_stem_that_is_there_twice_is_refused(root: Path) -> None:
    soundfile.write(root / "song1" / "bass.flac", np.full(FRAMES, 0.25), RATE)
    with pytest.raises(UserError, match="as wav and as flac; remove one"):
        StemFolder(root, STEMS, RATE)


def test_fixed_segments_are_spread_over_songs_and_time(root: Path) -> None:
    folder = StemFolder(root, STEMS, RATE)
    x = folder.fixed(2 * SONGS, 100)
    song, stem, sample = decode(x)
    assert song[:, 0, 0].tolist() == [*range(SONGS), *range(SONGS)]
    assert torch.equal(stem, torch.arange(4)[:, None].expand_as(stem))
    # In the middle of either half of the 900 starts.
    assert sample[:, 0, 0].tolist() == [225] * SONGS + [675] * SONGS
    assert torch.equal(x, folder.fixed(2 * SONGS, 100))
    assert folder.fixed(3, FRAMES + 1).shape == (3, 4, FRAMES + 1)


def refusal(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        StemFolder(root, STEMS, RATE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (22050, 3), (16001, 2)])
def test_stems_of_any_rate_train_as_if_they_were_resampled_before(
    tmp_path: Path, rate: int, channels: int
) -> None:
    time = rate  # 16,001 Hz takes the resampler's other way, by a table of phases
    draw = np.random.default_rng(0)
    for song in range(2):
        for stem in STEMS:
            wave = (draw.standard_normal((time + song, channels)) / 10).astype(np.float32)
            put(tmp_path / "given" / str(song) / f"{stem}.wav", wave, rate)
            whole = resample(torch.from_numpy(wave).mean(1), rate, 22050)
            put(tmp_path / "before" / str(song) / f"{stem}.wav", whole.numpy(), 22050)
    given, before = (StemFolder(tmp_path / name, STEMS, 22050) for name in ("given", "before"))
    assert [t.frames for t in given.tracks] == [t.frames for t in before.tracks]
    assert sum(given.converted.values()) == 8
    assert not before.converted
    for augment in (PLAIN, Augmentation(pitch=2.0)):
        x, y = (f.batch(3, 2048, augment, generator(7)) for f in (given, before))
        # The same sums of 300 to 600 products in float32, each sum in its own order: with samples
        # of rms .1 and filters of energy 1, sqrt(600) roundings of 2^-24 are below 2e-6 in all.
        assert (x - y).abs().max() < 2e-6 * max(1, y.abs().max())
        again = StemFolder(tmp_path / "given", STEMS, 22050).batch(3, 2048, augment, generator(7))
        assert torch.equal(x, again)
    ends = [f.read(f.tracks[1], 0, f.tracks[1].frames - 50, 100) for f in (given, before)]
    assert (ends[0] - ends[1]).abs().max() < 2e-6
    assert ends[0][50:].count_nonzero() == 0


def test_the_stems_of_a_song_may_differ_in_rate(root: Path) -> None:
    """The lengths are then equal to within the sample that each is rounded by."""
    put(root / "song2" / "guitar.wav", np.ones((2 * FRAMES + 1, 2), np.float32), 2 * RATE)
    folder = StemFolder(root, STEMS, RATE)
    assert dict(folder.converted) == {"16,000 Hz 2 channels": 1}
    track = folder.tracks[2]
    assert track.frames == FRAMES + 1
    assert folder.read(track, 1, FRAMES - 1, 2)[1] == 0
    x = folder.read(track, 2, 300, 400)  # 150 samples from either end: the filter covers 133
    assert (x - 1).abs().max() < 1e-6  # of 1, through a filter of sum 1 in float32


def test_what_is_wrong_with_a_folder_is_said_in_a_line(root: Path) -> None:
    path = root / "song2" / "guitar.wav"
    put(path, code(2, 2, FRAMES - 1))
    message = refusal(root)
    assert str(path.parent) in message
    assert f"[{FRAMES - 1}, {FRAMES}]" in message
    path.write_text("not a sound")
    message = refusal(root)
    assert str(path) in message
    assert "cannot be read" in message


def test_folders_without_songs(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "none")
    assert "bass, drums, guitar, piano" in refusal(tmp_path)
    put(tmp_path / "bass.wav", code(0, 0))  # a stem, but in no song's folder
    assert str(tmp_path) in refusal(tmp_path)


def test_gains_stay_within_their_bounds() -> None:
    x = torch.ones(500, 4, 3)
    change = Augmentation(remix=0, gain=4, polarity=True, equalise=0, loudness=3)
    y = augmented(x, change, RATE, generator())
    assert torch.equal(y, y[:, :, :1].expand_as(y))
    decibels = 20 * y.abs().log10()
    assert decibels.max() < 7 + 1e-4  # float32
    assert decibels.min() > -7 - 1e-4
    assert decibels.max() > 5  # both at once near their ends, among 500
    # A sign of its own for every stem: five standard deviations of 2000 tosses.
    assert abs(float(y.sign().mean())) < 5 / math.sqrt(2000)
    assert (y.sign()[:, 0] != y.sign()[:, 1]).any()
    # The loudness is common to an example: 3 dB more of one is 3 dB more of all.
    common = augmented(x, Augmentation(gain=0, polarity=False, equalise=0), RATE, generator())
    assert torch.equal(common, common[:, :1].expand_as(common))
    assert 2.5 < (20 * common.log10()).abs().max() < 3 + 1e-4
    assert torch.equal(augmented(x, PLAIN, RATE, generator()), x)
    rare = Augmentation(gain=0, polarity=False, equalise=1e-9, loudness=0)  # no stem is chosen
    assert torch.equal(augmented(x, rare, RATE, generator()), x)


def test_stems_rest_but_never_all_of_an_example() -> None:
    x = torch.ones(2000, 3, 2)
    change = Augmentation(gain=0, polarity=False, equalise=0, loudness=0, rest=0.6)
    y = augmented(x, change, RATE, generator())
    assert set(y.unique().tolist()) == {0.0, 1.0}
    sounds = y[..., 0].sum(1)
    assert sounds.min() > 0
    # Each rests with .6 - .6^3, for three at once do not: within four standard errors of 2000.
    assert float(1 - y.mean()) == pytest.approx(0.6 - 0.6**3, abs=4 * 0.5 / 2000**0.5)
    with pytest.raises(ValueError, match=r"rest = 1\.0: give a share from 0 to below 1"):
        Augmentation(rest=1.0)


def test_the_equaliser_is_a_smooth_bounded_curve() -> None:
    frequencies = torch.fft.rfftfreq(4096, 1 / 22050)
    curves = equalisers(200, frequencies, 6.0, generator())
    decibels = 20 * curves.log10()
    # Half a tilt and two bands, each at most the gain.
    assert decibels.abs().max() < 2.5 * 6 + 1e-3
    assert decibels.abs().max() > 6
    assert (decibels.mean(0).abs() < 5 * 6 / math.sqrt(200)).all()  # as often up as down
    # The narrowest band, exp(-d^2 / (2 x .5^2)), rises by e^-1/2 / .5 x gain an octave.
    octaves = (frequencies.clamp_min(20) / 20).log2()
    slope = (decibels.diff() / octaves.diff().clamp_min(1e-9))[:, frequencies[1:] > 30]
    assert slope.abs().max() < 6 * (2 * math.exp(-0.5) / 0.5 + 1)
    assert torch.equal(equalisers(1, frequencies, 0.0, generator()), torch.ones(1, 2049))


def test_equalising_filters_the_chosen_stems_alone() -> None:
    x = torch.randn(100, 4, 64, generator=generator())
    change = Augmentation(
        remix=0, gain=0, polarity=False, equalise=0.5, equalise_gain=6.0, loudness=0
    )
    kept = x.clone()
    y = augmented(x, change, 22050, generator(1))
    assert torch.equal(x, kept)
    same = (y == x).all(-1)
    assert abs(float(same.float().mean()) - 0.5) < 5 * math.sqrt(0.25 / 400)
    # A filter of real gain shifts no phase: the spectra's ratio is positive, within its bound.
    ratio = torch.fft.rfft(y[~same]) / torch.fft.rfft(x[~same])
    assert ratio.imag.abs().max() < 1e-3  # float32, divided by the smallest of 6600 bins
    assert (20 * ratio.real.log10()).abs().max() < 15.1


@pytest.mark.parametrize("place", [40, 4])
def test_a_length_left_open_is_that_of_the_file(root: Path, place: int) -> None:
    path = root / "song0" / f"{STEMS[0]}.wav"
    whole = StemFolder(root, STEMS, RATE)
    want = whole.read(whole.tracks[0], 0, 100, FRAMES)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4 if place == 40 else place
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    folder = StemFolder(root, STEMS, RATE)
    assert folder.tracks[0].frames == FRAMES
    assert torch.equal(folder.read(folder.tracks[0], 0, 100, FRAMES), want)


def test_a_stem_that_is_cut_short_is_refused(root: Path) -> None:
    """Not padded with zeros: when the folder is opened, and when it is cut after that."""
    path = root / "song0" / f"{STEMS[0]}.wav"
    folder = StemFolder(root, STEMS, RATE)
    path.write_bytes(path.read_bytes()[: -4 * FRAMES // 2])
    with pytest.raises(UserError, match=rf"{STEMS[0]}\.wav: (cut short|cannot be read)"):
        folder.read(folder.tracks[0], 0, 0, FRAMES)
    with pytest.raises(UserError, match=rf"{STEMS[0]}\.wav: cut short, 0\.1 of 0\.1 s"):
        StemFolder(root, STEMS, RATE)
