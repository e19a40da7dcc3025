"""The modified discrete cosine transform is an isometry of waveforms (Princen & Bradley 1986)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MDCT(nn.Module):
    """Computes the orthonormal MDCT with a sine window, and its quadrature part, the MDST.

    A frame spans 2N samples and gives N coefficients; frames advance by N samples. With the sine
    window the synthesis is the transpose and the inverse of the analysis (time-domain alias
    cancellation): ||analysis(x)|| = ||x||, so white noise of standard deviation sigma has the same
    sigma in every coefficient, and a denoiser of coefficients has the noise level of the waveform.
    The MDCT fluctuates with the phase of a partial; MDCT^2 + MDST^2 does not, so both are returned.
    Raises ValueError for an odd N.
    """

    window: Tensor

    def __init__(self, bins: int):
        super().__init__()
        if bins < 2 or bins % 2:
            raise ValueError(f"bins = {bins}: give an even number")
        self.bins = bins
        if torch.empty(0).is_meta:  # an outline, see ``tensor_files``: there is nothing to compute
            return
        n = torch.arange(bins, dtype=torch.float64)
        both = torch.arange(2 * bins, dtype=torch.float64)
        window = torch.sin(math.pi * (both + 0.5) / (2 * bins)) * math.sqrt(2 / bins)
        self.register_buffer("window", window.float(), persistent=False)
        # X_k = sum_n w_n x_n exp(-i pi/N (n + 1/2 + N/2)(k + 1/2)), n < 2N, is a spectrum at odd
        # frequencies. Of a real frame u = w x its even k are one FFT of length N, that of
        # (u_n - i u_{n+N}) exp(-i pi n / 2N), and its odd k the conjugates of the other even ones:
        # X_{2N-1-k} = conj X_k up to the rotation of the bins.
        rotation = -math.pi / bins * (0.5 + bins / 2) * (n + 0.5)
        for name, angle in {
            "before": -math.pi * n / (2 * bins),
            "even": rotation[::2],
            "odd": rotation[1::2],
        }.items():
            table = torch.view_as_real(torch.polar(torch.ones_like(angle), angle)).float()
            self.register_buffer(name, table, persistent=False)

    def _table(self, name: str) -> Tensor:
        # Stored as real pairs: a module's .to(bfloat16) or .double() would break a complex buffer.
        return torch.view_as_complex(getattr(self, name).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (MDCT, MDST) of x: [..., time], N dividing time: each [..., time / N + 1, N]."""
        frames = F.pad(x, (self.bins, self.bins)).unfold(-1, 2 * self.bins, self.bins)
        left, right = (frames * self.window.float()).chunk(2, -1)
        folded = torch.complex(left, -right) * self._table("before")
        low, high = torch.fft.fft(folded, dim=-1).chunk(2, -1)
        even, odd = low * self._table("even"), high.flip(-1).conj() * self._table("odd")
        spectrum = torch.stack([even, odd], -1).flatten(-2)
        return spectrum.real, spectrum.imag

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Maps coefficients [..., frames, N] to waveforms [..., (frames - 1) N] by the adjoint."""
        low = coefficients[..., ::2] * self._table("even").conj()
        high = (coefficients[..., 1::2] * self._table("odd")).flip(-1)
        folded = torch.fft.ifft(torch.cat([low, high], -1), dim=-1, norm="forward")
        folded = folded * self._table("before").conj()
        window = self.window.float()
        left, right = folded.real * window[: self.bins], folded.imag * -window[self.bins :]
        return (left[..., 1:, :] + right[..., :-1, :]).flatten(-2)
