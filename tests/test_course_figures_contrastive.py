"""The figures of chapter 01: the forces on the circle, and a text in words for each figure."""

import math

import pytest
import torch
from torch.nn import functional as F

from emc2_lite.course.checks.contrastive import row_forces
from emc2_lite.course.figures import contrastive


def on_the_circle(angle):
    radians = torch.tensor([90, 150, 90 - angle, 10, -30, -90], dtype=torch.float64).deg2rad()
    return torch.stack((radians.cos(), radians.sin()), dim=1)


def circle(temperature, angle):
    points = on_the_circle(angle)
    return contrastive.circle_forces(points, *row_forces.reference(*points[:2], points[2:], temperature), temperature)


def arrows(figure):
    """Start and end of each arrow, of the anchor, the positive and the negatives: (n, 2, 2)."""
    traces = [zip(trace.x, trace.y, strict=True) for trace in figure.data if trace.name == "force"]
    corners = [list(corner) for trace in traces for corner in trace if None not in corner]
    return torch.tensor(corners, dtype=torch.float64).view(-1, 5, 2)[:, :2]


@pytest.mark.parametrize(("temperature", "angle"), [(0.05, 10), (0.1, 35), (2.0, 60)])
def test_the_arrows_of_the_circle_are_the_gradient_along_it(temperature, angle):
    points = on_the_circle(angle).requires_grad_()
    scores = F.normalize(points, dim=1)[1:] @ F.normalize(points, dim=1)[0] / temperature
    (gradient,) = torch.autograd.grad(-scores.log_softmax(0)[0], points)
    start, end = arrows(circle(temperature, angle)).unbind(dim=1)
    torch.testing.assert_close((end - start) / contrastive.ARROW, -temperature * gradient, atol=1e-12, rtol=0)


def test_no_arrow_of_the_circle_begins_under_a_marker():
    assert arrows(circle(0.1, 35))[:, 0].norm(dim=1).min() > 1.1


def test_the_circle_has_the_same_traces_for_every_value():
    kinds = {tuple(trace.type for trace in circle(t, angle).data) for t in (0.05, 2.0) for angle in (10, 60)}
    assert len(kinds) == 1


def test_every_answer_that_the_check_takes_can_be_drawn():
    points = on_the_circle(35)
    pull, pushes = row_forces.reference(*points[:2], points[2:], 0.1)
    forms = [(pull.tolist(), pushes.tolist()), (pull.numpy(), pushes.numpy()), (pull.float(), list(pushes))]
    drawn = [contrastive.circle_forces(points, *form, 0.1) for form in forms]
    for figure in drawn:
        torch.testing.assert_close(arrows(figure), arrows(circle(0.1, 35)), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def numbers():
    return torch.rand(16, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def shares(numbers):
    images, same = torch.rand(20, 8, 8), torch.arange(20) % 3 == 0
    return contrastive.repulsion_shares(images[0], images, torch.linspace(-0.3, 0.9, 20), same, 0.1, 3.217)


FIGURES = {
    "Boxes mark the 4 positives": lambda n: contrastive.score_matrix(n[:4, :4], torch.rand(4, 8, 8)),
    "its positive 60 degrees away and 4 negatives": lambda n: circle(0.1, 35),
    "The effective number is 3.2 of 20.": shares,
    "The median rises from": lambda n: contrastive.effective_numbers([0.1, 0.2, 1.0], n[:, :3].sort(1).values, 126),
    "untrained: alignment 0.200, uniformity -0.20": lambda n: contrastive.alignment_and_uniformity(
        {"untrained": [(0.1, -0.1), (0.3, -0.3)], "temperature 1": [(0.2, -2.0)]}, best=-3.75
    ),
    "A level marks the hardest in the dataset, 0.99.": lambda n: contrastive.hardest_in_batch([4, 8], n[:, :2], 0.99),
    "seed 0 from 4.00 to 3.00": lambda n: contrastive.training_losses({"seed 0": [4.0, 3.0]}, math.log(7)),
}


@pytest.mark.parametrize("words", FIGURES)
def test_each_figure_is_told_in_words(words, numbers):
    assert words in FIGURES[words](numbers).layout.meta["alt"]


def test_the_shares_have_the_same_traces_with_and_without_the_anchors_digit():
    images, similarities = torch.rand(20, 8, 8), torch.linspace(-0.3, 0.9, 20)
    kinds = [
        [trace.type for trace in contrastive.repulsion_shares(images[0], images, similarities, same, t, 2.0).data]
        for same, t in ((torch.zeros(20, dtype=torch.bool), 0.01), (torch.ones(20, dtype=torch.bool), 2.0))
    ]
    assert kinds[0] == kinds[1]
