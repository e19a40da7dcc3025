"""WAV files written block by block."""

import os
from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.encoding.wav import WavWriter

FRAMES = 1000


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_what_is_written_has_reached_the_disk_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtype: str
) -> None:
    """Every byte of it, the header that is mended last too."""
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    path = tmp_path / "a.wav"
    with WavWriter(path, 2, 2 * FRAMES, 22050, subtype) as writer:
        writer.write(torch.linspace(-0.5, 0.5, 2 * FRAMES).view(2, FRAMES))
        assert not synced
    assert synced[-1] == (path.stat().st_ino, path.read_bytes())


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_file_that_lacks_samples_is_not_whole(tmp_path: Path, subtype: str) -> None:
    """libsndfile loses the reason of a write that failed: what the file holds tells."""
    with pytest.raises(OSError, match="No space left"):  # noqa: SIM117
        with WavWriter(tmp_path / "few.wav", 1, FRAMES, 22050, subtype) as writer:
            writer.write(torch.zeros(1, FRAMES - 1))
    writer = WavWriter(tmp_path / "lost.wav", 1, FRAMES, 22050, subtype)
    writer.write(torch.zeros(1, FRAMES))
    writer._sound.close()
    os.truncate(tmp_path / "lost.wav", (tmp_path / "lost.wav").stat().st_size - FRAMES)
    with pytest.raises(OSError, match="No space left"):
        writer.close()
