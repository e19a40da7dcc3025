"""Files of every format that stems are written in: what comes back, and where it begins."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mgdm_audio.audio.encoding.files import Files, ReadBack, Shape
from mgdm_audio.audio.encoding.formats import FORMATS, Format, find_format
from mgdm_audio.audio.encoding.tags import NAMES, Tags, read_tags
from mgdm_audio.audio.io import read
from mgdm_audio.audio.pcm import quantise_together
from mgdm_audio.audio.speakers import mask_of
from mgdm_audio.errors import UserError
from tests.toys import song

pytest.importorskip("av")
LOSSY = ("mp3", "m4a", "ogg")
EXACT = (("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24"))


def put(
    path: Path,
    samples: Tensor,
    rate: int,
    form: Format,
    subtype: str | None = None,
    tags: Tags | None = None,
    mask: int = 0,
    step: int = 4999,
) -> None:
    """One file of [channel, time], written in blocks of ``step`` samples."""
    channels, time = samples.shape
    with Files(
        form, [path], ["bass"], Shape(channels, time, rate, mask), subtype, tags or Tags()
    ) as files:
        for start in range(0, time, step):
            files.write(samples[None, :, start : start + step])


def picture(kind: str, side: int) -> bytes:
    """Of noise, so that it does not compress."""
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def lag(found: Tensor, true: Tensor) -> int:
    """By how many samples ``found`` is late: where the correlation with ``true`` is largest."""
    spectra = (np.fft.rfft(x.double().sum(0), 2 * x.shape[-1]) for x in (found, true))
    one, other = spectra
    at = int(np.fft.irfft(one * other.conj()).argmax())
    return at if at < true.shape[-1] else at - 2 * true.shape[-1]


@pytest.mark.parametrize(("name", "subtype"), EXACT)
@pytest.mark.parametrize("time", [1, 10_000])
def test_what_is_lossless_comes_back_as_it_was(
    tmp_path: Path, name: str, subtype: str, time: int
) -> None:
    samples = quantise_together(song(1, 2, time, 44100)[None], subtype)[0]
    put(tmp_path / f"a.{name}", samples, 44100, find_format(name), subtype)
    found = read(tmp_path / f"a.{name}", damaged="refuse")
    assert torch.equal(found.samples, samples)


# Around AAC's frames of 1024 samples and MPEG's of 1152, and with a last one of one sample.
@pytest.mark.parametrize("time", [1, 1023, 1024, 1025, 1153, 30_000])
@pytest.mark.parametrize(("channels", "rate"), [(1, 22050), (2, 44100)])
@pytest.mark.parametrize("name", LOSSY)
def test_what_is_lossy_comes_back_as_long_and_on_time(
    tmp_path: Path, name: str, channels: int, rate: int, time: int
) -> None:
    samples = song(2, channels, time, rate)
    path = tmp_path / f"a.{name}"
    put(path, samples, rate, find_format(name))
    found = read(path, damaged="refuse")
    assert (found.sample_rate, found.samples.shape) == (rate, samples.shape)
    if time < 30_000:
        return
    assert lag(found.samples, samples) == 0
    error = (found.samples - samples).double().square()
    # 10 dB for white noise under tones at these bit rates, which is the hardest to code; the first
    # frame, in which encoders have nothing before it, is no worse than that.
    assert error.mean() < 0.1 * samples.double().square().mean()
    assert error[:, :1024].mean() < 0.1 * samples[:, :1024].double().square().mean()
    gain = (found.samples * samples).sum() / samples.square().sum()
    # Neither louder nor softer; what is lost of the noise is in the error, below 0.1 of the energy.
    assert 0.9 < gain < 1.02


@pytest.mark.parametrize("rate", [22050, 44100])
@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_tone_keeps_its_level(tmp_path: Path, name: str, rate: int) -> None:
    """LAME's constant bit rates lower it to 95 % below 32 kHz, as MPEG-2."""
    tone = 0.3 * torch.sin(2 * torch.pi * 440 / rate * torch.arange(rate // 2))[None]
    put(tmp_path / f"a.{name}", tone, rate, find_format(name))
    found = read(tmp_path / f"a.{name}").samples
    # Vorbis at quality 8 is up to 1 % off; LAME took 5 %.
    assert (found * tone).sum() / tone.square().sum() == pytest.approx(1, abs=0.02)
    # FFmpeg's encoder of AAC would put a click of nearly the tone's level into its first frame.
    assert (found - tone)[:, :1024].abs().max() < 0.03


@pytest.mark.parametrize("name", ["flac", "m4a", "ogg"])
@pytest.mark.parametrize("speakers", ["FL FR FC LFE BL BR", "FL FR FC LFE SL SR", ""])
def test_channels_keep_their_speakers(tmp_path: Path, name: str, speakers: str) -> None:
    """A tone of its own in each; the surround channels of 5.1 are at the back or at the side."""
    t = torch.arange(20_000) / 44100
    pitches = torch.tensor([300.0, 400, 500, 60, 700, 800])  # the fourth has low frequencies alone
    samples = 0.2 * torch.sin(2 * torch.pi * pitches[:, None] * t)
    form, path = find_format(name), tmp_path / f"a.{name}"
    form.require_channels("a", 6, mask_of(speakers.split()))
    subtype = None if form.lossy else "PCM_24"
    put(path, samples, 44100, form, subtype, mask=mask_of(speakers.split()))
    found = read(path)
    assert found.mask == mask_of(["FL", "FR", "FC", "LFE", "BL", "BR"])
    alike = found.samples.double() @ samples.double().T
    assert alike.argmax(1).tolist() == [*range(6)]  # tones of different pitch are orthogonal


@pytest.mark.parametrize(
    ("name", "channels", "mask", "says"),
    [
        ("mp3", 3, 0, "x.wav: has 3 channels, format mp3 holds 2 at most; choose flac or wav"),
        ("flac", 9, 0, "x.wav: has 9 channels, format flac holds 8 at most; choose wav"),
        ("ogg", 9, 0, "has 9 channels"),
        ("m4a", 7, 0, "has 7 channels, format m4a holds 6 at most; choose flac or wav"),
        ("stem.mp4", 6, 0, "has 6 channels, format stem.mp4 holds 2"),
        ("flac", 4, 0x107, "speakers FL FR FC BC, which format flac cannot say; choose wav"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    name: str, channels: int, mask: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        find_format(name).require_channels("x.wav", channels, mask)


@pytest.mark.parametrize(
    ("name", "rate", "written"),
    [
        ("wav", 655_351, 655_351),
        ("flac", 655_351, 192_000),
        ("mp3", 44100, 44100),
        ("mp3", 96000, 48000),
        ("mp3", 88200, 44100),
        ("mp3", 37800, 44100),
        ("mp3", 4000, 8000),
        ("m4a", 96000, 96000),
        ("m4a", 176_400, 88200),
        ("ogg", 384_000, 192_000),
        ("ogg", 12345, 12345),
        ("stem.mp4", 22050, 44100),
        ("stem.mp4", 192_000, 48000),
    ],
)
def test_a_rate_that_a_format_does_not_have_becomes_one_that_it_has(
    name: str, rate: int, written: int
) -> None:
    assert find_format(name).rate_for(rate) == written
    assert written in find_format(name).rates


def test_formats_and_sample_formats_are_checked() -> None:
    assert [form.require(None) for form in FORMATS.values()] == [
        *("PCM_24", "PCM_24", None, None, None, "PCM_24")
    ]
    with pytest.raises(UserError, match="format 'mp4' is unknown; did you mean m"):
        find_format("mp4")
    with pytest.raises(UserError, match="format flac has no subtype 'FLOAT'; use PCM_16, PCM_24"):
        find_format("flac").require("FLOAT")
    with pytest.raises(UserError, match="format mp3 is lossy and has no subtype; leave PCM_16 out"):
        find_format("mp3").require("PCM_16")


NUMBERS = {"track": "3/12", "disc": "1/2", "date": "1999"}
FULL = Tags({name: f"{name} ♪ é" for name in NAMES} | NUMBERS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("name", ["flac", "mp3", "m4a", "ogg"])
def test_tags_and_cover_are_written_as_they_were(tmp_path: Path, name: str, kind: str) -> None:
    """FFmpeg, which is none of our own, reads them. The sound is that of a file without them."""
    samples = song(3, 2, 5000, 44100)
    form = find_format(name)
    subtype = None if form.lossy else "PCM_24"
    tags = Tags(FULL.texts, picture(kind, 200))  # 120 kB in PNG: two pages of Ogg
    for path, own in (("plain", Tags()), ("tagged", tags)):
        put(tmp_path / f"{path}.{name}", samples, 44100, form, subtype, own)
    plain, tagged = (read(tmp_path / f"{path}.{name}") for path in ("plain", "tagged"))
    assert torch.equal(plain.samples, tagged.samples)
    found = read_tags(tmp_path / f"tagged.{name}")
    # MP4 has no performer and no publisher beside the artist.
    lost = {"performer", "publisher"} if name == "m4a" else set()
    wanted = {k: v for k, v in FULL.texts.items() if k not in lost}
    assert found.texts == wanted | {"title": "title ♪ é (bass)"}
    assert found.cover == tags.cover
    assert not read_tags(tmp_path / f"plain.{name}")


def test_wav_has_the_texts_that_its_chunk_knows(tmp_path: Path) -> None:
    samples = song(3, 2, 5001, 44100)
    tags = Tags(FULL.texts, picture("PNG", 8))
    put(tmp_path / "a.wav", samples, 44100, FORMATS["wav"], "FLOAT", tags)
    found = read_tags(tmp_path / "a.wav")
    kept = {"title", "artist", "album", "date", "genre", "comment", "copyright", "track"}
    assert found.texts == {k: FULL.texts[k] for k in kept} | {"title": "title ♪ é (bass)"}
    assert torch.equal(read(tmp_path / "a.wav", damaged="refuse").samples, samples)


@pytest.mark.parametrize("length", range(180, 200))
def test_comments_of_any_length_end_an_ogg_packet(tmp_path: Path, length: int) -> None:
    """Around 255 bytes with their frame, where a packet needs an empty segment to end."""
    samples = song(3, 1, 100, 8000)
    put(tmp_path / "a.ogg", samples, 8000, FORMATS["ogg"], tags=Tags({"comment": "x" * length}))
    assert read_tags(tmp_path / "a.ogg").texts == {"comment": "x" * length}
    assert read(tmp_path / "a.ogg", damaged="refuse").samples.shape == samples.shape


def test_what_is_no_tag_of_sound_is_none(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no sound")
    assert not read_tags(tmp_path / "text.mp3")
    assert not read_tags(tmp_path / "missing.mp3")


def test_a_file_that_did_not_reach_the_disk_is_an_error(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.ogg", song(4, 1, 20_000, 8000)
    put(path, samples, 8000, FORMATS["ogg"])
    with ReadBack([path], Shape(1, 20_000, 8000)) as back:
        assert back.next(20_000).shape == (1, 1, 20_000)
    for time in (19_999, 20_001):
        shape = Shape(1, time, 8000)
        with pytest.raises(OSError, match="ogg cannot be"), ReadBack([path], shape) as back:
            back.next(time)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"a\.ogg cannot be read back: .*cut short"):
        ReadBack([path], Shape(1, 20_000, 8000)).next(20_000)


def test_a_title_gets_the_stem_s_name_where_there_is_one() -> None:
    assert Tags({"title": "Song"}).of_part("bass").texts == {"title": "Song (bass)"}
    assert Tags({"artist": "me"}).of_part("bass") == Tags({"artist": "me"})
