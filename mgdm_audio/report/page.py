"""The HTML of a listening page, which fetches nothing and runs only its own script."""

import base64
import math
import os
from string import Template
from urllib.parse import quote

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
from mgdm_audio.report.pictures import FLOOR_DB, SURE_DB, draw_overlay, mel_levels, shade
from mgdm_audio.report.run import Run
from mgdm_audio.report.sound import playable, to_mp3

SCRIPTS = ("common.js", "player.js", "view.js", "page.js")


def to_html(run: Run, scores: Scores | None) -> str:
    """Returns the page of a separated track; ``scores``: None where no true stems are known.

    If ``run`` is only the beginning of the track, the page states it. Equal runs give equal pages.
    """
    sounds = {"mixture": run.mixture} | run.stems
    kept = run.mixture.shape[-1] / run.sample_rate  # seconds
    # Float files may exceed full scale, which would clip.
    peak = max(float(x.abs().max()) for x in sounds.values())
    gain = 1 / max(1.0, peak)
    windows = kept / run.hop_seconds  # of the std; the last one may be a part
    stds = {name: gain * std[: math.ceil(windows)] for name, std in run.std.items()}
    if gain < 1:
        sounds = {name: gain * x for name, x in sounds.items()}
    played = {name: playable(x, run.sample_rate) for name, x in sounds.items()}
    rate, samples = played["mixture"][1], played["mixture"][0].shape[-1]
    # All spectrograms have the same range, relative to the track's peak.
    levels = {name: mel_levels(x / (gain * peak or 1.0), rate) for name, (x, _) in played.items()}
    top = max(float(level.max()) for level in levels.values())
    rows, data = [], []
    for index, (name, (x, _)) in enumerate(played.items()):
        shown, overlay = shade(levels[name], top), None
        if name in run.std_db:
            wave, spread = run.stems[name], run.std_db[name][: math.ceil(windows)]
            hop, edges = run.hop_seconds, run.bands_hz
            overlay = draw_overlay(wave, run.sample_rate, spread, hop, edges, shown, rate)
        measures = _measures(run, scores, name)
        rows.append(player_row(index, name, x, shown, stds.get(name), windows, overlay, measures))
        text = base64.b64encode(to_mp3(x, rate)).decode()
        data.append(f'<script type="text/plain" id="sound-{index}">{text}</script>')
    style, script = resource("page.css"), "".join(map(resource, SCRIPTS))
    about = [f"{len(run.stems)} stems", clock(run.seconds), f"{run.sample_rate} Hz"]
    about += [f"{key} {text_of(run.record.get(key))}" for key in ("prior", "sampler")]
    body = Template(resource("page.html")).substitute(
        name=text_of(run.name),
        about=", ".join(about),
        notice=_notice(run.seconds, kept),
        rate=rate,
        samples=samples,
        duration=clock(samples / rate),
        uncertainty=resource("uncertainty.html") if stds else "",
        rows="\n".join(rows),
        links="".join(_link(path.name) for path in run.files.values()),
        nyquist=f"{rate / 2000:g} kHz",
        range=f"{max(top - FLOOR_DB, 0):.0f}",
        band=_explained(run) if stds else "",
        measures=measures_sections(run, scores),
        record=record_rows(run.record),
        sounds="\n".join(data),
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
