"""The plot: points where their numbers say, no text over another, the same bytes again."""

import sys
from collections.abc import Sequence
from itertools import combinations
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mgdm_audio.errors import UserError
from mgdm_audio.evaluation.benchmark.plot import STYLE, Panel, Point, cost_plot, figure

CROWDED = [
    Point(f"system-{i}", 10 * 1.1 ** (i % 3), 1 + 0.2 * i, 0.5 + 0.2 * i, 1.5 + 0.2 * i)
    for i in range(20)
]
PANELS = [
    Panel("crowded", CROWDED, [("split", 1.0), ("mixture", 1.1)]),
    Panel("three decades", [Point("a", 0.5, 1.0), Point("b", 499.0, 2.0)]),
    Panel("one", [Point("x", 0.4, 5.0)]),
    Panel("nothing", []),
    Panel("levels alone", [], [("mixture", 0.0)]),
    Panel("<&> \" ' $x$", [Point("<a&b> $y$", 0.4, 5.0, 5.0, 5.0), Point("_z", 0.4, 5.0)]),
    Panel("far", [Point("x", 1e-9, -1e6), Point("y", 1e9, 1e6)]),
]


def drawn(panels: Sequence[Panel]) -> list[Axes]:
    """The axes of the figure, laid out."""
    with style.context(["default", STYLE]):
        found = figure(panels, "s / s", "dB")
        FigureCanvasAgg(found).draw()
    return found.axes


def texts(axes: Axes) -> list[Text]:
    """All that can be read: the title, the axes' names, the ticks within and the legend."""
    found = [axes.title, axes.xaxis.label, axes.yaxis.label]
    legend = axes.get_legend()
    found += legend.get_texts() if legend else []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        found += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [text for text in found if text.get_text()]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_no_text_lies_over_another_or_outside(panel: Panel) -> None:
    shown = [(axes, text) for axes in drawn([panel, panel]) for text in texts(axes)]
    boxes = [text.get_window_extent() for _, text in shown]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    whole = shown[0][0].figure.bbox.padded(1)  # a pixel: extents are rounded to whole ones
    assert all(whole.containsx(x) for box in boxes for x in (box.x0, box.x1))
    assert all(whole.containsy(y) for box in boxes for y in (box.y0, box.y1))
    for axes, _ in shown:
        assert len([t for t in texts(axes) if t in axes.get_xticklabels()]) >= 2
        assert len([t for t in texts(axes) if t in axes.get_yticklabels()]) >= 2


def test_a_point_is_where_its_numbers_say() -> None:
    points = [Point("a", 1, 0), Point("b", 10, 5, 4.5, 6), Point("c", 100, 10)]
    (axes,) = drawn([Panel("test: 3 tracks", points, [("mixture", 2.0)])])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (
        "test: 3 tracks",
        "s / s",
        "dB",
    )
    marks = [bars.lines[0].get_xydata().tolist() for bars in axes.containers]
    assert marks == [[[p.cost, p.value]] for p in points]
    assert [bars.has_yerr for bars in axes.containers] == [False, True, False]
    (bar,) = axes.containers[1].lines[2][0].get_segments()
    assert bar.tolist() == [[10, 4.5], [10, 6]]
    # The legend is in the order of the scores, the highest first.
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["c", "b", "mixture 2.0", "a"]


def test_systems_differ_without_colour_and_are_the_same_in_every_panel() -> None:
    first, second = drawn([Panel("a", CROWDED), Panel("b", CROWDED[::-1])])
    looks = [
        {
            point.label: (line.get_marker(), line.get_fillstyle())
            for point, line in zip(points, (c.lines[0] for c in axes.containers), strict=True)
        }
        for axes, points in ((first, CROWDED), (second, CROWDED[::-1]))
    ]
    assert looks[0] == looks[1]
    assert len(set(looks[0].values())) == len(CROWDED)


def test_the_file_is_well_formed_and_the_same_again() -> None:
    svg = cost_plot(PANELS, "x", "y")
    assert svg == cost_plot(PANELS, "x", "y")
    found = {text.text for text in ElementTree.fromstring(svg).iter() if text.text}
    assert {panel.title for panel in PANELS} <= found
    assert {point.label for panel in PANELS for point in panel.points} <= found
    assert {"split 1.0", "mixture 1.1", "mixture 0.0"} <= found


def test_no_panel_is_an_empty_one() -> None:
    (axes,) = drawn([])
    assert axes.get_legend() is None


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    with pytest.raises(UserError, match=r"needs matplotlib: pip install 'mgdm_audio\[plot\]'"):
        cost_plot(PANELS, "x", "y")
