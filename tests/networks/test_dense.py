"""Linear layers for inference against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from mgdm_audio.networks.tf_layers import dense


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_dense_layer_is_torch_s_own(relu: bool, autocast: bool) -> None:
    """In bfloat16 it is as near to the exact product: one rounding of 2^-9 each."""
    layer, x = nn.Linear(24, 40), normal(2, 3, 5, 24)
    with torch.no_grad():
        exact = layer.double()(x.double())
        exact = exact.relu() if relu else exact
        layer.float()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = dense(x, layer, relu)
        assert found.dtype == (torch.bfloat16 if autocast else torch.float32)
        # Inputs and weights are rounded to 2^-9 of themselves, and there are 24 products.
        error = 2**-7 if autocast else 1e-6
        torch.testing.assert_close(found.double(), exact, rtol=error, atol=error)


def test_both_ways_to_a_dense_layer_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a processor with instructions for bfloat16, and that of all others."""
    layer, x = nn.Linear(24, 40), normal(2, 24)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fast = dense(x, layer)
        monkeypatch.setattr("mgdm_audio.networks.tf_layers._has_onednn", lambda: False)
        # Two orders of the same sums, each rounded to bfloat16.
        torch.testing.assert_close(dense(x, layer), fast, rtol=2**-7, atol=2**-7)
