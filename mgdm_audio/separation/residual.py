"""Distributes the residual of a prior with a lower sample rate among the stems."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_WINDOW = 0.023  # seconds, short enough to keep the onset of a hi-hat
_HOPS = 4  # hops per window, for which Hann windows sum to a constant
_BLOCK = 2**17  # samples per block, because spectra of a whole song need too much memory
_FLOOR = 1e-12  # power of a bin, float32's rounding noise at full scale; less counts as silence


def share_residual(mixture: Tensor, stems: Tensor, sample_rate: int, cutoff_hz: float) -> Tensor:
    """Returns stems [stem, channel, time] that sum to the mixture [channel, time] within rounding.

    The residual mixture - sum(stems) contains frequencies above the prior's band and rounding
    errors of resampling. It is split by ratio masks over its short-time spectrum: below
    ``cutoff_hz`` by the stems' power in the same bin, above it by their power in the same frame in
    the octave below the cutoff (cymbals extend across it). Silent frames are shared equally. Stems
    that already sum to the mixture are returned bit for bit.
    """
    if cutoff_hz <= 0:
        raise ValueError(f"cutoff_hz must be positive, not {cutoff_hz}")
    residual = mixture - stems.sum(0)
    shared = stems.clone()
    window, margin = _window(sample_rate), reach(sample_rate)
    time = mixture.shape[-1]
    for start in range(0, time, _BLOCK):
        end = min(start + _BLOCK, time)
        low, high = max(0, start - margin), min(end + margin, time)
        around = _split(residual[:, low:high], stems[..., low:high], sample_rate, cutoff_hz, window)
        shared[..., start:end] += around[..., start - low : end - low]
    # The masks' sum and the inverse transform have rounding errors, which all stems share.
    shared += (mixture - shared.sum(0)) / stems.shape[0]
    return shared


def reach(sample_rate: int) -> int:
    """Returns how many samples around a span suffice for ``share_residual`` on it.

    It is a multiple of the frames' hop, which keeps their grid: the result for the span with its
    surroundings is that of the whole track, if the span starts at a multiple of the hop, too.
    """
    return 2 * _window(sample_rate)  # a frame reaches half a window


def span(sample_rate: int) -> int:
    """Returns the length of a span that, with its surroundings, is one block."""
    return _BLOCK - 2 * reach(sample_rate)


def spans(time_: int, sample_rate: int) -> Iterator[tuple[int, int]]:
    """Yields consecutive spans [start, stop) of a track of ``time_`` samples."""
    step = span(sample_rate)
    for start in range(0, time_, step):
        yield start, min(start + step, time_)


def _window(sample_rate: int) -> int:
    width: int = 2 ** round(math.log2(_WINDOW * sample_rate))
    return max(64, width)


def _split(
    residual: Tensor, stems: Tensor, sample_rate: int, cutoff_hz: float, window: int
) -> Tensor:
    """Splits the residual [channel, time] into [stem, channel, time] that sum to it."""
    hann = torch.hann_window(window, dtype=residual.dtype, device=residual.device)

    def spectrum(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        bins = torch.stft(
            flat, window, window // _HOPS, window=hann, pad_mode="constant", return_complex=True
        )
        # [2, ..., bin, frame]: real arrays, because these are multiplied faster.
        return torch.stack([bins.real, bins.imag]).reshape(2, *x.shape[:-1], *bins.shape[-2:])

    power = spectrum(stems).square().sum(0)  # [stem, channel, bin, frame]
    frequency = torch.linspace(0, sample_rate / 2, power.shape[-2], device=power.device)
    octave = power[..., (frequency > cutoff_hz / 2) & (frequency <= cutoff_hz), :].sum(-2, True)
    above = (frequency > cutoff_hz)[:, None]
    power = torch.where(above, octave, power) + _FLOOR
    parts = (power / power.sum(0) * spectrum(residual)[:, None]).flatten(1, 2)
    flat = torch.istft(
        torch.complex(*parts), window, window // _HOPS, window=hann, length=residual.shape[-1]
    )
    return flat.reshape(stems.shape)
