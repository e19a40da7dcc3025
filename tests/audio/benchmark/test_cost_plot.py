"""The plot: well-formed, everything inside, labels apart."""

from xml.etree import ElementTree

import pytest

from mgdm_audio.audio.benchmark.cost_plot import FRAME, SMALL, Box, Panel, Point, _width, cost_plot

SVG = "{http://www.w3.org/2000/svg}"


def texts(panel: Panel) -> dict[str, Box]:
    """Text -> where it is, of those that begin at their x."""
    found = {}
    for text in ElementTree.fromstring(cost_plot([panel], "s / s", "dB")).iter(f"{SVG}text"):
        if text.get("text-anchor") == "start" and text.text:
            x, y = float(text.get("x", 0)), float(text.get("y", 0))
            found[text.text] = Box(x, y - SMALL + 2, x + _width(text.text), y + 2)
    return found


def test_crowded_labels_stay_apart_and_inside() -> None:
    points = [
        Point(f"system-{i}", 10 * 1.1 ** (i % 3), 1 + 0.2 * i, 0.5 + 0.2 * i, 1.5 + 0.2 * i)
        for i in range(9)
    ]
    points += [Point("cheap", 1e-3, -20), Point("dear", 1e3, 20)]
    found = texts(Panel("a", points, [("split", 1.0), ("mixture", 1.1)]))
    labels = [found[p.label] for p in points]
    for i, box in enumerate(labels):
        size = (box.right - box.left) * (box.bottom - box.top)
        assert box.overlap(FRAME) > 0.99 * size
        assert all(box.overlap(other) < 0.1 * size for other in labels[:i])
    assert found["split 1.0"].overlap(found["mixture 1.1"]) == 0


def test_a_point_is_where_its_numbers_say() -> None:
    """Two decades apart and one between: equal distances on a logarithmic axis."""
    panel = Panel("a", [Point("a", 1, 0), Point("b", 10, 5), Point("c", 100, 10)])
    circles = list(ElementTree.fromstring(cost_plot([panel], "x", "y")).iter(f"{SVG}circle"))
    x, y = ([float(circle.get(key, 0)) for circle in circles] for key in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)  # rounded to a tenth
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.2)
    assert x[0] < x[1]
    assert y[0] > y[1]  # up is better


@pytest.mark.parametrize(
    "panel",
    [
        Panel("nothing", []),
        Panel("levels alone", [], [("mixture", 0.0)]),
        Panel("one", [Point("x", 0.4, 5.0)]),
        Panel("<&> \" '", [Point("<a&b>", 0.4, 5.0, 5.0, 5.0)]),
        Panel("far", [Point("x", 1e-9, -1e6), Point("y", 1e9, 1e6)]),
    ],
    ids=lambda panel: panel.title,
)
def test_any_panel_is_well_formed_and_finite(panel: Panel) -> None:
    svg = cost_plot([panel, panel], "x", "y")
    root = ElementTree.fromstring(svg)
    assert panel.title in [text.text for text in root.iter(f"{SVG}text")]
    assert "nan" not in svg
    assert "inf" not in svg
