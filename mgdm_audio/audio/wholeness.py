"""How much sound a file holds, to the sample, if it is whole."""

from dataclasses import dataclass
from pathlib import Path

from mgdm_audio.audio.reading import Reading


@dataclass(frozen=True)
class Extent:
    """How much sound a file holds, and of which bytes."""

    frames: int
    channels: int
    sample_rate: int  # Hz
    sha256: str
    size: int  # bytes
    mtime_ns: int  # when they were last changed, ns since 1970
    notes: tuple[str, ...]  # what a user should know of how it was read


def measure(path: Path, stream: int = 0) -> Extent:
    """Decode one stream of sound of the file to its end, and keep nothing of it.

    Raises what ``Reading`` raises: for what is no sound, damaged, or cut short by as little as a
    sample.
    """
    frames = channels = sample_rate = 0
    notes: list[str] = []
    reading = Reading(path, stream, on_note=notes.append)
    for block in reading:
        channels, sample_rate = block.samples.shape[0], block.sample_rate
        frames += block.samples.shape[-1]
    return Extent(
        frames,
        channels,
        sample_rate,
        reading.sha256,
        reading.size,
        reading.mtime_ns,
        tuple(notes),
    )
