"""Random numbers from generators that the caller passes, optionally one per batch item.

The package neither reads nor writes torch's global random state. For results that do not depend on
the batch, pass a sequence with one generator per batch item: item ``i`` is then drawn from
generator ``i`` alone (as in EDM, arXiv 2206.00364).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from mgdm_audio.tensors import send

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator for a whole batch, or a sequence of one generator per batch item."""


def randn(
    shape: Sequence[int],
    *,
    generator: Generators,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws standard normal numbers of shape ``[batch, *event]``.

    They are drawn on the generator's device and then moved, so that a seed gives the same numbers
    on every device. Raises ``ValueError`` if a sequence of generators does not fit the batch.
    """
    if isinstance(generator, torch.Generator):
        x = torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device)
        return send(x, device)
    _require_one_per_item(generator, shape[0])
    items = [
        torch.randn(tuple(shape[1:]), generator=g, dtype=dtype, device=g.device) for g in generator
    ]
    return send(torch.stack(items), device)


def randn_like(x: Tensor, generator: Generators) -> Tensor:
    """Draws standard normal numbers with the shape, dtype and device of ``x: [batch, *event]``."""
    return randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def randint(low: int, high: int, *, batch: int, generator: Generators) -> Tensor:
    """Draws ``[batch]`` integers (int64, on the CPU), uniform on ``low <= n < high``.

    Each batch item has its own integer, so that its result does not depend on other items.
    """
    if isinstance(generator, torch.Generator):
        n = torch.randint(low, high, (batch,), generator=generator, device=generator.device)
        return n.cpu()
    _require_one_per_item(generator, batch)
    items = [torch.randint(low, high, (), generator=g, device=g.device) for g in generator]
    return torch.stack(items).cpu()  # a GPU is waited for once


def generator_for(
    seed: int, *keys: int | str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Returns a generator whose stream is a stable function of ``(seed, *keys)``.

    The hash is BLAKE2b and not Python's ``hash``, which differs between processes. Typical keys are
    the track's name, the segment's number and the draw's number.
    """
    digest = blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    # 63 bits: the largest seed that every torch version takes without wrapping.
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big") >> 1)


def _require_one_per_item(generators: Sequence[torch.Generator], batch: int) -> None:
    if len(generators) != batch:
        raise ValueError(f"{len(generators)} generators for a batch of {batch}: give one per item")
