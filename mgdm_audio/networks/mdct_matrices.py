"""The MDCT by matrix products, for formats that have no complex numbers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MDCTMatrices(nn.Module):
    """The maps of ``MDCT`` (networks/mdct.py), each frame times a matrix of cosines or sines.

    O(N) operations a sample where the FFT takes O(log N), and 16 N^2 bytes: for ONNX, whose
    runtimes have matrix products but no complex FFT. ValueError for an odd N, as ``MDCT``.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, bins: int):
        super().__init__()
        if bins < 2 or bins % 2:
            raise ValueError(f"bins = {bins}: give an even number")
        self.bins = bins
        n = torch.arange(2 * bins, dtype=torch.float64) + 0.5
        k = torch.arange(bins, dtype=torch.float64) + 0.5
        window = torch.sin(math.pi / (2 * bins) * n) * math.sqrt(2 / bins)
        angle = math.pi / bins * torch.outer(n + bins / 2, k)
        for name, wave in {"cosine": angle.cos(), "sine": -angle.sin()}.items():
            matrix = (window[:, None] * wave).float()  # [2 N, N]
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [..., time], time a multiple of N -> (MDCT, MDST), each [..., time / N + 1, N]."""
        hops = F.pad(x, (self.bins, self.bins)).unflatten(-1, (-1, self.bins))
        frames = torch.cat([hops[..., :-1, :], hops[..., 1:, :]], -1)
        return frames @ self.cosine, frames @ self.sine

    def inverse(self, coefficients: Tensor) -> Tensor:
        """MDCT coefficients [..., frames, N] -> waveform [..., (frames - 1) N]: the adjoint."""
        left, right = (coefficients @ self.cosine.T).chunk(2, -1)
        return (left[..., 1:, :] + right[..., :-1, :]).flatten(-2)
