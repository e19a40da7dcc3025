"""What a scheduler's config says of the noise, level by level."""

from typing import Any

import pytest
import torch

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.priors.images.schedules import schedule_of

LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


def test_linear_is_ddpm_s() -> None:
    schedule = schedule_of(LINEAR | {"num_train_timesteps": 1000})
    assert torch.equal(schedule.noise_level, NoiseSchedule.linear().noise_level)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "trained"])
def test_levels_are_those_of_diffusers(kind: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    if kind == "trained":
        config: dict[str, Any] = {"trained_betas": torch.linspace(0.01, 0.3, 50).tolist()}
    else:
        config = LINEAR | {"beta_schedule": kind, "num_train_timesteps": 500}
    theirs = diffusers.DDPMScheduler.from_config(config).alphas_cumprod
    schedule = schedule_of(config)
    assert (schedule.alpha[0], schedule.sigma[0]) == (1, 0)
    ours = schedule.alpha[1:] ** 2
    kept = theirs > 1e-5  # the cosine ends at 0, where ours has a floor
    # Theirs is a float32 product of up to 500 factors, each rounded by 6e-8.
    assert ((ours[kept] - theirs[kept]) / theirs[kept]).abs().max() < 3e-5
    assert ours.min() >= 1e-6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule 'sigmoid'; known: linear"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"timestep_type": "continuous"}, "timestep_type 'continuous'"),
        ({"beta_end": 1.5}, "betas are two or more numbers between 0 and 1"),
        ({"num_train_timesteps": 1}, "betas are two or more"),
    ],
)
def test_what_is_no_such_schedule_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        schedule_of(LINEAR | change)


def test_a_flow_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no beta_schedule"):
        schedule_of({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
