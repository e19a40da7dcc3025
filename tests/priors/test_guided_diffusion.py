"""Checkpoints of guided-diffusion, against deepinv's port of its network."""

import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mgdm_audio.diffusion import NoiseSchedule
from mgdm_audio.errors import UserError
from mgdm_audio.priors.images import load_image_prior
from mgdm_audio.priors.images.guided_diffusion import SIZES, load_adm, rename, unet_config

diffusers = pytest.importorskip("diffusers")
deepinv = pytest.importorskip("deepinv")
diffunet = pytest.importorskip("deepinv.models.diffunet")

HEAD, WIDTH, MULTIPLES, BLOCKS = 16, 32, (1, 2), 2  # two heads at level 1, which attends


class ADM(nn.Module):
    """guided-diffusion's U-Net out of deepinv's layers, of two levels, with a learned variance."""

    def __init__(self) -> None:
        super().__init__()
        e = 4 * WIDTH
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, e), nn.SiLU(), nn.Linear(e, e))

        def res(before: int, after: int, **move: bool) -> nn.Module:
            options = {"use_scale_shift_norm": True, **move}
            return diffunet.ResBlock(before, e, 0.0, after, **options)  # type: ignore[no-any-return]

        def attend(width: int) -> nn.Module:
            return diffunet.AttentionBlock(width, num_head_channels=HEAD)  # type: ignore[no-any-return]

        def sequence(*layers: nn.Module) -> nn.Module:
            return diffunet.TimestepEmbedSequential(*layers)  # type: ignore[no-any-return]

        now, kept = WIDTH, [WIDTH]
        self.input_blocks = nn.ModuleList([sequence(nn.Conv2d(3, WIDTH, 3, padding=1))])
        for level, multiple in enumerate(MULTIPLES):
            for _ in range(BLOCKS):
                layers = [res(now, multiple * WIDTH)] + [attend(multiple * WIDTH)] * (level == 1)
                self.input_blocks.append(sequence(*layers))
                now = multiple * WIDTH
                kept.append(now)
            if level == 0:
                self.input_blocks.append(sequence(res(now, now, down=True)))
                kept.append(now)
        self.middle_block = sequence(res(now, now), attend(now), res(now, now))
        self.output_blocks = nn.ModuleList()
        for level in (1, 0):
            for i in range(BLOCKS + 1):
                layers = [res(now + kept.pop(), MULTIPLES[level] * WIDTH)]
                now = MULTIPLES[level] * WIDTH
                layers += [attend(now)] * (level == 1)
                layers += [res(now, now, up=True)] * (level == 1 and i == BLOCKS)
                self.output_blocks.append(sequence(*layers))
        self.out = nn.Sequential(
            nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, 6, 3, padding=1)
        )  # fmt: skip

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        rate = torch.exp(-math.log(10000) * torch.arange(WIDTH // 2) / (WIDTH // 2))
        angle = step[:, None] * rate
        embedding = self.time_embed(torch.cat([angle.cos(), angle.sin()], -1))
        h, kept = x, []
        for block in self.input_blocks:
            h = block(h, embedding)
            kept.append(h)
        h = self.middle_block(h, embedding)
        for block in self.output_blocks:
            h = block(torch.cat([h, kept.pop()], 1), embedding)
        return self.out(h)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def network() -> ADM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ADM()
        for parameter in network.parameters():  # layers that start at 0 would hide the others
            parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_it_denoises_as_the_original_network_does(
    network: ADM, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"ffhq{suffix}"
    save: Any = torch.save if suffix == ".pt" else save_file
    save(network.state_dict(), path)
    opened = load_adm(path, image_size=8, head=HEAD)
    assert (opened.name, opened.image_shape, opened.prior.codec) == ("ffhq", (3, 8, 8), None)
    assert list(opened.sha256) == [path.name]
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    alpha_bar = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)
    for n in (0, 40, 999):  # the network's own step, which is level n + 1
        eps = network(x_t, torch.tensor([n, n]))[:, :3].double()
        want = (x_t - (1 - alpha_bar[n]).sqrt() * eps) / alpha_bar[n].sqrt()
        got = opened.prior.predict_x0(x_t, n + 1)
        # float32 through some twenty layers; at step 999 the estimate is 160 times the noise's.
        assert (got - want).abs().max() < 2e-5 * want.abs().max(), n


@pytest.mark.parametrize(
    ("large", "millions"), [(False, 94), (True, 553)], ids=["ffhq", "imagenet"]
)
def test_the_published_networks_fit(large: bool, millions: int) -> None:
    with torch.device("meta"):  # shapes alone
        published = deepinv.models.DiffUNet(large_model=large, pretrained=None)
        tensors = dict(published.named_parameters())
        config = unet_config(tensors, 64)
        ours = diffusers.UNet2DModel(**config)
    renamed = rename(tensors, config["layers_per_block"], 64)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert {name: tensor.shape for name, tensor in renamed.items()} == shapes
    assert round(sum(tensor.numel() for tensor in renamed.values()) / 1e6) == millions
    channels = config["block_out_channels"]
    assert SIZES[tuple(width // channels[0] for width in channels)] == 256


def test_its_schedule_is_ddpm_s(network: ADM, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    schedule = load_adm(tmp_path / "a.pt", image_size=8, head=HEAD).prior.schedule
    assert torch.equal(schedule.sigma, NoiseSchedule.linear().sigma)


def altered(network: ADM, **changes: Tensor | None) -> dict[str, Tensor]:
    tensors = {**network.state_dict(), **{k.replace("__", "."): v for k, v in changes.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label_emb__weight": torch.zeros(10, 128)}, "needs a class label"),
        ({"out__2__bias": None}, "lacks 'conv_out.bias'"),
        ({"out__3__bias": torch.zeros(3)}, "'out.3.bias' is unknown"),
        ({"out__2__bias": torch.zeros(7)}, "has misshapen 'conv_out.bias'"),
        ({"out__2__bias": torch.full((6,), math.nan)}, "'conv_out.bias' is not finite"),
        ({"input_blocks__1__0__out_layers__3__weight": None}, "is not a supported checkpoint of"),
    ],
)
def test_what_does_not_fit_is_named(
    network: ADM, tmp_path: Path, changes: dict[str, Tensor | None], says: str
) -> None:
    torch.save(altered(network, **changes), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", says, head=HEAD)


def test_heads_that_do_not_divide_the_channels_are_named(network: ADM, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "64 channels do not divide into heads of 48", head=48)
    refused(tmp_path / "a.pt", "does not determine the size", head=HEAD, image_size=None)


@pytest.mark.parametrize("size", [-8, 0, 9])
def test_a_size_that_cannot_be_halved_is_refused(network: ADM, tmp_path: Path, size: int) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    says = f"size {size}: give a multiple of 2 pixels"
    refused(tmp_path / "a.pt", says, image_size=size, head=HEAD)


class Stranger:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the file was run",))


@pytest.mark.parametrize("content", [Stranger(), {"state": {}}, [torch.zeros(1)], None])
def test_a_pickle_is_never_run(tmp_path: Path, content: object) -> None:
    if content is None:
        (tmp_path / "a.pt").write_bytes(b"no file of torch")
    else:
        torch.save(content, tmp_path / "a.pt")
    says = "is no file of plain tensors|holds more than a table of tensors"
    with pytest.raises(UserError, match=says) as caught:
        load_image_prior(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


def refused(path: Path, says: str, **options: Any) -> None:
    with pytest.raises(UserError) as caught:
        load_adm(path, **({"image_size": 8} | options))
    message = str(caught.value)
    assert says in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_pickle_that_ends_too_early_is_one_line(tmp_path: Path) -> None:
    """torch's reader of plain tensors raises IndexError of it."""
    torch.save({}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good:
        parts = {name: good.read(name) for name in good.namelist()}
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as bad:
        for name, data in parts.items():
            bad.writestr(name, b"\x80\x02." if name.endswith("data.pkl") else data)
    with pytest.raises(UserError, match="is no file of plain tensors"):
        load_adm(tmp_path / "a.pt")
