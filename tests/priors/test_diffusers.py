"""Folders that diffusers wrote, opened as priors: the same numbers as from diffusers itself."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mgdm_audio.diffusion import Prior
from mgdm_audio.errors import UserError
from mgdm_audio.priors.images import ImagePrior, load_image_prior

diffusers = pytest.importorskip("diffusers")

WEIGHTS = "diffusion_pytorch_model.safetensors"
BETAS = {"num_train_timesteps": 200, "beta_start": 1e-3, "beta_end": 0.05}
CONDITION = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
SDXL = CONDITION | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 10 + 6 * 4,
    "use_linear_projection": True,
}


def unet(channels: int, **options: Any) -> Any:
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if "cross_attention_dim" in options:
            return diffusers.UNet2DConditionModel(**settings | options).eval()
        attention = {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
        }
        return diffusers.UNet2DModel(**settings | attention | options).eval()


def autoencoder(kind: str) -> Any:
    settings = {
        "block_out_channels": (4, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 2,
        "latent_channels": 4,
        "scaling_factor": 0.4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return getattr(diffusers, kind)(**settings).eval()


def saved(folder: Path, net: Any, schedule: str = "linear", **scheduler: Any) -> Path:
    net.save_pretrained(folder / "unet")
    config = BETAS | {"beta_schedule": schedule} | scheduler
    diffusers.DDIMScheduler(**config).save_pretrained(folder / "scheduler")
    return folder


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def step(prior: Prior, x_t: Tensor, t: int) -> Tensor:
    with torch.no_grad():
        return prior.predict_x0(x_t, t)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_pixel_prior_denoises_as_diffusers_does(
    tmp_path: Path, schedule: str, prediction: str
) -> None:
    net = unet(3)
    folder = saved(tmp_path / "faces", net, schedule, prediction_type=prediction)
    opened = load_image_prior(folder)
    assert (opened.name, opened.image_shape) == ("faces", (3, 8, 8))
    assert (opened.prior.event_shape, opened.prior.codec) == ((3, 8, 8), None)
    assert list(opened.sha256) == [f"unet/{WEIGHTS}"]
    # Their scheduler's own x_0 at the network's step n, which is our level n + 1.
    scheduler = diffusers.DDIMScheduler.from_pretrained(
        folder / "scheduler", clip_sample=False, set_alpha_to_one=True
    )
    scheduler.set_timesteps(200)
    x_t = draw(2, 3, 8, 8)
    for n in (0, 40, 199):
        with torch.no_grad():
            output = net(x_t, n).sample
        theirs = scheduler.step(output, n, x_t).pred_original_sample
        # Their float32 table is 1e-4 wrong in 1 - alpha^2 = 1e-3 at step 0; else float32.
        torch.testing.assert_close(step(opened.prior, x_t, n + 1), theirs, rtol=1e-3, atol=1e-4)


def test_a_learned_variance_is_left_out(tmp_path: Path) -> None:
    net = unet(1, out_channels=2)
    opened = load_image_prior(saved(tmp_path, net))
    x_t = draw(1, 1, 8, 8)
    alpha, sigma = (
        float(v[30]) for v in (opened.prior.schedule.alpha, opened.prior.schedule.sigma)
    )
    with torch.no_grad():
        want = (x_t - sigma * net(x_t, 29).sample[:, :1]) / alpha
    torch.testing.assert_close(step(opened.prior, x_t, 30), want, rtol=1e-4, atol=1e-5)  # float32


def test_the_first_layout_and_its_names_of_attention_are_read(tmp_path: Path) -> None:
    net = unet(3)
    want = load_image_prior(saved(tmp_path / "new", net))
    old = tmp_path / "old"
    net.save_pretrained(old)
    diffusers.DDPMScheduler(**BETAS).save_pretrained(old)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(old / WEIGHTS)
    for new, former in names.items():
        tensors = {k.replace(f".{new}.", f".{former}."): v for k, v in tensors.items()}
    assert any(".query." in name for name in tensors)
    save_file(tensors, old / WEIGHTS)
    x_t = draw(1, 3, 8, 8)
    got = load_image_prior(old)
    assert torch.equal(step(got.prior, x_t, 20), step(want.prior, x_t, 20))
    assert list(got.sha256) == [WEIGHTS]


@pytest.mark.parametrize(("kind", "place"), [("VQModel", "vqvae"), ("AutoencoderKL", "vae")])
def test_a_latent_prior_has_the_autoencoder_as_its_codec(
    tmp_path: Path, kind: str, place: str
) -> None:
    coder = autoencoder(kind)
    coder.save_pretrained(tmp_path / place)
    opened = load_image_prior(saved(tmp_path, unet(4)))
    assert (opened.prior.event_shape, opened.image_shape) == ((4, 8, 8), (3, 16, 16))
    assert list(opened.sha256) == [f"unet/{WEIGHTS}", f"{place}/{WEIGHTS}"]
    codec = opened.prior.codec
    assert codec is not None
    x, z = draw(2, 3, 16, 16).clamp(-1, 1), draw(2, 4, 8, 8)
    with torch.no_grad():
        coded = coder.encode(x)
        latent = coded.latents if kind == "VQModel" else coded.latent_dist.mean
        torch.testing.assert_close(codec.encode(x), 0.4 * latent)  # float32
        torch.testing.assert_close(codec.decode(z), coder.decode(z / 0.4).sample)
    z.requires_grad_()
    gradient = torch.autograd.grad(codec.decode(z).square().sum(), z)[0]
    assert gradient.abs().amax((1, 2, 3)).min() > 0  # also past the quantisation of VQ


def sdxl(folder: Path, **options: Any) -> Any:
    net = unet(4, **(SDXL | options))
    autoencoder("AutoencoderKL").save_pretrained(folder / "vae")
    saved(folder, net, "scaled_linear")
    return net


def test_sdxl_is_shown_zeros_for_no_text(tmp_path: Path) -> None:
    net = sdxl(tmp_path)
    (tmp_path / "model_index.json").write_text('{"force_zeros_for_empty_prompt": true}')
    opened = load_image_prior(tmp_path)
    x_t = draw(2, 4, 8, 8)
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 2)
    given = {"text_embeds": torch.zeros(2, 10), "time_ids": sizes}
    with torch.no_grad():
        eps = net(x_t, 29, torch.zeros(2, 77, 8), added_cond_kwargs=given).sample
    alpha, sigma = (
        float(v[30]) for v in (opened.prior.schedule.alpha, opened.prior.schedule.sigma)
    )
    want = (x_t - sigma * eps) / alpha
    torch.testing.assert_close(step(opened.prior, x_t, 30), want, rtol=1e-4, atol=1e-5)  # float32


def test_a_text_of_the_user_s_takes_the_place_of_zeros(tmp_path: Path) -> None:
    net = unet(4, **CONDITION)
    autoencoder("AutoencoderKL").save_pretrained(tmp_path / "vae")
    saved(tmp_path, net)
    message = refusal(tmp_path)
    assert "empty_prompt.safetensors: missing; save the text encoder's output for ''" in message
    text = draw(1, 5, 8, seed=3)
    save_file({"prompt_embeds": text}, tmp_path / "empty_prompt.safetensors")
    opened = load_image_prior(tmp_path)
    x_t = draw(2, 4, 8, 8)
    with torch.no_grad():
        eps = net(x_t, 29, text.expand(2, -1, -1)).sample
    alpha, sigma = (
        float(v[30]) for v in (opened.prior.schedule.alpha, opened.prior.schedule.sigma)
    )
    want = (x_t - sigma * eps) / alpha
    torch.testing.assert_close(step(opened.prior, x_t, 30), want, rtol=1e-4, atol=1e-5)  # float32
    save_file({"prompt_embeds": draw(1, 5, 9)}, tmp_path / "empty_prompt.safetensors")
    assert "prompt_embeds has shape (1, 5, 9); it must be like (1, 77, 8)" in refusal(tmp_path)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / "unet" / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / "unet" / WEIGHTS)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "unet" / WEIGHTS), folder / "unet/diffusion_pytorch_model.bin")
    (folder / "unet" / WEIGHTS).unlink()


SCHEDULER, CONFIG = "scheduler/scheduler_config.json", "unet/config.json"
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "pickled weights are never opened": pickled,
    "lacks 'conv_in.bias' (1 in all)": lambda f: rewrite(f, lambda t: t.pop("conv_in.bias")),
    "has unknown 'more' (1 in all)": lambda f: rewrite(f, lambda t: t.update(more=draw(1))),
    "'conv_in.bias' is not finite": lambda f: rewrite(f, lambda t: t["conv_in.bias"].fill_(1e999)),
    "diffusers cannot open it": lambda f: (f / "unet" / WEIGHTS).write_bytes(b"nothing"),
    "cannot open it (": lambda f: edit(f / CONFIG, block_out_channels=[8, 24]),
    "_class_name 'os.system' is unknown": lambda f: edit(f / CONFIG, _class_name="os.system"),
    "config.json: cannot be read as JSON": lambda f: (f / CONFIG).write_text("{"),
    "config.json: is not a JSON object": lambda f: (f / CONFIG).write_text("[]"),
    "sample_size None: give height": lambda f: edit(f / CONFIG, sample_size=None),
    "scheduler_config.json: missing": lambda f: (f / SCHEDULER).unlink(),
    "scheduler_config.json: beta_schedule 'x'": lambda f: edit(f / SCHEDULER, beta_schedule="x"),
    "prediction_type 'flow'": lambda f: edit(f / SCHEDULER, prediction_type="flow"),
    "scheduler_config.json: ": lambda f: edit(f / SCHEDULER, beta_end="much"),
}


@pytest.mark.parametrize("says", DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, says: str) -> None:
    folder = saved(tmp_path / "prior", unet(3))
    DAMAGES[says](folder)
    message = refusal(folder)
    assert says in message
    assert message.startswith(str(folder))


def test_networks_that_want_more_than_the_picture_are_refused(tmp_path: Path) -> None:
    assert "needs a class label" in refusal(saved(tmp_path / "a", unet(3, num_class_embeds=10)))
    assert "out_channels is neither" in refusal(saved(tmp_path / "b", unet(3, out_channels=4)))
    autoencoder("AutoencoderKL").save_pretrained(tmp_path / "c" / "vae")
    message = refusal(saved(tmp_path / "c", unet(9, out_channels=9)))
    assert "the network takes 9 channels, its autoencoder has 4" in message


def test_another_size_may_be_asked_for(tmp_path: Path) -> None:
    autoencoder("AutoencoderKL").save_pretrained(tmp_path / "vae")
    folder = saved(tmp_path, unet(4))
    opened: ImagePrior = load_image_prior(folder, size=8)
    assert (opened.prior.event_shape, opened.image_shape) == ((4, 4, 4), (3, 8, 8))
    assert step(opened.prior, draw(1, 4, 4, 4), 9).shape == (1, 4, 4, 4)
    for size in (6, 9):  # the autoencoder halves it, and the network what is left
        with pytest.raises(UserError, match=f"size {size}: give a multiple of 4 pixels"):
            load_image_prior(folder, size=size)


def test_a_network_for_texts_takes_any_latent(tmp_path: Path) -> None:
    sdxl(tmp_path)
    (tmp_path / "model_index.json").write_text('{"force_zeros_for_empty_prompt": true}')
    opened = load_image_prior(tmp_path, size=6)
    assert step(opened.prior, draw(1, 4, 3, 3), 9).shape == (1, 4, 3, 3)
    with pytest.raises(UserError, match="size 9: give a multiple of 2 pixels"):
        load_image_prior(tmp_path, size=9)


def test_what_is_no_prior_is_told_the_formats(tmp_path: Path) -> None:
    assert "contains no prior for images; give a folder as diffusers saves" in refusal(tmp_path)
    assert "no such prior for images" in refusal(tmp_path / "none")


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_image_prior(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_diffusers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path, unet(3))
    (tmp_path / "adm.pt").touch()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for path in (folder, tmp_path / "adm.pt"):
        assert "pip install 'mgdm_audio[images]'" in refusal(path)
