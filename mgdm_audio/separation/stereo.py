"""The stems of two channels from estimates of their mean and, less exactly, of each channel.

A panned source has the same waveform in both channels, so that a network need not estimate it
twice. Where two sources have different pans, the difference of the channels tells their errors
apart. With the mid m = (left + right) / 2 and the side s = (left - right) / 2, the inputs are the
stems m_k of the mid, and stems s_k of the side from fewer calls. Per stem and band of frequencies,
over all frames of a segment,

    p_k = <s_k, m_k> / <m_k, m_k>                       the pan
    d_k = s_k - p_k m_k,  w_k = <d_k, d_k> / <m_k, m_k>   what no pan explains, and its share
    s'_k = p_k m_k + max(0, 1 - ERROR / w_k) d_k

The last line is the positive-part James-Stein estimator of the side, with ERROR the share that the
network's own errors have. The errors of m_k and s'_k in a bin are modelled as Gaussian with the
spatial covariance

    V_k [[1, p_k], [p_k, p_k^2 + u_k]],   u_k = max(0, 1 - ERROR / w_k) ERROR + WIDTH,
    V_k = v_k (sum_j v_j - v_k) / sum_j v_j,   v_k = |m_k|^2,

V_k being the variance of a source given the mid under the local Gaussian model (Duong et al. 2010,
"Under-determined reverberant audio source separation using a full-rank spatial covariance model").
The result is their conditional mean given the mixture's side: it sums to the mixture in both
channels, and is (m_k, s'_k) where all s'_k already sum to the side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ERROR = 0.05  # see above; how it was chosen: egs/mini_slakh/separate/RESULTS.md, "Stereo"
WIDTH = 0.02  # the least spread of a source's side around its pan, as a share of its power
_WINDOW = 0.093  # seconds; the hop is half of it
_BAND = 320.0  # Hz, the width of the lowest bands
_RATIO = 1.5  # between the edges of the others
_FLOOR = 1e-6  # of the mean power of a bin, added to v_k
_LEAST = 1e-3  # of v_k, added to V_k: no source is without error
Stereo = Literal["auto", "image", "channels"]  # see ``Segmentation.stereo``
MID = 2  # index of the mid after the two channels


def with_mid(mixture: Tensor) -> Tensor:
    """Appends the mean of two channels: [2, ...] -> [3, ...]."""
    return torch.cat([mixture, mixture.mean(0, keepdim=True)])


def to_draw(mixture: Tensor, loud: bool) -> Tensor:
    """Returns which of two channels and their mean are drawn: [3]; one of equal channels.

    ``mixture``: ``with_mid``'s; ``loud``: whether any is.
    """
    equal = torch.equal(mixture[0], mixture[1])
    return torch.tensor([loud, loud and not equal, loud], device=mixture.device)


def has_channel(channel: int, own_speed: bool) -> bool:
    """Whether a draw has this channel: the two at the track's own speed, else the mid alone."""
    return (channel != MID) == own_speed


def placed(mid: Tensor, side: Tensor, mixture: Tensor, sample_rate: int) -> Tensor:
    """Returns the stems of both channels: [2, sources, time], see the module's docstring.

    ``mid``: [sources, time], estimates of the stems of the mid, which sum to it; ``side``: the
    same, of the side; ``mixture``: [2, time]. Equal channels give ``mid`` in both; the stems of a
    silent channel are silent.
    """
    for channel in range(MID):
        if not bool(mixture[channel].any()):
            stems = mid.new_zeros(MID, *mid.shape)
            stems[1 - channel] = 2 * mid
            return stems
    difference = (mixture[0] - mixture[1]) / 2
    if not bool(difference.any()):
        return mid.expand(2, -1, -1)
    width = max(64, 2 ** round(math.log2(_WINDOW * sample_rate)))
    hop = width // 2
    window = torch.hann_window(width, dtype=mid.dtype, device=mid.device)

    def spectrum(x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[-1] % hop))  # so that two windows cover the last samples, too
        bins = torch.stft(x, width, hop, window=window, pad_mode="constant", return_complex=True)
        return torch.stack([bins.real, bins.imag])  # real arrays are multiplied faster

    m, s, total = spectrum(mid), spectrum(side), spectrum(difference)  # [2, ..., bin, frame]
    power = m.square().sum(0)
    within = _of_bands(power, sample_rate).clamp_min(torch.finfo(torch.float32).tiny)
    pan = _of_bands((m * s).sum(0), sample_rate) / within
    unexplained = s - pan * m
    share = _of_bands(unexplained.square().sum(0), sample_rate) / within
    keep = (1 - ERROR / share).clamp_min(0)  # a share of 0 gives 1 - inf, and hence 0
    mean = pan * m + keep * unexplained
    v = power + (_FLOOR * power.mean()).clamp_min(torch.finfo(power.dtype).tiny)
    v = v / v.mean()
    errors = v * (v.sum(0) - v) / v.sum(0) + _LEAST * v
    # The innovation of the mid is 0, that of the side is total less the sum of its means. With the
    # pans less their mean, weighted by V_k, the determinant of sum_k C_k is a product of two sums
    # of positive numbers.
    apart = pan - (errors * pan).sum(0) / errors.sum(0)
    spread = keep * ERROR + WIDTH
    over_variance = (total - mean.sum(1)) / (errors * (apart.square() + spread)).sum(0)
    step = errors * over_variance[:, None]
    change = torch.cat([apart * step, mean + (pan * apart + spread) * step], 1)
    moved = torch.istft(torch.complex(*change), width, hop, window=window, length=mid.shape[-1])
    mid_change, new_side = moved.chunk(2)
    stems = torch.stack([mid + mid_change + new_side, mid + mid_change - new_side])
    # Rounding errors of the transforms, which all stems share.
    return stems + (mixture[:, None] - stems.sum(1, keepdim=True)) / len(mid)


def _of_bands(x: Tensor, sample_rate: int) -> Tensor:
    """Sums [sources, bin, frame] over all frames and the bins of each bin's band: [.., bin, 1]."""
    x = x.sum(-1, keepdim=True)
    for band in _bands(x.shape[1], sample_rate):
        x[:, band] = x[:, band].sum(1, keepdim=True)
    return x


def _bands(bins: int, sample_rate: int) -> Iterator[slice]:
    """Yields consecutive bands of the ``bins`` from 0 Hz to half the rate."""
    width = max(1, round(_BAND / (sample_rate / 2 / (bins - 1))))
    start = 0
    while start < bins:
        stop = max(start + width, int(start * _RATIO))
        yield slice(start, stop)
        start = stop
