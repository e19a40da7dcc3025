"""The tables of a listening page: scores and confidence, and how the stems were made."""

import json
from collections.abc import Iterator
from typing import Any

from mgdm_audio.audio.report.markup import decibels, text_of
from mgdm_audio.audio.report.run import Run
from mgdm_audio.audio.stem_files import FILES

Scores = dict[str, Any]  # an entry of the metric si-sdri
CAVEAT = """Confidence is the SI-SDR that the prior itself expects of a stem: its energy over that
of its standard deviation, which is how far the draws lie apart and, where each is an estimate of
the mean, as with the preset default, how unsure of it the network says it is. It is as good as the
prior knows its own errors. Draws of other samplers under a weak prior agree far better than they
are right."""


def score_table(run: Run, scores: Scores | None) -> str:
    """The table of both measures, and what is to be known about them."""
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
    """Of separation.json, without the hashes of files; options within options are "a.b"."""
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
