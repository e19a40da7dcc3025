"""The tasks that blur: kernels against SciPy, files of kernels, networks by their names."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from mgdm_audio.digest import hash_own_code
from mgdm_audio.errors import UserError
from mgdm_audio.images.blurs import BLUR_NETWORKS
from mgdm_audio.images.tasks import option_hashes
from mgdm_audio.measurement import SpectralOperator
from tests.images.test_tasks import SHAPE, build, image


def test_blur_is_the_gaussian_filter_of_scipy() -> None:
    x = image(1, *SHAPE)
    expected = scipy.ndimage.gaussian_filter(x.numpy(), (0, 0, 3, 3), mode="mirror", truncate=4)
    torch.testing.assert_close(build("blur")(x), torch.from_numpy(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(5, 7), (6, 4), (41, 3)])
def test_a_kernel_from_a_file_is_correlated_with_the_image(
    size: tuple[int, int], tmp_path: Path
) -> None:
    kernel = np.random.default_rng(0).random(size)
    np.save(tmp_path / "k.npy", kernel)
    x = image(1, *SHAPE)
    want = scipy.ndimage.correlate(x[0].numpy(), kernel[None] / kernel.sum(), mode="mirror")
    y = build("motion_blur", kernel=str(tmp_path / "k.npy"))(x)[0]
    torch.testing.assert_close(y, torch.from_numpy(want), rtol=0, atol=1e-13)


def test_blur_svd_keeps_the_published_number_of_singular_values() -> None:
    operator = build("blur_svd", (3, 256, 256))
    assert isinstance(operator, SpectralOperator)
    values = operator.singular_values
    assert values.shape == (256, 256)
    assert int((values > 0).sum()) == 73**2
    assert float(values[values > 0].min()) >= 0.03**2


def test_a_learned_blur_sees_unit_range_and_one_code() -> None:
    seen = []

    def network(x: Tensor, code: Tensor) -> Tensor:
        seen.append(code)
        assert 0 <= float(x.min()) <= float(x.max()) <= 1
        return 2 * x

    x = image(2, *SHAPE)
    operator = build("nonlinear_blur", network=network)
    torch.testing.assert_close(operator(x), (2 * x + 1).clamp(-1, 1), rtol=0, atol=1e-14)
    operator(x[:1])
    first, second = seen
    assert first.shape == (2, 512, 2, 2)
    assert torch.equal(first[:1], second)
    assert torch.equal(first[0], first[1])
    # 2048 draws: their standard deviation is known to 1.6 %, here within five times that.
    assert float(second.std()) == pytest.approx(1.2, rel=0.08)


class Shading(torch.nn.Module):
    """Stands in for the learned blur: what it does depends on image, code and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.convolution(x) * code.mean((1, 2, 3), keepdim=True)


def test_a_learned_blur_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(BLUR_NETWORKS, "shading", network := Shading())
    x = image(3, *SHAPE).float()
    results = []
    for one in (network, "shading"):
        seen = x.clone().requires_grad_()
        y = build("nonlinear_blur", network=one)(seen)
        (gradient,) = torch.autograd.grad(y.square().sum(), seen)
        results.append((y.detach(), gradient))
        assert option_hashes({"network": one})["network"] == hash_own_code(network)
    for found, expected in zip(*results, strict=True):
        assert expected.abs().max() > 0
        assert torch.equal(found, expected)
    with pytest.raises(UserError, match="blur network 'shade' is unknown; did you mean shading"):
        build("nonlinear_blur", network="shade")
