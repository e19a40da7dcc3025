"""Linear layers for inference against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from mgdm_audio.networks import tf_layers
from mgdm_audio.networks.tf_layers import dense, product

LAYER = nn.Linear(24, 40)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["float32", "bfloat16", "bfloat16 without instructions for it"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    kind, _, without = request.param.partition(" ")
    if without:
        monkeypatch.setattr(tf_layers, "_has_onednn", lambda: False)
    return torch.float32 if kind == "float32" else torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("relu", [False, True])
def test_a_dense_layer_is_torch_s_own(dtype: torch.dtype, relu: bool) -> None:
    x = normal(2, 3, 5, 24).to(dtype)
    found = dense(x, LAYER, relu)
    assert found.dtype == dtype
    want = LAYER(x.float())
    # Of 24 products below 1 the weights are rounded to 2^-9, and so is the sum.
    error = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found.float(), want.relu() if relu else want, rtol=error, atol=error)


@torch.no_grad()
def test_a_product_is_added(dtype: torch.dtype) -> None:
    x, onto = normal(2, 3, 24).to(dtype), normal(2, 3, 40, seed=1).to(dtype)
    want = onto.float() + LAYER(x.float())
    found = product(x, LAYER.weight, LAYER.bias, onto=onto.clone())
    error = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found.float(), want, rtol=error, atol=error)


def test_with_gradients_and_under_autocast_it_is_the_layer_itself() -> None:
    x = normal(2, 24)
    assert dense(x, LAYER).requires_grad
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dense(x, LAYER, relu=True), LAYER(x).relu())
