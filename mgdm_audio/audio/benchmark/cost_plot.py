"""Scores against cost as an SVG, written by hand so that a plot needs no plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 54  # margins around its frame
FONT, SMALL = 13, 11  # px
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f6a00")
GREY, FAINT = "#555", "#e4e4e4"
Scale = Callable[[float], float]  # from values to px


@dataclass(frozen=True)
class Point:
    """``cost`` > 0; ``low`` and ``high`` bound ``value`` where its interval is known."""

    label: str
    cost: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One set of axes. ``levels``: what has no cost to speak of, drawn as a line across."""

    title: str
    points: Sequence[Point]
    levels: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)


FRAME = Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def cost_plot(panels: Sequence[Panel], x_label: str, y_label: str) -> str:
    """The SVG, panels one below the other; the cost axis is logarithmic."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(panels)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}" font-family="sans-serif">',
        f"<title>{escape(y_label)} against {escape(x_label)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT * len(panels)}" fill="white"/>',
    ]
    for i, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {i * HEIGHT})">', *_panel(panel, x_label, y_label)]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, x_label: str, y_label: str) -> Iterable[str]:
    points = panel.points
    values = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    values += [value for _, value in panel.levels]
    logs = [math.log10(p.cost) for p in points] or [0.0]
    x_low, x_high = _padded(logs, 0.12, 0.4)
    y_low, y_high = _padded(values or [0.0], 0.06, 0.5)

    def x(cost: float) -> float:
        share = (math.log10(cost) - x_low) / (x_high - x_low)
        return FRAME.left + share * (FRAME.right - FRAME.left)

    def y(value: float) -> float:
        return FRAME.bottom - (value - y_low) / (y_high - y_low) * (FRAME.bottom - FRAME.top)

    middle = (FRAME.left + FRAME.right) / 2
    yield _text(middle, TOP - 16, panel.title, FONT + 2, "middle")
    for cost in _log_ticks(x_low, x_high):
        yield _line(x(cost), FRAME.top, x(cost), FRAME.bottom, FAINT)
        yield _text(x(cost), FRAME.bottom + 17, f"{cost:g}", SMALL, "middle", GREY)
    for value in _ticks(y_low, y_high):
        yield _line(FRAME.left, y(value), FRAME.right, y(value), FAINT)
        yield _text(FRAME.left - 7, y(value) + 4, f"{value:g}", SMALL, "end", GREY)
    yield (
        f'<rect x="{FRAME.left}" y="{FRAME.top}" width="{FRAME.right - FRAME.left}" '
        f'height="{FRAME.bottom - FRAME.top}" fill="none" stroke="{GREY}"/>'
    )
    yield _text(middle, HEIGHT - 16, x_label, FONT, "middle")
    turned = f' transform="rotate(-90 18 {(FRAME.top + FRAME.bottom) / 2:.1f})"'
    yield _text(18, (FRAME.top + FRAME.bottom) / 2, y_label, FONT, "middle", more=turned)
    yield from _levels(panel.levels, y)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(points))]
    for point, colour in zip(points, colours, strict=True):
        yield from _marker(point, x(point.cost), y, colour)
    for point, colour, (left, base, far) in zip(points, colours, _places(panel, x, y), strict=True):
        if far:
            end = min(max(x(point.cost), left), left + _width(point.label))
            yield _line(x(point.cost), y(point.value), end, base - 4, colour, ' stroke-width=".6"')
        halo = ' paint-order="stroke" stroke="white" stroke-width="2.5"'
        yield _text(left, base, point.label, SMALL, fill=colour, more=halo)


def _levels(levels: Sequence[tuple[str, float]], y: Scale) -> Iterable[str]:
    """Dashed lines, their labels beside the frame and pushed apart."""
    last = math.inf
    for label, value in sorted(levels, key=lambda level: level[1]):  # from below
        yield _line(FRAME.left, y(value), FRAME.right, y(value), GREY, ' stroke-dasharray="5 4"')
        last = min(y(value) + 4, last - SMALL - 2)
        yield _text(FRAME.right + 6, last, f"{label} {value:.1f}", SMALL, fill=GREY)


def _marker(point: Point, x: float, y: Scale, colour: str) -> Iterable[str]:
    if point.low is not None and point.high is not None:
        for a, b, height in (
            (x, x, (point.low, point.high)),
            (x - 4, x + 4, (point.low, point.low)),
            (x - 4, x + 4, (point.high, point.high)),
        ):
            yield _line(a, y(height[0]), b, y(height[1]), colour, ' stroke-width="1.2"')
    about = f"{point.label}: {point.value:.2f} dB, {point.cost:.3g}"
    yield (
        f'<circle cx="{x:.1f}" cy="{y(point.value):.1f}" r="4" fill="{colour}">'
        f"<title>{escape(about)}</title></circle>"
    )


def _places(panel: Panel, x: Scale, y: Scale) -> list[tuple[float, float, bool]]:
    """(left, baseline, whether far from its point) of every label, where it covers least.

    Each label takes the best of positions around its point on growing rings, with the markers, the
    error bars, the levels and the labels placed before it in mind.
    """
    points = panel.points
    taken = [Box(FRAME.left, y(v) - 2, FRAME.right, y(v) + 2) for _, v in panel.levels]
    for p in points:
        px, py = x(p.cost), y(p.value)
        taken.append(Box(px - 5, py - 5, px + 5, py + 5))
        if p.low is not None and p.high is not None:
            taken.append(Box(px - 4, y(p.high), px + 4, y(p.low)))
    places = []
    for p in points:
        px, py, width = x(p.cost), y(p.value), _width(p.label)
        best: tuple[float, float, float, Box] | None = None
        for radius in (9, 16, 26, 38, 52, 68):
            for angle in range(0, 360, 15):
                cx = px + radius * math.cos(math.radians(angle))
                cy = py - radius * math.sin(math.radians(angle))
                # The label touches the ring with the side that faces the point.
                left = cx - width * (1 - math.cos(math.radians(angle))) / 2
                box = Box(left, cy - SMALL / 2, left + width, cy + SMALL / 2)
                inside = box.overlap(FRAME) / ((box.right - box.left) * (box.bottom - box.top))
                covered = sum(box.overlap(other) for other in taken)
                cost = covered + 5000 * (1 - inside) + radius + (0 if angle in (0, 180) else 1)
                if best is None or cost < best[0]:
                    best = (cost, left, radius, box)
        assert best is not None
        taken.append(best[3])
        places.append((best[1], best[3].bottom - 2, best[2] > 16))
    return places


def _width(label: str) -> float:
    return 0.62 * SMALL * len(label)  # px, of a sans-serif face


def _padded(values: Sequence[float], share: float, least: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(share * (high - low), least)
    return low - room, high + room


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in 10^low .. 10^high; over 3 decades the powers alone."""
    factors = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [f * 10.0**n for n in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at most ten of them."""
    raw = (high - low) / 8
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _line(x_1: float, y_1: float, x_2: float, y_2: float, colour: str, more: str = "") -> str:
    ends = f'x1="{x_1:.1f}" y1="{y_1:.1f}" x2="{x_2:.1f}" y2="{y_2:.1f}"'
    return f'<line {ends} stroke="{colour}"{more}/>'


def _text(
    x: float,
    y: float,
    text: str,
    size: int,
    anchor: str = "start",
    fill: str = "#222",
    more: str = "",
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}{more}>{escape(text)}</text>"
