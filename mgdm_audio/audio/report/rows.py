"""The row of a player: its controls, measures and pictures."""

import base64
import math
from collections.abc import Sequence

from torch import Tensor

from mgdm_audio.audio.report.markup import decibels, text_of
from mgdm_audio.audio.report.pictures import COLUMNS, HALF, band, shade, waveform
from mgdm_audio.audio.report.png import to_png

COLOURS = 8  # of the stylesheet, the first for the mixture
DOUBT_COLOUR = (255, 60, 150)  # which the spectrograms' colours do not come near


def player_row(
    index: int,
    name: str,
    samples: Tensor,
    level: Tensor,
    top_db: float,
    std: Tensor | None,
    windows: float,
    doubts: Tensor | None,
    measures: Sequence[str],
) -> str:
    """Row ``index`` of the page; that of the mixture, 0, starts muted.

    samples: [channel, time]; level: of its mel spectrogram in dB, [band, column], of which the
    colours end at ``top_db``; std: [window] in the samples' unit, the first of ``windows``; doubts:
    a picture to lay over the spectrogram, its last column the last part of a window.
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
<div class="mel"><img alt="" src="data:image/png;base64,{png}">{_overlay(doubts, windows)}</div>
<div class="playhead"></div>
</div>
</article>"""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _overlay(doubts: Tensor | None, windows: float) -> str:
    if doubts is None:
        return ""
    height, width = doubts.shape
    png = _base64(to_png(doubts, [(*DOUBT_COLOUR, 4 * i // 5) for i in range(256)]))
    whole = math.ceil(windows)  # of which the last may be a part
    return (
        f'<svg class="doubt" viewBox="0 0 {width * windows / whole:g} {height}" '
        f'preserveAspectRatio="none" aria-hidden="true"><image width="{width}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{png}"/></svg>'
    )


def _svg(width: float, kind: str, path: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {2 * HALF}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="{kind}" d="{path}"/></svg>'
    )
