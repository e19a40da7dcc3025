"""Folders of stems -> random training segments [batch, sources, time]."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from mgdm_audio.audio.files import find_stems
from mgdm_audio.audio.resampling import resample_span, resampled_length
from mgdm_audio.audio.segments import Segments, open_segments
from mgdm_audio.data import manifest
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.metrics import ACTIVE
from mgdm_audio.training.augmentation import Augmentation, at_speed, augmented, draw_speed, span

_DRAWS = 20  # of an example, until enough of its stems sound


@dataclass(frozen=True)
class Track:
    """One song: a file per stem (None where the song lacks it), equally long."""

    name: str
    files: tuple[Path | None, ...]
    frames: int  # samples at the folder's rate


class StemFolder:
    """``root/<track>/<stem>.wav|flac``, read as mono stems at ``sample_rate`` Hz.

    Or ``root`` is the manifest of prepared data, or the folder that holds it; the tracks are then
    those of its split ``split``. ``batch`` is a function of its generator alone: training resumes
    exactly with no reader state. Tracks in ``skip`` are not looked at; there may be no others.

    Files of another rate or of several channels are converted as they are read: the channels are
    averaged, then resampled by ``resample``. Each segment is computed from the file alone, and no
    converted sound is kept, so that a run repeats exactly and takes no memory or disk for it.
    """

    def __init__(
        self,
        root: str | Path,
        stems: Sequence[str],
        sample_rate: int,
        split: str = "train",
        skip: Collection[str] = (),
    ):
        self.root, self.stems, self.sample_rate = Path(root), tuple(stems), sample_rate
        self._opened: dict[Path, Segments] = {}
        self.converted: Counter[str] = Counter()  # "44,100 Hz 2 channels" -> files
        found = self._find(split, skip)
        opened = [self._open(folder, files) for folder, files in found.items()]
        self.tracks = [track for track in opened if track]
        if not self.tracks and not skip:
            raise UserError(
                f"{root}: holds no <track>/<stem>.wav or .flac with stems {', '.join(stems)}"
            )
        # Per stem, the tracks that have it; all where none has it.
        self._having = [
            [track for track in self.tracks if track.files[k]] or self.tracks
            for k in range(len(self.stems))
        ]

    def __len__(self) -> int:
        """Returns the number of songs."""
        return len(self.tracks)

    def _find(self, split: str, skip: Collection[str]) -> dict[Path, dict[str, Path]]:
        """Folder of a track -> stem -> file."""
        listing = self.root if self.root.suffix == ".jsonl" else self.root / manifest.MANIFEST
        if listing.is_file():
            tracks = manifest.read(listing, split)
            return {
                listing.parent / split / name: files
                for name, files in tracks.items()
                if name not in skip
            }
        if not self.root.is_dir():
            raise UserError(
                f"{self.root}: no such folder of training tracks; prepare the data first"
            )
        return {
            folder: find_stems(folder)
            for folder in sorted(self.root.iterdir())
            if folder.name not in skip and folder.is_dir() and folder.name[0] != "."
        }

    def _open(self, folder: Path, found: dict[str, Path]) -> Track | None:
        files = tuple(found.get(stem) for stem in self.stems)
        opened = [open_segments(path) for path in files if path is not None]
        if not opened:
            return None
        for file in opened:
            self._opened[file.path] = file
            if (file.sample_rate, file.channels) != (self.sample_rate, 1):
                channels = "mono" if file.channels == 1 else f"{file.channels} channels"
                self.converted[f"{file.sample_rate:,} Hz {channels}"] += 1
        frames = {resampled_length(f.frames, f.sample_rate, self.sample_rate) for f in opened}
        # Of one song at two rates: each length is rounded by up to a sample.
        rounding = len({file.sample_rate for file in opened}) > 1
        if max(frames) - min(frames) > rounding:
            raise UserError(
                f"{folder}: stems of different lengths {sorted(frames)}; pad them first"
            )
        return Track(folder.name, files, max(frames))

    def read(self, track: Track, stem: int, start: int, length: int) -> Tensor:
        """[length] float32 at the folder's rate, from ``start``.

        Zeros past the end and where the track lacks the stem. Raises UserError for a file that is
        damaged there, NotFinite for NaN and infinity.
        """
        path = track.files[stem]
        if path is None:
            return torch.zeros(length)
        file = self._opened[path]

        def averaged(begin: int, end: int) -> Tensor:
            data = file.read(begin, end - begin)
            return torch.from_numpy(data[:, 0] if data.shape[1] == 1 else data.mean(1))

        rates = (file.sample_rate, self.sample_rate)
        stop = min(start + length, resampled_length(file.frames, *rates))
        part = resample_span(averaged, file.frames, *rates, start, max(start, stop))
        return pad(part, (0, length - len(part)))

    def batch(
        self, size: int, length: int, augment: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """Random segments [size, sources, length], augmented, drawn by ``generator`` alone.

        The stems of a remixed example come from tracks that have them, so that a track of one stem
        is heard beside the others'; in an example of one track, the stems that it lacks are silent.
        With ``augment.active``, an example in which fewer stems sound is drawn again, up to 20
        times; a stem sounds if ||x||_2 / length is 1.5e-5 or more before augmentation.
        Raises UserError where ``active`` asks for more stems than there are.
        """
        if augment.active > len(self.stems):
            raise UserError(
                f"active = {augment.active}: there are {len(self.stems)} stems; ask for no more"
            )

        def below(bound: int) -> int:
            return int(torch.randint(max(bound, 1), (), generator=generator))

        def place(tracks: Sequence[Track]) -> tuple[Track, int, int]:
            track = tracks[below(len(tracks))]
            speed = draw_speed(augment.pitch, generator)
            return track, below(track.frames - span(length, speed) + 1), speed

        def part(stem: int, track: Track, start: int, speed: int) -> Tensor:
            return at_speed(self.read(track, stem, start, span(length, speed)), speed, length)

        examples = []
        for _ in range(size):
            song = place(self.tracks)
            remix = float(torch.rand((), generator=generator)) < augment.remix
            for _ in range(_DRAWS):
                places = [place(having) if remix else song for having in self._having]
                example = torch.stack([part(k, *where) for k, where in enumerate(places)])
                # As the scores count a stem as active in a window.
                sounding = example.double().norm(dim=-1) / length >= ACTIVE
                if int(sounding.sum()) >= augment.active:
                    break
                song = place(self.tracks)
            examples.append(example)
        return augmented(torch.stack(examples), augment, self.sample_rate, generator)

    def fixed(self, count: int, length: int) -> Tensor:
        """The same segments [count, sources, length] each time, spread over the tracks."""
        per_track = math.ceil(count / len(self.tracks))
        segments = []
        for i in range(count):
            track, j = self.tracks[i % len(self.tracks)], i // len(self.tracks)
            start = max(0, round((j + 0.5) / per_track * (track.frames - length)))
            segments.append(
                torch.stack([self.read(track, k, start, length) for k in range(len(self.stems))])
            )
        return torch.stack(segments)
