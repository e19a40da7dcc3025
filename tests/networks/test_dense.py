"""Linear layers for inference against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from mgdm_audio.networks import tf_layers
from mgdm_audio.networks.tf_layers import added, dense, is_fast_bfloat16

FAST = is_fast_bfloat16(torch.zeros(1, dtype=torch.bfloat16))
needs_fast = pytest.mark.skipif(not FAST, reason="no AVX-512")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(24, 40)


@pytest.fixture(
    params=["float32", pytest.param("bfloat16", marks=needs_fast), "bfloat16 without instructions"]
)
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    kind, _, without = request.param.partition(" ")
    if without:
        monkeypatch.setattr(tf_layers, "_has_onednn", lambda: False)
    return torch.float32 if kind == "float32" else torch.bfloat16


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """Weights are below 0.21 and inputs of size 1; each and the sum is rounded to 2^-8 of itself.

    Of 24 products the rounding errors add up to some 0.2 sqrt(24) 2^-8 = 2^-8.
    """
    error = 1e-6 if dtype == torch.float32 else 2**-6
    return {"rtol": error, "atol": error}


@torch.no_grad()
@pytest.mark.parametrize("relu", [False, True])
def test_a_dense_layer_is_torch_s_own(layer: nn.Linear, dtype: torch.dtype, relu: bool) -> None:
    x = normal(2, 3, 5, 24).to(dtype)
    found = dense(x, layer, relu)
    assert found.dtype == dtype
    want = layer(x.float())
    torch.testing.assert_close(found.float(), want.relu() if relu else want, **tolerance(dtype))


@torch.no_grad()
def test_a_product_is_added(layer: nn.Linear, dtype: torch.dtype) -> None:
    x, onto = normal(2, 3, 24).to(dtype), normal(2, 3, 40, seed=1).to(dtype)
    want = onto.float() + layer(x.float())
    found = added(onto, x, layer.weight, layer.bias)
    torch.testing.assert_close(found.float(), want, **tolerance(dtype))


def test_with_gradients_it_is_the_layer_itself(layer: nn.Linear) -> None:
    x = normal(2, 24)
    assert torch.equal(dense(x, layer, relu=True), layer(x).relu())
    dense(x, layer).sum().backward()
    assert layer.weight.grad is not None
