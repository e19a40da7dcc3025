import torch

from mgdm_audio.krylov import square_root


def test_it_is_the_square_root_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.mT
    b = torch.randn(3, 3, 4, generator=generator, dtype=torch.float64)

    def matvec(x: torch.Tensor) -> torch.Tensor:
        return (matrix @ x.flatten(1)[..., None]).reshape(x.shape)

    values, vectors = torch.linalg.eigh(matrix)
    root = vectors * values.sqrt()[:, None] @ vectors.mT
    want = (root @ b.flatten(1)[..., None]).reshape(b.shape)
    exact = square_root(matvec, b, 12)  # as many steps as dimensions
    torch.testing.assert_close(exact, want, rtol=0, atol=1e-9)
    beyond = square_root(matvec, b, 15)  # the space is exhausted: nothing changes
    torch.testing.assert_close(beyond, want, rtol=0, atol=1e-9)
    assert float((square_root(matvec, b, 2) - want).abs().max()) > 1e-2


def test_few_eigenvalues_take_few_steps_and_zero_stays_zero() -> None:
    values = torch.tensor([4.0, 4.0, 9.0, 0.0, 9.0]).double()
    b = torch.stack([torch.arange(1.0, 6.0), torch.zeros(5)]).double()
    root = square_root(lambda x: values * x, b, 3)
    # The square root of an eigenvalue 0 that rounding made 1e-15 or so.
    torch.testing.assert_close(root, values.sqrt() * b, rtol=0, atol=1e-6)
