"""The legend of a figure leaves the title free."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import plotly.graph_objects as go
import pytest
from browser import find_chromium

from emc2_lite.course.figures import parts
from emc2_lite.course.style import template

pytestmark = pytest.mark.filterwarnings("ignore:The kopts argument is ignored")  # plotly always passes it
CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("[0-9]*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
WIDE = 16  # a legend of 14 pixels in the widest usual font, DejaVu Sans, is as long as one of 16 in the narrowest
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawing():
    """A function that draws a figure with a wide legend by plotly: the elements of an SVG."""
    if find_chromium() is None:
        reason = "no Chromium or Chrome on the PATH: the stored figures were not drawn"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    kaleido = pytest.importorskip("kaleido", reason="plotly draws an SVG with kaleido")
    kaleido.start_sync_server(silence_warnings=True)
    yield lambda figure: ElementTree.fromstring(figure.update_layout(legend_font_size=WIDE).to_image("svg"))
    kaleido.stop_sync_server(silence_warnings=True)


def extents(svg: ElementTree.Element) -> tuple[float, float] | None:
    """The lower end of the title and the upper end of the legend, in pixels from the top; None where one is missing."""
    title = svg.find(f".//{SVG}text[@class='gtitle']")
    legend = svg.find(f".//{SVG}g[@class='legend']")
    if title is None or legend is None:
        return None
    size = float(re.search(r"font-size: ([\d.]+)px", title.get("style"))[1])
    top = float(re.search(r"translate\([^,]+,\s*([-\d.e]+)\)", legend.get("transform"))[1])
    return float(title.get("y")) + 0.25 * size, top


def overlapping(svg: ElementTree.Element) -> bool:
    found = extents(svg)
    return found is not None and found[0] > found[1]


def test_a_legend_over_a_title_is_found(drawing):
    curves = [go.Scatter(y=[1, 2], name=f"a curve with a long name, {k}") for k in range(6)]
    figure = go.Figure(curves, {"title": "A title", "width": 720, "height": 420})
    assert overlapping(drawing(figure.update_layout(legend={"orientation": "h", "y": 1.03, "yanchor": "bottom"})))
    assert not overlapping(drawing(figure.update_layout(legend={"orientation": "h", "y": -0.1, "yanchor": "top"})))


@pytest.mark.parametrize("place", ["ABOVE", "BELOW", "TOP_LEFT", "TOP_RIGHT", "BOTTOM_RIGHT"])
def test_each_place_of_the_legend_leaves_the_title_free(drawing, place):
    figure = parts.Figure()
    figure.curves([1, 2], {f"a curve, number {k}": [1, 2] for k in range(6)})
    figure.finish("A title", "step", "bias", getattr(parts, place), template=template())
    lower_end, upper_end = extents(drawing(figure))
    assert lower_end <= upper_end


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_legend_lies_over_its_title(drawing, path):
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        for output in cell.get("outputs", ()):
            stored = output.get("data", {}).get(PLOTLY)
            if stored and stored["layout"].get("showlegend") is not False:
                figure = go.Figure({"data": stored["data"], "layout": stored["layout"]}, skip_invalid=True)
                assert not overlapping(drawing(figure)), f"cell {number}: {figure.layout.title.text}"
