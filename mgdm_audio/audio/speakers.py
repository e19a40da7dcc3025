"""Which speaker a channel is for: masks, orders of channels, and mixing from one to another.

A mask has a bit for each speaker, as in WAVEFORMATEXTENSIBLE (Microsoft 2001); the channels of a
WAV file come in the order of its bits. Vorbis (Vorbis I specification, 4.3.9) and Opus (RFC 7845,
5.1.1.2) have an order of their own; FLAC (RFC 9639, 9.1.3) fixes the speakers, in WAV's order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bit 0, 1, ...: front left, front right, front centre, low frequency effects, back left, ...
_BITS = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR"
NAMES = tuple(_BITS.split())
_VORBIS = {
    3: "FL FC FR",
    4: "FL FR BL BR",
    5: "FL FC FR BL BR",
    6: "FL FC FR BL BR LFE",
    7: "FL FC FR SL SR BC LFE",
    8: "FL FC FR SL SR BL BR LFE",
}
_FLAC = {
    3: "FL FR FC",
    4: "FL FR BL BR",
    5: "FL FR FC BL BR",
    6: "FL FR FC LFE BL BR",
    7: "FL FR FC LFE BC SL SR",
    8: "FL FR FC LFE BL BR SL SR",
}
_HALF = 2**-0.5  # -3 dB: a speaker's power shared by two


def mask_of(names: Sequence[str]) -> int:
    """The mask of speakers by name; 0 where one is unknown or there twice."""
    if len(set(names)) < len(names) or any(name not in NAMES for name in names):
        return 0
    return sum(1 << NAMES.index(name) for name in names)


def names_of(mask: int) -> list[str]:
    """The speakers of a mask, in the order of the channels."""
    return [name for bit, name in enumerate(NAMES) if mask >> bit & 1]


def usual(mask: int, channels: int) -> int:
    """``mask`` if it names so many speakers, else that of mono or stereo, else 0."""
    if mask.bit_count() == channels and mask >> len(NAMES) == 0:
        return mask
    return {1: mask_of(["FC"]), 2: mask_of(["FL", "FR"])}.get(channels, 0)


def flac_mask(channels: int) -> int:
    return mask_of(_FLAC.get(channels, "").split())


def vorbis_mask(channels: int) -> int:
    return mask_of(_VORBIS.get(channels, "").split())


def vorbis_order(channels: int) -> list[int]:
    """For each channel in the order of the mask, its number in Vorbis's order."""
    return in_order(_VORBIS.get(channels, "").split()) or list(range(channels))


def in_order(names: Sequence[str]) -> list[int]:
    """For each speaker in the order of their mask, its number among ``names``."""
    return sorted(range(len(names)), key=lambda i: NAMES.index(names[i]))


def matrix(mask: int, channels: int, to_mask: int, to_channels: int) -> np.ndarray:
    """[to_channels, channels], which mixes channels of one mask to those of another.

    A speaker that both have keeps its gain of 1. Mono goes to left and right whole; several are
    averaged to mono. Others go to their nearest that there is, by -3 dB; low frequency effects
    are left out where there is no speaker for them, as in ITU-R BS.775. Where no speakers are
    known, channels keep their numbers, and further ones are silent or left out.
    """
    mix = np.zeros((to_channels, channels), np.float32)
    if to_channels == 1:
        mix[:] = 1 / channels
        return mix
    if channels == 1:
        target = names_of(usual(to_mask, to_channels))
        sides = [i for i, name in enumerate(target) if name in ("FL", "FR")]
        mix[sides or slice(None)] = 1
        return mix
    ours = names_of(usual(mask, channels))
    theirs = names_of(usual(to_mask, to_channels))
    if not ours or not theirs:
        for i in range(min(channels, to_channels)):
            mix[i, i] = 1
        return mix
    for i, name in enumerate(ours):
        for places, gain in _places(name):
            if all(place in theirs for place in places):
                for place in places:
                    mix[theirs.index(place), i] += gain
                break
    return mix / max(1.0, float(mix.sum(1).max()))  # nothing is louder than full scale then


def _places(name: str) -> list[tuple[tuple[str, ...], float]]:
    """Returns where a speaker's sound may go, the best first, and its gain there."""
    other = {"SL": "BL", "SR": "BR", "BL": "SL", "BR": "SR"}.get(name)
    places: list[tuple[tuple[str, ...], float]] = [((name,), 1.0)]
    if name == "LFE":
        return places
    if other:
        places.append(((other,), 1.0))
    if name == "BC":
        places += [(("BL", "BR"), _HALF), (("SL", "SR"), _HALF)]
    if name.endswith("L") or name == "FLC":
        places.append((("FL",), _HALF))
    elif name.endswith("R") or name == "FRC":
        places.append((("FR",), _HALF))
    return [*places, (("FL", "FR"), _HALF), (("FC",), _HALF)]
