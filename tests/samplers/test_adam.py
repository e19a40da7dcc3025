import pytest
import torch

from mgdm_audio.samplers.adam import Adam


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.99)])
def test_it_is_torch_s_adam_to_the_last_bit(dtype: torch.dtype, betas: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, generator=generator, dtype=dtype)
    theirs = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.03, betas=betas, foreach=False)
    ours = Adam(x.clone(), 0.03, betas)
    for _ in range(40):
        gradient = torch.randn(50, generator=generator, dtype=dtype) * 100
        theirs.grad = gradient
        optimizer.step()
        ours.step(gradient)
        assert torch.equal(ours.x, theirs.detach())


def test_it_moves_its_tensor_in_place() -> None:
    x = torch.zeros(2)
    Adam(x, 0.1).step(torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(x, torch.tensor([-0.1, 0.1]))  # the first step is lr * sign
