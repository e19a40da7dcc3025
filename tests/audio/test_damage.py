"""Files that are cut short or damaged: refused naming the time, or kept saying what is missing."""

import ast
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mgdm_audio.audio.io import read
from mgdm_audio.audio.reading import Reading
from mgdm_audio.errors import DamagedError, SoundWarning, UserError

RATE, SECONDS = 22050, 4


def noise() -> np.ndarray:
    """[channel, time]: codecs need as many bytes for each second of it."""
    return 0.1 * np.random.default_rng(0).standard_normal((2, SECONDS * RATE))


def encode(path: Path, form: str, codec: str, sample: str) -> Path:
    av = pytest.importorskip("av")
    options = {"movflags": "faststart"} if form == "mp4" else {}  # the index survives a cut
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        stream.bit_rate = 128_000
        samples = noise().astype(np.float32)
        if sample.startswith("s16"):
            samples = (samples * 2**15).astype(np.int16)
        if not sample.endswith("p"):
            samples = samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format=sample, layout="stereo"
        )
        frame.sample_rate, frame.pts = RATE, 0
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    return path


WRITERS = {
    "flac": lambda path: soundfile.write(path, noise().T, RATE, format="FLAC"),
    "mp3": lambda path: soundfile.write(path, noise().T, RATE, format="MP3"),
    "vorbis": lambda path: soundfile.write(path, noise().T, RATE, "VORBIS", format="OGG"),
    "opus": lambda path: soundfile.write(path, noise().T, 24000, "OPUS", format="OGG"),
    "adts": lambda path: encode(path, "adts", "aac", "fltp"),
    "m4a": lambda path: encode(path, "mp4", "aac", "fltp"),
    "alac": lambda path: encode(path, "mp4", "alac", "s16p"),
    "matroska": lambda path: encode(path, "matroska", "aac", "fltp"),
    "mpegts": lambda path: encode(path, "mpegts", "aac", "fltp"),
    "flv": lambda path: encode(path, "flv", "aac", "fltp"),
    "asf": lambda path: encode(path, "asf", "wmav2", "fltp"),
    "tta": lambda path: encode(path, "tta", "tta", "s16"),
    "wavpack": lambda path: encode(path, "wv", "wavpack", "s16p"),
    "oggflac": lambda path: encode(path, "ogg", "flac", "s16"),
}
SECONDS_OF = {"opus": SECONDS * RATE / 24000}  # of the same samples at another rate
LARGEST = 2.5  # s; Matroska loses a cluster, 2 s of an Ogg page of the least bit rate


def at(message: str) -> float:
    """The time that a refusal names."""
    words = message.replace("short,", "short at").split(" at ")[1]
    return float(words.split()[0])


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_damage_in_the_middle_is_refused_or_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    WRITERS[kind](path)
    whole = read(path, damaged="refuse")
    duration = SECONDS_OF.get(kind, SECONDS)
    assert not whole.missing
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 700] = bytes(700)
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"a: (damaged|cut short)") as refused:
        read(path, damaged="refuse")
    # The middle of the bytes is that of the noise, but for headers and the size of a page.
    assert abs(at(str(refused.value)) - duration / 2) < LARGEST / 2
    with pytest.warns(SoundWarning, match=r"a: .* missing at \d"):
        kept = read(path, damaged="keep")
    first = kept.missing[0]
    assert abs(first.at - at(str(refused.value))) < 0.1
    lost = (whole.samples.shape[1] - kept.samples.shape[1]) / whole.sample_rate
    # A transport stream marks packets as damaged that are decoded all the same.
    assert 0 < lost < LARGEST or kind == "mpegts"
    if len(kept.missing) == 1 and first.seconds is not None:
        # MP3 and Ogg estimate it by the bytes that are gone; decoders lose a frame at either end.
        assert first.seconds == pytest.approx(lost, abs=0.12)
    before = round((first.at - 0.1) * whole.sample_rate)
    assert np.allclose(kept.samples[:, :before], whole.samples[:, :before], atol=1e-6)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_cut_file_is_refused_or_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    WRITERS[kind](path)
    duration = SECONDS_OF.get(kind, SECONDS)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10 + 50])
    with pytest.raises(DamagedError, match=r"a: (cut short|damaged)") as refused:
        read(path, damaged="refuse")
    assert abs(at(str(refused.value)) - 0.6 * duration) < LARGEST / 2
    with pytest.warns(SoundWarning, match="missing"):
        kept = read(path, damaged="keep")
    seconds = kept.samples.shape[1] / kept.sample_rate
    assert abs(seconds - 0.6 * duration) < LARGEST / 2
    if kind in ("flac", "mp3", "m4a", "alac", "tta", "wavpack", "flv", "matroska"):
        # Their header holds the whole length: what is missing is what is left of it, but for the
        # 0.1 s by which those of Matroska and Flash may be off, and the frame that MP3 loses.
        missing = sum(part.seconds or 0.0 for part in kept.missing)
        assert missing == pytest.approx(duration - seconds, abs=0.1)


def test_without_pyav_damaged_flac_is_refused_or_kept_up_to_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    WRITERS["flac"](path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UserError, match=r"a: damaged at 0\.0 s|holds no samples"):
        read(path, damaged="refuse")


def test_what_is_missing_is_told_of_a_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise().T, RATE)
    path.write_bytes(path.read_bytes()[: 44 + 4 * RATE])
    notes: list[str] = []
    reading = Reading(path, damaged="keep", on_note=notes.append)
    assert sum(block.samples.shape[1] for block in reading) == RATE
    assert [(part.at, part.seconds) for part in reading.missing] == [(1.0, SECONDS - 1.0)]
    assert notes == [f"{path}: 3.00 s missing at 1.0 s (the file ends before); the rest is kept"]


def test_another_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged 'ignore': choose one of refuse, keep"):
        Reading(tmp_path / "a.wav", damaged="ignore")  # type: ignore[arg-type]


def test_every_command_and_recipe_says_what_becomes_of_damage() -> None:
    """``io.read`` alone keeps it by default, with a warning: who explores in Python sees that."""
    root = Path(__file__).parents[2]
    calls = 0
    for path in (
        p for part in ("mgdm_audio", "recipes", "egs") for p in root.glob(f"{part}/**/*.py")
    ):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not any(
            isinstance(node, ast.ImportFrom)
            and node.module == "mgdm_audio.audio.io"
            and any(alias.name == "read" for alias in node.names)
            for node in ast.walk(tree)
        ):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "read":
                assert "damaged" in {word.arg for word in node.keywords}, f"{path}:{node.lineno}"
                calls += 1
    assert calls >= 5
