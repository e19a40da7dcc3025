"""Restoring: the posterior where it is known, the same numbers however draws are batched."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mgdm_audio.diffusion import NoiseSchedule, Prior
from mgdm_audio.errors import UserError
from mgdm_audio.images.presets import load_image_preset
from mgdm_audio.images.restoration import Restoration
from mgdm_audio.images.restorer import Restorer
from mgdm_audio.images.tasks import build_operator
from mgdm_audio.networks.unet_2d import UNet2d, UNet2dConfig
from mgdm_audio.priors.images import ImagePrior
from tests.images.toys import tiny_autoencoder, tiny_unet

SCHEDULE = NoiseSchedule.linear()
SHAPE = (1, 8, 8)
EXACT = ("sampler=mgdm-covariance", "num_steps=10", "gibbs_steps=10", "denoise_steps=10",
         "vi_steps=0", "covariance=isotropic", "gauss_step=exact", "project=true")  # fmt: skip


def image_prior(network: UNet2d, codec: Any = None) -> ImagePrior:
    event_shape = SHAPE if codec is None else (2, 4, 4)
    return ImagePrior(Prior(network, SCHEDULE, event_shape, codec), "toy", SHAPE, {})


def restorer(
    network: UNet2d | None = None,
    sampler: str = "pgdm",
    task: str = "outpainting_half",
    changes: tuple[str, ...] = ("num_steps=10",),
    codec: Any = None,
    **options: Any,
) -> Restorer:
    opened = image_prior(network or tiny_unet(1), codec)
    return Restorer(opened, load_image_preset(sampler, task, changes), task, **options)


def picture(seed: int = 0) -> Tensor:
    return 2 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) - 1


def test_draws_are_the_posterior_where_it_is_known() -> None:
    # An untrained network is the denoiser of N(0, sigma_data^2 I). With its exact covariance the
    # Gibbs chain of MGDM has the posterior for its limit.
    with torch.random.fork_rng(devices=[]):
        network = UNet2d(UNet2dConfig(1, (8,), 1, attention=False, embedding=8, sigma_data=1.0))
    network.requires_grad_(False)
    noise = 0.5
    this = restorer(network, sampler="mgdm", changes=(*EXACT, f"noise_std={noise}"), batch_size=64)
    y = this.observe(picture())
    result = this.restore(y, draws=64)
    seen, hidden = result.draws[..., :4], result.draws[..., 4:]
    posterior = y[..., :4] / (1 + noise**2)
    # A pixel's mean over 64 draws is off by std / 8 by chance, std being 1 where it is hidden.
    std = noise / (1 + noise**2) ** 0.5
    assert (seen.mean(0) - posterior).abs().max() < 5 * std / 8
    assert hidden.mean(0).abs().max() < 5 / 8
    # Standard deviations: 1 / sqrt(2 * 2048) = 1.6 % by chance; ten sweeps at ten levels
    # leave a bias.
    assert float((seen - posterior).square().mean().sqrt()) == pytest.approx(std, rel=0.1)
    assert float(hidden.square().mean().sqrt()) == pytest.approx(1, rel=0.1)
    assert result.std is not None
    assert result.std[..., 4:].mean() > 1.5 * result.std[..., :4].mean()


def test_results_do_not_depend_on_the_batch() -> None:
    y = restorer().observe(picture())
    one, three = (restorer(batch_size=b).restore(y, "a", draws=5).draws for b in (1, 3))
    assert (one - three).abs().max() < 1e-4  # float32 through 9 steps, batched in another order
    assert torch.equal(restorer(batch_size=1).restore(y, "a", draws=2).draws, one[:2])
    assert not torch.equal(restorer(batch_size=1).restore(y, "b", draws=1).draws[0], one[0])
    assert not torch.equal(restorer(seed=1, batch_size=1).restore(y, "a").draws[0], one[0])
    assert not torch.equal(one[0], one[1])


def test_several_images_go_through_one_batch() -> None:
    this = restorer(batch_size=4)
    names = ["a", "b", "c"]
    ys = [this.observe(picture(seed), name) for seed, name in enumerate(names)]
    together = this.restore_all(ys, names, draws=2, originals=[picture(s) for s in range(3)])
    for y, name, result in zip(ys, names, together, strict=True):
        alone = restorer(batch_size=1).restore(y, name, draws=2)
        # float32 through 9 steps, batched in another order
        assert (alone.draws - result.draws).abs().max() < 1e-4
        assert result.report["input"] == name
        assert torch.equal(result.y, y)
        # Six draws in batches of four: two batches of nine calls.
        assert result.report["denoiser_calls"] == {"forward": 0, "gradient": 18}
    assert together[2].original is not None
    assert torch.equal(together[2].original, picture(2))
    assert this.restore_all([], []) == []


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    room, sizes = 2, list[int]()
    draw = Restorer._draw

    def limited(self: Restorer, items: Any, on_step: Any) -> Any:
        sizes.append(len(items))
        if len(items) > room:
            raise torch.OutOfMemoryError("no room")
        return draw(self, items, on_step)

    y = restorer().observe(picture())
    want = restorer(batch_size=2).restore(y, "a", draws=5).draws
    monkeypatch.setattr(Restorer, "_draw", limited)
    this = restorer(batch_size=5)
    assert torch.equal(this.restore(y, "a", draws=5).draws, want)
    assert sizes == [5, 2, 2, 1]
    room = 0
    with pytest.raises(UserError, match="out of memory at a size of 8 pixels; give a smaller"):
        this.restore(y, "a")


def test_observations_are_degraded_by_the_seed_alone() -> None:
    x, state = picture(), torch.get_rng_state()
    first = restorer(task="random_95", seed=3)
    assert torch.equal(first.observe(x, "a"), restorer(task="random_95", seed=3).observe(x, "a"))
    for other in (first.observe(x, "b"), restorer(task="random_95", seed=4).observe(x, "a")):
        assert not torch.equal(first.observe(x, "a"), other)
    assert torch.equal(torch.get_rng_state(), state)
    noise = first.observe(x, "a") - first.operator(x[None])[0]
    assert 0.03 < float(noise.std()) < 0.07  # sigma_y = .05, 64 values


@pytest.mark.parametrize("sampler", ["mgdm-ldm", "dps", "resample", "psld", "daps"])
def test_a_latent_prior_restores_pictures(sampler: str) -> None:
    changes = {"resample": "num_steps=12", "daps": "num_steps=4"}.get(sampler, "num_steps=6")
    this = restorer(tiny_unet(2), sampler, "sr4", (changes,), tiny_autoencoder())
    y = this.observe(picture())
    assert y.shape == this.observation_shape == (1, 2, 2)
    result = this.restore(y)
    assert result.draws.shape == (1, *SHAPE)
    assert result.draws.isfinite().all()


def test_the_report_says_how() -> None:
    this = restorer(seed=5)
    steps: list[tuple[int, int]] = []
    result = this.restore(
        this.observe(picture()), "a", draws=2, on_progress=lambda *s: steps.append(s)
    )
    assert steps[-1] == (2000, 2000)
    assert steps == sorted(steps)
    want = {"task": "outpainting_half", "prior": "toy", "sampler": "pgdm", "noise_std": 0.05,
            "draws": 2, "seed": 5, "input": "a",
            "denoiser_calls": {"forward": 0, "gradient": 18}}  # fmt: skip
    assert {key: result.report[key] for key in want} == want
    assert result.scores() is None
    assert result.std is not None
    assert this.restore(this.observe(picture())).std is None


def test_the_report_holds_what_options_name(tmp_path: Path) -> None:
    np.save(path := tmp_path / "k.npy", np.eye(3))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for kernel in (path, str(path)):
        this = restorer(task="motion_blur", options={"kernel": kernel})
        report = this.restore(this.observe(picture())).report
        assert report["task_options"] == {"kernel": str(path)}
        assert report["task_files_sha256"] == {"kernel": digest}

    def halved(x: Tensor, code: Tensor) -> Tensor:
        return x / 2

    this = restorer(
        sampler="dps", task="nonlinear_blur", changes=("num_steps=4",), options={"network": halved}
    )
    record = this.restore(this.observe(picture())).save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == record
    assert record["task_options"]["network"].endswith("halved")
    assert record["task_files_sha256"] == {}


def test_draws_are_scored_modulo_what_the_task_cannot_see() -> None:
    x = torch.full((1, 16, 16), -1.0)
    x[:, 3:9, 2:12] = 2 * torch.rand(1, 6, 10, generator=torch.Generator().manual_seed(0)) - 1
    turned, y = x.flip(-2, -1), torch.zeros(1)
    for task in ("phase_retrieval", "sr4"):
        operator = build_operator(task, (1, 16, 16), generator=torch.Generator())
        result = Restoration(torch.stack([turned, x]), y, 0.05, {}, x, operator.symmetries)
        scores = result.scores()
        assert scores is not None
        first, second = scores["draws"]
        assert (second["psnr_db"], second["psnr_aligned_db"]) == (None, None)  # no error
        assert first["psnr_db"] < 10
        if task == "phase_retrieval":
            assert (first["psnr_aligned_db"], first["ssim_aligned"]) == (None, 1.0)
        else:
            assert first["psnr_aligned_db"] == first["psnr_db"]
    this = restorer(sampler="dps", task="phase_retrieval", changes=("num_steps=4",))
    assert this.restore(this.observe(picture())).symmetries == this.operator.symmetries


@pytest.mark.parametrize(
    ("sampler", "task", "changes", "options", "says"),
    [
        ("pgdm", "phase_retrieval", (), {}, "PGDM needs a LinearOperator, got"),
        ("psld", "sr4", (), {}, "PSLD needs a latent Prior"),
        ("dps", "sr4", ("num_steps=1001",), {}, "sampler dps: 1001 steps: this schedule takes"),
        ("dps", "sr4", ("num_steps=9", "step_size=1e38"), {}, "sampler dps diverged"),
        ("dps", "sr5", (), {}, "image task 'sr5' is unknown; did you mean sr"),
        ("dps", "blur", (), {"sd": 3}, "option 'sd'"),
        ("dps", "blur", (), {"std": "wide"}, "image task 'blur': std: 'wide' is not a number"),
        ("dps", "nonlinear_blur", (), {"network": "mine"}, "mine: no such file; give a file"),
        ("dps", "nonlinear_blur", (), {"network": __file__}, "not an exported program ("),
    ],
)
def test_what_cannot_be_is_named_in_one_line(
    sampler: str, task: str, changes: tuple[str, ...], options: dict[str, Any], says: str
) -> None:
    def run() -> None:
        this = restorer(sampler=sampler, task=task, changes=changes, options=options)
        this.restore(this.observe(picture()))

    with pytest.raises(UserError) as caught:
        run()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_seen_of_an_observation_keeps_the_range() -> None:
    for task, shown in (("sr4", True), ("phase_retrieval", False)):
        this = restorer(sampler="dps", task=task, changes=("num_steps=4",))
        result = this.restore(this.observe(torch.ones(SHAPE)))
        assert result.is_picture is shown
        images = result.sheet().shape[-1] + 2  # original, draw and mean; the observation
        assert images == (8 + 2) * (2 + shown)
        whole = replace(result, original=torch.ones(SHAPE))
        assert whole.sheet().shape[-1] + 2 == (8 + 2) * (3 + shown)
