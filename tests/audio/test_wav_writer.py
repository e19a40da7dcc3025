"""WAV files written block by block."""

import os
from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.wav import WavWriter

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
