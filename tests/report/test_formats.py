"""Pages and scores of results in every format that ``separate`` writes."""

from pathlib import Path

import pytest
import torch

from mgdm_audio.audio.encoding.formats import FORMATS, FormatName
from mgdm_audio.audio.io import write
from mgdm_audio.engine.runner import Workers
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.folders import score
from mgdm_audio.report import write_page
from mgdm_audio.report.run import read_run
from mgdm_audio.separation.result import Separation
from tests.toys import STEMS, song

RATE, TIME = 44100, 220_500  # 5 s: a window of 4 s is scored


def result(channels: int = 2, time: int = 20_000) -> Separation:
    stems = {stem: 0.2 * song(i, channels, time, RATE) for i, stem in enumerate(STEMS)}
    report = {"draws": 1, "sample_rate": RATE, "channels": channels, "samples": time}
    return Separation.of(torch.stack([*stems.values()]).sum(0), stems, RATE, report)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("form", list(FORMATS))
def test_a_page_has_the_stems_of_every_format(
    tmp_path: Path, form: FormatName, channels: int
) -> None:
    pytest.importorskip("av")
    found = result(channels)
    found.save(tmp_path / "a", format=form)
    run = read_run(tmp_path / "a")
    assert tuple(run.files) == STEMS
    with Workers(1) as workers:
        mixture, *stems = torch.cat([*run.blocks(workers)], -1)
    assert torch.equal(mixture, torch.stack(stems).sum(0))
    for stem, samples in zip(STEMS, stems, strict=True):
        error = (samples - found[stem]).square().mean() / found[stem].square().mean()
        # Each is its own stem and not another one: those differ by 3 dB, twice the energy.
        assert error < (0.2 if FORMATS[form].lossy else 1e-9)
    assert write_page(tmp_path / "a").is_file()


def test_a_page_needs_files_that_sum_to_the_input(tmp_path: Path) -> None:
    result().choose(["bass"]).save(tmp_path / "a")
    with pytest.raises(UserError, match=r"do not sum to the input.* again with --rest"):
        read_run(tmp_path / "a")
    result().choose(["bass"], rest=True).save(tmp_path / "a")
    assert tuple(read_run(tmp_path / "a").files) == ("bass", "rest")


@pytest.mark.parametrize("form", ["flac", "mp3", "m4a", "ogg"])
def test_estimates_of_every_format_are_scored(tmp_path: Path, form: FormatName) -> None:
    pytest.importorskip("av")
    found = result(1, TIME)
    for stem, samples in found.items():
        (tmp_path / "true/a").mkdir(parents=True, exist_ok=True)
        write(tmp_path / "true/a" / f"{stem}.wav", samples, RATE, "FLOAT")
    found.save(tmp_path / "found/a", format=form)
    scores = score(tmp_path / "true", tmp_path / "found")["tracks"]["a"]["si_sdri"]
    # The true stems themselves, but for the codec: see tests/audio/test_encoding.py.
    assert min(scores[stem] for stem in STEMS) > 10


def test_stems_in_one_file_have_no_scores(tmp_path: Path) -> None:
    pytest.importorskip("av")
    result().save(tmp_path / "a", format="stem.mp4")
    (tmp_path / "true").mkdir()
    with pytest.raises(UserError, match="has its stems in one file; scores need a file for each"):
        write_page(tmp_path / "a", tmp_path / "true")
