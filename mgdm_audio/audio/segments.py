"""Cutting a waveform into overlapping segments, and the cross-fade that joins them again."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def starts(time: int, segment: int, overlap: int) -> list[int]:
    """First sample of each segment; the last one reaches ``time`` or beyond. At least one.

    Raises ValueError unless 0 <= overlap <= segment / 2: at most two segments share a sample.
    """
    if segment < 1 or not 0 <= 2 * overlap <= segment:
        raise ValueError(f"overlap {overlap} must be between 0 and half of segment {segment}")
    hop = segment - overlap
    return [i * hop for i in range(max(1, math.ceil((time - overlap) / hop)))]


def cut(x: Tensor, segment: int, overlap: int) -> Tensor:
    """[..., time] -> [count, ..., segment], the last one filled with zeros."""
    time = x.shape[-1]
    first = starts(time, segment, overlap)
    padded = torch.nn.functional.pad(x, (0, first[-1] + segment - time))
    return torch.stack([padded[..., s : s + segment] for s in first])


def fade_in(overlap: int, like: Tensor) -> Tensor:
    """sin^2: with its mirror image it sums to one, which is the weight of the segment before."""
    i = torch.arange(overlap, dtype=torch.float64, device=like.device)
    return torch.sin(math.pi / 2 * (i + 0.5) / max(1, overlap)).square().to(like.dtype)


def stitch(segments: Iterable[Tensor], time: int, overlap: int) -> Tensor:
    """Join consecutive segments [..., segment] to [..., time]; the inverse of ``cut``.

    Segments are taken one at a time, so that memory holds the result and two of them. Raises
    ValueError where the segments are too few or too many.
    """
    out, end = None, 0
    for piece in stitched(segments, time, overlap):
        if out is None:
            out = piece.new_empty(*piece.shape[:-1], time)
        out[..., end : end + piece.shape[-1]] = piece
        end += piece.shape[-1]
    assert out is not None
    return out


def stitched(segments: Iterable[Tensor], time: int, overlap: int) -> Iterator[Tensor]:
    """``stitch`` piece by piece, each as soon as no later segment changes it.

    Where two overlap the result is before + w (after - before): the weights 1 - w and w sum to one
    by construction, and where the two agree their difference is 0, so that an identity separator
    returns its input exactly.
    """
    held: Tensor | None = None  # the samples at the end that the next segment overlaps
    end = 0
    for x in segments:
        if held is None:
            window = fade_in(overlap, x)
        elif end >= time:
            raise ValueError(f"more segments than {time} samples with overlap {overlap} need")
        else:
            seam = held + window * (x[..., :overlap] - held)
            x = torch.cat([seam, x[..., overlap:]], -1)
            end -= overlap
        x = x[..., : time - end]
        end += x.shape[-1]
        ready = x.shape[-1] - (overlap if end < time else 0)
        held = x[..., ready:].clone()  # else it would keep the whole segment alive
        yield x[..., :ready]
    if held is None or end < time:
        raise ValueError(f"the segments end at sample {end} of {time}")
