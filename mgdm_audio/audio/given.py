"""Stems that are there already, read from files that must fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mgdm_audio.audio.io import read
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError


@dataclass(frozen=True)
class Given:
    """``stems``: name -> [channel, time], all of one shape, at ``sample_rate`` Hz."""

    stems: dict[str, Tensor]
    sample_rate: int
    inputs: dict[str, str] = field(default_factory=dict)  # name -> the file's name, for the record


def read_given(files: Mapping[str, str | Path], stems: Sequence[str]) -> Given:
    """Read ``stem -> file`` for a prior of these ``stems``.

    Raises UserError, in one line, for a stem that is none of them (naming the nearest), for all of
    them (nothing is missing), for a file that cannot be read, and for files that differ in rate,
    channels or length.
    """
    for name in files:
        if name not in stems:
            raise UserError(f"the prior has no stem {name!r}{nearest(name, stems)}")
    if len(files) == len(stems):
        raise UserError(f"all stems are given ({', '.join(stems)}): leave one out to be drawn")
    found = {name: read(path) for name, path in files.items()}
    first, *others = found
    for name in others:
        a, b = found[first], found[name]
        for what, one, other in (
            ("Hz", a.sample_rate, b.sample_rate),
            ("channels", a.samples.shape[0], b.samples.shape[0]),
            ("samples", a.samples.shape[1], b.samples.shape[1]),
        ):
            if one != other:
                raise UserError(
                    f"{files[name]}: {other} {what}, but {files[first]} has {one}; "
                    "given stems must have one rate, channel count and length"
                )
    return Given(
        {name: audio.samples for name, audio in found.items()},
        found[first].sample_rate,
        {name: Path(path).name for name, path in files.items()},
    )
