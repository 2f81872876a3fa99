"""Solutions of chapter 09. Each passes its check in `emc2_lite.course.checks.scaling`."""

import torch
from torch.nn import functional as F


def gathered_gradient(gradients, rank):
    """The loss of every process depends on this process's rows: what all of them ask of these rows adds up."""
    rows = len(gradients[0]) // len(gradients)
    return sum(gradient[rank * rows : (rank + 1) * rows] for gradient in gradients)


def positive_columns(n, rank, size):
    """First views find their positives among the second views, which begin after the n * size first ones."""
    own = torch.arange(rank * n, (rank + 1) * n)
    return torch.cat((n * size + own, own))


def clip_loss(images, captions, temperature):
    """The rows of the scores are the images' softmaxes, the columns the captions'."""
    scores, pair = images @ captions.T / temperature, torch.arange(len(images))
    return (F.cross_entropy(scores, pair) + F.cross_entropy(scores.T, pair)) / 2
