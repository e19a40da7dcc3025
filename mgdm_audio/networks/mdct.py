"""The modified discrete cosine transform as an isometry of waveforms (Princen & Bradley 1986)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MDCT(nn.Module):
    """Orthonormal MDCT with a sine window, and the MDST that completes it to a complex spectrum.

    A frame spans 2N samples and gives N coefficients; frames advance by N samples. With the sine
    window the synthesis is the transpose of the analysis and undoes it exactly (time-domain alias
    cancellation): ||analysis(x)|| = ||x||, so white noise of standard deviation sigma stays white
    with the same sigma on every coefficient. A denoiser can therefore work on coefficients and keep
    the noise level of the waveform. The real MDCT alone fluctuates with the phase of a partial;
    coefficient^2 + MDST^2 does not, which is why both are returned.
    """

    def __init__(self, bins: int):
        super().__init__()
        self.bins = bins
        n = torch.arange(2 * bins, dtype=torch.float64)
        k = torch.arange(bins, dtype=torch.float64)
        window = torch.sin(math.pi * (n + 0.5) / (2 * bins)) * math.sqrt(2 / bins)
        # X_k = sum_n w_n x_n exp(-i pi/N (n + 1/2 + N/2)(k + 1/2)): one length-2N FFT between two
        # rotations, one of the samples, one of the bins.
        sample_angle = math.pi * n / (2 * bins)
        bin_angle = math.pi / bins * (0.5 + bins / 2) * (k + 0.5)
        one_n, one_k = torch.ones_like(n), torch.ones_like(k)
        for name, table in {
            "before": torch.polar(window, -sample_angle),
            "after": torch.polar(one_k, -bin_angle),
            "inverse_before": torch.polar(one_k, bin_angle),
            "inverse_after": torch.polar(window * 2 * bins, sample_angle) * one_n,
        }.items():
            self.register_buffer(name, torch.view_as_real(table).float(), persistent=False)

    def _table(self, name: str) -> Tensor:
        # Kept as real pairs: a module's .to(bfloat16) or .double() would break a complex buffer.
        return torch.view_as_complex(getattr(self, name).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: [..., time], time a multiple of N -> (MDCT, MDST), each [..., time / N + 1, N]."""
        frames = F.pad(x, (self.bins, self.bins)).unfold(-1, 2 * self.bins, self.bins)
        spectrum = torch.fft.fft(frames * self._table("before"), dim=-1)[..., : self.bins]
        spectrum = spectrum * self._table("after")
        return spectrum.real, spectrum.imag

    def inverse(self, coefficients: Tensor) -> Tensor:
        """MDCT coefficients [..., frames, N] -> waveform [..., (frames - 1) N]: the adjoint."""
        frames = torch.fft.ifft(
            coefficients * self._table("inverse_before"), n=2 * self.bins, dim=-1
        )
        frames = (frames * self._table("inverse_after")).real
        left, right = frames[..., : self.bins], frames[..., self.bins :]
        return (left[..., 1:, :] + right[..., :-1, :]).flatten(-2)
