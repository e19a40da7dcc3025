import pytest
import torch

from mgdm_audio.measurement import KnownSources, Mask, MixtureSum, Stacked


def test_the_mixture_is_the_sum_of_its_sources() -> None:
    x = torch.arange(24.0).reshape(1, 4, 6)
    assert torch.equal(MixtureSum(4)(x), x.sum(1, keepdim=True))
    weighted = MixtureSum(2, [1.0, -2.0])(x[:, :2])
    assert torch.equal(weighted, (x[:, 0] - 2 * x[:, 1])[:, None])


def test_the_residual_is_shared_equally() -> None:
    y = torch.ones(1, 1, 3)
    assert torch.equal(MixtureSum(4).pinv(y), torch.full((1, 4, 3), 0.25))


def test_known_sources_come_back_in_the_order_asked() -> None:
    x = torch.arange(8.0).reshape(1, 4, 2)
    assert torch.equal(KnownSources([2, 0], 4)(x), x[:, [2, 0]])


def test_a_mixture_with_its_stems_known_leaves_one_unknown() -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observe = Stacked([MixtureSum(4), KnownSources([0, 1, 3], 4)])
    assert observe(x).shape == (2, 4, 5)
    # Three stems and the sum: the fourth is what is left, to rounding.
    torch.testing.assert_close(observe.pinv(observe(x)), x, rtol=0, atol=1e-13)


def test_the_wiener_gain_is_the_gaussian_conditional() -> None:
    operator, noise_std = MixtureSum(3, [1.0, 0.5, -2.0]), 0.3
    variance = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = operator.matrix
    gain = operator.wiener_gain(variance, noise_std**2)
    for i in range(2):
        for t in range(4):
            c = torch.diag(variance[i, :, t])
            exact = c @ a.T / (a @ c @ a.T + noise_std**2)
            torch.testing.assert_close(gain[i, :, t], exact[:, 0], rtol=1e-14, atol=0)


def test_what_is_no_mixture_is_refused() -> None:
    for weights in ([1.0, 2.0], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="weights"):
            MixtureSum(3, weights)
    for indices in ([], [0, 0], [3], [-1]):
        with pytest.raises(ValueError, match="known sources"):
            KnownSources(indices, 3)
    with pytest.raises(ValueError, match="sizes"):
        Stacked([MixtureSum(2), Mask(torch.ones(2, 3))])
