"""HTML of a listening page: escaped text and numbers, tables, and the row of a player."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from torch import Tensor

from mgdm_audio.output.stem_files import FILES
from mgdm_audio.report.pictures import COLUMNS, HALF, band, shade, to_png, waveform
from mgdm_audio.report.run import Run


def resource(name: str, package: str | None = None) -> str:
    """Returns the text of a resource file of this package or of another."""
    return (files(package or __package__) / name).read_text(encoding="utf-8")


def content_security_policy(style: str, script: str = "", *more: str) -> str:
    """Returns a policy that permits only this style and script, and images within the page.

    ``more``: further rules.
    """
    rules = ["default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'", *more]
    for kind, text in (("style", style), ("script", script)):
        if text:
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            rules.append(f"{kind}-src 'sha256-{digest}'")
    return "; ".join(rules)


def text_of(value: object) -> str:
    """Escapes text for HTML and its attributes; invalid UTF-8 of a file name becomes "?"."""
    return escape(str(value).encode(errors="replace").decode())


def clock(seconds: float) -> str:
    """Formats minutes, seconds and tenths, rounded down."""
    tenths = int(seconds * 10 + 1e-6)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def decibels(value: float | None) -> str:
    """Formats decibels with one decimal, or None as a dash."""
    return "–" if value is None else f"{value:.1f}".replace("-", "−")  # noqa: RUF001


Scores = dict[str, Any]  # an entry of the metric si-sdri
CAVEAT = """Confidence is the expected SI-SDR of a stem under the posterior: its energy over that of
its posterior standard deviation. The variance is that over draws and, where each draw is a
conditional mean, as with the preset default, also the residual variance that the network reports.
It is accurate only if the network's variance is calibrated. With other samplers and a weak prior,
draws agree far better with each other than with the true stems."""


def score_table(run: Run, scores: Scores | None) -> str:
    """Returns the table of both measures with explanations."""
    found = (scores or {}).get("si_sdri", {})
    rows = [(name, found.get(name), run.confidence_db.get(name)) for name in run.stems]
    if found:
        rows.append(("mean", found["all"], None))
    parts = []
    if found or run.confidence_db:
        head = '<tr><th scope="col">stem</th>'
        head += '<th scope="col" class="number">SI-SDRi, dB</th>' if found else ""
        head += '<th scope="col" class="number">confidence, dB</th>' if run.confidence_db else ""
        body = ""
        for name, gain, confidence in rows:
            body += f'<tr><th scope="row">{text_of(name)}</th>'
            body += f'<td class="number">{decibels(gain)}</td>' if found else ""
            body += f'<td class="number">{decibels(confidence)}</td>' if run.confidence_db else ""
            body += "</tr>\n"
        parts.append(
            f'<div class="scroll"><table>\n<thead>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n'
            "</table></div>"
        )
    if found and scores:
        parts.append(
            '<p class="soft">SI-SDRi is the improvement of the SI-SDR over that of the mixture of '
            f"the true stems, the mean over windows of 4 s every 2 s in which two or more of them "
            f"sound, here {scores['windows']}.</p>"
        )
    elif scores:
        parts.append(f'<p class="soft">No SI-SDRi: {text_of(scores.get("skipped"))}.</p>')
    else:
        parts.append(
            '<p class="soft">No SI-SDRi: the true stems were not given '
            "(mgdm-audio report --reference).</p>"
        )
    if run.confidence_db:
        parts.append(f'<p class="soft">{CAVEAT}</p>')
    else:
        parts.append('<p class="soft">No confidence: it needs two or more draws.</p>')
    return "\n".join(parts)


def record_rows(record: dict[str, Any]) -> str:
    """Returns rows of separation.json without the files' hashes; nested keys are "a.b"."""
    kept = {key: value for key, value in record.items() if key != FILES}
    return "".join(_cells(key, value) for key, value in _flat(kept))


def _flat(record: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _cells(key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f'<tr><th scope="row">{text_of(key)}</th><td>{text_of(text)}</td></tr>\n'


COLOURS = 8  # the number of colours in the stylesheet, the first for the mixture
OVERLAY_COLOUR = (255, 60, 150)  # far from all colours of the spectrograms


def player_row(
    index: int,
    name: str,
    samples: Tensor,
    level: Tensor,
    top_db: float,
    std: Tensor | None,
    windows: float,
    overlay: Tensor | None,
    measures: Sequence[str],
) -> str:
    """Returns row ``index`` of the page; that of the mixture, 0, starts muted.

    samples: [channel, time]; level: the mel spectrogram in dB, [band, column], shown up to
    ``top_db``; std: [window] in the samples' unit; windows: the number of windows, with a fraction
    for the last; overlay: an image over the spectrogram, whose last column ends the last window.
    """
    peak = float(samples.abs().max())
    facts = [f"peak {decibels(20 * math.log10(peak))} dB" if peak else "silent", *measures]
    scale = peak or 1.0
    paths = _svg(min(COLUMNS, samples.shape[-1]), "sound", waveform(samples / scale))
    if std is not None:
        paths += _svg(windows, "std", band(std / scale))
    png = _base64(to_png(shade(level, top_db)))
    label = text_of(name)
    key = f"<kbd>{index + 1}</kbd>" if index < 9 else ""
    return f"""<article class="row c{index % COLOURS}" data-name="{label}" aria-label="{label}">
<div class="controls">
<div class="name"><h2>{label}</h2>{key}</div>
<div class="buttons">
<button class="mute" type="button" aria-pressed="{"false" if index else "true"}" \
aria-label="Mute {label}">Mute</button>
<button class="solo" type="button" aria-pressed="false" aria-label="Solo {label}">Solo</button>
</div>
<label class="volume soft">Volume
<input type="range" min="0" max="1.5" step="0.05" value="1" aria-label="Volume of {label}"></label>
<p class="facts soft">{"<br>".join(facts)}</p>
</div>
<div class="pictures" role="img" aria-label="Waveform and mel spectrogram of {label}">
<div class="wave">{paths}</div>
<div class="mel"><img alt="" src="data:image/png;base64,{png}">{_overlay(overlay, windows)}</div>
<div class="playhead"></div>
</div>
</article>"""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _overlay(overlay: Tensor | None, windows: float) -> str:
    if overlay is None:
        return ""
    height, width = overlay.shape
    png = _base64(to_png(overlay, [(*OVERLAY_COLOUR, 4 * i // 5) for i in range(256)]))
    whole = math.ceil(windows)  # the last one may be incomplete
    return (
        f'<svg class="overlay" viewBox="0 0 {width * windows / whole:g} {height}" '
        f'preserveAspectRatio="none" aria-hidden="true"><image width="{width}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{png}"/></svg>'
    )


def _svg(width: float, kind: str, path: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {2 * HALF}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="{kind}" d="{path}"/></svg>'
    )
