"""The figures of chapter 03: what they draw, and the alternative text made from the same numbers."""

import pytest
import torch

from emc2_lite.course.figures import memory

P = torch.tensor([0.5, 0.3, 0.2])
FIGURES = {
    "average": lambda: memory.average_over_visits(torch.arange(10.0), torch.full((10,), 4.0), 4.5, 0.1, 0.07),
    "weights": lambda: memory.expected_weights(P, {"gamma 0.9": P / 2, "gamma 0.1": P / 4}),
    "jump": lambda: memory.after_the_jump({"gamma 0.9": [-1.0, -2.0, 0.5, 0.25]}, before=2),
    "draws": lambda: memory.draws_and_softmax(P, P + 0.01, 1000),
    "ages": lambda: memory.cache_ages(torch.tensor([0, 3, 12, 45]), 0.25),
    "staleness": lambda: memory.staleness({"refresh 0": [1.5, 1.25]}, every=20),
    "bytes": lambda: memory.bytes_kept(["digits, 1,437"], {"SogCLR": [8e6], "cache": [4e8]}),
}
WORDS = {
    "average": ["50% of them below the exact level of 4.5", "-0.50 nats off"],
    "weights": ["p = 0.500", "0.250 at gamma 0.9, 0.125 at gamma 0.1"],
    "jump": ["2 visits later: gamma 0.9 -2.00, +0.50, +0.25"],
    "draws": ["from 0.500 down to 0.200", "by at most 0.010"],
    "ages": ["4 entries", "the mean is 15.0, the oldest 45, and 50% are younger than 10 steps", "25%"],
    "staleness": ["the last 20 steps: 1.25 at refresh 0"],
    "bytes": ["For digits, 1,437 samples: SogCLR (8); cache (400)."],
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_alternative_text_has_the_numbers_of_the_figure(name):
    alt = FIGURES[name]().layout.meta["alt"]
    assert all(words in alt for words in WORDS[name]), alt


@pytest.mark.parametrize("name", FIGURES)
def test_titles_are_short_and_each_axis_has_one(name):
    layout = FIGURES[name]().layout
    assert len(layout.title.text) <= 60
    assert all(0 < len(axis.title.text) <= 34 for axis in (layout.xaxis, layout.yaxis))


def test_an_entry_of_the_cache_is_a_square_in_lines_of_twenty():
    (squares,) = memory.cache_ages(torch.arange(45), 0.0).data
    assert [len(line) for line in squares.z] == [20, 20, 5]
    assert squares.z[1][0] == 20
