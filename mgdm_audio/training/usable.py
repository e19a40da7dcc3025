"""Whether songs are of use for training: looked at before it begins."""

import numpy as np
from torch import Tensor

from mgdm_audio.audio.segments import NotFinite, Segments, open_segments
from mgdm_audio.errors import UserError
from mgdm_audio.training.stems import StemFolder

_BLOCK = 2**18  # samples


def require_usable(
    folder: StemFolder, remix: float = 0.0, active: int = 0, section: str = "data"
) -> list[str]:
    """What one should know of the songs in ``folder``, a line each.

    Every stem is read until it is found to sound. ``remix``, ``active``: of the augmentation.
    ``section``: of the settings that name the folder, for messages.
    Raises UserError for a stem that no song has, for songs that are silent all of them, and where
    fewer stems ever sound than ``active`` asks for.
    """
    root, silent = folder.root, []
    for k, stem in enumerate(folder.stems):
        files = [track.files[k] for track in folder.tracks if track.files[k] is not None]
        if not files:
            raise UserError(
                f"{root}: no song has the stem {stem!r}; leave it out of data.stems, or add songs"
            )
        if not any(_sounds(open_segments(path)) for path in files if path is not None):
            silent.append(stem)
    if len(silent) == len(folder.stems):
        raise UserError(f"{root}: every sample of every song is 0; give songs that sound")
    if silent and active > len(folder.stems) - len(silent):
        raise UserError(
            f"{root}: {' and '.join(silent)}: silent in every song, so that never "
            f"active = {active} stems sound; lower {section}.augment.active"
        )
    notes = [*_conversions(folder), *(f"{root}: {stem} is silent in every song" for stem in silent)]
    if remix > 0 and len(folder.tracks) < 2:
        notes.append(f"{root}: holds one song; {section}.augment.remix needs others to mix it with")
    return notes


def held_out(folder: StemFolder, count: int, length: int) -> tuple[Tensor | None, list[str]]:
    """``folder.fixed`` of its songs without NaN and infinity, and what one should know of them.

    They are not trained on: a song that holds one is left out, and of a stem that is silent the
    error over its energy is none. None where no song is left.
    """
    notes = _conversions(folder)
    while folder.tracks:
        try:
            x_0 = folder.fixed(count, length)
        except NotFinite as error:
            notes.append(f"{error}; until then its song is left out of the validation")
            folder.tracks = [track for track in folder.tracks if error.path not in track.files]
            continue
        for stem, samples in zip(folder.stems, x_0.unbind(1), strict=True):
            if not samples.any():
                notes.append(f"{folder.root}: {stem} is silent; its validation is null")
        return x_0, notes
    return None, notes


def _conversions(folder: StemFolder) -> list[str]:
    """A line on the files that are converted to the folder's rate, if there are any."""
    if not folder.converted:
        return []
    forms = ", ".join(f"{count} of {form}" for form, count in sorted(folder.converted.items()))
    return [
        f"{folder.root}: stems are converted to {folder.sample_rate:,} Hz mono each time they are "
        f"read ({forms}); mgdm-audio prepare does it once"
    ]


def _sounds(file: Segments) -> bool:
    return any(np.any(file.read(start, _BLOCK)) for start in range(0, file.frames, _BLOCK))
