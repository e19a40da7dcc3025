"""Plots scores against cost as an SVG, with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgdm_audio.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, ENTRY = 7.6, 4.2, 0.2  # least size of a panel, height of a legend entry, in inches
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f6a00")
MARKERS = "os^DvPX<>p*h"  # distinct in grey, too; hollow, and filled from the 13th on
DASHES = ("--", ":", "-.")
STYLE = {
    "font.size": 9,
    "text.parse_math": False,  # a "$" in a name is a literal dollar sign
    "svg.fonttype": "none",  # text is searchable
    "svg.hashsalt": "mgdm_audio",  # equal numbers give equal bytes
}


@dataclass(frozen=True)
class Point:
    """A point of the plot."""

    label: str
    cost: float  # > 0
    value: float
    low: float | None = None  # the interval of ``value``, if it is known
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    points: Sequence[Point]
    levels: Sequence[tuple[str, float]] = ()  # systems of negligible cost, as horizontal lines


def require_matplotlib() -> None:
    """Raises UserError with the remedy where matplotlib is missing."""
    try:
        import matplotlib.style  # noqa: F401
    except ImportError:
        raise UserError(
            "the plot of costs needs matplotlib: pip install 'mgdm_audio[plot]'"
        ) from None


def cost_plot(panels: Sequence[Panel], x_label: str, y_label: str) -> str:
    """Returns an SVG of the panels below each other, with a logarithmic axis of costs.

    Equal panels give equal text. Raises UserError where matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib import style

    file = io.StringIO()
    with style.context(["default", STYLE]):  # independent of the user's settings
        figure(panels, x_label, y_label).savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def figure(panels: Sequence[Panel], x_label: str, y_label: str) -> Figure:
    """Draws the panels; a system has one marker in all, and legends are ordered by score."""
    from matplotlib.figure import Figure

    panels = panels or [Panel("", [])]
    entries = [len(panel.points) + len(panel.levels) for panel in panels]
    heights = [max(HEIGHT, ENTRY * (3 + count)) for count in entries]
    found = Figure((WIDTH, sum(heights)), layout="constrained")
    systems = dict.fromkeys(point.label for panel in panels for point in panel.points)
    references = dict.fromkeys(label for panel in panels for label, _ in panel.levels)
    rows = found.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        axes.set(title=panel.title, xlabel=x_label, ylabel=y_label)
        _draw(axes, panel, list(systems), list(references))
    return found


def _draw(axes: Axes, panel: Panel, systems: list[str], references: list[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    costs = [point.cost for point in panel.points] or [1.0]
    low, high = min(costs), max(costs)
    room = max((high / low) ** 0.08, 2.5)  # 2.5, the ratio of 5 to 2, ensures two ticks
    axes.set(xscale="log", xlim=(low / room, high * room))
    subs = (1.0, 2.0, 5.0) if high <= 1e3 * low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.08)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    entries: list[tuple[float, Any, str]] = []  # of the legend: value, handle, text
    for label, value in panel.levels:
        dash = DASHES[references.index(label) % len(DASHES)]
        line = axes.axhline(value, color="0.35", linestyle=dash, linewidth=1)
        entries.append((value, line, f"{label} {value:.1f}"))
    for p in panel.points:
        k = systems.index(p.label)
        colour = COLOURS[k % len(COLOURS)]
        spread = None
        if p.low is not None and p.high is not None:
            spread = [[p.value - p.low], [p.high - p.value]]
        mark = axes.errorbar(
            [p.cost],
            [p.value],
            spread,
            fmt=MARKERS[k % len(MARKERS)],
            color=colour,
            fillstyle="full" if k // len(MARKERS) % 2 else "none",
            capsize=3,
            elinewidth=1,
        )
        entries.append((p.value, mark, p.label))
    if entries:
        _, handles, labels = zip(*sorted(entries, key=lambda entry: -entry[0]), strict=True)
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
