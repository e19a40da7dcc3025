"""What the harness works on: good files of every format, and the commands that write, all small."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.folder import save_prior
from mgdm_audio.priors.images.trained_images import save_trained
from tests.images.toys import tiny_autoencoder, tiny_unet
from tests.toys import STEMS, TINY, TINY_TOML, song, tiny_network

ROOT = Path(__file__).parents[3]
RATE = 22050  # Hz, of the tiny prior
QUICK = "--sampler wiener --set num_steps=1 --device cpu"
FORMATS = {  # of libsndfile: suffix -> format, subtype
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAVEX", "PCM_24"),
    "rf64": ("RF64", "FLOAT"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
CONTAINERS = {  # of FFmpeg: suffix -> container, codec
    "m4a": ("mp4", "aac"),
    "alac": ("mp4", "alac"),
    "mka": ("matroska", "aac"),
    "aac": ("adts", "aac"),
    "wma": ("asf", "wmav2"),
    "webm": ("webm", "libopus"),
    "ac3": ("ac3", "ac3"),
    "tta": ("tta", "tta"),
}
PICTURES = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
TRAIN = """
[data]
train = "stems"
segment = 512
[schedule]
steps = 4
warmup = 1
[training]
batch = 1
precision = "no"
save_every = 1
"""


@dataclass(frozen=True)
class Command:
    """Words, in the room; ``OUT`` in them is the output. ``given``: a folder that it begins with.

    ``exact``: whether what it writes at any time is what it writes at its end. ``again``: words
    that make the command go on where it was stopped.
    """

    words: str
    given: str = ""
    exact: bool = True
    again: str = ""


COMMANDS = {
    "separate": Command(f"separate album -o OUT --prior tiny {QUICK}", again="--skip-existing"),
    "separate --report": Command(
        f"separate album -o OUT --prior tiny {QUICK} --report", again="--skip-existing"
    ),
    "separate --keep-samples": Command(
        f"separate album/a.wav -o OUT --prior tiny {QUICK} --samples 2 --keep-samples"
    ),
    "separate --filename": Command(
        f"separate album -o OUT --prior tiny {QUICK} --filename {{track}}_{{stem}}"
    ),
    "separate --format": Command(
        f"separate album -o OUT --prior tiny {QUICK} --format m4a", again="--skip-existing"
    ),
    "separate, again": Command(
        f"separate album -o OUT --prior tiny {QUICK} --seed 1", given="separated", exact=False
    ),
    "sample": Command(
        "sample -o OUT --prior tiny --seconds 0.2 --samples 2 --set num_steps=2 --device cpu"
    ),
    "score": Command(
        "score --reference stems --estimate stems -o OUT/s.json -o OUT/s.md -o OUT/s.csv",
        given="empty",
    ),
    "report": Command("report OUT", given="separated"),
    "restore": Command(
        "restore i.png k.png -o OUT --prior toy --task sr4 --sampler dps --set num_steps=3 "
        "--device cpu"
    ),
    "prepare": Command("prepare stems stems -o OUT --map map.toml --nj 1"),
    "prepare, again": Command(
        "prepare stems stems -o OUT --map map.toml --nj 1 --format wav", "prepared", exact=False
    ),
    "bench": Command("bench suite.toml -o OUT --reference mine=stems --prior tiny --device cpu"),
    "train": Command("train train.toml -o OUT", exact=False),
    "priors convert": Command("priors convert msdm.ckpt -o OUT/prior", given="empty"),
    "priors calibrate": Command(
        "priors calibrate tiny stems -o OUT/prior --segments 1 --length 2048", given="empty"
    ),
}


def build(room: Path, run: Callable[[str], int]) -> None:
    """Fill the room, once; ``run`` is a command's words in it, for what commands make."""
    if (room / "ready").exists():
        return
    shutil.rmtree(room, ignore_errors=True)
    (room / "good").mkdir(parents=True)
    (room / "empty").mkdir()
    _sounds(room)
    _priors(room)
    _pictures(room)
    _texts(room)
    for words in (
        f"separate album -o separated --prior tiny {QUICK}",
        "prepare stems stems -o prepared --map map.toml --nj 1",
        "train train.toml -o trained",
    ):
        if run(words):
            raise SystemExit(f"error: {words}: failed; is the package whole?")
    shutil.copy(room / "trained/state.safetensors", room / "good/state")
    shutil.copy(room / "separated/a/separation.json", room / "good/record")
    shutil.copy(room / "prepared/manifest.jsonl", room / "good/manifest")
    (room / "ready").touch()


def _sounds(room: Path) -> None:
    for number, name in enumerate("abc"):
        (room / "album").mkdir(exist_ok=True)
        wave = song(number, 2, 2205, RATE).T.numpy()
        soundfile.write(room / f"album/{name}.wav", wave, RATE)
    for track in ("one", "two"):
        (room / "stems" / track).mkdir(parents=True)
        for k, wave in enumerate(song(len(track), 4, 5 * RATE // 2, RATE)):
            soundfile.write(room / f"stems/{track}/{STEMS[k]}.wav", wave.numpy() / 4, RATE)
    x = song(9, 2, 4000, RATE).numpy()
    for suffix, (form, subtype) in FORMATS.items():
        rate = 24000 if subtype == "OPUS" else RATE
        soundfile.write(room / "good" / suffix, x.T, rate, subtype, format=form)
    import av

    for suffix, (form, codec) in CONTAINERS.items():
        with av.open(str(room / "good" / suffix), "w", format=form) as container:
            rate = 44100 if suffix == "wma" else 48000
            stream = container.add_stream(codec, rate=rate, layout="stereo")
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate = 128_000
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(x), "fltp", "stereo")
            frame.sample_rate, frame.pts = rate, 0
            kind = stream.codec_context.format.name
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(kind, "stereo", rate, size)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                container.mux(stream.encode(part))


def _priors(room: Path) -> None:
    details = {
        "schedule": NoiseSchedule.karras().to_config(),
        "stems": list(STEMS),
        "sample_rate": RATE,
        "mixture_rms": 0.08,
        "segment": 2**14,
    }
    save_prior(room / "tiny", tiny_network(0), TINY, "tf_unet", details)
    save_trained(room / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    autoencoder = tiny_autoencoder()
    save_trained(room / "latent", tiny_unet(2), NoiseSchedule.linear(), (8, 8), autoencoder)
    for name, file in {
        "weights": "tiny/model.safetensors",
        "config": "tiny/config.json",
        "image_config": "latent/config.json",
    }.items():
        shutil.copy(room / file, room / "good" / name)
    with tarfile.open(ROOT / "tests/priors/data/msdm.tar.xz") as archive:
        archive.extractall(room / "msdm", filter="data")
    (checkpoint,) = room.glob("msdm/msdm/*.ckpt")
    shutil.copy(checkpoint, room / "msdm.ckpt")
    tensors = {f"layer.{i}": torch.full((3, i + 1), 0.5) for i in range(4)}
    content = {"state_dict": tensors, "hyper_parameters": {"rate": 1e-4, "names": ["a", "b"]}}
    torch.save(content, room / "good/ckpt")
    torch.save(content, room / "good/old_ckpt", _use_new_zipfile_serialization=False)
    save_file(tensors, room / "good/safetensors")


def _pictures(room: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for name in ("i", "k"):
        image.save(room / f"{name}.png")
    for suffix, form in PICTURES.items():
        image.save(room / "good" / suffix, form)
    buffer = io.BytesIO()
    np.save(buffer, pixels.transpose(2, 0, 1) / 255.0)
    (room / "good/npy").write_bytes(buffer.getvalue())


def _texts(room: Path) -> None:
    stems = "".join(f'{stem} = ["{stem}", "{stem}_*"]\n' for stem in STEMS)
    texts = {
        "map.toml": f'splits = ["train", "test"]\n[stems]\n{stems}',
        "suite.toml": 'sets = ["mine"]\nsystems = ["mixture", "oracle-mask"]\nseed = 3\n',
        "train.toml": TRAIN + TINY_TOML,
        "preset.toml": (ROOT / "mgdm_audio/samplers/presets/mgdm.toml").read_text(),
    }
    for name, text in texts.items():
        (room / name).write_text(text)
        shutil.copy(room / name, room / "good" / name.removesuffix(".toml"))
    entries = {f"S0{k}": {"program_num": p, "is_drum": False} for k, p in enumerate((0, 33, 25))}
    (room / "good/yaml").write_text(
        "UUID: x\naudio_dir: stems\nstems:\n"
        + "".join(f"  {k}:\n    program_num: {v['program_num']}\n    is_drum: false\n" for k, v in
                  entries.items())
    )  # fmt: skip
    parts = [{"id": "1", "trackType": "x"}, {"id": "2"}]
    listing = {"stems": [{"stemName": "bass", "tracks": parts}]}
    (room / "good/moises").write_text(json.dumps(listing))
