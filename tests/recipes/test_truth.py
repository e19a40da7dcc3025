"""The true stems with which the recipes' scripts compare a separation."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.io import write
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import find_tracks
from mgdm_audio.separation.separator import Separator
from tests.toys import STEMS, song

ROOT = Path(__file__).parents[2]
RATE = 22050


def test_a_stem_without_a_file_is_silent(
    monkeypatch: pytest.MonkeyPatch, tiny_prior: Path, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "local"))
    truth = import_module("truth")
    separator = Separator.from_pretrained(tiny_prior, device="cpu")
    for i, stem in enumerate((*STEMS[:2], "voice")):  # the last is none of the prior's
        path = tmp_path / "songs" / "a" / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, song(i, 2, 1000, RATE), RATE, "FLOAT")
    files = find_tracks(tmp_path / "songs")["a"]
    found = truth.true_stems(separator.stems, files, RATE)
    assert found.shape == (len(STEMS), 1000)
    for i in range(2):
        torch.testing.assert_close(found[i], song(i, 2, 1000, RATE).mean(0))
    assert not found[2:].any()
    with pytest.raises(UserError, match="songs/a: has no stem of the prior"):
        truth.true_stems(separator.stems, {"voice": files["voice"]}, RATE)
    part = truth.true_stems(separator.stems, files, RATE, 0.01)  # 220 of 1000 samples
    assert torch.equal(part, found[:, 390:610])
