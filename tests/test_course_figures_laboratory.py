"""Figures of chapter 06: what is drawn is what the rows of a record say."""

import pytest
import torch

from emc2_lite.course.figures.laboratory import coin_trade, marks, noise_over_length, price_and_bias, recovery
from emc2_lite.course.figures.parts import look
from emc2_lite.course.figures.price import lead_at, leads_by_place, price_map

ENDS = ("", "_low", "_high")


def row(method, **values):
    """A row of a record with an interval of half the value to twice the value."""
    fields = {name: (value, value / 2, 2 * value) for name, value in values.items()}
    named = {f"{name}{end}": x for name, three in fields.items() for end, x in zip(ENDS, three, strict=True)}
    return {"method": method, "visits_to": 8.0} | named


ROWS = [row("NT-Xent", bias=1.0, noise=0.2), row("EMC2", bias=0.1, noise=3.0), row("cache", bias=0.001, noise=2.0)]
NAMES = [r["method"] for r in ROWS]


def drawn(trace):
    """The methods' values by name, and the ends of their bars."""
    values, bars = list(trace.x), trace.error_x
    return {
        name: (x, x - low, x + high)
        for name, x, low, high in zip(NAMES, values, bars.arrayminus, bars.array, strict=True)
    }


def test_each_measure_has_every_method_in_its_own_place():
    figure = marks({"weights": (ROWS, "bias"), "embeddings": (ROWS, "noise")}, "b = 4", "bias")
    weights, embeddings = figure.data
    assert (weights.name, embeddings.name) == ("weights", "embeddings")
    assert list(figure.layout.yaxis.ticktext) == NAMES
    for place, (upper, lower) in enumerate(zip(weights.y, embeddings.y, strict=True)):
        assert -place + 0.5 > upper > -place > lower > -place - 0.5
    assert list(embeddings.x) == [row["noise"] for row in ROWS]
    assert list(weights.marker.color) == [look(name).colour for name in NAMES]
    assert list(embeddings.marker.symbol) == [f"{symbol}-open" for symbol in weights.marker.symbol]


def test_what_lies_below_the_first_tick_is_drawn_there_and_the_tick_says_so():
    figure = marks({"weights": (ROWS, "bias")}, "b = 4", "bias")
    assert drawn(figure.data[0])["cache"] == (0.01, 0.01, 0.01)
    assert figure.layout.xaxis.ticktext[0] == "≤ 0.01"


def test_error_bars_end_where_the_intervals_do():
    figure = marks({"weights": (ROWS, "bias")}, "b = 4", "bias")
    assert drawn(figure.data[0])["EMC2"] == pytest.approx((0.1, 0.05, 0.2))


def test_the_alternative_text_has_the_methods_from_the_smallest_on():
    figure = marks({"weights": (ROWS, "bias")}, "Bias", "bias")
    assert "weights: cache 0.001, EMC2 0.1, NT-Xent 1." in figure.layout.meta["alt"]
    assert "From 8 to 8: NT-Xent from 1 to 1, EMC2 from 0.1 to 0.1" in recovery(ROWS, "all").layout.meta["alt"]


def test_price_and_bias_has_a_point_for_each_method():
    rows = [row | {"price": 1.0 + place} for place, row in enumerate(ROWS)]
    figure = price_and_bias(rows, "Price")
    assert {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data} == {
        row["method"]: (row["price"], row["bias"]) for row in rows
    }
    assert "NT-Xent 1.00 and 1.00, EMC2 2.00 and 0.10" in figure.layout.meta["alt"]


def test_noise_over_the_length_is_drawn_with_its_lowest_and_highest_seed():
    noises = {"DCL": torch.tensor([[2.0, 2.0], [4.0, 4.0]]), "EMC2": torch.tensor([[2.0, 5.0], [2.0, 7.0]])}
    figure = noise_over_length(torch.tensor([1, 8]), noises, "Noise")
    assert list(figure.data[0].y) == [3, 3] and list(figure.data[0].error_y.array) == [1, 1]
    assert "DCL from 3.00 to 3.00, EMC2 from 2.00 to 6.00" in figure.layout.meta["alt"]


def test_the_coins_trade_is_relative_to_the_last_share_and_marks_the_chosen_one():
    figure = coin_trade([0.5, 1.0], [1.5, 2.0], [12.0, 10.0], 0.5, 4)
    price, noise, equal, marked = figure.data
    assert list(price.y) == [0.75, 1] and list(noise.y) == [1.2, 1] and equal.y[0] == pytest.approx(1.2 * 0.75**0.5)
    assert list(marked.y) == [price.y[0], noise.y[0], equal.y[0]] and list(marked.x) == [0.5] * 3
    assert figure.layout.title.text == "b = 4, ρ = 0.5: price 1.50, noise 12.00"
    assert "smallest at ρ = 1" in figure.layout.meta["alt"]


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
    places = leads_by_place(runs(AHEAD) + runs(UNSURE, n_over_b=45.0) + runs(AHEAD, temperature=0.2), "EMC2")
    (squares,) = price_map(places, "EMC2", "A map").data
    assert list(squares.x) == ["0.07", "0.2"] and list(squares.y) == ["9", "45"]
    assert list(squares.text[0]) == ["<b>−1.03</b><br>3 of 3<br>DCL"] * 2
    assert list(squares.text[1]) == ["−0.43<br>2 of 3<br>DCL", ""] and squares.z[1][1] is None


def test_the_map_is_read_aloud():
    alt = price_map(leads_by_place(runs(AHEAD), "EMC2"), "EMC2", "A map").layout.meta["alt"]
    assert alt.endswith("N / b 9, temperature 0.07: -1.03* against DCL, ahead in 3 of 3.")
