"""``mgdm-audio separate`` on every format: stems of exactly the input's length, rate, channels."""

from pathlib import Path

import pytest
import soundfile
from torch import Tensor

from mgdm_audio.audio.io import read as read_audio
from tests.cli.test_separate import Separate, separate
from tests.toys import song

__all__ = ["separate"]  # the fixture

FORMATS = [
    ("a.wav", "WAV", "PCM_16", 1, 8000),
    ("two words.wav", "WAV", "PCM_24", 2, 44100),
    ("ünï ♪.wav", "WAV", "PCM_32", 6, 48000),
    ("-dash.wav", "WAV", "FLOAT", 2, 192000),
    ("x.flac", "FLAC", "PCM_24", 2, 96000),
    ("x.ogg", "OGG", "VORBIS", 2, 22050),
    ("x.opus", "OGG", "OPUS", 2, 48000),
    ("x.mp3", "MP3", "MPEG_LAYER_III", 1, 44100),
    ("x.aiff", "AIFF", "PCM_16", 6, 32000),
    ("x.caf", "CAF", "PCM_24", 2, 44100),
    ("x.m4a", "mp4", "aac", 1, 44100),
    ("-x y.m4a", "mp4", "aac", 2, 48000),
    ("6.m4a", "mp4", "aac", 6, 48000),
    ("x.mka", "matroska", "flac", 2, 44100),
]
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def encode(path: Path, samples: Tensor, rate: int, form: str, codec: str) -> None:
    """By FFmpeg, what libsndfile does not write."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=form) as container:
        layout = LAYOUTS[len(samples)]
        stream = container.add_stream(codec, rate=rate, layout=layout)
        kind, scale = ("s16p", 2**15) if codec == "flac" else ("fltp", 1)
        data = (samples * scale).numpy().astype("int16" if scale > 1 else "float32")
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout=layout)
        frame.sample_rate, frame.pts = rate, 0  # else the file does not say where the sound begins
        resampler = av.AudioResampler(format=stream.codec_context.format, rate=rate)
        for piece in (*resampler.resample(frame), None):
            container.mux(stream.encode(piece))


@pytest.mark.parametrize(("name", "form", "subtype", "channels", "rate"), FORMATS)
def test_every_format_gives_stems_of_its_shape(
    separate: Separate,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    form: str,
    subtype: str,
    channels: int,
    rate: int,
) -> None:
    time = rate // 10 + 1
    path, samples = separate.folder / name, song(1, channels, time, rate)
    if form.isupper():
        soundfile.write(path, samples.T.numpy(), rate, subtype, format=form)
    else:
        encode(path, samples, rate, form, subtype)
    read = read_audio(path).samples.double()
    assert read.shape == samples.shape
    monkeypatch.chdir(separate.folder)
    result = separate("--", name)
    assert result.exit_code == 0, result.output
    info = soundfile.info(separate.out / path.stem / "bass.wav")
    assert (info.channels, info.frames, info.samplerate) == (channels, time, rate)
    stems = separate.stems(path.stem)
    assert stems.shape == (4, channels, time)
    gain = separate.report(path.stem)["gain"]
    assert isinstance(gain, float)
    assert (stems.sum(0) - gain * read).abs().max() <= 2**-22  # half a step, and four float32
