"""Figures of runs: a map of pictures, and the probe over few and all labels."""

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
