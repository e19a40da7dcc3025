"""The one reader of sound: any file -> blocks of one rate and one set of channels, and its hash.

What it promises, whatever the format:

- The length is that of the packets in the file, never a header's estimate.
- Where rate or channels change on the way, the rest is converted to those of the beginning, with
  one warning that names the time.
- A file that is cut short or damaged is refused, naming the time; or, where asked for, what can be
  decoded is kept, and what is missing is told.
- What is hashed is what was decoded: a file that changes meanwhile is an error.
- What a file may decode to is bounded before any of it is decoded.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import torch
from torch import Tensor

from mgdm_audio.audio.decoding.containers import find_content
from mgdm_audio.audio.decoding.events import Block, Event, Loss, Missing, Total
from mgdm_audio.audio.decoding.following import Follower
from mgdm_audio.errors import DamagedError, SoundWarning, UserError

RATES = range(100, 1_000_001)  # Hz; outside, the header is damaged
MAX_SECONDS = 12 * 3600.0
Policy = Literal["refuse", "keep"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True)
class Audio:
    """What a sound file holds, or a block of it."""

    samples: Tensor  # [channel, time] float32, full scale 1.0
    sample_rate: int  # Hz
    subtype: str  # how the file stores samples: libsndfile's name (PCM_16, ...) or FFmpeg's codec
    mask: int = 0  # of speakers, in the order of whose bits the channels are, see ``speakers``
    missing: tuple[Missing, ...] = ()  # of a whole file that was damaged
    sha256: str = ""  # of a whole file's bytes


class Reading(Iterator[Audio]):
    """The blocks of a file, each of a few hundred thousand samples at most, at least one.

    ``stream``: which stream of sound, from 0, of a file that may have several (mp4). ``damaged``:
    "refuse" raises DamagedError for a file that is cut short or damaged, "keep" goes on with what
    can be decoded, without a gap. ``max_seconds``: of sound, at most. ``on_note(line)``: is told
    what a user should know of a file that is read all the same, by default as a SoundWarning.

    After the last block ``sha256`` is the hash of the file's bytes, ``size`` how many, ``mtime_ns``
    when they were last changed, and ``missing`` what could not be decoded. Raises UserError, in one
    line, for a path that is no readable file, content that is no sound, no samples, samples that
    are not finite, too many seconds, and a file that changed.
    """

    def __init__(
        self,
        path: str | Path,
        stream: int = 0,
        *,
        damaged: Policy = "refuse",
        max_seconds: float = MAX_SECONDS,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        if damaged not in POLICIES:
            raise UserError(f"damaged {damaged!r}: choose one of {', '.join(POLICIES)}")
        if not max_seconds > 0:  # which is so of what is no number
            raise UserError(f"max_seconds {max_seconds}: give a number above 0")
        self.path, self.sha256, self.size, self.mtime_ns = Path(path), "", 0, 0
        self.missing: list[Missing] = []
        self._stream, self._policy, self._most = stream, damaged, max_seconds
        self._frames, self._note = 0, on_note or _warn
        self._blocks = self._read()

    def __next__(self) -> Audio:
        return next(self._blocks)

    def close(self) -> None:
        """Give back the file, where it is not read to its end."""
        self._blocks.close()  # type: ignore[attr-defined]

    def _read(self) -> Iterator[Audio]:
        path = self.path
        with _opened(path) as file:
            try:
                found = os.fstat(file.fileno())
                self.size, self.mtime_ns = found.st_size, found.st_mtime_ns
                if self.size == 0:
                    raise UserError(f"{path}: is empty (0 bytes); fetch or export it again")
                before = _hash(file)
                yield from self._whole(file, self.size)
                if _hash(file) != before:
                    raise UserError(f"{path}: changed while it was read; run again when it is done")
                self.sha256 = before
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None

    def _whole(self, file: BinaryIO, size: int) -> Iterator[Audio]:
        content = find_content(self.path, file, size, self._stream)
        self._bound(content.seconds)
        follower = Follower()
        for event in content.events():
            yield from self._audio(event, follower)
        for block in follower.end():
            yield self._checked(block)
        if not self._frames:
            raise UserError(f"{self.path}: holds no samples; export it again")
        if self.missing:
            self._note(f"{self.path}: {'; '.join(map(str, self.missing[:5]))}; the rest is kept")

    def _audio(self, event: Event, follower: Follower) -> Iterator[Audio]:
        seconds = self._frames / follower.first.rate if follower.first is not None else 0.0
        if isinstance(event, Loss):
            self._lose(event, seconds)
        elif isinstance(event, Total):
            if len(self.missing) == 1:  # then the header says how much it is
                whole = max(0.0, event.seconds - seconds)
                self.missing[0] = replace(self.missing[0], seconds=whole)
        elif event.samples.shape[1]:
            if event.rate not in RATES:
                raise UserError(
                    f"{self.path}: a sample rate of {event.rate} Hz; the header is damaged"
                )
            if (change := follower.changes(event)) and not follower.changed:
                follower.changed = True
                self._note(
                    f"{self.path}: at {seconds:.1f} s {change}; from there on it is converted to "
                    "what it began as"
                )
            for block in follower.add(event):
                yield self._checked(block)

    def _lose(self, loss: Loss, at: float) -> None:
        """Raise, or note it."""
        if self._policy == "refuse":
            if loss.at_end and loss.seconds is not None:
                digits = 1 if loss.seconds >= 0.1 else 4
                whole = at + loss.seconds
                what = f"cut short, {at:.{digits}f} of {whole:.{digits}f} s can be read"
            elif loss.at_end:
                what = f"cut short at {at:.1f} s"
            else:
                much = f", {loss.seconds:.2f} s are missing" if loss.seconds else ""
                what = f"damaged at {at:.1f} s{much}"
            raise DamagedError(f"{self.path}: {what} ({loss.why}); fetch it again")
        self.missing.append(Missing(at, loss.seconds, loss.why))

    def _checked(self, block: Block) -> Audio:
        samples = torch.from_numpy(block.samples)
        require_finite(self.path, samples, self._frames)
        self._frames += samples.shape[1]
        self._bound(self._frames / block.rate)
        return Audio(samples, block.rate, block.subtype, block.mask)

    def _bound(self, seconds: float) -> None:
        if seconds > self._most:
            raise UserError(
                f"{self.path}: decodes to {seconds / 3600:.4g} hours or more, over the "
                f"{self._most / 3600:.4g} allowed; cut it into parts"
            )


def _opened(path: Path) -> BinaryIO:
    """The file, to be closed by the caller. Raises UserError."""
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give a sound file")
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is no regular file; give a sound file")
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; change its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason})") from None


def require_finite(path: Path, samples: Tensor, before: int = 0) -> None:
    """Raises UserError for a sample that is not finite, ``before`` samples after the start."""
    wrong = ~torch.isfinite(samples)
    if wrong.any():
        index = int(wrong.any(0).nonzero()[0])
        channel = int(wrong[:, index].nonzero()[0])
        value = samples[channel, index].item()
        raise UserError(
            f"{path}: sample {before + index} of channel {channel} is {value}; "
            "repair or export it again"
        )


def _hash(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _warn(line: str) -> None:
    warnings.warn(SoundWarning(line), stacklevel=2)
