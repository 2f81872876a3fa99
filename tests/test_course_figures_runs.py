"""Figures of runs: pictures, the probe over few and all labels, and what happens along a run."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from emc2_lite.course.figures import runs


def test_each_picture_lies_at_its_place_on_the_map():
    """Red at the lower left corner, blue at the upper right one, white between."""
    images = torch.zeros(2, 3, 16, 16)
    images[0, 0], images[1, 2] = 1.0, 1.0
    figure = runs.picture_map(images, torch.tensor([[0.0, -3.0], [10.0, 5.0]]), "A map", side=96)
    content = base64.b64decode(figure.data[0].source.split(",")[1])
    sheet = torch.from_numpy(np.array(Image.open(io.BytesIO(content)))).permute(2, 0, 1) / 255
    assert sheet.shape == (3, 96, 96)
    for place, colour in (((88, 8), (1, 0, 0)), ((8, 88), (0, 0, 1)), ((8, 8), (1, 1, 1)), ((48, 48), (1, 1, 1))):
        assert sheet[:, *place].tolist() == pytest.approx(colour, abs=0.1)


def test_the_probes_curve_ends_with_all_labels():
    row = {f"labels_10{end}": value for end, value in (("", 0.4), ("_low", 0.3), ("_high", 0.5))}
    row |= {f"linear_probe{end}": value for end, value in (("", 0.6), ("_low", 0.5), ("_high", 0.7))}
    figure = runs.few_labels([{"method": "EMC2"} | row, {"method": "DCL"} | row], [10], 1000, "Few labels")
    emc2 = next(line for line in figure.data if line.name == "EMC2")
    assert emc2.x == (10, 1000) and emc2.y == (0.4, 0.6)
    assert emc2.error_y.array == pytest.approx((0.1, 0.1))


def test_a_weight_that_is_equal_is_not_drawn_as_a_small_difference():
    figure = runs.left_out({"nothing": 0.0, "chains": 2e-4, "schedule": 8e-3})
    assert [trace.text[0] for trace in figure.data if trace.mode == "text"] == [
        "schedule: 8.0e-03",
        "chains: 2.0e-04",
        "nothing: exactly 0",
    ]
    low = 10 ** figure.layout.xaxis.range[0]
    assert all(low < trace.x[0] < 0.1 for trace in figure.data if trace.mode == "markers")
    assert "nothing: exactly 0; chains: 2.0e-04" in figure.layout.meta["alt"]


def test_a_step_that_is_skipped_is_marked_at_the_scale_that_it_leaves():
    figure = runs.scale_along([8.0, 4.0, 4.0, 2.0], [4.0, 4.0, 4.0, 3.0], [True, False, False, True], "A scaler")
    marks = figure.data[-1]
    assert (marks.x, marks.y) == ((0, 3), (8.0, 2.0))
    assert "75% of the steps" in figure.layout.meta["alt"] and "skipped: 0, 3." in figure.layout.meta["alt"]


ROWS = [{"epoch": epoch, "loss": 4 - epoch, "accuracy": 0.9} for epoch in (0.5, 1.0)]
ALTERNATIVES = {
    "rates": (lambda: runs.learning_rates([0, 1, 2], [5e-5, 1e-4, 0.0], 1), "largest, 1.0e-04, at epoch 1"),
    "steps": (lambda: runs.along_steps({"loss": [4.0, 3.0, 3.5]}, "A run", "loss, nats"), "lies from 3 to 4"),
    "metrics": (lambda: runs.along_the_run(ROWS), "1-NN accuracy from 0.9 to 0.9"),
    "sheet": (
        lambda: runs.colour_sheet(torch.eye(2).view(1, 2, 1, 1, 2).expand(1, 2, 3, 2, 2), "", ["a"], ["b", "c"]),
        "c 1.00",
    ),
    "map": (lambda: runs.picture_map(torch.rand(3, 3, 8, 8), torch.eye(3)[:, :2], "A map"), "2 lie in the left half"),
}


@pytest.mark.parametrize(("figure", "words"), ALTERNATIVES.values(), ids=ALTERNATIVES)
def test_the_alternative_text_has_the_numbers_of_the_figure(figure, words):
    assert words in figure().layout.meta["alt"]
