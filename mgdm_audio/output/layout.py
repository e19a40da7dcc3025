"""Where the files of one separated track go: a template of names under an output folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from string import Formatter

from mgdm_audio.audio.encoding.formats import WAV, Format
from mgdm_audio.config import nearest
from mgdm_audio.errors import UserError

DEFAULT_TEMPLATE = "{track}/{stem}"
FIELDS = ("track", "stem", "sampler", "sample", "seed")
RECORD, UNCERTAINTY, DRAWS, MEAN = "separation", "uncertainty", "samples", "mean"


@dataclass(frozen=True)
class Layout:
    """Names of one track's files, relative to ``root``.

    ``template`` is given {track}, {stem}, {sampler}, {sample} and {seed}, and gets the suffix of
    the format; {stem} is the track's name where a format has all stems in one file.
    {sample} is the number of a draw, or "mean"; without it draws go to ``samples/<number>/`` beside
    the stem. The record and the uncertainty take the name of a stem "separation" and "uncertainty".
    """

    root: Path
    template: str
    track: str
    sampler: str = ""
    seed: int = 0
    form: Format = WAV

    def files(self, names: Iterable[str], sample: int | None = None) -> list[PurePath]:
        """Returns the files of the stems, or of draw number ``sample``: one each, or one in all."""
        if self.form.in_one_file:
            names = [PurePath(self.track).name or "track"]
        return [self.stem(name, sample) for name in names]

    def stem(self, name: str, sample: int | None = None) -> PurePath:
        """Returns the file of a stem (the mean of draws), or of its draw number ``sample``."""
        path = self._fill(name, self.form.suffix, MEAN if sample is None else str(sample))
        if sample is None or "sample" in fields_of(self.template):
            return path
        return path.parent / DRAWS / str(sample) / path.name

    @property
    def record(self) -> PurePath:
        """How the stems were made."""
        return self._fill(RECORD, ".json")

    @property
    def uncertainty(self) -> PurePath:
        """How uncertain the stems are."""
        return self._fill(UNCERTAINTY, ".json")

    def _fill(self, stem: str, suffix: str, sample: str = MEAN) -> PurePath:
        values = {
            "track": self.track,
            "stem": stem,
            "sampler": self.sampler,
            "sample": sample,
            "seed": str(self.seed),
        }
        name = self.template.format(**values) + suffix
        path = PurePath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise UserError(f"{name!r}: leaves the output folder; change --filename or the name")
        return path


def fields_of(template: str) -> list[str]:
    """The names in braces. Raises UserError for a template that is no template of ours."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"filename {template!r}: {error}") from None
    names = []
    for _, name, form, conversion in pieces:
        if name is None:  # plain text
            continue
        if name not in FIELDS:
            hint = nearest(name, FIELDS)
            raise UserError(f"filename {template!r}: unknown name {{{name}}}{hint}")
        if form or conversion:
            raise UserError(f"filename {template!r}: {{{name}}} takes no format; write it plainly")
        names.append(name)
    return names


def check_template(template: str) -> None:
    """UserError, in one line, unless every stem of a track gets a file of its own in the folder."""
    if "stem" not in fields_of(template):
        raise UserError(f"filename {template!r}: has no {{stem}}; all stems would be one file")
    if template.endswith("/") or not template.strip():
        raise UserError(f"filename {template!r}: names a folder; say, {DEFAULT_TEMPLATE}")
    Layout(Path(), template, "track", "sampler").stem("stem")


def clashes(layouts: Iterable[Layout]) -> dict[int, str]:
    """Returns the numbers of tracks that would replace an earlier track's files -> why."""
    seen: dict[PurePath, str] = {}
    found: dict[int, str] = {}
    for i, layout in enumerate(layouts):
        if layout.record in seen:
            first = seen[layout.record]
            tracks = f"two inputs are named {layout.track!r}"
            if first != layout.track:
                tracks = f"{first!r} and {layout.track!r} would be one file"
            found[i] = f"{tracks}; separate them into different folders"
        else:
            seen[layout.record] = layout.track
    return found


def require_apart(layouts: Sequence[Layout], pages: bool = False) -> dict[int, str]:
    """Returns ``clashes``. Raises UserError where they are not the fault of the tracks' names.

    ``pages``: every track gets a listening page, which needs a folder of its own.
    """
    found = clashes(layouts)
    if found and "track" not in fields_of(layouts[0].template):
        raise UserError(next(iter(found.values())))
    if pages and any(layout.record.name != f"{RECORD}.json" for layout in layouts):
        template = layouts[0].template
        raise UserError(f"--report needs a folder a track; leave --filename {template!r} out")
    return found
