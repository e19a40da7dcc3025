"""HTML of a listening page: escaped text and numbers, tables, and the row of a player."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from torch import Tensor

from mgdm_audio.output.stem_files import FILES
from mgdm_audio.report.pictures import HALF, SURE_DB, band, to_png, waveform
from mgdm_audio.report.run import Run


def resource(name: str, package: str | None = None) -> str:
    """Returns the text of a resource file of this package or of another."""
    return (files(package or __package__) / name).read_text(encoding="utf-8")


def framed(name: str, body: str, style: str, script: str = "", policy: str = "") -> str:
    """Returns the HTML of a page called ``name`` (plain text) around the HTML ``body``.

    ``policy``: empty if it is sent as a header.
    """
    rule = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    return Template(resource("frame.html", __package__)).substitute(
        name=text_of(name),
        body=body.strip(),
        style=style,
        script=f"<script>{script}</script>\n" if script else "",
        policy=rule if policy else "",
    )


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


def in_a_word(ratio_db: float | None) -> str:
    """Returns a word for the energy of a stem over that of its standard deviation, in dB.

    "sure" from ``SURE_DB``, "guess" to 0 dB, "unsure" between; nothing for a silent stem.
    """
    if ratio_db is None:
        return ""
    return "sure" if ratio_db >= SURE_DB else "unsure" if ratio_db > 0 else "guess"


CAVEAT = f"""Confidence is the expected SI-SDR of a stem under the posterior: its energy over
that of its posterior standard deviation. A stem is called sure from {SURE_DB} dB, where the
deviation has a tenth of its energy, and a guess at 0 dB and less, where it has as much as the stem.
The variance is that over draws and, where each draw is a conditional mean, as with the preset
default, also the residual variance that the network reports. It is accurate only if the network's
variance is calibrated. With other samplers and a weak prior, draws agree far better with each other
than with the true stems."""


def measures_sections(run: Run, scores: Scores | None) -> str:
    """Returns the sections of the confidence and, with references (``scores``), of the scores."""
    rows = [
        _row(name, (decibels(value), "number"), (in_a_word(value), ""))
        for name, value in run.confidence_db.items()
    ]
    head = (("confidence, dB", "number"), ("in a word", ""))
    note = CAVEAT if rows else "None is known: this sampler needs two or more draws."
    parts = [_measure("Confidence", head, rows, note)]
    if scores is not None:
        found = scores.get("si_sdri", {})
        mean = {"mean": found["all"]} if found else {}
        gains = {name: found.get(name) for name in run.files} | mean if found else {}
        rows = [_row(name, (decibels(gain), "number")) for name, gain in gains.items()]
        note = f"""SI-SDRi is the improvement of the SI-SDR over that of the mixture of the true
stems, the mean over windows of 4 s every 2 s in which two or more of them sound, here
{scores.get("windows")}."""
        if not found:
            note = f"No SI-SDRi: {text_of(scores.get('skipped'))}."
        parts.append(_measure("Scores", (("SI-SDRi, dB", "number"),), rows, note))
    return "".join(parts)


Cell = tuple[str, str]  # text and class


def _row(name: str, *cells: Cell) -> str:
    rest = "".join(f'<td class="{kind}">{text}</td>' for text, kind in cells)
    return f'<tr><th scope="row">{text_of(name)}</th>{rest}</tr>\n'


def _measure(title: str, head: Sequence[Cell], rows: Sequence[str], note: str) -> str:
    titles = (("stem", ""), *head)
    cells = "".join(f'<th scope="col" class="{kind}">{text}</th>' for text, kind in titles)
    body = f"<thead><tr>{cells}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>"
    table = f"<table>\n{body}\n</table>\n" if rows else ""
    return f'<section>\n<h2>{title}</h2>\n{table}<p class="soft">{note}</p>\n</section>\n'


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
    extremes: Tensor,
    shown: Tensor,
    std: Tensor | None,
    windows: float,
    overlay: Tensor | None,
    measures: Sequence[str],
) -> str:
    """Returns row ``index`` of the page; that of the mixture, 0, starts muted.

    extremes: the greatest and the least samples of a column, [2, column]; shown: the mel
    spectrogram as ``shade`` gives it, [row, column]; std: [window] in the samples' unit; windows:
    the number of windows, with a fraction for the last; overlay: an image over the spectrogram, of
    its shape.
    """
    peak = float(extremes.abs().max())
    facts = [f"peak {decibels(20 * math.log10(peak))} dB" if peak else "silent", *measures]
    scale = peak or 1.0
    waves = _svg(extremes.shape[1], _path("sound", waveform(*(extremes / scale))))
    if std is not None:
        waves += _svg(windows, _path("std", band(std / scale)))
    images = _image("spectrogram", to_png(shown), shown.shape)
    if overlay is not None:
        opacity = [(*OVERLAY_COLOUR, 4 * i // 5) for i in range(256)]
        images += _image("overlay", to_png(overlay, opacity), overlay.shape)
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
<div class="wave">{waves}</div>
<div class="mel">{_svg(shown.shape[1], images, shown.shape[0])}</div>
<div class="axis"></div>
<div class="region" hidden></div>
<div class="playhead"></div>
</div>
</article>"""


def _image(kind: str, png: bytes, shape: Sequence[int]) -> str:
    return (
        f'<image class="{kind}" width="{shape[1]}" height="{shape[0]}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
    )


def _path(kind: str, path: str) -> str:
    return f'<path class="{kind}" d="{path}"/>'


def _svg(width: float, content: str, height: int = 2 * HALF) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height}" preserveAspectRatio="none" aria-hidden="true">'
        f"{content}</svg>"
    )
