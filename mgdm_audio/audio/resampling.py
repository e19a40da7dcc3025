"""Sample rate conversion between any two rates, with exact lengths and bounded memory."""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# A Kaiser window over 128 zero crossings a side: 140 dB down from the lower Nyquist frequency on.
_WIDTH, _ROLLOFF, _BETA = 128, 0.965, 14.769656459379492
PASSBAND = 0.93  # of the lower Nyquist frequency: up to here flat within 1e-4 dB

_LARGEST_KERNEL = 2**22  # coefficients; above it the phases are interpolated from a table
_PHASES = 4096  # a zero crossing; linear interpolation then errs by less than -140 dB
_BLOCK = 2**22  # gathered samples at a time
_OUTPUTS = 32  # the fewest output channels of a convolution


def resample(samples: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling of [..., time] to exactly ceil(time * to_rate / from_rate) samples.

    Output sample m lies at m / to_rate seconds. torchaudio's polyphase filter serves where its
    kernel is small, which is every pair of usual rates; nearly coprime rates (44,056 to 22,050)
    would need a kernel of from_rate x to_rate and take the same filter's phases from a table.
    Raises ValueError for rates below 1 Hz.
    """
    if from_rate < 1 or to_rate < 1:
        raise ValueError(f"sample rates must be at least 1 Hz, not {from_rate} and {to_rate}")
    common = math.gcd(from_rate, to_rate)
    old, new = from_rate // common, to_rate // common
    length = resampled_length(samples.shape[-1], old, new)
    if old == new:
        return samples
    if not samples.numel():
        return samples.new_empty(*samples.shape[:-1], length)
    if new * (2 * half_width(old, new) + old) <= _LARGEST_KERNEL:
        return _polyphase(samples, old, new, length)
    return _interpolated(samples, old, new, length)


def resampled_length(time: int, from_rate: int, to_rate: int) -> int:
    """Samples of ``resample`` of ``time`` samples."""
    return -(-time * to_rate // from_rate)


def resample_span(
    read: Callable[[int, int], Tensor],
    time: int,
    from_rate: int,
    to_rate: int,
    start: int,
    stop: int,
) -> Tensor:
    """Samples ``start`` to ``stop`` of ``resample`` of a signal, from their neighbourhood alone.

    ``read(i, j)`` gives its samples i to j, [..., j - i], of ``time`` that there are. The filters
    are as long as ``half_width``, so the result is that of the whole signal, to float rounding.
    """
    common = math.gcd(from_rate, to_rate)
    old, new = from_rate // common, to_rate // common
    if old == new:
        return read(start, stop)
    width = half_width(old, new)
    # From a sample that lies on one of the new ones, so that all phases are as in the whole.
    group = max(0, start // new - math.ceil(width / old) - 1)
    end = min(time, math.ceil(stop * old / new) + width + 1)
    around = resample(read(group * old, end), from_rate, to_rate)
    return around[..., start - group * new : stop - group * new]


def resample_back(samples: Tensor, from_rate: int, to_rate: int, length: int) -> Tensor:
    """Resample what ``resample`` made of ``length`` samples at ``to_rate``: exactly as many again.

    The way there and back never loses a sample (both lengths are rounded up), it may add some.
    """
    back = resample(samples, from_rate, to_rate)
    if back.shape[-1] < length:
        raise ValueError(f"{samples.shape[-1]} samples at {from_rate} Hz are too few for {length}")
    return back[..., :length]


def half_width(old: int, new: int) -> int:
    """Input samples on either side of an output sample that its filter covers."""
    return math.ceil(_WIDTH * old / (min(old, new) * _ROLLOFF))


@lru_cache(maxsize=8)  # there and back: of the file's rate, and of two speeds
def _filters(old: int, new: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, int]:
    """Returns filters [outputs, taps] for consecutive outputs, and torchaudio's half width.

    A convolution with one or two output channels, as of torchaudio's kernel for 44,100 to 22,050
    Hz, takes ten times as long as one with 32: so each period's filters are repeated, shifted.
    """
    from torchaudio.transforms import Resample

    # Cast afterwards: given float32 itself, torchaudio would compute the kernel in float32 too.
    module = Resample(old, new, "sinc_interp_kaiser", _WIDTH, _ROLLOFF, _BETA, dtype=torch.float64)
    kernel, width = module.kernel[:, 0].to(device, dtype), int(module.width)
    periods = -(-_OUTPUTS // new)
    shifted = [F.pad(kernel, (i * old, (periods - 1 - i) * old)) for i in range(periods)]
    return torch.cat(shifted), width


def _polyphase(samples: Tensor, old: int, new: int, length: int) -> Tensor:
    # On a GPU a float32 convolution may be computed in TF32, whose error is -70 dB.
    dtype = torch.float64 if samples.is_cuda else samples.dtype
    filters, width = _filters(old, new, dtype, samples.device)
    outputs, taps = filters.shape
    stride = outputs // new * old
    spare = max(0, -(-length // outputs) * stride + taps - stride - width - samples.shape[-1])
    # Row by row: its copies then stay small, and no row's rounding depends on the others.
    rows = []
    for row in samples.reshape(-1, 1, samples.shape[-1]):
        padded = F.pad(row, (width, spare)).to(dtype)
        found = F.conv1d(padded, filters[:, None], stride=stride).to(samples.dtype)
        rows.append(found.T.reshape(-1)[:length])
    return torch.stack(rows).reshape(*samples.shape[:-1], length)


def _kernel(t: Tensor, scale: float) -> Tensor:
    """The windowed sinc at ``t`` zero crossings from its centre, as torchaudio defines it."""
    t = t.clamp(-_WIDTH, _WIDTH)
    window = torch.i0(_BETA * (1 - (t / _WIDTH) ** 2).clamp_min(0).sqrt())
    return torch.sinc(t) * window * scale / torch.i0(torch.tensor(_BETA, dtype=t.dtype))


@lru_cache(maxsize=2)
def _phase_table(old: int, new: int) -> Tensor:
    """Filters for output samples 0, 1/n, ..., 1 input samples after tap 0. [n + 1, taps]"""
    scale = min(old, new) * _ROLLOFF / old
    count = math.ceil(_PHASES * scale)
    width = half_width(old, new)
    taps = torch.arange(-width, width + 2, dtype=torch.float64)
    offsets = torch.arange(count + 1, dtype=torch.float64) / count
    return _kernel((taps - offsets[:, None]) * scale, scale)


def _interpolated(samples: Tensor, old: int, new: int, length: int) -> Tensor:
    table = _phase_table(old, new).to(samples)
    count, taps = table.shape[0] - 1, table.shape[1]
    width = half_width(old, new)
    flat = samples.reshape(-1, samples.shape[-1])
    windows = F.pad(flat, (width, width + 2)).unfold(-1, taps, 1)
    out = samples.new_empty(flat.shape[0], length)
    block = max(1, _BLOCK // (taps * max(1, flat.shape[0])))
    for start in range(0, length, block):
        position = torch.arange(start, min(start + block, length), device=samples.device) * old
        phase = (position % new).double() * (count / new)  # integers before: no drift
        nearest = phase.long()
        weight = (phase - nearest).to(samples)[:, None]
        filters = torch.lerp(table[nearest], table[nearest + 1], weight)
        out[:, start : start + block] = (windows[:, position // new] * filters).sum(-1)
    return out.reshape(*samples.shape[:-1], length)
