"""The HTML of a listening page, which fetches nothing and runs only its own script."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from string import Template
from urllib.parse import quote

import torch
from torch import Tensor

from mgdm_audio.atomic import write_by
from mgdm_audio.engine.runner import Workers
from mgdm_audio.report.markup import (
    Scores,
    clock,
    content_security_policy,
    decibels,
    framed,
    in_a_word,
    measures_sections,
    player_row,
    record_rows,
    resource,
    text_of,
)
from mgdm_audio.report.pictures import (
    FLOOR_DB,
    SURE_DB,
    BandPicture,
    Columns,
    MelPicture,
    draw_overlay,
    shade,
)
from mgdm_audio.report.run import Run, together
from mgdm_audio.report.sound import Flac, Playable, step_below

SCRIPTS = ("common.js", "player.js", "view.js", "page.js")


def write_html(path: Path, run: Run, scores: Scores | None, end: str) -> None:
    """Writes the page of a separated track, whole or not at all, and ``end`` behind it.

    ``scores``: None where no true stems are known. If ``run`` is only the beginning of the track,
    the page states it. Equal results give equal pages, whatever the number of threads. Raises
    UserError for files of another shape than the recorded one, and where the page cannot be
    written.
    """
    count = min(torch.get_num_threads(), 1 + len(run.files))
    with ExitStack() as stack:
        with Workers(count) as workers:
            peak = run.peak
            if peak is None:
                peak = max(float(block.abs().max()) for block in run.blocks(workers))
            names = ["mixture", *run.files]
            players = [stack.enter_context(Player(path, run, name, peak)) for name in names]
            for block in run.blocks(workers):
                pairs = zip(players, block, strict=True)
                together(workers, [partial(player.add, samples) for player, samples in pairs])
        html = _html(run, scores, players)
        place = html.rindex("<script>")  # before the page's own script

        def write(partial_path: Path) -> None:
            with open(partial_path, "wb") as file:
                file.write(html[:place].encode(errors="backslashreplace"))
                for index, player in enumerate(players):
                    file.writelines(player.sound(index))
                file.write((html[place:] + end).encode(errors="backslashreplace"))

        write_by(path, write)


class Player:
    """The sound and the pictures of a row of the page at ``path``, made block by block.

    ``name``: "mixture" or that of a stem. ``peak``: the greatest magnitude of all sounds. The
    mixture has a sound of its own if there is a file of it; else the page adds up its stems.
    """

    def __init__(self, path: Path, run: Run, name: str, peak: float) -> None:
        self.name, self._run, self._full = name, run, peak or 1.0
        # Float files may exceed full scale, which would clip.
        self._gain = 1 / max(1.0, peak)
        rate, channels = run.shape.sample_rate, run.shape.channels
        self._playable = Playable(run.kept, rate)
        self.rate, self.length = self._playable.rate, self._playable.length
        self._top, self._bottom = Columns(1, self.length), Columns(1, self.length)
        self._mel = MelPicture(self.length, self.rate)
        self._bands = self._flac = None
        if name in run.std_db:
            self._bands = BandPicture(run.kept, rate, run.hop_seconds, run.bands_hz)
        if name != "mixture" or run.given is not None:
            step = step_below(peak * self._gain)
            self._flac = Flac(path, channels if channels <= 2 else 1, self.rate, step)

    def __enter__(self) -> Player:
        return self

    def __exit__(self, *_: object) -> None:
        if self._flac is not None:
            self._flac.close()

    def add(self, samples: Tensor) -> None:
        """Takes the samples of the files that follow: [channel, any]."""
        if self._bands is not None:
            self._bands.add(samples)
        x = self._playable.add(samples)
        if x.shape[-1]:
            self._top.add(x.amax(0, keepdim=True))
            self._bottom.add(-x.amin(0, keepdim=True))
            self._mel.add(x)
            if self._flac is not None:
                self._flac.add(self._gain * x)

    def levels(self) -> Tensor:
        """Returns the mel levels relative to the peak of all sounds in dB: [band, column]."""
        return self._mel.levels(self._full)

    def row(self, index: int, shown: Tensor, measures: Sequence[str]) -> str:
        """Returns the HTML; ``shown``: the levels as ``shade`` gives them."""
        run, overlay, std = self._run, None, self._run.std.get(self.name)
        windows = run.kept / run.shape.sample_rate / run.hop_seconds  # the last may be a part
        count = math.ceil(windows)
        if self._bands is not None:
            spread = run.std_db[self.name][:count]
            overlay = draw_overlay(self._bands, spread, run.bands_hz, shown, self.rate)
        extremes = self._gain * torch.cat([self._top.values, -self._bottom.values])
        std = None if std is None else self._gain * std[:count]
        return player_row(index, self.name, extremes, shown, std, windows, overlay, measures)

    def sound(self, index: int) -> Iterator[bytes]:
        """Yields the HTML of the sound, if there is one."""
        if self._flac is not None:
            yield f'<script type="text/plain" id="sound-{index}">'.encode()
            yield from self._flac.text()
            yield b"</script>\n"


def _html(run: Run, scores: Scores | None, players: Sequence[Player]) -> str:
    """Returns the page without its sounds."""
    # All spectrograms have the same range, relative to the track's peak.
    levels = [player.levels() for player in players]
    top = max(float(level.max()) for level in levels)
    rows = [
        player.row(index, shade(level, top), _measures(run, scores, player.name))
        for index, (player, level) in enumerate(zip(players, levels, strict=True))
    ]
    rate, samples = players[0].rate, players[0].length
    kept = run.kept / run.shape.sample_rate  # seconds
    style, script = resource("page.css"), "".join(map(resource, SCRIPTS))
    about = [f"{len(run.files)} stems", clock(run.seconds), f"{run.shape.sample_rate} Hz"]
    about += [f"{key} {text_of(run.record.get(key))}" for key in ("prior", "sampler")]
    body = Template(resource("page.html")).substitute(
        name=text_of(run.name),
        about=", ".join(about),
        notice=_notice(run.seconds, kept),
        rate=rate,
        samples=samples,
        duration=clock(samples / rate),
        uncertainty=resource("uncertainty.html") if run.std else "",
        rows="\n".join(rows),
        links="".join(_link(path.name) for path in run.files.values()),
        nyquist=f"{rate / 2000:g} kHz",
        range=f"{max(top - FLOOR_DB, 0):.0f}",
        band=_explained(run) if run.std else "",
        measures=measures_sections(run, scores),
        record=record_rows(run.record),
    )
    return framed(run.name, body, style, script, content_security_policy(style, script))


def _explained(run: Run) -> str:
    hop = f"{1000 * run.hop_seconds:.0f} ms"
    text = " Uncertainty shows the posterior standard deviation as a band around the zero of a "
    text += f"waveform, in windows of {hop}."
    if run.std_db:
        text += f""" It tints a spectrogram pink: not at all where the deviation is {SURE_DB} dB or
more below the stem (sure), fully where it is as strong as the stem (guess). The tint is fainter
where the spectrogram is darker: in quiet parts, the deviation nearly always exceeds the stem."""
    return text


def _link(name: str) -> str:
    return f'<li><a href="{quote(os.fsencode(name))}" download>{text_of(name)}</a></li>\n'


def _notice(seconds: float, kept: float) -> str:
    if kept == seconds:
        return ""
    return (
        f"<p>This page contains the first {clock(kept)} of {clock(seconds)}; the files in its "
        "folder are complete.</p>"
    )


def _measures(run: Run, scores: Scores | None, name: str) -> list[str]:
    parts = []
    if scores and name in scores.get("si_sdri", {}):
        parts.append(f"SI-SDRi {decibels(scores['si_sdri'][name])} dB")
    if name in run.confidence_db:
        value = run.confidence_db[name]
        word = f" ({in_a_word(value)})" if value is not None else ""
        parts.append(f"confidence {decibels(value)} dB{word}")
    return parts
