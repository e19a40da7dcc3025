import numpy as np
import pytest
import torch

from mgdm_audio.measurement import Affine, Clip, Function, PhaseRetrieval


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("padding", [(2, 3), (0, 0), (4,)])
def test_phase_retrieval_is_the_modulus_of_numpys_fft(padding: tuple[int, ...]) -> None:
    x = draw(2, 3, 8, 9)
    ends = [(0, 0)] * (4 - len(padding)) + [(p, p) for p in padding]
    axes = tuple(range(4 - len(padding), 4))
    spectrum = np.fft.fftn(np.pad(x.numpy(), ends), axes=axes, norm="ortho")
    expected = np.abs(np.fft.fftshift(spectrum, axes))
    y = PhaseRetrieval(padding)(x)
    # Sums of some hundred values of order 1, over the root of their number.
    torch.testing.assert_close(y, torch.from_numpy(expected), rtol=0, atol=1e-13)
    # Parseval: nothing but the phase is lost.
    torch.testing.assert_close(y.square().sum(), x.square().sum(), rtol=1e-13, atol=0)


def test_phase_retrieval_cannot_tell_a_shift_a_turn_or_a_sign() -> None:
    x, operator = draw(1, 1, 8, 8), PhaseRetrieval([4, 4])
    padded = torch.nn.functional.pad(x, (0, 2, 0, 1))
    shifted = torch.nn.functional.pad(x, (2, 0, 1, 0))
    for same, other in [(x, -x), (x, x.flip(-2, -1)), (padded, shifted)]:
        torch.testing.assert_close(operator(same), operator(other), rtol=0, atol=1e-13)


def test_phase_retrieval_keeps_single_precision() -> None:
    assert PhaseRetrieval([2, 2])(draw(1, 1, 4, 4, dtype=torch.float32)).dtype == torch.float32


def test_a_modulus_of_0_has_a_gradient() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(PhaseRetrieval([1, 1])(x).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_clip() -> None:
    x = torch.tensor([[-2.0, -0.5, 0.25, 3.0]], requires_grad=True)
    y = Clip(-1, 1)(x)
    assert torch.equal(y, torch.tensor([[-1.0, -0.5, 0.25, 1.0]]))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))


def test_affine_and_function() -> None:
    x = torch.tensor([[0.0, 1.0, -1.0]])
    assert torch.equal(Affine(0.5, 0.5)(x), torch.tensor([[0.5, 1.0, 0.0]]))
    assert torch.equal(Function(torch.square)(x), x.square())
