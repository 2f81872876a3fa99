"""The figures of accuracies and of maps: what they draw, and what their descriptions say."""

import pytest
import torch

from emc2_lite.course.figures import embeddings, evaluation

ROWS = [
    evaluation.row_of("pixels", "1-NN", 0.9, 0.8, 0.95),
    evaluation.row_of("EMC2", "1-NN", 0.97, 0.93, 0.99),
    evaluation.row_of("EMC2", "linear probe", 0.96, 0.92, 0.98),
]


def alt(figure):
    return figure.layout.meta["alt"]


def test_an_interval_reaches_from_low_to_high():
    nearest, probe = evaluation.measured(ROWS, "Measured").data
    assert nearest.x == (0.9, 0.97) and probe.x == (0.96,)
    assert nearest.error_x.array == pytest.approx((0.05, 0.02))
    assert nearest.error_x.arrayminus == pytest.approx((0.1, 0.04))


def test_the_description_counts_the_intervals_that_reach_the_best_ones():
    assert "3 of the 3 hold the number 0.930" in alt(evaluation.measured(ROWS, "Measured"))
    apart = [*ROWS, evaluation.row_of("untrained", "1-NN", 0.5, 0.4, 0.6)]
    assert "3 of the 4 hold" in alt(evaluation.measured(apart, "Measured"))


def test_differences_have_a_rule_at_0_and_the_description_counts_those_that_hold_it():
    rows = [
        evaluation.row_of_difference("seed 0", "luck of the images", 0.01, -0.01, 0.03),
        evaluation.row_of_difference("mean", "luck of the seeds", 0.02, 0.01, 0.03),
    ]
    figure = evaluation.differences(rows, "Differences")
    assert figure.layout.shapes[0].x0 == 0
    assert "mean, luck of the seeds: +0.0200 (+0.0100 to +0.0300). 1 of the 2 intervals hold 0" in alt(figure)


def test_the_luck_of_the_test_set_is_drawn_by_the_interval_that_is_given():
    figure = evaluation.luck_of_the_test_set(0.9, [10, 100], lambda k, n: torch.tensor([k / n - 1 / n, k / n + 1 / n]))
    highest, lowest, level = figure.data
    assert highest.y == pytest.approx((1.0, 0.91)) and lowest.y == pytest.approx((0.8, 0.89))
    assert level.y == (0.9, 0.9)
    assert "With 10 images it goes from 0.800 to 1.000, with 100 from 0.8900 to 0.9100" in alt(figure)


def test_the_best_of_many_has_the_true_accuracy_as_a_curve_of_its_own():
    figure = evaluation.best_of_many([1, 10], {"on the test images": [0.9, 0.92]}, 0.9)
    assert [line.name for line in figure.data] == ["on the test images", "true accuracy of each"]
    assert "on the test images: from 0.900 to 0.920" in alt(figure)


def test_a_map_says_how_often_neighbours_share_a_class():
    places = torch.tensor([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
    figure = embeddings.class_map({"a": places}, torch.tensor([3, 3, 5, 3]), "Map")
    assert figure.data[0].text == ("3", "3", "5", "3")
    assert alt(figure).endswith("has the same class: 50% in a.")


def test_a_sheet_names_its_rows_and_columns():
    figure = embeddings.picture_sheet(torch.rand(2, 3, 8, 8), "A sheet", ["a", "b", "c"])
    assert alt(figure) == ("A sheet of 2 by 3 pictures, each 8 by 8 pixels, dark on light. Columns: a, b, c. A sheet.")
