"""The published curves and ours: which numbers the panels draw, and on which scales."""

import math

import pytest

from emc2_lite.course.figures.parts import look
from emc2_lite.course.figures.published import HIGHEST, exact_losses, exact_norms, yardstick

THEIRS = [
    {"method": "EMC2", "step": 25, "loss": 7.3, "squared_norm": 90.0},
    {"method": "EMC2", "step": 50, "loss": 6.9, "squared_norm": 0.1},
    {"method": "cache", "step": 25, "loss": 7.5, "squared_norm": 80.0},
    {"method": "cache", "step": 50, "loss": None, "squared_norm": 900.0},
]
ALIKE = {"negative_cosine": 0.9, "positive_cosine": 0.95, "squared_norm_at_beta_squared": 40.0, "squared_error": 5.0}


def ours_at(method, seed, step):
    losses = {"loss": 6.5 + seed, "loss_at_beta_squared": 7.0 + step / 100}
    return {"method": method, "seed": seed, "step": step, "squared_norm": None if step == 30 else 1.0 + seed} | losses


OURS = [
    ours_at(method, seed, step) | ALIKE
    for method in ("EMC2", "EMC2, one step short")
    for seed in (0, 2)
    for step in (0, 30, 60)
]


def drawn(figure, panel):
    """The lines of a panel with their names, without the thin ones of single seeds."""
    axis = "y" if panel == 1 else f"y{panel}"
    return {line.name: line for line in figure.data if line.yaxis == axis and line.opacity is None}


def test_the_panels_of_losses_have_theirs_and_ours_at_both_betas_and_the_cosines():
    figure = exact_losses(THEIRS, OURS)
    theirs, steep, flat, cosines = (drawn(figure, panel) for panel in (1, 2, 3, 4))
    assert theirs["EMC2"].y == (7.3, 6.9) and theirs["EMC2"].x == (25, 50)
    assert theirs["cache"].x == (25,)  # a curve that leaves the figure
    assert steep["EMC2"].y == pytest.approx((7.0, 7.3, 7.6)) and steep["EMC2"].x == (0, 30, 60)
    assert flat["EMC2, one step short"].y == (7.5, 7.5, 7.5)  # the mean over the seeds
    assert cosines["EMC2"].y == (0.9, 0.9, 0.9)
    assert [title.text for title in figure.layout.annotations] == [
        *("published", "ours, at β²", "ours, at β", "ours, mean cosine"),
    ]


def test_a_thin_line_shows_each_of_several_seeds():
    figure = exact_losses(THEIRS, OURS)
    thin = [line.y for line in figure.data if line.yaxis == "y3" and line.opacity is not None and line.name == "EMC2"]
    assert thin == [(6.5,) * 3, (8.5,) * 3]
    assert not [line for line in figure.data if line.yaxis == "y" and line.opacity is not None]  # theirs has one run
    one_seed = exact_losses(THEIRS, [row for row in OURS if row["seed"] == 0])
    assert not [line for line in one_seed.data if line.opacity is not None]


def test_all_losses_have_one_scale_and_the_level_of_equal_embeddings():
    figure = exact_losses(THEIRS, OURS, samples=100)
    for panel in (1, 2, 3):
        level = drawn(figure, panel)["log 198: all embeddings equal"]
        assert level.y == (math.log(198),) * 2 and level.x == (0, 60)
        assert figure.layout[f"yaxis{panel if panel > 1 else ''}"].range == pytest.approx((6.45, HIGHEST))
    assert figure.layout.yaxis4.range is None and len(drawn(figure, 4)) == 2


@pytest.mark.parametrize("figure", [exact_losses(THEIRS, OURS), exact_norms(THEIRS, OURS)])
def test_every_method_is_named_once_and_looks_the_same_in_all_panels(figure):
    named = [line.name for line in figure.data if line.showlegend is not False]
    methods = {"EMC2", "cache", "EMC2, one step short"}
    assert len(named) == len({*named}) and methods <= {*named}
    styles = {name: {(line.line.color, line.line.dash) for line in figure.data if line.name == name} for name in named}
    assert all(len(style) == 1 for style in styles.values())
    assert len({*map(tuple, styles.values())}) == len(named)
    assert styles["cache"] == {look("cache")[:2]}


def test_squared_norms_are_drawn_where_they_are_measured_on_one_logarithmic_scale():
    figure = exact_norms(THEIRS, OURS)
    theirs, steep, flat, errors = (drawn(figure, panel) for panel in (1, 2, 3, 4))
    assert theirs["cache"].y == (80.0, 900.0)
    assert steep["EMC2"].y == (40.0,) * 3 and errors["EMC2"].y == (5.0,) * 3
    assert (flat["EMC2"].x, flat["EMC2"].y) == ((0, 60), (2.0, 2.0))
    axes = [figure.layout[name] for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert all(axis.type == "log" and axis.matches == "y" for axis in axes)


PROBES = [
    {"method": method, "epoch": epoch, "hours": hours * epoch, "linear_probe": 0.5 + epoch / 1000}
    for method, hours in (("NT-Xent", 0.1), ("EMC2", 0.15))
    for epoch in (10, 100)
]


@pytest.mark.parametrize(("by", "x", "title"), [("epoch", (10, 100), "epoch"), ("hours", (1.5, 15), "hours of wall")])
def test_the_yardstick_is_drawn_by_epoch_or_by_wall_time(by, x, title):
    figure = yardstick(PROBES, by)
    lines = {line.name: line for line in figure.data if line.x}
    assert {*lines} == {"NT-Xent", "EMC2"}
    assert lines["EMC2"].x == pytest.approx(x) and lines["EMC2"].y == pytest.approx((0.51, 0.6))
    assert figure.layout.xaxis.title.text.startswith(title)
    assert not [line.name for line in figure.data if line.showlegend is not False and not line.x]
