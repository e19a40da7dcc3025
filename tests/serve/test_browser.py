"""The local page in a browser: files are dropped on it, and their stems come back."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import soundfile

from mgdm_audio.separation.separator import Separator
from tests.report.chromium import Browser, Page
from tests.toys import STEMS

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from mgdm_audio.serve import separation
from tests.serve.serving import Worker, served, wav

STATES = "[...document.querySelectorAll('.track')].map(t => t.dataset.state).join()"
NAMES = "[...document.querySelectorAll('.track h2')].map(t => t.textContent)"


def test_a_dropped_file_is_separated_and_its_stems_are_saved(
    page: Page, tiny: Separator, tmp_path: Path
) -> None:
    name = "<img src=x onerror=alert(1)>.wav"
    (tmp_path / name).write_bytes(wav())
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    with served(separation(tiny), tmp_path / "room") as (url, _):
        page.open(url)
        page.drop("#drop", tmp_path / name, tmp_path / "bad.wav")
        page.wait_for(f"{STATES} === 'failed,done'")
        assert page.get(NAMES) == ["bad.wav", name]
        assert "bad.wav: " in page.get("document.querySelector('.state').textContent")
        links = page.get("[...document.querySelectorAll('.results a')].map(a => a.textContent)")
        assert links == ["Listening page", *(f"{stem}.wav" for stem in STEMS)]
        folder = "_img src=x onerror=alert(1)_"
        saved, data = page.download(".results:not([hidden]) button")
        assert saved == f"{folder}.zip"
        with zipfile.ZipFile(io.BytesIO(data)) as files:
            assert files.testzip() is None
            assert files.namelist() == [f"{folder}/{stem}.wav" for stem in STEMS]
            for entry in files.namelist():
                info = soundfile.info(io.BytesIO(files.read(entry)))
                assert (info.frames, info.samplerate, info.channels) == (4000, 8000, 2)
        page.open(url)  # a reload finds them again
        page.wait_for(f"{STATES} === 'failed,done'")
        address = page.get("document.querySelectorAll('iframe')[1].src")
        assert page.errors == []
        page.open(address)  # as a page of its own
        page.wait_for("document.body.dataset.state === 'ready'")
        assert page.get("rows.length") == 1 + len(STEMS)
        # Apart from everything else, and yet its files can be saved.
        assert page.get("origin") == "null"
        mix = soundfile.info(io.BytesIO(page.download("#export")[1]))
        assert (mix.frames, mix.samplerate, mix.channels) == (4000, 8000, 2)
        stem = soundfile.info(io.BytesIO(page.download(".links a")[1]))
        assert (stem.frames, stem.subtype) == (4000, "PCM_24")
        page.open(url)
        page.wait_for(f"{STATES} === 'failed,done'")
        for left in ("done", ""):
            page.click(".remove")
            page.wait_for(f"{STATES} === '{left}'")
        assert page.get(f"fetch({json.dumps(address)}).then(a => a.status)") == 404
    assert not (tmp_path / "room").exists()


def test_every_tab_shows_the_same_files(browser: Browser, page: Page, tmp_path: Path) -> None:
    worker = Worker()
    for name in ("one.wav", "two.wav"):
        (tmp_path / name).write_bytes(b"x")
    with served(worker, tmp_path / "room") as (url, _):
        page.open(url)
        other = browser.tab().open(url)
        page.drop("#drop", tmp_path / "one.wav", tmp_path / "two.wav")
        third = browser.tab().open(url)
        tabs = (page, other, third)
        for tab in tabs:
            tab.wait_for(f"{STATES} === 'waiting,working'")
            assert tab.get(NAMES) == ["two.wav", "one.wav"]
            said = tab.get("document.querySelectorAll('.track p')[0].innerText")
            assert said.strip() == "waiting, 1 before it"
        other.click(".remove")
        for tab in tabs:
            tab.wait_for(f"{STATES} === 'working'")
        worker.go.set()
        for tab in tabs:
            tab.wait_for(f"{STATES} === 'done'")
            # A tab may ask for the removed file before the other one has told it.
            assert [error for error in tab.errors if "404" not in error] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page: Page, axe: Path, tmp_path: Path, scheme: str) -> None:
    """With a file that is done, one that is worked on and one that waits; on a phone, too."""
    worker = Worker()
    for name in ("one.wav", "two.wav", f"{'n' * 90}.wav"):
        (tmp_path / name).write_bytes(b"x")
    with served(worker, tmp_path / "room") as (url, _):
        page.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        page.narrow(390)
        page.open(url)
        page.drop("#drop", tmp_path / "one.wav")
        worker.go.set()
        page.wait_for(f"{STATES} === 'done'")
        worker.go.clear()
        page.drop("#drop", tmp_path / "two.wav", tmp_path / f"{'n' * 90}.wav")
        page.wait_for(f"{STATES} === 'waiting,working,done'")
        assert page.violations(axe) == []
        assert page.get("document.documentElement.scrollWidth") <= 390
        worker.go.set()
