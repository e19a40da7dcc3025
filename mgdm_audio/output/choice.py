"""Which stems, and which sums of them, are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mgdm_audio.audio.encoding.formats import Format
from mgdm_audio.audio.encoding.stem_atom import STEMS
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

REST = "rest"  # the name of what is left


@dataclass(frozen=True)
class Choice:
    """A ``Choice`` names the files and gives the numbers of the stems that each is the sum of.

    ``rest``: the last name is that of what the stems in no other file sum to, as the mixture less
    those. ``settings``: how it was asked for, for the record; None: every stem.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    rest: bool = False
    complete: bool = True  # the files sum to the mixture
    settings: dict[str, Any] | None = None


def choose(
    available: Sequence[str],
    stems: Iterable[str] = (),
    mixes: Iterable[str] = (),
    rest: bool = False,
) -> Choice:
    """Chooses ``stems``, ``mixes`` such as "drums+bass", and the rest of the ``available`` stems.

    Without any of them it is every stem. Raises UserError for a stem that is not there, one that is
    named twice, a mix of fewer than two, and where nothing is left for the rest.
    """
    singles = [name.strip() for name in stems]
    sums = [[name.strip() for name in mix.split("+")] for mix in mixes]
    for members in sums:
        if len(members) < 2:
            raise UserError(f"mix {'+'.join(members)!r}: names one stem; write it as drums+bass")
    if not (singles or sums or rest):
        return Choice(tuple(available), tuple((i,) for i in range(len(available))))
    groups = [*([name] for name in singles), *sums]
    for members in groups:
        for name in members:
            if name not in available:
                raise UserError(f"the prior has no stem {name!r}{nearest(name, available)}")
        _refuse_twice(members)
    names = ["+".join(members) for members in groups]
    taken = Counter(name for members in groups for name in members)
    if rest:
        if not taken:
            raise UserError("the rest of nothing is the input; name stems or mixes to write")
        if len(taken) == len(available):
            raise UserError("every stem is in a file already, nothing is left for the rest")
        names.append(REST)
    _refuse_twice(names)
    return Choice(
        tuple(names),
        tuple(tuple(available.index(name) for name in members) for members in groups),
        rest,
        max(taken.values()) == 1 and (rest or len(taken) == len(available)),
        {"stems": singles, "mixes": ["+".join(members) for members in sums], "rest": rest},
    )


def choose_all(available: Sequence[str], form: Format) -> Choice:
    """Chooses every stem; of five or more, for a format that holds four, sums of some.

    Its files are then the first two stems, the last one, and the sum of those between: of bass,
    drums, guitar, piano, other they are bass, drums, other and guitar+piano.
    """
    if form.in_one_file and len(available) > STEMS:
        return choose(available, [*available[:2], available[-1]], ["+".join(available[2:-1])])
    return choose(available)


def _refuse_twice(names: Sequence[str]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UserError(f"{name!r} is named twice; name it once")


def require_fit(form: Format, names: Sequence[str], complete: bool) -> None:
    """Raises UserError where a format that holds the stems in one file cannot hold these."""
    if not form.in_one_file:
        return
    if len(names) != STEMS:
        raise UserError(
            f"format {form.name} holds exactly {STEMS} stems, not {len(names)} "
            f"({', '.join(names)}): choose {STEMS} files that sum to the input, as mixes and the "
            "rest, or another format"
        )
    if not complete:
        raise UserError(
            f"format {form.name}: {', '.join(names)} do not sum to the input; choose {STEMS} files "
            "that do, as mixes and the rest"
        )
