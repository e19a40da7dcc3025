"""Settings for images: they load, and the values of a task reach the sampler."""

import tomllib
from pathlib import Path

import pytest

from mgdm_audio.config import ConfigError
from mgdm_audio.images.presets import (
    PUBLISHED_TASKS,
    TASKS,
    list_image_presets,
    load_image_preset,
)
from mgdm_audio.images.tasks import NOISE_STD
from mgdm_audio.images.tasks import TASKS as KNOWN
from mgdm_audio.samplers import MGDM, PerStep

PER_TASK = tomllib.loads(TASKS.read_text())


@pytest.mark.parametrize("name", list_image_presets())
def test_every_preset_loads_for_every_task(name: str) -> None:
    for task in KNOWN:
        preset = load_image_preset(name, task)
        assert (preset.name, preset.noise_std) == (name, NOISE_STD)


def test_the_paper_s_rules_fall_where_it_says() -> None:
    pixels, latents = (load_image_preset(n, "sr4").sampler for n in ("mgdm", "mgdm-ldm"))
    assert isinstance(pixels, MGDM)
    assert isinstance(latents, MGDM)
    steps = range(100)  # k, the paper's i = 100 - k
    # G = 20 where i <= 25; the learning rate is .01 for the first eleven.
    assert [pixels.vi_steps.at(k, 100) for k in steps] == [5] * 75 + [20] * 25
    assert [pixels.learning_rate.at(k, 100) for k in steps] == [0.01] * 11 + [0.03] * 89
    want = [20 if k >= 75 or k % 10 == 0 else 3 for k in steps]
    assert [latents.vi_steps.at(k, 100) for k in steps] == want
    imagenet = load_image_preset("mgdm-imagenet", "sr4").sampler
    assert imagenet == MGDM(100, 1, 20, PerStep(5, last=(25, 20)), PerStep(0.03))


def test_settings_of_tasks_name_presets_and_tasks() -> None:
    assert PER_TASK.keys() <= set(list_image_presets())
    for tasks in PER_TASK.values():
        assert tasks.keys() <= KNOWN.keys()


@pytest.mark.parametrize(
    ("task", "step_size"),
    [("denoising", 0.1), ("sr4", 1.0), ("motion_blur", 0.3), ("phase_retrieval", 0.4)],
)
def test_a_task_has_its_own_values_and_the_user_the_last_word(task: str, step_size: float) -> None:
    assert load_image_preset("dps", task).options["step_size"] == step_size
    assert load_image_preset("dps", task, ["step_size=7"]).options["step_size"] == 7
    assert load_image_preset("dps", task, ["noise_std=0.2"]).noise_std == 0.2


def test_a_published_row_keeps_its_values_of_a_task() -> None:
    row = "DPS, Tables 1, 2 and 6 to 8"
    for task in ("sr4", "motion_blur", "blur_svd"):
        assert load_image_preset("dps", task).published == row
    assert load_image_preset("dps", "sr4", ["step_size=1"]).published == row  # its value there
    assert load_image_preset("dps", "sr4", ["step_size=0.1"]).published == "none"
    assert load_image_preset("dps", "denoising").published == "none"  # no task of the paper's
    assert KNOWN.keys() >= PUBLISHED_TASKS


def test_options_of_a_separation_are_for_sound(tmp_path: Path) -> None:
    says = r"\[separation\] is for sound; leave it out for images"
    with pytest.raises(ConfigError, match=f"^dps: {says}"):
        load_image_preset("dps", "sr4", ["separation.speeds=[0, 3]"])
    (path := tmp_path / "mine.toml").write_text('sampler = "dps"\n[separation]\nspeeds = [0, 3]\n')
    with pytest.raises(ConfigError, match=f"mine.toml: {says}"):
        load_image_preset(path, "sr4")


def test_red_diff_s_weight_is_a_quarter_of_the_share_observed() -> None:
    shares = {"sr4": 1 / 16, "sr16": 1 / 256, "outpainting_half": 1 / 2, "colorization": 1 / 3,
              "inpainting_center": 1 - 150**2 / 256**2, "outpainting_expand": 78**2 / 256**2,
              "random_95": 0.05, "random_99": 0.01, "phase_retrieval": 1.5**2, "blur": 1,
              "jpeg": 1}  # fmt: skip
    for task, share in shares.items():
        strength = load_image_preset("reddiff", task).options["strength"]
        assert strength == pytest.approx(0.25 * share, rel=1e-4), task


def test_settings_for_sound_are_none_for_images() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'msdm-dirac', nor a .toml file"):
        load_image_preset("msdm-dirac", "sr4")
    with pytest.raises(ConfigError, match=r"no preset 'mgdn', nor a .toml file; did you mean mgdm"):
        load_image_preset("mgdn", "sr4")
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read"):
        load_image_preset("none.toml", "sr4")
