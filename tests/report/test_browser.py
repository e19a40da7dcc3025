"""The listening page in a browser, with clicks and keys as a user makes them."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mgdm_audio.report import write_index, write_page
from tests.report.chromium import Page
from tests.report.test_report import NASTY, RATE, TIME, save, tone

LENGTH = TIME / RATE  # seconds
READY = "document.body.dataset.state === 'ready'"
AUDIBLE = "rows.map(r => r.element.dataset.audible).join()"
STEP = 2.0**-23  # of 24 bits


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two tones with an uncertainty; its name and a stem's hold markup."""
    clicks = {"bass": tone(200), NASTY: torch.zeros(2, TIME)}
    clicks[NASTY][:, 30_000] = 0.9
    std = {stem: torch.full((2, 50), 0.01) for stem in clicks}
    folder = tmp_path_factory.mktemp("pages") / NASTY
    return write_page(save(folder, clicks, std=std))


@pytest.fixture
def ready(page: Page, song: Path) -> Page:
    page.open(song)
    page.wait_for("document.body.dataset.state !== 'loading'")
    assert page.get("document.body.dataset.state") == "ready", page.get("message.textContent")
    return page


def heard(page: Page) -> np.ndarray:
    """[row, channel, time] as the browser decoded the sounds of the page."""
    rows = page.get("rows.map(r => [0, 1].map(c => Array.from(r.buffer.getChannelData(c))))")
    return np.array(rows)


def test_sounds_are_decoded_as_long_as_the_files_and_without_delay(ready: Page) -> None:
    assert ready.get("rows.map(r => r.name)") == ["mixture", "bass", NASTY]
    shapes = ready.get("rows.map(r => [r.buffer.length, r.buffer.numberOfChannels])")
    assert shapes == [[TIME, 2]] * 3
    peak = "rows[2].buffer.getChannelData(0).reduce((b, x, i, a) => x > a[b] ? i : b, 0)"
    assert abs(ready.get(peak) - 30_000) <= 1
    assert ready.get("document.querySelector('#sound-1')") is None  # memory is given back
    sounds = heard(ready).astype(np.float32)  # as the browser has them
    assert np.array_equal(sounds[0], sounds[1] + sounds[2])
    assert ready.errors == []


def test_play_advances_the_time_and_solo_mutes_the_others(ready: Page) -> None:
    assert ready.get("now()") == 0
    ready.click("#play")
    ready.wait_for("now() > 0.2")
    assert ready.get("document.body.dataset.state") == "playing"
    assert ready.get(AUDIBLE) == "false,true,true"  # the stems sum to the mixture
    ready.click(".c2 .solo")
    assert ready.get(AUDIBLE) == "false,false,true"
    assert ready.get("rows.map(r => r.soloButton.ariaPressed).join()") == "false,false,true"
    ready.wait_for("rows[1].gain.gain.value < 1e-3 && rows[2].gain.gain.value > 0.999")
    ready.press("Digit1", "1", 49, shift=True)
    assert ready.get(AUDIBLE) == "true,false,true"
    ready.press("Digit0", "0", 48)
    assert ready.get(AUDIBLE) == "false,true,true"
    ready.click(".c1 .mute")
    assert ready.get(AUDIBLE) == "false,false,true"
    ready.press("Space", " ", 32)
    assert ready.get("document.body.dataset.state") == "ready"
    assert ready.errors == []


def test_clicks_and_keys_move_and_all_rows_start_at_once(ready: Page) -> None:
    ready.get(
        "const calls = [], proto = AudioBufferSourceNode.prototype, original = proto.start;"
        "proto.start = function (...a) { calls.push(a); return original.apply(this, a); }; 0"
    )
    ready.click(".c1 .pictures", 0.5)
    assert ready.get("now()") == pytest.approx(LENGTH / 2, abs=0.01)  # a pixel or so
    ready.press("ArrowLeft", "ArrowLeft", 37)
    assert ready.get("now()") == 0
    ready.press("ArrowRight", "ArrowRight", 39)
    assert ready.get("now()") == LENGTH
    assert ready.get("time.textContent") == "0:05.0 / 0:05.0"
    # At one time of the clock: from where it is, and anew from the end.
    for _ in range(2):
        ready.press("Space", " ", 32)
    ready.get("moveTo(2)")
    ready.press("Space", " ", 32)
    calls = ready.get("calls")
    starts = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert all(one == three[0] for three in starts for one in three)
    assert [three[0][1] for three in starts] == [0, 2]


def test_a_loop_is_dragged_and_repeats(ready: Page) -> None:
    ready.drag(".c1 .pictures", 0.2, 0.3)
    assert ready.get("byId('loop').ariaPressed") == "true"
    begin, end = ready.get("[region.from, region.to]")
    # A pixel of some 900 is less than 0.01 s.
    assert (begin, end) == pytest.approx((0.2 * LENGTH, 0.3 * LENGTH), abs=0.01)
    ready.click("#play")
    # Half a second long, it is over twice within these 1.2 s of the clock of the sound.
    ready.wait_for("playing() && context.currentTime - started > 1.2")
    # As long as it plays it is where that clock says, within the loop.
    place, elapsed = ready.get("[now(), context.currentTime - started]")
    assert begin <= place < end
    # The clock may advance between the two by some of its blocks of 128 samples, 16 ms each.
    around = (place - begin - elapsed) % (end - begin)
    assert min(around, end - begin - around) < 0.1
    ready.click("#loop")
    ready.wait_for(f"now() > {end} + 0.1")
    assert ready.get("document.querySelector('.region').hidden")
    assert ready.errors == []


def test_buttons_set_the_loop_and_the_zoom_without_a_mouse(ready: Page) -> None:
    for selector, place in (("#from", 1), ("#to", 3)):
        ready.get(f"moveTo({place}); document.querySelector('{selector}').focus()")
        ready.press("Enter", "\r", 13)
    assert ready.get("[looping, region.from, region.to]") == [True, 1, 3]
    assert ready.get("byId('region').textContent") == "0:01.0 to 0:03.0"
    assert ready.get("byId('fit').textContent") == "Show loop"
    ready.click("#fit")
    assert ready.get("[view.from, view.to]") == [1, 3]
    ticks = "[...rows[0].axis.children].map(t => [t.textContent, t.style.left])"
    first, *_, last = ready.get(ticks)
    assert (first, last) == (["0:01.0", "0%"], ["0:03.0", "100%"])
    # Every picture shows this part: of 5 s, a fifth of its width is left out before it.
    boxes = ready.get(
        "drawings.map(d => [d.element.viewBox.baseVal.x / d.width,"
        " d.element.viewBox.baseVal.width / d.width])"
    )
    assert len(boxes) == 3 + 2 + 3  # waveforms, deviations, spectrograms
    assert np.allclose(boxes, [0.2, 0.4], atol=1e-6)  # a viewBox has single precision
    ready.click("#zoom-in")
    assert ready.get("[view.from, view.to]") == [1.5, 2.5]
    for _ in range(4):
        ready.click("#zoom-out")
    assert ready.get("[view.from, view.to]") == [0, LENGTH]
    # A playing position that leaves the part that is shown takes it along.
    ready.get("look(0, 1); loop(0, 5, false); moveTo(0.9)")
    ready.click("#play")
    ready.wait_for("view.from > 0.9 && view.to - view.from < 1.01")


def test_a_waveform_is_drawn_anew_where_it_is_enlarged(ready: Page) -> None:
    """A click of one sample at 3.75 s, of a peak of 1 after scaling: one column of 800."""
    whole = ready.get("rows[2].path.getAttribute('d')")
    ready.get("look(3.7, 3.95)")
    path = ready.get("rows[2].path.getAttribute('d')")
    tops = np.array([float(part.split("h")[0]) for part in path.split("V")[1:801]])
    samples = heard(ready)[2]
    start, step = 3.7 * RATE, 0.25 * RATE / 800
    for column in (0, 159, 160, 400, 799):
        begin, end = int(start + column * step), int(np.ceil(start + (column + 1) * step))
        wanted = 100 - 100 * samples[:, begin:end].max() / np.abs(samples).max()
        # The ends may fall on another sample by rounding; of a tone that is little.
        assert tops[column] == pytest.approx(wanted, abs=1), column
    assert int(tops.argmin()) == pytest.approx((3.75 - 3.7) / 0.25 * 800, abs=4)  # one sample
    ready.get("look(0, 5)")
    assert ready.get("rows[2].path.getAttribute('d')") == whole


@pytest.mark.parametrize("region", [None, (3.0, 4.5)])
def test_the_mix_is_exported_as_it_is_heard(
    ready: Page, region: tuple[float, float] | None
) -> None:
    sounds = heard(ready)
    ready.get(
        "rows[1].volume.value = 1.5; rows[1].volume.dispatchEvent(new Event('input'));"
        "rows[0].muteButton.click(); rows[2].muteButton.click()"
    )
    assert ready.get(AUDIBLE) == "true,true,false"
    wanted = sounds[0] + 1.5 * sounds[1]
    if region:
        ready.get(f"loop({region[0]}, {region[1]})")
        wanted = wanted[:, int(region[0] * RATE) : int(region[1] * RATE)]
    assert np.abs(wanted).max() > 1  # and so it is lowered
    name, data = ready.download("#export")
    assert name == f"{safe(NASTY)} ({'loop' if region else 'mix'}).wav"
    found, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_24"
    assert (rate, len(found)) == (RATE, wanted.shape[1])
    # One step of 24 bits: the browser sums in float32 (2^-24), and rounds.
    assert np.abs(found.T - wanted / np.abs(wanted).max()).max() < 2 * STEP
    gain = 20 * np.log10(np.abs(wanted).max())
    assert ready.get("message.textContent") == f"Lowered by {gain:.1f} dB so as not to clip."
    # One row alone, which needs no lowering.
    ready.click(".c1 .solo")
    alone = soundfile.read(io.BytesIO(ready.download("#export")[1]))[0]
    part = slice(*(int(x * RATE) for x in region)) if region else slice(None)
    assert np.abs(alone.T - 1.5 * sounds[1][:, part]).max() < 2 * STEP
    assert ready.get("message.textContent") == ""


def safe(name: str) -> str:
    """A name that every file system takes."""
    return "".join("_" if c in '\\/:*?"<>|' else c for c in name)


def test_the_sounds_of_the_page_come_as_a_zip_and_the_files_as_links(
    ready: Page, song: Path
) -> None:
    decoded = heard(ready)
    name, data = ready.download("#zip")
    assert name == f"{safe(NASTY)}.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        assert files.testzip() is None  # the checksums are right
        names = [f"{safe(NASTY)}/{safe(row)}.flac" for row in ("bass", NASTY)]
        assert files.namelist() == names
        for index, entry in enumerate(names, 1):
            sound, rate = soundfile.read(io.BytesIO(files.read(entry)))
            assert (rate, sound.shape) == (RATE, (TIME, 2))
            # Whole numbers of 16 bits, which two decoders may scale by 2^15 or 2^15 - 1.
            assert np.abs(sound.T - decoded[index]).max() <= 2**-15
    links = ready.get("[...document.querySelectorAll('.links a')].map(a => a.href)")
    assert links == [(song.parent / f"{stem}.wav").as_uri() for stem in ("bass", NASTY)]


def test_uncertainty_is_shown_when_it_is_asked_for(ready: Page) -> None:
    displays = (
        "['.overlay', '.std', '#legend'].map("
        "s => getComputedStyle(document.querySelector(s)).display !== 'none')"
    )
    assert ready.get(displays) == [False] * 3
    ready.get("byId('uncertainty').focus()")
    ready.press("Space", " ", 32)  # checks the box, and does not play
    assert ready.get(displays) == [True] * 3
    assert not ready.get("playing()")
    assert ready.get("byId('legend').innerText.split(/ +/)") == ["sure", "unsure", "guess"]


def test_a_page_fits_a_phone_and_an_index_leads_to_it(page: Page, tmp_path: Path) -> None:
    names = {"a" * 60: tone(200), "b": tone(500)}
    truth = save(tmp_path / "true", names)
    write_page(save(tmp_path / "out" / ("n" * 90), names), truth)
    index = write_index(tmp_path / "out")
    page.narrow(390)
    page.open(index)
    assert page.get("document.documentElement.scrollWidth") <= 390
    page.click("a")
    page.wait_for(f"typeof rows !== 'undefined' && {READY}")
    assert page.get("document.documentElement.scrollWidth") <= 390
    wide = page.get(
        "[...document.querySelectorAll('main :not(.axis *)')].filter("
        "e => e.getBoundingClientRect().right > 390).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(ready: Page, axe: Path, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    ready.call("Emulation.setEmulatedMedia", features=[feature])
    ready.get("byId('uncertainty').click(); loop(1, 2); rows[1].soloButton.click()")
    assert ready.violations(axe) == []
    ready.get("document.querySelector('h1').remove(); rows[0].volume.ariaLabel = ''")
    found = ready.violations(axe)  # it does look
    assert any(line.startswith("page-has-heading-one") for line in found)


def test_axe_finds_no_violation_of_the_index(page: Page, axe: Path, song: Path) -> None:
    page.open(write_index(song.parents[1]))
    assert page.violations(axe) == []


def test_the_policy_holds(ready: Page) -> None:
    """And a breach of it would have been noted in the other tests."""
    ready.get("document.head.append(Object.assign(document.createElement('script'), {text: '1'}))")
    assert "Content Security Policy" in ready.errors[-1]
