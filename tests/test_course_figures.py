"""Every stored figure, drawn by a browser at three widths: no text is cut or lies over another; each has a description.

Ink and card are the same in a light and a dark theme, so one drawing stands for both.
"""

import json
import os
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest
from drawn import PLOTLY, WIDTHS, Drawing, stored_figures

from emc2_lite.course.figures.parts import Figure
from emc2_lite.course.style import CARD, INK, template

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("[0-9]*.ipynb"))
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def drawing():
    from browser import find_chromium

    if find_chromium() is None:
        reason = "no Chromium or Chrome on the PATH: the stored figures were not drawn"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with Drawing() as drawing:
        yield drawing


def form(figure: go.Figure) -> dict:
    return json.loads(figure.update_layout(template=template()).to_json())


@every_chapter
def test_no_text_is_cut_or_lies_over_another(drawing, path):
    for number, figure in stored_figures(path):
        for width in WIDTHS:
            assert drawing.problems(figure, width) == [], f"cell {number}, {width} pixels"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_title_and_many_names_fit(drawing, width):
    figure = Figure().curves([1, 2], {f"a curve, number {k}": [1, 2] for k in range(6)})
    figure.finish("A title that is longer than a narrow page is wide", "steps of the walk", "bias (nats)", alt="")
    assert drawing.problems(form(figure), width) == []


def test_planted_faults_are_found(drawing):
    """A title that leaves the page, a legend over it, a text over another, a slider whose step is too long."""
    curves = [go.Scatter(y=[1, 2], name=f"a curve with a long name, {k}") for k in range(3)]
    figure = go.Figure(curves, {"title": 2 * "A title that is far too long for a page of this width. ", "height": 420})
    assert any("is cut" in problem for problem in drawing.problems(form(figure), 332))
    figure.update_layout(title="A title over the page", legend={"y": 1, "yref": "container", "yanchor": "top"})
    assert any("lies over" in problem for problem in drawing.problems(form(figure), 332))
    figure = Figure().curve([1, 2], [1, 2], "", 0).finish("A title", alt="")
    for shift in (0, 6):
        figure.add_annotation(x=1.5, y=1.5, xshift=shift, text=f"words {shift}", showarrow=False)
    assert drawing.problems(form(figure), 668) == ["'words 0' lies over 'words 6'"]
    steps = [{"label": text, "method": "update", "args": [{}, {"title.text": text}]} for text in ("short", 80 * "long")]
    figure = Figure().curve([1, 2], [1, 2], "", 0).finish("A title", alt="", margin_t=170, height=500)
    figure.update_layout(sliders=[{"steps": steps, "y": 1, "yanchor": "bottom"}])
    assert any(problem.startswith("longlong") for problem in drawing.problems(form(figure), 332))


@every_chapter
def test_every_figure_has_its_description_in_the_stored_metadata(path):
    """In plotly's layout, where a live figure has it, and in the metadata of both stored forms."""
    for number, cell in enumerate(nbformat.read(path, 4).cells):
        for output in cell.get("outputs", ()):
            if PLOTLY in output.get("data", {}):
                described = output.data[PLOTLY]["layout"]["meta"]["alt"]
                assert len(described.split()) >= 8 and any(c.isdigit() for c in described), f"cell {number}"
                for kind in (PLOTLY, "image/png"):
                    assert output.metadata[kind]["alt"] == described
                assert "".join(output.data["text/plain"]) == described


@every_chapter
def test_every_figure_has_dark_ink_on_the_card_and_no_fixed_width(path):
    for number, figure in stored_figures(path):
        layout = figure["layout"]["template"]["layout"]
        assert (layout["paper_bgcolor"], layout["font"]["color"]) == (CARD, INK), f"cell {number}"
        assert "width" not in figure["layout"] and figure["layout"]["height"] > 100, f"cell {number}"
