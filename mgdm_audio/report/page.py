"""The HTML of a listening page, which fetches nothing and runs only its own script."""

import base64
import math
from string import Template

from mgdm_audio.report.markup import (
    Scores,
    clock,
    content_security_policy,
    decibels,
    player_row,
    record_rows,
    resource,
    score_table,
    text_of,
)
from mgdm_audio.report.pictures import FLOOR_DB, OVERLAY_DB, draw_overlay, mel_levels
from mgdm_audio.report.run import Run
from mgdm_audio.report.sound import playable, to_mp3


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
        measures = _measures(run, scores, name)
        std = stds.get(name)
        overlay = None
        if name in run.std_db:
            wave, spread = run.stems[name], run.std_db[name][: math.ceil(windows)]
            overlay = draw_overlay(wave, run.sample_rate, spread, run.hop_seconds, run.bands_hz)
        rows.append(player_row(index, name, x, levels[name], top, std, windows, overlay, measures))
        text = base64.b64encode(to_mp3(x, rate)).decode()
        data.append(f'<script type="text/plain" id="sound-{index}">{text}</script>')
    style, script = resource("page.css"), resource("page.js")
    about = [f"{len(run.stems)} stems", clock(run.seconds), f"{run.sample_rate} Hz"]
    about += [f"{key} {text_of(run.record.get(key))}" for key in ("prior", "sampler")]
    hop = f"{1000 * run.hop_seconds:.0f} ms"
    band = f" The band around zero is the posterior standard deviation in windows of {hop}."
    if run.std_db:
        band += f" A spectrogram is tinted pink where that is less than {OVERLAY_DB} dB below the "
        band += f"stem, and covered where it is {OVERLAY_DB} dB above."
    return Template(resource("page.html")).substitute(
        policy=content_security_policy(style, script),
        name=text_of(run.name),
        about=", ".join(about),
        notice=_notice(run.seconds, kept),
        rate=rate,
        samples=samples,
        duration=clock(samples / rate),
        rows="\n".join(rows),
        nyquist=f"{rate / 2000:g} kHz",
        range=f"{max(top - FLOOR_DB, 0):.0f}",
        band=band if stds else "",
        overlay=resource("overlay.html") if run.std_db else "",
        scores=score_table(run, scores),
        record=record_rows(run.record),
        sounds="\n".join(data),
        style=style,
        script=script,
    )


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
        parts.append(f"confidence {decibels(run.confidence_db[name])} dB")
    return parts
