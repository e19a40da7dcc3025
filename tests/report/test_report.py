import base64
import errno
import hashlib
import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor

from mgdm_audio.audio.resampling import resample
from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.metrics import si_sdr_improvement
from mgdm_audio.evaluation.spectral import log_mel, mel_centres
from mgdm_audio.report import run, write_index, write_page, write_pages
from mgdm_audio.report.markup import in_a_word
from mgdm_audio.report.pictures import (
    COLUMNS,
    BandPicture,
    Columns,
    MelPicture,
    band,
    cubehelix,
    draw_overlay,
    mel_levels,
    shade,
    to_png,
    waveform,
)
from mgdm_audio.report.sound import STEPS, Flac, Playable, step_below
from mgdm_audio.separation.result import Separation
from mgdm_audio.separation.uncertainty import Spread

RATE, TIME = 8000, 40_000  # 5 s
STEP = 2.0**-23  # of 24 bits
STEMS = ("bass", "drums")
NASTY = "a\"b'<script>alert(1)<&é $name"


def tone(pitch: float, channels: int = 2, time: int = TIME, rate: int = RATE) -> Tensor:
    """[channel, time]: of 0.2."""
    t = torch.arange(time) / rate
    return 0.2 * torch.stack([torch.sin(2 * torch.pi * pitch * t + c) for c in range(channels)])


def save(
    folder: Path,
    stems: dict[str, Tensor] | None = None,
    rate: int = RATE,
    std: dict[str, Tensor] | None = None,
    subtype: str = "PCM_24",
    **record: object,
) -> Path:
    """What ``separate`` leaves, of tones by default."""
    stems = stems or {stem: tone(200 + 300 * k) for k, stem in enumerate(STEMS)}
    mixture = torch.stack(list(stems.values())).sum(0)
    channels, time = mixture.shape
    shape = {"sample_rate": rate, "channels": channels, "samples": time}
    report = {"prior": "tiny", "sampler": "default", "draws": 2 if std else 1, **shape, **record}
    spread = None
    if std is not None:  # all of it in one band
        spread = Spread({n: x[..., None] for n, x in std.items()}, 0.1, (0.0, rate / 2))
    Separation.of(mixture, stems, rate, report, spread).save(folder, subtype)
    return folder


@dataclass
class Page(HTMLParser):
    """The tags of a page and the text in each."""

    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)  # text, for each of ``tags``

    def __post_init__(self) -> None:
        super().__init__()
        self.open = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append("")
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.inside[-1] += data

    def find(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attrs, inside)
            for (name, attrs), inside in zip(self.tags, self.inside, strict=True)
            if name == tag and all(attrs.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]

    @property
    def rows(self) -> list[str | None]:
        return [attrs["data-name"] for attrs, _ in self.find("article")]

    def sound(self, index: int) -> Tensor:
        """[channel, time], as soundfile decodes it; a mixture without a sound is the sum."""
        if not index and not self.find("script", id="sound-0"):
            return torch.stack([self.sound(i) for i in range(1, len(self.rows))]).sum(0)
        ((_, text),) = self.find("script", id=f"sound-{index}")
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), always_2d=True)
        assert rate == int(str(self.find("main")[0][0]["data-rate"]))
        return torch.from_numpy(decoded.T)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def decode_png(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Levels [row, column] and the colours [index, channel] of an indexed picture."""
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "P")
        colours = np.reshape(image.getpalette() or [], (-1, 3))
        opacity = list(image.info.get("transparency", b""))
        return np.array(image), np.column_stack([colours, opacity]) if opacity else colours


def test_a_page_has_the_mixture_and_every_stem_once(tmp_path: Path) -> None:
    path = write_page(save(tmp_path / "song"))
    assert path == tmp_path / "song" / "report.html"
    page = read(path)
    assert page.rows == ["mixture", *STEMS]
    names = [attrs["id"] for attrs, _ in page.find("script", type="text/plain")]
    assert names == ["sound-1", "sound-2"]  # the browser adds them up for the mixture
    muted = [attrs["aria-pressed"] for attrs, _ in page.find("button", class_="mute")]
    assert muted == ["true", "false", "false"]  # the stems sum to the mixture
    assert not list(path.parent.glob(".*"))  # no temporary file is left


def test_the_sound_is_the_stems_to_half_a_step(tmp_path: Path) -> None:
    page = read(write_page(save(tmp_path / "song")))
    stems = [tone(200), tone(500)]
    assert 0.25 < float((stems[0] + stems[1]).abs().max()) <= 0.5
    half = 0.5 / STEPS / 2  # the step is 1 / STEPS of the next power of two above the peak
    for index, wanted in enumerate([stems[0] + stems[1], *stems]):
        found = page.sound(index)
        assert found.shape == wanted.shape  # to the sample
        # The files have 24 bits: the stems are theirs to a step of 2^-23.
        assert (found - wanted).abs().max() <= (1 if index else 2) * (half + STEP)


def test_a_mixture_beside_the_stems_is_played_as_it_is(tmp_path: Path) -> None:
    folder = save(tmp_path / "song")
    soundfile.write(folder / "mixture.wav", tone(700).T.numpy(), RATE, "FLOAT")
    page = read(write_page(folder))
    assert page.rows == ["mixture", *STEMS]
    assert page.find("script", id="sound-0")
    assert (page.sound(0) - tone(700)).abs().max() <= 0.5 / STEPS


@pytest.mark.parametrize(
    ("channels", "rate", "as_channels", "as_rate"),
    [(1, 8000, 1, 8000), (2, 44100, 2, 44100), (2, 96000, 2, 48000), (1, 2000, 1, 8000),
     (3, 22050, 1, 22050), (1, 37800, 1, 44100)],
)  # fmt: skip
def test_any_shape_becomes_one_that_browsers_play(
    tmp_path: Path, channels: int, rate: int, as_channels: int, as_rate: int
) -> None:
    x = tone(100, channels, rate, rate)[:, : rate // 2]
    wanted = resample(x.mean(0, keepdim=True) if channels > 2 else x, rate, as_rate)
    playable = Playable(x.shape[1], rate)
    assert (playable.rate, playable.length) == (as_rate, as_rate // 2)
    found = torch.cat([playable.add(part) for part in x.split(rate // 7, 1)], 1)
    assert found.shape == (as_channels, as_rate // 2)
    assert (found - wanted).abs().max() < 1e-6  # of 0.2: rounding of float32
    flac = Flac(tmp_path / "page", as_channels, as_rate, 2**-15)
    flac.add(found)
    decoded, decoded_rate = soundfile.read(io.BytesIO(base64.b64decode(b"".join(flac.text()))))
    flac.close()
    assert decoded_rate == as_rate
    assert np.abs(decoded.reshape(-1, as_channels).T - found.numpy()).max() <= 2**-16
    assert not list(tmp_path.iterdir())


def test_a_step_is_the_peaks_but_no_less_than_that_of_16_bits() -> None:
    peaks = [1.0, 0.75, 0.5, 0.26, 0.1, 1e-3, 0.0]
    steps = [2**-12, 2**-12, 2**-13, 2**-13, 2**-15, 2**-15, 2**-12]
    assert [step_below(peak) for peak in peaks] == steps


def test_a_page_depends_neither_on_threads_nor_on_the_record_of_the_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    std = {stem: torch.full((2, 50), 0.05) for stem in STEMS}
    folder = save(tmp_path / "song", std=std)
    monkeypatch.setattr(run, "BLOCK", 3001)  # several blocks of the 40,000 samples
    before = torch.get_num_threads()
    try:
        pages = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            pages.append(write_page(folder).read_bytes())
    finally:
        torch.set_num_threads(before)
    assert pages[0] == pages[1] == pages[2]
    record = json.loads((folder / "separation.json").read_text())
    # Samples are rounded to the grid of 24 bits.
    assert record["peak"] == pytest.approx(float((tone(200) + tone(500)).abs().max()), abs=STEP)
    (folder / "separation.json").write_text(json.dumps(record | {"peak": None}))
    older = read(write_page(folder))
    assert [older.find("image"), older.find("path")] == [
        Page(pages[0].decode()).find(tag) for tag in ("image", "path")
    ]
    assert torch.equal(older.sound(1), Page(pages[0].decode()).sound(1))


@pytest.mark.parametrize("room", [0, 2000, 8000])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """As many bytes fit: none, some, and all but the end, which libsndfile writes as it closes."""
    folder = save(tmp_path / "song")
    there = set(folder.iterdir())
    write, left = os.write, [room]

    def limited(number: int, data: bytes) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(number, data)

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(
        UserError, match=r"report\.html: cannot be written \(No space left on device"
    ):
        write_page(folder)
    assert {*folder.iterdir()} == there


def test_what_passes_full_scale_is_lowered_by_one_gain(tmp_path: Path) -> None:
    stems = {"bass": 8 * tone(200), "drums": tone(500)}  # their sum peaks at 1.8
    std = {stem: torch.full((2, 50), 0.4) for stem in stems}
    page = read(write_page(save(tmp_path / "song", stems, std=std, subtype="FLOAT")))
    # The band as well: 0.4 of the bass's peak of 1.6 is a quarter of the height, on both scales.
    assert columns(str(page.find("path", class_="std")[0][0]["d"])) == ([75] * 50, [125] * 50)
    peak = float((stems["bass"] + stems["drums"]).abs().max())
    for index, stem in enumerate(stems.values(), 1):
        assert (page.sound(index) - stem / peak).abs().max() <= 0.5 / STEPS + 2**-24


def test_a_long_track_is_cut_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LIMIT", 6)  # seconds, of three players
    std = {stem: torch.full((2, 50), 0.01) for stem in STEMS}
    page = read(write_page(save(tmp_path / "song", std=std)))
    assert "the first 0:02.0 of 0:05.0" in page.text
    assert [page.sound(i).shape for i in range(3)] == [(2, 2 * RATE)] * 3
    assert page.find("path", class_="std")[0][0]["d"] == band(torch.full((20,), 0.01 / 0.2))


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    folder = save(tmp_path / "song")
    first = write_page(folder).read_bytes()
    assert write_page(folder).read_bytes() == first


def test_names_and_values_are_text_and_nothing_else(tmp_path: Path) -> None:
    stems = {NASTY: tone(200), "b": tone(500)}
    folder = save(tmp_path / NASTY, stems, input="</td></table><script>", options={"x": NASTY})
    page = read(write_page(folder))
    assert page.rows == ["mixture", NASTY, "b"]
    assert page.find("title")[0][1] == NASTY
    assert page.find("h1")[0][1] == NASTY
    cells = [inside.strip() for _, inside in page.find("td")]
    assert "</td></table><script>" in cells
    assert NASTY in cells
    labels = [attrs["aria-label"] for attrs, _ in page.find("button", class_="solo")]
    assert f"Solo {NASTY}" in labels
    assert len(page.find("script")) == 2 + 1  # the sounds and ours


def test_a_name_that_is_no_utf_8_is_shown(tmp_path: Path) -> None:
    try:
        folder = save(tmp_path / "caf\udce9")
    except (UserError, OSError):
        pytest.skip("the file system wants UTF-8")
    assert read(write_page(folder)).find("h1")[0][1] == "caf?"
    assert "caf%E9/report.html" in write_index(tmp_path).read_text()


def rules(page: Page) -> dict[str, str]:
    ((policy, _),) = page.find("meta", **{"http-equiv": "Content-Security-Policy"})
    return dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_only_its_own_script_and_style_run(tmp_path: Path) -> None:
    write_pages(save(tmp_path / "out" / "song").parent)
    page, index = read(tmp_path / "out/song/report.html"), read(tmp_path / "out/index.html")
    (script,) = [inside for attrs, inside in page.find("script") if "type" not in attrs]
    for one in (page, index):
        assert rules(one)["default-src"] == "'none'"
        assert rules(one)["style-src"] == digest(one.find("style")[0][1])
        for _, attrs in one.tags:
            assert "style" not in attrs  # the policy would drop it
            assert not [name for name in attrs if name.startswith("on")]
            assert "src" not in attrs
    assert rules(page)["script-src"] == digest(script)
    assert "script-src" not in rules(index)


def test_pictures_are_png_files_of_one_column_a_frame(tmp_path: Path) -> None:
    page = read(write_page(save(tmp_path / "song")))
    hop = round(2048 / 22050 * RATE) // 4
    images = page.find("image", class_="spectrogram")
    assert len(images) == 1 + len(STEMS)
    for attrs, _ in images:
        levels, palette = decode_png(base64.b64decode(str(attrs["href"]).partition("base64,")[2]))
        assert levels.shape == (80, TIME // hop + 1)
        assert np.array_equal(palette, cubehelix())


def test_a_png_holds_its_levels() -> None:
    """All of them, and more than fit into one chunk of the file; with opacity as well."""
    levels = torch.arange(256, dtype=torch.uint8).repeat(400)[torch.randperm(256 * 400)]
    levels = levels.reshape(256, 400)
    assert np.array_equal(decode_png(to_png(levels))[0], levels.numpy())
    colours = [(i, 255 - i, i // 2, i // 3) for i in range(256)]
    found, palette = decode_png(to_png(levels, colours))
    assert np.array_equal(found, levels.numpy())
    assert np.array_equal(palette, colours)


def test_colours_rise_from_black_to_white_in_brightness() -> None:
    colours = torch.tensor(cubehelix(), dtype=torch.float64)
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[-1].tolist() == [255, 255, 255]
    # Green's directions leave 0.30 R + 0.59 G + 0.11 B alone, so that it is the index; but for
    # rounding to whole steps, half of one, and what is cut off at 0 and 255 (a few blues).
    brightness = colours @ torch.tensor([0.30, 0.59, 0.11], dtype=torch.float64)
    assert (brightness - torch.arange(256)).abs().max() < 3


def test_shades_span_the_floor_to_the_top_with_low_bands_below() -> None:
    level = torch.tensor([[-80.0, -50.0], [-20.0, -10.0]])  # [band, column]
    # 30 of 60 dB are half of 255, and what passes the top is at the top.
    assert shade(level, -20.0).tolist() == [[255, 255], [0, 128]]
    assert not shade(torch.full((2, 2), -80.0), -80.0).any()


def test_the_mel_level_is_the_mean_power_of_the_channels() -> None:
    x = tone(440, 1)
    one, half = mel_levels(x, RATE), mel_levels(torch.cat([x, 0 * x]), RATE)
    loud = one > -70  # away from the floor, which both of them share
    assert loud.any()
    # The floor of the silent channel, -80 dB, adds 10 % of power to -70 dB less 3 dB at most.
    assert torch.allclose(one[loud] - half[loud], torch.tensor(3.0103), atol=1.0)
    assert (one - half).max() < 3.0104


def test_a_long_sound_keeps_its_extremes() -> None:
    x = torch.zeros(2, 10 * COLUMNS)
    x[1, 5005], x[0, 9009] = 1.0, -0.5
    top, bottom = Columns(1, x.shape[1]), Columns(1, x.shape[1])
    for part in x.split(777, 1):
        top.add(part.amax(0, keepdim=True))
        bottom.add(-part.amin(0, keepdim=True))
    tops, bottoms = columns(waveform(top.values[0], -bottom.values[0]))
    assert len(tops) == len(bottoms) == COLUMNS
    assert (tops[500], min(tops[:500] + tops[501:])) == (0, 100)
    assert (bottoms[900], max(bottoms[:900] + bottoms[901:])) == (150, 100)


@pytest.mark.parametrize("time", [1, 1599, 1601, 4000])
def test_columns_are_the_maxima_of_equal_parts(time: int) -> None:
    x = torch.randn(3, time, generator=torch.Generator().manual_seed(0))
    found = Columns(3, time)
    for part in x.split(700, 1):
        found.add(part)
    count = min(time, COLUMNS)
    wanted = torch.full((3, count), -torch.inf)
    for i in range(time):
        column = i * count // time
        wanted[:, column] = torch.maximum(wanted[:, column], x[:, i])
    assert torch.equal(found.values, wanted)


def test_a_picture_is_the_same_block_by_block() -> None:
    x = tone(440)
    whole, parts = MelPicture(TIME, RATE), MelPicture(TIME, RATE)
    whole.add(x)
    for part in x.split(333, 1):
        parts.add(part)
    wanted = 10 * (10 ** (log_mel(x, RATE) / 10)).mean(0).T.log10()
    # Rounding of float32 in sums of powers over bins, and the channels' own floors in ``wanted``.
    assert (whole.levels(1.0) - wanted)[wanted > -70].abs().max() < 1e-3
    assert (parts.levels(1.0) - whole.levels(1.0)).abs().max() < 1e-3


def test_the_band_is_the_standard_deviation_on_the_waveforms_scale(tmp_path: Path) -> None:
    std = {stem: torch.full((2, 50), 0.05) for stem in STEMS}
    page = read(write_page(save(tmp_path / "song", std=std)))
    bands = [str(attrs["d"]) for attrs, _ in page.find("path", class_="std")]
    assert len(bands) == len(STEMS)
    # 0.05 of a peak of 0.2 (a little less where no sample meets it) is a quarter of the height.
    assert columns(bands[0]) == ([75] * 50, [125] * 50)
    waves = [columns(str(attrs["d"])) for attrs, _ in page.find("path", class_="sound")]
    assert [min(min(tops), 200 - max(bottoms)) for tops, bottoms in waves] == [0] * 3
    widths = [str(a["viewbox"]) for a, _ in page.find("svg")]
    assert widths[2:4] == [f"0 0 {COLUMNS} 200", "0 0 50 200"]  # after the mixture's two


def columns(path: str) -> tuple[list[int], list[int]]:
    """The y above and below the middle of every column of a path "M0 100 V.h1 ... V.h-1 ... z"."""
    assert path.startswith("M0 100V")
    assert path.endswith("z")
    steps = [step.split("h") for step in path[len("M0 100V") : -1].split("V")]
    there = [int(y) for y, width in steps if width == "1"]
    back = [int(y) for y, width in steps if width == "-1"]
    return there, back[::-1]


@pytest.mark.parametrize("shown_rate", [RATE, 2 * RATE])
def test_an_overlay_is_drawn_where_the_deviation_nears_the_stem(shown_rate: int) -> None:
    # Tones of 0.2 have -17 dB, each in a band of its own; a window each, the last one by half.
    edges = [0.0, 1000.0, 2000.0, 3000.0]
    samples = (tone(500) + tone(1500))[:, : 3 * 800 + 400]
    equal, level = 10 * math.log10(0.02), [3.0, 0.0, -5.0, -10.0]
    std_db = torch.tensor([[equal + x, -120.0, -90.0] for x in level])
    bright = torch.full((80, 7), 255, dtype=torch.uint8)  # a column for half a window
    bands = BandPicture(samples.shape[1], RATE, 0.1, edges)
    for part in samples.split(500, 1):
        bands.add(part)
    found = draw_overlay(bands, std_db, edges, bright, shown_rate).flip(0)
    assert found.shape == bright.shape
    centres = mel_centres(shown_rate)
    # Twice as strong, as strong, by 5 of 10 dB weaker, by 10 dB.
    wanted = torch.tensor([255.0, 255, 255, 255, 127.5, 127.5, 0])
    # Rounding; of half a window less than 1 % of a tone leaks across 1 kHz (0.04 dB, 1 of 255).
    assert (found[centres < 1000] - wanted).abs().max() <= 1
    # Nothing where there is little, below the pictures' floor, or above the last band.
    assert found[centres >= 1000].count_nonzero() == 0
    # As bright as the picture at most; of narrow columns each has the worst of its windows.
    dim = torch.full((80, 2), 100, dtype=torch.uint8)
    less = draw_overlay(bands, std_db, edges, dim, shown_rate).flip(0)
    assert (less[centres < 1000] - torch.tensor([100.0, 50])).abs().max() <= 1


def test_a_word_says_how_sure_a_stem_is() -> None:
    """A deviation of a tenth of the energy is 10 dB below, one of as much 0 dB."""
    ratios = [math.inf, 10.0, 9.99, 0.01, 0.0, -5.0, None]
    words = ["sure", "sure", "unsure", "unsure", "guess", "guess", ""]
    assert [in_a_word(ratio) for ratio in ratios] == words


def test_the_bands_of_a_mel_spectrogram_are_where_their_tones_are() -> None:
    centres = mel_centres(RATE)
    for index in (5, 40, 70):
        wave = tone(float(centres[index]), 1)
        assert int(mel_levels(wave, RATE).mean(1).argmax()) == index


@pytest.mark.parametrize("draws", [1, 2])
def test_a_page_lays_an_overlay_over_the_spectrograms_of_stems(tmp_path: Path, draws: int) -> None:
    std = {stem: torch.full((2, 50), 0.05) for stem in STEMS} if draws > 1 else None
    page = read(write_page(save(tmp_path / "song", std=std)))
    overlays = page.find("image", class_="overlay")
    assert len(overlays) == (2 if draws > 1 else 0)  # the mixture has none
    assert ['id="uncertainty"' in page.text, 'id="legend"' in page.text] == [draws > 1] * 2
    assert not [attrs for attrs, _ in page.find("input") if "checked" in attrs]
    for attrs, _ in overlays:
        data = base64.b64decode(str(attrs["href"]).removeprefix("data:image/png;base64,"))
        opacity = decode_png(data)[1][:, 3]
        assert opacity.tolist() == [4 * i // 5 for i in range(256)]
    # A page of a result without bands, which earlier versions wrote, has the rest.
    record = json.loads((tmp_path / "song" / "uncertainty.json").read_text())
    del record["std_db"], record["bands_hz"]
    (tmp_path / "song" / "uncertainty.json").write_text(json.dumps(record))
    older = read(write_page(tmp_path / "song"))
    assert not older.find("image", class_="overlay")
    assert len(older.find("path", class_="std")) == len(overlays)


def test_scores_and_confidence_are_in_the_table(tmp_path: Path) -> None:
    std = {stem: torch.full((2, 50), 0.02) for stem in STEMS}
    folder = save(tmp_path / "out" / "song", std=std)
    truth = {stem: tone(210 + 290 * k) for k, stem in enumerate(STEMS)}
    for stem, samples in truth.items():
        (tmp_path / "true" / "song").mkdir(parents=True, exist_ok=True)
        soundfile.write(
            tmp_path / "true" / "song" / f"{stem}.wav", samples.T.numpy(), RATE, "FLOAT"
        )
    estimates = torch.stack([tone(200), tone(500)])
    gains = si_sdr_improvement(estimates, torch.stack(list(truth.values())), RATE).mean(0)
    # A tone of 0.2 has the power 0.02 and the std 0.02 that of 0.0004: 17 dB.
    wanted = [
        f"{g:.1f}".replace("-", "\N{MINUS SIGN}") for g in (*gains.tolist(), float(gains.mean()))
    ]
    for reference in (tmp_path / "true", tmp_path / "true" / "song"):
        page = read(write_page(folder, reference))
        cells = [inside.strip() for _, inside in page.find("td", class_="number")]
        assert cells == ["17.0", "17.0", *wanted]
        assert [inside for _, inside in page.find("td", class_="")] == ["sure", "sure"]
        assert page.text.count("confidence 17.0 dB (sure)") == 2
        assert "Confidence is the expected SI-SDR of a stem" in page.text
    pages = write_pages(tmp_path / "out", tmp_path / "true")
    assert [path.name for path in pages] == ["report.html", "index.html"]
    assert read(pages[0]).text == page.text


def test_without_references_and_draws_it_says_so(tmp_path: Path) -> None:
    page = read(write_page(save(tmp_path / "song")))
    assert "SI-SDR" not in page.text
    assert "Scores" not in page.text
    assert "None is known: this sampler needs two or more draws." in page.text
    assert not page.find("path", class_="std")


def test_a_track_too_short_to_be_scored_says_why(tmp_path: Path) -> None:
    folder = save(tmp_path / "song", {stem: tone(200, time=RATE) for stem in STEMS})
    text = read(write_page(folder, folder)).text
    assert "No SI-SDRi: 1.00 s long, and a window needs more than 2 s." in text


def test_silence_has_a_page(tmp_path: Path) -> None:
    page = read(write_page(save(tmp_path / "song", {s: torch.zeros(1, 8000) for s in STEMS})))
    assert [inside for _, inside in page.find("p", class_="facts soft")] == ["silent"] * 3
    assert not page.sound(0).any()


def test_the_record_is_a_table_without_hashes(tmp_path: Path) -> None:
    page = read(write_page(save(tmp_path / "song", options={"rho": 4.0, "on": True})))
    cells = dict(
        zip(
            [inside.strip() for _, inside in page.find("th", scope="row")],
            [inside.strip() for _, inside in page.find("td") if True][
                -len(page.find("th", scope="row")) :
            ],
            strict=True,
        )
    )
    assert cells["options.rho"] == "4.0"
    assert cells["options.on"] == "true"
    assert cells["samples"] == str(TIME)
    assert not [key for key in cells if key.startswith("files")]


def test_tracks_in_folders_get_a_page_each_and_an_index(tmp_path: Path) -> None:
    names = ("a b#?%", NASTY, "album/one")
    for name in names:
        save(tmp_path / "out" / name)
    (tmp_path / "out" / "other").mkdir()
    seen: list[tuple[int, int]] = []
    pages = write_pages(tmp_path / "out", on_progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    links = read(pages[-1]).find("a")
    assert sorted(text for _, text in links) == sorted(names)
    for attrs, _ in links:
        assert (tmp_path / "out" / unquote(str(attrs["href"]))) in pages


Harm = Callable[[Path], object]


def remove(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def put(name: str, text: str) -> Harm:
    return lambda folder: (folder / name).write_text(text)


def change(name: str, **values: object) -> Harm:
    def harm(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(record | values))

    return harm


def shorten(folder: Path) -> None:
    soundfile.write(folder / "bass.wav", tone(200)[:, :-1].T.numpy(), RATE)


def lower_rate(folder: Path) -> None:
    soundfile.write(folder / "bass.wav", tone(200).T.numpy(), RATE // 2)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (remove("separation.json"), "separation.json: missing; give a folder written"),
        (put("separation.json", "{"), "separation.json: is damaged; separate it again"),
        (put("separation.json", "[]"), "separation.json: is damaged; separate it again"),
        (put("separation.json", "{}"), "separation.json: lists no stems; separate it again"),
        (remove("bass.wav"), "bass.wav: missing, separation.json lists it; separate it again"),
        (remove("uncertainty.json"), "uncertainty.json: missing; give a folder written"),
        (put("uncertainty.json", '{"std": 3}'), "uncertainty.json: is damaged"),
        (put("separation.json", "[" * 10**5), "separation.json: is damaged"),
        (put("separation.json", '{"samples": NaN}'), "separation.json: is damaged"),
        (change("separation.json", files=5), "separation.json: is damaged"),
        (change("separation.json", files=["bass.wav"]), "separation.json: is damaged"),
        (change("separation.json", files={"\0.wav": ""}), "separation.json: lists no stems"),
        (change("separation.json", samples=10**15), "separation.json: is damaged"),
        (change("separation.json", sample_rate=True), "separation.json: is damaged"),
        (change("separation.json", channels="2"), "separation.json: is damaged"),
        (change("uncertainty.json", hop_seconds=0), "uncertainty.json: is damaged"),
        (change("uncertainty.json", hop_seconds=-1), "uncertainty.json: is damaged"),
        (change("uncertainty.json", hop_seconds="x"), "uncertainty.json: is damaged"),
        (change("uncertainty.json", confidence_db={"bass": "x"}), "uncertainty.json: is damaged"),
        (change("uncertainty.json", confidence_db=[1]), "uncertainty.json: is damaged"),
        (change("uncertainty.json", std={"bass": [[1]]}), "uncertainty.json: is damaged"),
        (change("uncertainty.json", std={"bass": [-1]}), "uncertainty.json: is damaged"),
        (change("uncertainty.json", std={"bass": [2**63 - 1, "a"]}), "uncertainty.json: is dam"),
        (change("uncertainty.json", bands_hz=[1]), "uncertainty.json: is damaged"),
        (change("uncertainty.json", bands_hz=[0, 2, 1]), "uncertainty.json: is damaged"),
        (change("uncertainty.json", std_db={"bass": [[1], [2, 3]]}), "uncertainty.json: is dam"),
        (put("bass.wav", "no sound"), "bass.wav: "),
        (shorten, "bass.wav: 39999 samples, separation.json says 40000; separate it again"),
        (lower_rate, "bass.wav: 4000 Hz, separation.json says 8000; separate it again"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, harm: Harm, says: str) -> None:
    folder = save(tmp_path / "song")
    harm(folder)
    with pytest.raises(UserError) as error:
        write_page(folder)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("stems", "says"),
    [
        ({}, "true: contains 0 true stems, scores need two or more"),
        ({"bass": TIME}, "true: contains 1 true stems, scores need two or more"),
        ({"bass": TIME, "drum": TIME}, "drum: song has no such stem; remove it or rename it"),
        ({"bass": TIME, "drums": TIME - 1}, "drums.wav: 39999 samples"),
    ],
)
def test_unfit_references_are_one_clear_line(
    tmp_path: Path, stems: dict[str, int], says: str
) -> None:
    (tmp_path / "true").mkdir()
    for stem, time in stems.items():
        soundfile.write(tmp_path / "true" / f"{stem}.wav", tone(200)[:, :time].T.numpy(), RATE)
    with pytest.raises(UserError) as error:
        write_page(save(tmp_path / "song"), tmp_path / "true")
    assert says in str(error.value)
    assert not (tmp_path / "song" / "report.html").exists()


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_what_holds_no_track_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=str(tmp_path / name)):
        write_pages(tmp_path / name)


def test_references_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: missing"):
        write_page(save(tmp_path / "song"), tmp_path / "nowhere")
