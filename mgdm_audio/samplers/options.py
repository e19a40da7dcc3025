"""Checks of a sampler's options, for samplers made in Python too: each raises ``ValueError``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

from mgdm_audio.samplers.base import PerStep


def require_fit(vi_steps: PerStep, learning_rate: PerStep) -> None:
    """``ValueError`` where a variational fit cannot take these steps of Adam."""
    if any(not 0 <= v < float("inf") or v != int(v) for v in vi_steps.values):
        raise ValueError("vi_steps are whole numbers >= 0")
    if any(not 0 < v < 1e6 for v in learning_rate.values):
        raise ValueError("learning_rate is positive and finite")


def require_least(sampler: Any, **least: int) -> None:
    """``ValueError`` where a field is below the least value given for it."""
    for name, low in least.items():
        if getattr(sampler, name) < low:
            raise ValueError(f"{name} = {getattr(sampler, name)}: give at least {low}")


def require_shares(sampler: Any, *names: str) -> None:
    """``ValueError`` where one of the fields is outside [0, 1]."""
    if any(not 0 <= getattr(sampler, name) <= 1 for name in names):
        lie = "lie" if len(names) > 1 else "lies"
        raise ValueError(f"{' and '.join(names)} {lie} in [0, 1]")


def require_choices(sampler: Any) -> None:
    """``ValueError`` where a field of this dataclass is none of the words its type allows.

    Presets are checked when they are read; this is for samplers made in Python.
    """
    hints = get_type_hints(type(sampler))
    for field in fields(sampler):
        hint, value = hints[field.name], getattr(sampler, field.name)
        words = [w for h in (hint, *get_args(hint)) for w in get_args(h) if isinstance(w, str)]
        if words and value not in words:
            raise ValueError(f"{field.name} = {value!r}: use one of {', '.join(words)}")
