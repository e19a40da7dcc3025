"""Training songs kept in a device's memory: batches without a reader, for accelerators."""

import os
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from mgdm_audio.errors import UserError
from mgdm_audio.training.augmentation import Augmentation, augmented
from mgdm_audio.training.stems import StemFolder

# A name, samples [stems, time], and which stems the song has.
Song = tuple[str, Tensor, tuple[bool, ...]]
_GROWTH = 1.5  # of the memory, when songs no longer fit


class ResidentStems:
    """All songs of a ``StemFolder`` as 16-bit samples [stems, time] on ``device``.

    22,050 Hz x 4 stems take 0.64 GB an hour. ``batch`` draws as a folder does, but every place by
    itself: segments of remixed examples start anywhere. Songs that appear in the folder are added
    by ``refresh``; a run that uses it sees other songs when it is repeated.
    """

    def __init__(
        self, open_folder: Callable[[Collection[str]], StemFolder], device: torch.device | str
    ):
        """``open_folder(skip)`` opens the folder without the songs named."""
        self.open_folder, self.device = open_folder, torch.device(device)
        self.names: set[str] = set()
        self.starts: list[int] = []
        self.frames: list[int] = []
        self.has: list[tuple[bool, ...]] = []  # per song, which stems
        self.used = 0
        folder = open_folder(())
        self.sample_rate = folder.sample_rate
        self.samples = torch.zeros(len(folder.stems), 0, dtype=torch.int16)
        self._reader = ThreadPoolExecutor(1)
        self._coming: Future[list[Song]] | None = None
        self._add(_read(folder))

    def __len__(self) -> int:
        """Returns the number of songs."""
        return len(self.names)

    def _add(self, songs: list[Song]) -> None:
        if not songs:
            return
        needed = self.used + sum(song.shape[1] for _, song, _ in songs)
        if needed > self.samples.shape[-1]:
            size = int(_GROWTH * needed) if self.used else needed
            room = self.samples.new_zeros((len(self.samples), size), device=self.device)
            room[:, : self.used] = self.samples[:, : self.used]
            self.samples = room
        for name, song, has in songs:
            frames = song.shape[1]
            self.samples[:, self.used : self.used + frames] = song.to(self.device)
            self.names.add(name)
            self.starts.append(self.used)
            self.frames.append(frames)
            self.has.append(has)
            self.used += frames

    def refresh(self) -> None:
        """Take in what a background thread has read since the last call, and start another."""
        if self._coming is not None:
            if not self._coming.done():
                return
            self._add(self._coming.result())
        known = frozenset(self.names)
        self._coming = self._reader.submit(lambda: _read(self.open_folder(known)))

    def batch(
        self, size: int, length: int, augment: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """Random segments [size, stems, length] on the device, augmented.

        Raises UserError where ``augment`` asks for ``pitch`` or ``active``, which need the files,
        and where no song is as long as ``length``.
        """
        if augment.pitch or augment.active:
            raise UserError("augment: pitch and active are for data.resident = false alone")
        fitting = [n for n, frames in enumerate(self.frames) if frames >= length]
        if not fitting:
            raise UserError(f"no training song is {length} samples long; lower segment")
        stems = self.samples.shape[0]
        drawn = torch.randint(len(fitting), (size, stems), generator=generator)
        place = torch.rand(size, stems, generator=generator, dtype=torch.float64)
        remixed = torch.rand(size, generator=generator) < augment.remix
        songs = torch.tensor(fitting)[drawn]
        for k in range(stems):  # a remix takes a stem from songs that have it
            having = [n for n in fitting if self.has[n][k]] or fitting
            if len(having) < len(fitting):
                songs[remixed, k] = torch.tensor(having)[drawn[remixed, k] % len(having)]
        songs[~remixed] = songs[~remixed][:, :1]
        place[~remixed] = place[~remixed][:, :1]
        room = torch.tensor(self.frames)[songs] - length + 1
        starts = torch.tensor(self.starts)[songs] + (place * room).long()
        cut = [
            self.samples[k, start : start + length]
            for row in starts.tolist()
            for k, start in enumerate(row)
        ]
        x = torch.stack(cut).view(size, stems, length).float() / 2**15
        return augmented(x, augment, self.sample_rate, generator)


def _read(folder: StemFolder) -> list[Song]:
    songs = []
    for track in folder.tracks:
        stems = [folder.read(track, k, 0, track.frames) for k in range(len(track.files))]
        whole = (torch.stack(stems) * 2**15).round().clamp(-(2**15), 2**15 - 1)
        has = tuple(path is not None for path in track.files)
        songs.append((track.name, whole.short(), has))
    return songs


def opened_songs(
    open_folder: Callable[[Collection[str]], StemFolder], resident: bool
) -> StemFolder | ResidentStems:
    """The folder, or its songs in the memory of this process's device."""
    rank = os.environ.get("LOCAL_RANK", "0")  # torchrun's: each process has its own device
    device = f"cuda:{rank}" if torch.cuda.is_available() else "cpu"
    return ResidentStems(open_folder, device) if resident else open_folder(())
