"""``mgdm-audio separate``: other formats, chosen stems and mixes, and tags."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mgdm_audio.audio.encoding.files import Files
from mgdm_audio.audio.encoding.stem_atom import metadata
from mgdm_audio.audio.encoding.tags import read_tags
from mgdm_audio.audio.io import read
from mgdm_audio.priors.folder import read_config, save_prior
from mgdm_audio.separation.result import Separation
from mgdm_audio.separation.separator import Separator
from tests.audio.test_encoding import picture
from tests.cli.test_separate import Separate, complaint, separate
from tests.toys import STEMS, TINY, song, tiny_network

__all__ = ["separate"]  # the fixture
LOSSY = ("mp3", "m4a", "ogg")
STEP = 2**-23  # of 24 bits


def samples_of(separate: Separate, *files: str) -> Tensor:
    """[file, channel, time] of files of the track a."""
    return torch.stack([read(separate.out / "a" / f, damaged="refuse").samples for f in files])


def tagged(folder: Path) -> Path:
    """An MP3 file by FFmpeg, with a title, an artist and a cover."""
    av = pytest.importorskip("av")
    path, samples = folder / "a.mp3", song(1, 2, 8000, 44100)
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "Blåbær", "artist": "me", "encoded_by": "x"})
        stream = container.add_stream("libmp3lame", rate=44100, layout="stereo")
        with av.open(io.BytesIO(picture("PNG", 8))) as cover:
            packet = next(p for p in cover.demux(cover.streams.video[0]) if p.size)
            packet.stream = container.add_stream_from_template(cover.streams.video[0])
            packet.stream.disposition = av.stream.Disposition.attached_pic
            packet.pts = packet.dts = 0
            container.mux(packet)
        frame = av.AudioFrame.from_ndarray(samples.numpy(), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    return path


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "m4a", "ogg"])
def test_every_format_is_written_recorded_and_kept(separate: Separate, form: str) -> None:
    path = tagged(separate.folder)
    result = separate(path, "--format", form)
    assert result.exit_code == 0, result.output
    files = [f"{stem}.{form}" for stem in STEMS]
    report = separate.report("a")
    assert list(report["files"]) == [*files, "uncertainty.json"]  # type: ignore[call-overload]
    assert {p.name for p in (separate.out / "a").iterdir()} == {
        *files, "uncertainty.json", "separation.json",
    }  # fmt: skip
    assert (report["format"], report["lossy"]) == (form, form in LOSSY)
    mixture = read(path).samples
    stems = samples_of(separate, *files)
    assert stems.shape[1:] == mixture.shape
    error = (stems.double().sum(0) - report["gain"] * mixture.double()).square()  # type: ignore[operator]
    residual = 10 * torch.log10(error.mean() / mixture.double().square().mean())
    if form in LOSSY:
        # What is recorded is what the files are, less the gain's square.
        assert float(residual) == pytest.approx(report["residual_db"], abs=0.1)
        assert f"{path}: {form} is lossy" in result.stderr
        assert f"(residual {residual:.0f} dB)" in result.stderr
        assert residual < -10  # noise at these bit rates, see tests/audio/test_encoding.py
    else:
        assert "lossy" not in result.stderr
        assert error.sqrt().max() <= STEP
    tags = read_tags(separate.out / "a" / files[1])
    assert tags.texts == {"title": "Blåbær (drums)", "artist": "me"}
    assert tags.cover == (b"" if form == "wav" else picture("PNG", 8))
    assert "there already, unchanged" in separate(path, "--format", form, "--skip-existing").stdout
    other = "flac" if form != "flac" else "wav"
    assert separate(path, "--format", other, "--skip-existing").exit_code == 0
    left = {p.suffix for p in (separate.out / "a").iterdir()}
    assert left == {f".{other}", ".json"}  # those of the format before are gone


def test_tags_without_pyav_are_those_that_libsndfile_knows(
    separate: Separate, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tagged(separate.folder)
    monkeypatch.setitem(sys.modules, "av", None)
    for form in ("flac", "mp3", "ogg", "wav"):
        assert separate(path, "--format", form).exit_code == 0
        tags = read_tags(separate.out / "a" / f"bass.{form}")
        assert tags.texts == {"title": "Blåbær (bass)", "artist": "me"}
    line = complaint(separate(path, "--format", "m4a"), 2)
    assert line.startswith("error: format m4a needs PyAV: pip install 'mgdm_audio[formats]'")


def test_chosen_stems_mixes_and_the_rest(separate: Separate) -> None:
    mixture = song(1, 2, 4000, 44100)
    path = separate.put("a.wav", mixture, 44100, "PCM_24")
    assert separate(path).exit_code == 0
    whole = dict(zip(STEMS, samples_of(separate, *(f"{s}.wav" for s in STEMS)), strict=True))
    options = ("--stems", "guitar", "--mix", "bass+drums", "--rest", "--format", "flac")
    result = separate(path, *options, "--samples", "2", "--keep-samples")
    assert result.exit_code == 0, result.output
    files = [f"{name}.flac" for name in ("guitar", "bass+drums", "rest")]
    draws = [f"samples/{i}/{file}" for i in (0, 1) for file in files]
    listed = separate.report("a")["files"]
    assert list(listed) == [*files, *draws, "uncertainty.json"]  # type: ignore[call-overload]
    true = read(path).samples
    for place in ("", "samples/0/", "samples/1/"):
        found = samples_of(separate, *(place + file for file in files))
        assert (found.double().sum(0) - true).abs().max() <= STEP
    assert separate(path, *options).exit_code == 0
    guitar, mix, rest = samples_of(separate, *files)
    # Each file is rounded by up to a step, and a mix is the sum of two that are.
    assert (guitar - whole["guitar"]).abs().max() <= 2 * STEP
    assert (mix - whole["bass"] - whole["drums"]).abs().max() <= 3 * STEP
    assert (rest - whole["piano"]).abs().max() <= 2 * STEP
    std = json.loads((separate.out / "a" / "uncertainty.json").read_text())
    assert std["std"] is None  # of one draw
    again = separate(path, *options, "--skip-existing")
    assert "there already, unchanged" in again.stdout


def test_some_stems_alone_are_those_of_all(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 4000, 22050))
    options = ("--subtype", "FLOAT", "--samples", "2")
    assert separate(path, *options).exit_code == 0
    whole = {s: (separate.out / "a" / f"{s}.wav").read_bytes() for s in STEMS}
    std = json.loads((separate.out / "a" / "uncertainty.json").read_text())["std"]
    result = separate(path, *options, "--stems", "guitar,bass")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (separate.out / "a").glob("*.wav")) == ["bass.wav", "guitar.wav"]
    for stem in ("guitar", "bass"):
        assert (separate.out / "a" / f"{stem}.wav").read_bytes() == whole[stem]
    record = separate.report("a")
    assert (record["complete"], record["stems"]) == (False, ["guitar", "bass"])
    assert record["chosen"] == {"stems": ["guitar", "bass"], "mixes": [], "rest": False}
    some = json.loads((separate.out / "a" / "uncertainty.json").read_text())["std"]
    assert some == {stem: std[stem] for stem in ("bass", "guitar")}


def test_a_loud_mix_lowers_the_files(separate: Separate) -> None:
    """Its stems alone would fit, and so does the mixture, of which the mix is a part."""
    path = separate.put("a.wav", 8 * song(1, 1, 3000, 22050), subtype="FLOAT")
    result = separate(path, "--mix", "bass+drums", "--mix", "guitar+piano")
    assert "lowered by" in result.stderr
    gain = separate.report("a")["gain"]
    found = samples_of(separate, "bass+drums.wav", "guitar+piano.wav")
    assert (found.double().sum(0) - gain * read(path).samples.double()).abs().max() < 2 * STEP  # type: ignore[operator]
    assert found.abs().max() < 1


def test_stems_in_one_file_have_the_track_s_name(separate: Separate) -> None:
    pytest.importorskip("av")
    path = separate.put("a.wav", song(1, 1, 3000, 44100), 44100)
    result = separate(path, "--format", "stem.mp4", "--report")
    assert result.exit_code == 0, result.output
    assert list(separate.report("a")["files"]) == ["a.stem.mp4", "uncertainty.json"]  # type: ignore[call-overload]
    file = separate.out / "a" / "a.stem.mp4"
    stems = torch.stack([read(file, i).samples for i in range(1, 5)])
    gain = separate.report("a")["gain"]
    assert (stems.double().sum(0) - gain * read(path).samples).abs().max() <= STEP  # type: ignore[operator]
    again = separate(path, "--format", "stem.mp4", "--report", "--skip-existing")
    assert "there already, unchanged" in again.stdout
    page = (separate.out / "a" / "report.html").read_text()
    assert all(stem in page for stem in STEMS)
    three = ("--stems", "bass", "--mix", "drums+guitar", "--rest")
    line = complaint(separate(path, "--format", "stem.mp4", *three), 2)
    assert "holds exactly 4 stems, not 3 (bass, drums+guitar, rest)" in line


def test_of_five_stems_two_share_one_in_a_format_of_four(
    separate: Separate, tiny_prior: Path, tmp_path: Path
) -> None:
    pytest.importorskip("av")
    config = read_config(tiny_prior).config
    details = {key: config[key] for key in ("schedule", "sample_rate", "mixture_rms", "segment")}
    shape = replace(TINY, sources=5)
    network, stems = tiny_network(0, config=shape), [*STEMS, "other"]
    save_prior(tmp_path / "five", network, shape, "tf_unet", details | {"stems": stems})
    path = separate.put("a.wav", song(1, 2, 3000, 44100), 44100)
    options = ("--prior", tmp_path / "five", "--samples", "2", "--report", "--format", "stem.mp4")
    result = separate(path, *options)
    assert result.exit_code == 0, result.output
    assert "bass, drums, other, guitar+piano" in result.stdout
    assert "there already, unchanged" in separate(path, *options, "--skip-existing").stdout
    file, gain = separate.out / "a" / "a.stem.mp4", separate.report("a")["gain"]
    names = ["bass", "drums", "other", "guitar+piano"]
    assert json.dumps(metadata(names)).encode() in file.read_bytes()
    parts = torch.stack([read(file, i).samples for i in range(1, 5)])
    assert (parts.double().sum(0) - gain * read(path).samples).abs().max() <= STEP  # type: ignore[operator]
    known = json.loads((separate.out / "a" / "uncertainty.json").read_text())["confidence_db"]
    assert list(known) == ["bass", "drums", "other"]  # a sum has none
    # Python's way of the same.
    separator = Separator.from_pretrained(
        tmp_path / "five", "wiener", overrides=["num_steps=2", "draws=2"], device="cpu"
    )
    found = separator.separate(path)
    found.save(tmp_path / "python" / "a", format="stem.mp4")
    (same,) = (tmp_path / "python" / "a").glob("*.stem.mp4")
    assert same.read_bytes() == file.read_bytes()


def test_a_rate_that_the_format_does_not_have_is_changed_and_said(separate: Separate) -> None:
    path = separate.put("a.wav", song(1, 1, 9601, 96000), 96000)
    result = separate(path, "--format", "mp3", "--report")
    assert result.exit_code == 0, result.output
    assert f"{path}: mp3 is written at 48000 Hz, not 96000" in result.stderr
    report = separate.report("a")
    shape = [report[key] for key in ("sample_rate", "samples", "input_sample_rate")]
    assert shape == [48000, 4801, 96000]
    assert samples_of(separate, "bass.mp3").shape == (1, 1, 4801)


@pytest.mark.parametrize("form", ["mp3", "stem.mp4"])
def test_an_input_of_another_format_is_never_replaced(separate: Separate, form: str) -> None:
    pytest.importorskip("av")
    song_ = separate.put("a.wav", song(1, 2, 3000, 44100), 44100)
    assert separate(song_, "--format", form).exit_code == 0
    first = separate.out / "a" / ("bass.mp3" if form == "mp3" else "a.stem.mp4")
    before = first.read_bytes()
    result = separate(first, song_, "--format", form)
    assert f"error: {first}: would be replaced by a result" in result.stderr
    assert first.read_bytes() == before


def test_a_format_that_cannot_hold_a_track_stops_no_other(
    separate: Separate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is refused before anything is computed."""
    computed, original = [], Separator.separate

    def note(self: Separator, source: Path, **options: Any) -> Separation:
        computed.append(source)
        return original(self, source, **options)

    monkeypatch.setattr(Separator, "separate", note)
    good = separate.put("good.wav", song(1, 2, 2000, 44100), 44100)
    wide = separate.put("wide.wav", song(1, 6, 2000, 44100), 44100)
    result = separate(wide, good, "--format", "mp3")
    assert result.exit_code == 1
    line = f"error: {wide}: has 6 channels, format mp3 holds 2 at most; choose flac or wav"
    assert line in result.stderr.splitlines()
    assert [p.name for p in separate.out.iterdir()] == ["good"]
    assert computed == [good]


@pytest.mark.parametrize("form", ["flac", "mp3", "m4a", "stem.mp4"])
def test_what_fails_amid_a_format_leaves_nothing(
    separate: Separate, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    pytest.importorskip("av")
    path, write = separate.put("a.wav", song(1, 2, 3000, 44100), 44100), Files.write

    def full(self: Files, stems: Tensor) -> None:
        write(self, stems)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Files, "write", full)
    line = complaint(separate(path, "--format", form))
    assert "cannot be written (No space left on device)" in line
    assert list(separate.out.iterdir()) == []
