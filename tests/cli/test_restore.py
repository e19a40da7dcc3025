"""``mgdm-audio restore`` as a user meets it: images out, or one clear line."""

import hashlib
import inspect
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from mgdm_audio import __version__
from mgdm_audio.cli.main import main
from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.engine.device import fast_precision
from mgdm_audio.images.blurs import BLUR_NETWORKS
from mgdm_audio.images.tasks import TASKS
from mgdm_audio.priors.folder import CONFIG, WEIGHTS
from mgdm_audio.priors.trained_images import save_trained
from tests.images.toys import tiny_autoencoder, tiny_unet

FAST = ("--sampler", "dps", "--set", "num_steps=4", "--device", "cpu")
ONE = {"mean.png", "observation.npy", "observation.png", "original.png", "report.json",
       "restored_0.png", "sheet.png"}  # fmt: skip


@pytest.fixture
def restore(tmp_path: Path) -> "Restore":
    save_trained(tmp_path / "toy", tiny_unet(3), NoiseSchedule.linear(), (16, 16))
    return Restore(tmp_path)


class Restore:
    """Runs the command on files under a temporary folder, by a tiny prior, into ``out``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"

    def put(self, name: str, width: int = 16, height: int = 16, seed: int = 0) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.folder / name)
        return self.folder / name

    def __call__(self, *arguments: str | Path, out: Path | None = None) -> Result:
        # click lets the last of two values win, so that a test's own replace the quick settings.
        quick = ["restore", *FAST, "--task", "sr4", "--prior", str(self.folder / "toy")]
        command = [*quick, "-o", str(out or self.out), *map(str, arguments)]
        result = CliRunner().invoke(main, command)
        # Anything else is a traceback in a user's face.
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result


def hashes(folder: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
        if p.name != "report.json"  # it holds seconds
    }


def complaint(result: Result, code: int = 1) -> str:
    """The one line on standard error, beside the device's."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert all(line.startswith(("error: ", "device: ")) for line in lines), result.stderr
    assert result.stdout == ""
    return errors[0]


def test_its_help_names_every_task() -> None:
    shown = CliRunner().invoke(main, ["restore", "--help"]).stdout
    tasks, _, options = shown.split("Tasks:")[1].partition("Options of tasks")
    assert sorted(tasks.split()) == sorted(TASKS)
    known = {name for task in TASKS.values() for name in inspect.signature(task).parameters}
    for name in known - {"shape", "generator", "missing", "factor"}:  # those two have their tasks
        assert name in options


def test_it_writes_the_images_and_how_they_were_made(restore: Restore) -> None:
    path = restore.put("a face.png", 40, 32)
    result = restore(path, "--seed", "3", "--samples", "2")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        "device: cpu (asked for)",
        f"{path}: centre 32 x 32 of 40 x 32 pixels, resized to 16 x 16",
    ]
    assert result.stdout.startswith(f"{restore.out / 'a face'}: 2 restored (")
    assert "aligned" not in result.stdout  # sr4 tells all places apart
    folder = restore.out / "a face"
    assert {p.name for p in folder.iterdir()} == ONE | {"restored_1.png", "std.png"}
    sizes = {name: Image.open(folder / name).size for name in ("mean.png", "observation.png")}
    assert sizes == {"mean.png": (16, 16), "observation.png": (4, 4)}
    assert Image.open(folder / "sheet.png").size == (6 * 18 - 2, 16)
    report = json.loads((folder / "report.json").read_text())
    weights = (restore.folder / "toy" / WEIGHTS).read_bytes()
    want = {
        "version": __version__,
        "torch": torch.__version__,
        "input": "a face",
        "task": "sr4",
        "task_options": {},
        "task_files_sha256": {},
        "prior": "toy",
        "prior_sha256": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
        "image_shape": [3, 16, 16],
        "sampler": "dps",
        "noise_std": 0.05,
        "own_code_sha256": None,
        "published": "none",  # which has 1000 steps and one draw
        "draws": 2,
        "seed": 3,
        "device": "cpu",
        "device_reason": "asked for",
        "precision": fast_precision(torch.device("cpu")),
        "batch_size": 1,
        "denoiser_calls": {"forward": 2, "gradient": 4},  # 2 draws x (2 guided, 1 last)
    }
    assert {key: report[key] for key in want} == want
    assert report.keys() == want.keys() | {"options", "seconds", "scores", "std_white"}
    assert report["options"]["step_size"] == 1.0  # of sr4
    assert len(report["scores"]["draws"]) == 2
    assert report["scores"]["mean"].keys() >= {"psnr_db", "ssim"}


def test_the_scores_are_of_the_files(restore: Restore) -> None:
    assert restore(restore.put("a.png")).exit_code == 0
    folder = restore.out / "a"
    original, restored = (
        np.array(Image.open(folder / f"{name}.png"), dtype=float) / 127.5 - 1
        for name in ("original", "restored_0")
    )
    want = 10 * np.log10(4 / ((original - restored) ** 2).mean())
    report = json.loads((folder / "report.json").read_text())
    # The files are rounded to 8 bits, an error of 1/255 beside one near 1.
    assert report["scores"]["draws"][0]["psnr_db"] == pytest.approx(want, abs=0.1)
    assert report["scores"]["mean"] == report["scores"]["draws"][0]


def test_the_same_seed_gives_the_same_files_whatever_stands_beside(restore: Restore) -> None:
    a, b = restore.put("a.png"), restore.put("b.png", seed=1)
    for out, inputs in (("1", [a]), ("2", [b, a])):
        assert restore(*inputs, out=restore.folder / out).exit_code == 0
    assert hashes(restore.folder / "1" / "a") == hashes(restore.folder / "2" / "a")
    assert restore(a, "--seed", "1", out=restore.folder / "3").exit_code == 0
    assert hashes(restore.folder / "1" / "a") != hashes(restore.folder / "3" / "a")


def test_what_was_observed_is_restored_to_the_same(restore: Restore) -> None:
    assert restore(restore.put("a.png")).exit_code == 0
    observed = restore.out / "a" / "observation.npy"
    renamed = observed.rename(restore.folder / "a.npy")
    out = restore.folder / "again"
    assert restore(renamed, "--observation", out=out).exit_code == 0
    first, again = hashes(restore.out / "a"), hashes(out / "a")
    assert again["restored_0.png"] == first["restored_0.png"]
    assert "original.png" not in again
    assert json.loads((out / "a" / "report.json").read_text())["scores"] is None


def test_an_observation_that_is_no_image_is_an_array(restore: Restore) -> None:
    result = restore(restore.put("a.png"), "--task", "phase_retrieval")
    assert result.exit_code == 0
    report = json.loads((restore.out / "a" / "report.json").read_text())["scores"]["mean"]
    assert f", aligned PSNR {report['psnr_aligned_db']} dB, aligned SSIM " in result.stdout
    assert report["psnr_aligned_db"] >= report["psnr_db"]
    assert {p.name for p in (restore.out / "a").iterdir()} == ONE - {"observation.png"}
    assert np.load(restore.out / "a" / "observation.npy").shape == (3, 24, 24)


def test_options_of_task_and_prior_are_taken(restore: Restore) -> None:
    result = restore(restore.put("a.png"), "--task", "jpeg", "--task-option", "quality=30",
                     "--size", "8", "--set", "noise_std=0.1")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((restore.out / "a" / "report.json").read_text())
    assert (report["task_options"], report["noise_std"]) == ({"quality": 30}, 0.1)
    assert Image.open(restore.out / "a" / "mean.png").size == (8, 8)


def test_the_published_jpeg_and_a_kernel_from_a_file(restore: Restore) -> None:
    picture = restore.put("a.png")
    # A kernel of one pixel, two places right of its centre: y(p) = x(p + 2).
    Image.fromarray(np.array([[0, 0, 0, 0, 9]], np.uint8)).save(restore.folder / "k.png")
    option = f"kernel={restore.folder / 'k.png'}"
    assert restore(picture, "--task", "motion_blur", "--task-option", option).exit_code == 0
    y = np.load(restore.out / "a" / "observation.npy")
    x = np.array(Image.open(picture), dtype=float).transpose(2, 0, 1) / 127.5 - 1
    # Noise of .05: six standard deviations.
    assert np.abs(y[..., :-2] - x[..., 2:]).max() < 0.3
    seen = []
    for option in ("published=true", "published=false"):
        out = restore.folder / option
        result = restore(picture, "--task", "jpeg", "--task-option", option, out=out)
        assert result.exit_code == 0, result.output
        seen.append(np.load(out / "a" / "observation.npy"))
    assert np.abs(seen[0] - seen[1]).max() > 0.1  # of the same noise


def test_a_latent_prior_is_a_prior(restore: Restore) -> None:
    save_trained(
        restore.folder / "latent", tiny_unet(2), NoiseSchedule.linear(), (8, 8),
        tiny_autoencoder(3),
    )  # fmt: skip
    result = restore(restore.put("a.png"), "--prior", restore.folder / "latent")
    assert result.exit_code == 0, result.output
    assert Image.open(restore.out / "a" / "mean.png").size == (16, 16)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "sr5"], "image task 'sr5' is unknown; did you mean sr4"),
        (["--task-option", "factor"], "'factor': write an override as key=value"),
        (["--task", "jpeg", "--task-option", "quality=0"], "quality 0: give 1 to 100"),
        (["--task", "motion_blur", "--task-option", "kernel=k.npy"], "_blur': k.npy: cannot be"),
        (["--task", "blur", "--task-option", "std=wide"], "blur': std: 'wide' is not a number"),
        (["--sampler", "dsp"], "no preset 'dsp', nor a .toml file; did you mean dps"),
        (["--set", "num_step=4"], "unknown key 'num_step'; did you mean num_steps"),
        (["--prior", "none"], "none: no such prior for images; "),
        (["--device", "gpu"], "device 'gpu'"),
        (["--size", "0"], "size 0: give a multiple of 1 pixels"),
        (["--sampler", "psld"], "PSLD needs a latent Prior"),
    ],
)
def test_a_mistake_is_one_clear_line(restore: Restore, arguments: list[str], says: str) -> None:
    assert says in complaint(restore(restore.put("a.png"), *arguments))
    assert not list(restore.out.glob("*"))


def test_damaged_weights_are_named(restore: Restore) -> None:
    config = restore.folder / "toy" / CONFIG
    config.write_text(config.read_text().replace('"sha256": "', '"sha256": "0'))
    assert "the file is damaged or not this prior's" in complaint(restore(restore.put("a.png")))


def test_one_bad_image_stops_no_other(restore: Restore) -> None:
    (bad := restore.folder / "bad.png").write_bytes(b"nothing")
    result = restore(bad, restore.put("a.png"))
    assert result.exit_code == 1
    assert f"error: {bad}: cannot be read as an image" in result.stderr
    assert [p.name for p in restore.out.iterdir()] == ["a"]


def test_what_is_there_is_not_overwritten(restore: Restore) -> None:
    (restore.out / "a").mkdir(parents=True)
    (restore.out / "a" / "mine").touch()
    assert "exists already; choose another place" in complaint(restore(restore.put("a.png")))
    assert [p.name for p in (restore.out / "a").iterdir()] == ["mine"]
    (restore.folder / "x").mkdir()
    message = complaint(
        restore(restore.put("a.png"), restore.put("x/a.png"), out=restore.folder / "b")
    )
    assert "two inputs are named 'a'" in message


NETWORK = """
from mgdm_audio.images.blurs import BLUR_NETWORKS

BLUR_NETWORKS.register("halving", lambda x, code: x / 2 + 0 * code.mean())
"""


def test_a_blur_network_is_code_that_the_user_names(
    restore: Restore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BLUR_NETWORKS, "register", partial(monkeypatch.setitem, BLUR_NETWORKS))
    (restore.folder / "mine.py").write_text(NETWORK)
    words = ("--task", "nonlinear_blur", "--task-option", "network=halving")
    path = restore.put("a.png")
    assert "blur network 'halving' is unknown" in complaint(restore(path, *words))
    result = restore(path, *words, "--import", str(restore.folder / "mine.py"))
    assert result.exit_code == 0, result.output
    report = json.loads((restore.out / "a/report.json").read_text())
    assert report["task_options"] == {"network": "halving"}
    assert report["task_files_sha256"].keys() == {"network"}
