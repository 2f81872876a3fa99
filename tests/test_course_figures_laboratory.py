"""Figures of chapter 06: what is drawn is what the rows of a record say."""

import pytest

from emc2_lite.course.figures.laboratory import TICKS, recovery, side_by_side
from emc2_lite.course.figures.price import lead_at, price_map

ENDS = ("", "_low", "_high")


def row(method, **values):
    """A row of a record with an interval of half the value to twice the value."""
    fields = {name: (value, value / 2, 2 * value) for name, value in values.items()}
    named = {f"{name}{end}": x for name, three in fields.items() for end, x in zip(ENDS, three, strict=True)}
    return {"method": method, "visits_to": 8.0} | named


ROWS = [row("NT-Xent", bias=1.0, noise=0.2), row("EMC2", bias=0.1, noise=3.0), row("cache", bias=0.001, noise=2.0)]


def test_each_panel_has_the_methods_and_its_own_field():
    figure = side_by_side({"bias": (ROWS, "bias"), "noise": (ROWS, "noise")}, "b = 4")
    for axis, field in (("x", "bias"), ("x2", "noise")):
        drawn = {trace.y[0]: trace.x[0] for trace in figure.data if trace.xaxis == axis}
        assert drawn == {r["method"]: max(r[field], TICKS[field][0]) for r in ROWS}


def test_what_lies_below_the_first_tick_is_drawn_there_and_the_tick_says_so():
    figure = side_by_side({"bias": (ROWS, "bias")}, "b = 4")
    (cache,) = (trace for trace in figure.data if trace.y[0] == "cache")
    assert cache.x[0] == 0.01 and (cache.error_x.array[0], cache.error_x.arrayminus[0]) == (0, 0)
    assert figure.layout.xaxis.ticktext[0] == "≤ 0.01"


def test_error_bars_end_where_the_intervals_do():
    figure = side_by_side({"bias": (ROWS, "bias")}, "b = 4")
    (emc2,) = (trace for trace in figure.data if trace.y[0] == "EMC2")
    assert emc2.x[0] + emc2.error_x.array[0] == pytest.approx(0.2)
    assert emc2.x[0] - emc2.error_x.arrayminus[0] == pytest.approx(0.05)


def test_every_group_of_a_recovery_has_as_many_curves():
    assert len(recovery(ROWS, "all").data) == len(recovery(ROWS[:1], "one").data) == 6


def runs(losses, **place):
    place = {"temperature": 0.07, "views": "stored", "n_over_b": 9.0} | place
    return [{"method": m, "seed": s, "loss": x, **place} for m, of in losses.items() for s, x in enumerate(of)]


AHEAD = {"EMC2": [1.0, 1.1, 1.2], "DCL": [2.0, 2.1, 2.3], "NT-Xent": [5.0, 5.0, 5.0]}
UNSURE = {"EMC2": [1.0, 1.1, 3.0], "DCL": [2.0, 2.1, 2.3], "NT-Xent": [5.0, 5.0, 5.0]}


def test_the_rival_is_the_best_other_method_in_the_mean():
    rival, wins, seeds, difference = lead_at(runs(AHEAD), "EMC2")
    assert (rival, wins, seeds) == ("DCL", 3, 3) and difference.value == pytest.approx(-31 / 30)
    assert lead_at(runs(AHEAD), "DCL")[:3] == ("EMC2", 0, 3)


def test_the_map_says_by_how_much_in_how_many_seeds_and_against_whom():
    figure = price_map(runs(AHEAD) + runs(UNSURE, n_over_b=45.0) + runs(AHEAD, views="endless"), "EMC2", "A map")
    stored, endless = figure.data
    assert list(stored.x) == list(endless.x) == ["9", "45"]
    assert list(stored.text[0]) == ["<b>−1.03</b><br>3 of 3<br>DCL", "−0.43<br>2 of 3<br>DCL"]
    assert list(endless.text[0]) == ["<b>−1.03</b><br>3 of 3<br>DCL", ""] and endless.z[0][1] is None
    axis = figure.layout.coloraxis
    assert -axis.cmin == axis.cmax == pytest.approx(31 / 30)
