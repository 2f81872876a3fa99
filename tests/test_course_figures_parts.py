"""The looks of names, and the parts that figures are drawn from."""

import pytest
import torch

from emc2_lite.course import style
from emc2_lite.course.figures.parts import Figure, look, looks, pictures, reach, spread
from emc2_lite.losses import METHODS

# Names that share a figure in the chapters, and all methods but those with a further setting.
FIGURES = [
    ["NT-Xent, b = 4", "NT-Xent, b = 32", "exact samples, b = 4"],
    ["SogCLR", "a name and its score", "cache"],
    ["NT-Xent", "EMC2 dropped", "EMC2"],
    ["cache, refresh=0", "cache", "cache, refresh=0.05"],
    ["pixels", "untrained", "EMC2"],
    ["untrained", "temperature 0.07", "temperature 0.2", "temperature 0.5"],
    ["EMC2 remembered, reencode=0", "EMC2 remembered", "EMC2 remembered, reencode=1", "EMC2", "DCL"],
    [name for name in METHODS if "," not in name],
]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_look_of_the_register(name):
    method = METHODS[name]
    assert look(name) == (method.colour, method.dash, method.marker)
    assert method.colour in style.COLOURS


def test_a_setting_has_the_look_of_its_method():
    assert look("NT-Xent, temperature 0.2") == look("NT-Xent")
    assert look("EMC2 dropped, seed 3") == look("EMC2 dropped") != look("EMC2")


def test_another_name_has_the_style_of_its_number():
    assert [look("gamma 0.5", number).colour for number in range(6)] == list(style.COLOURS)


@pytest.mark.parametrize("names", FIGURES, ids=lambda names: names[0])
def test_no_two_curves_of_a_figure_look_the_same(names):
    found = looks(names)
    assert list(found) == names
    assert len({(own.colour, own.dash) for own in found.values()}) == len(names)
    assert all(found[name] == look(name) for name in names if name in METHODS and "," not in name)


def test_no_other_name_has_the_colour_of_a_method_in_the_figure():
    found = looks(["first", "EMC2, b = 4", "EMC2, b = 8", "second", "NT-Xent"])
    methods = {own.colour for name, own in found.items() if name.startswith(("EMC2", "NT-Xent"))}
    assert methods == {look("EMC2").colour, look("NT-Xent").colour}
    assert not methods & {found["first"].colour, found["second"].colour}


def test_curves_of_methods_are_drawn_in_their_looks():
    figure = Figure()
    figure.curves([1, 2], {name: torch.ones(2) for name in METHODS})
    for trace, own in zip(figure.data, looks(METHODS).values(), strict=True):
        assert (trace.line.color, trace.line.dash, trace.marker.symbol) == own
        assert trace.y == (1.0, 1.0)


def test_a_level_reaches_from_the_first_to_the_last_x():
    figure = Figure()
    figure.level(torch.tensor([1, 5, 9]), 0.5, "exact", 1)
    (line,) = figure.data
    assert (line.x, line.y, line.mode) == ((1.0, 9.0), (0.5, 0.5), "lines")


def test_error_bars_reach_from_the_lowest_to_the_highest_draw():
    mean, error = spread(torch.tensor([[0.0, 5.0], [1.0, 5.0], [5.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0]
    assert (error["array"], error["arrayminus"]) == ([3.0, 0.0], [2.0, 0.0])
    assert error == reach([0, 5], [2, 5], [5, 5])


def test_a_band_fills_the_area_between_its_curves():
    figure = Figure()
    figure.band([1, 2], [0, 0], [3, 4], "all rows", row=None, col=None)
    high, low = figure.data
    assert (high.y, low.y, low.fill) == ((3, 4), (0, 0), "tonexty")
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["all rows"]


def test_pictures_lie_around_their_places():
    images = torch.rand(2, 3, 8, 8)
    trace = pictures(images, x=-1.5, y=10)
    sheet = torch.tensor([[value or 0.0 for value in line] for line in trace.z])
    for row in range(2):
        for column in range(3):
            rows, columns = slice(9 * row, 9 * row + 8), slice(9 * column, 9 * column + 8)
            assert (sheet[rows, columns] - images[row, column]).abs().max() < 6e-4  # rounded to 0.001
            assert sum(trace.x[columns]) / 8 == pytest.approx(column - 1.5)
            assert sum(trace.y[rows]) / 8 == pytest.approx(row + 10)


def test_a_title_and_axes_are_set_by_words_or_settings():
    layout = Figure().finish("Bias", "step", {"title": "bias", "range": [0, 1]}, height=300, alt="A bias").layout
    assert (layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text) == ("Bias", "step", "bias")
    assert (layout.yaxis.range, layout.height, layout.meta) == ((0, 1), 300, {"alt": "A bias"})
