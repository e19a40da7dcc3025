"""Tracks that are one file of several streams of sound, as MUSDB18 was published first."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgdm_audio.data.mapping import Mapping, load_mapping, plan
from mgdm_audio.errors import UserError
from tests.data.data_sets import noise, put
from tests.data.published import musdb18_song
from tests.data.running import prepare, prepared, said


def decoded(path: Path, stream: int) -> np.ndarray:
    """[time] float64: the mean of the channels of a stream, all of its frames."""
    import av

    with av.open(str(path)) as container:
        frames = [f.to_ndarray() for f in container.decode(container.streams.audio[stream])]
    return np.concatenate(frames, 1).astype(np.float64).mean(0)


@pytest.fixture
def musdb18(tmp_path: Path) -> Path:
    """MUSDB18 of one song, the folder musdb18."""
    pytest.importorskip("av")
    for split in ("train", "test"):
        (tmp_path / "musdb18" / split).mkdir(parents=True)
    shutil.copy(musdb18_song(), tmp_path / "musdb18" / "test")
    return tmp_path / "musdb18"


def test_musdb18_in_files_of_streams_prepares(musdb18: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("stems", musdb18, "--map", "musdb18", "-o", out, "--sample-rate", "44100")
    ((name, record),) = prepared(1, *words).items()
    assert name == "test/The Easton Ellises - Falcon 69"
    assert record["source"] == f"{name}.stem.mp4"
    song = musdb18 / record["source"]
    assert said(record, but="averaged") == []
    order = ("mixture", "drums", "bass", "other", "vocals")
    assert sorted(record["stems"]) == sorted(order[1:])
    for stem, entry in record["stems"].items():
        (source,) = entry["sources"]
        assert (source["path"], source["stream"]) == (stem, order.index(stem))
        assert source["bytes"] == song.stat().st_size
        want = decoded(song, order.index(stem))
        got, _ = soundfile.read(out / entry["path"], dtype="float64")
        assert len(got) == entry["frames"] == len(want)
        # Half a step of 24 bits: the written subtype's rounding.
        assert np.abs(got - want).max() <= 2.0**-24
    assert "0 tracks made, 1 kept" in prepare(*words).stdout


def test_the_order_of_streams_is_that_of_musdb18s_own_reader() -> None:
    yaml = pytest.importorskip("yaml")
    spec = find_spec("musdb")
    if spec is None or spec.origin is None:
        pytest.skip("musdb is not installed")
    setup = yaml.safe_load((Path(spec.origin).parent / "configs" / "mus.yaml").read_text())
    numbers = {name: k for k, name in enumerate(load_mapping("musdb18").streams)}
    assert numbers == setup["stem_ids"]


def test_of_a_song_in_both_forms_the_folder_is_taken(musdb18: Path, tmp_path: Path) -> None:
    name = "The Easton Ellises - Falcon 69"
    for k, stem in enumerate(("bass", "drums", "other", "vocals")):
        put(musdb18 / "test" / name / f"{stem}.wav", noise(k, 400), 44100)
    record = prepared(1, "stems", musdb18, "--map", "musdb18", "-o", tmp_path / "out")[
        f"test/{name}"
    ]
    assert record["source"] == f"test/{name}"
    assert record["stems"]["bass"]["sources"][0]["path"] == "bass.wav"


def write_streams(path: Path, count: int, seconds: float = 2.0) -> None:
    """An mp4 file of ``count`` stereo streams of noise, its index before the sound."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        streams = [container.add_stream("aac", rate=44100, layout="stereo") for _ in range(count)]
        for k, stream in enumerate(streams):
            wave = noise(k, 2 * int(44100 * seconds)).reshape(2, -1).astype(np.float32) / 2**15
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44100, 0
            for piece in (frame, None):
                container.mux(stream.encode(piece))


def test_a_file_of_streams_that_is_cut_short_or_has_too_few_is_a_line(tmp_path: Path) -> None:
    root = tmp_path / "musdb18" / "train"
    write_streams(root / "a.stem.mp4", 5)
    write_streams(root / "b.stem.mp4", 3)
    write_streams(root / "c.stem.mp4", 5)
    data = (root / "c.stem.mp4").read_bytes()
    (root / "c.stem.mp4").write_bytes(data[: int(0.9 * len(data))])
    (root / "d.stem.mp4").write_bytes(b"no sound")
    result = prepare("stems", tmp_path / "musdb18", "--map", "musdb18", "-o", tmp_path / "out")
    assert result.exit_code == 1
    b, c, d, last = result.stderr.splitlines()
    assert b.startswith(f"train/b: {root / 'b.stem.mp4'}: has 3 streams of sound, no number 4")
    assert c.startswith(f"train/c: {root / 'c.stem.mp4'}: ")
    assert d.startswith(f"train/d: {root / 'd.stem.mp4'}: ")
    assert "lacks 3 of 4 tracks" in last
    assert {p.name for p in (tmp_path / "out" / "train").iterdir()} == {"a"}


def test_without_pyav_files_of_streams_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root := tmp_path / "musdb18" / "train").mkdir(parents=True)
    (root / "a.stem.mp4").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "av", None)
    result = prepare("stems", tmp_path / "musdb18", "--map", "musdb18", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: reading .stem.mp4 files needs PyAV: pip install 'mgdm_audio[formats]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_first_stream_may_be_a_stem(tmp_path: Path) -> None:
    write_streams(tmp_path / "set" / "a.stem.mp4", 2, 0.1)
    (mine := tmp_path / "mine.toml").write_text(
        'streams = ["drums", "rest"]\n[stems]\ndrums = ["drums"]\n'
    )
    record = prepared(1, "stems", tmp_path / "set", "--map", mine, "-o", tmp_path / "out")["all/a"]
    assert record["stems"]["drums"]["sources"][0]["stream"] == 0
    assert said(record) == [
        ("drums", "averaged", "2 channels"),
        ("rest", "ignored", "matches no stem"),
    ]
    with pytest.raises(UserError, match=r"a\.stem\.mp4: holds no stream of bass"):
        plan(Mapping({"bass": ["bass"]}, streams=("drums",)), tmp_path / "set" / "a.stem.mp4")
    with pytest.raises(ValueError, match="streams: a name is there twice"):
        Mapping({"bass": ["bass"]}, streams=("bass", "bass"))


def test_a_file_that_libsndfile_does_not_know_is_read_under_any_name(tmp_path: Path) -> None:
    write_streams(tmp_path / "set" / "a" / "bass.wav", 1, 0.5)
    (mine := tmp_path / "mine.toml").write_text('[stems]\nbass = ["bass"]\n')
    words = ("stems", tmp_path / "set", "--map", mine, "-o", tmp_path / "out")
    (source,) = prepared(1, *words)["all/a"]["stems"]["bass"]["sources"]
    assert (source["frames"], source["sample_rate"], source["channels"]) == (22050, 44100, 2)
