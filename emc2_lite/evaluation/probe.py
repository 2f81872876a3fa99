"""Linear probe: how well one linear layer tells the classes apart on frozen features."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Seed, checked_settings
from emc2_lite.evaluation.checks import check_pairs, labelled_parts
from emc2_lite.evaluation.intervals import Interval, accuracy
from emc2_lite.evaluation.regression import logits, softmax_regression, standardised
from emc2_lite.evaluation.splits import validation_split

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
PAPER = {"learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 1024, "epochs": 100}


class ProbeResult(NamedTuple):
    """accuracy: on the test part, with Wilson's 95 % interval; train_accuracy: on the whole training part.

    settings: what was used; validation_accuracy: of the chosen setting on the held-out part, None where none was held
    out.
    """

    accuracy: Interval
    train_accuracy: float
    validation_accuracy: float | None
    settings: dict[str, float]


@checked_settings
def linear_probe(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    protocol: Literal["tuned", "paper"] = "tuned",
    seed: Seed = 0,
) -> ProbeResult:
    """Fit a linear classifier on (N, f) features with (N,) labels, and look at the test part once.

    "tuned": softmax regression on features standardised by the training part (a constant feature stays 0), with
    l2 / 2 * |W|^2 on the weights. The strength l2, from 1 to 1e-5, is the one of highest accuracy on a stratified fifth
    of the training part, drawn at random by `seed`; of equal ones the strongest. Nothing is held out of a class with a
    single training image. Then all training labels are fitted.
    The problem is convex, so full-batch L-BFGS finds its one solution with no learning rate to choose, and nothing
    depends on an order of batches. It works in float64 on the features' device, in about 16 N f bytes: 4 GB for
    126,000 x 2,048.

    "paper": what the authors' released evaluation does. One linear layer with bias on the features as they are; SGD of
    learning rate 1e-3 and momentum 0.9 without weight decay; 100 epochs of batches of 1,024, in the order given, not
    shuffled; `seed` draws the initial weights. With few or small features this is far from trained: 1,437 digits make
    200 small steps. Where the rows are ordered by class, the batches are too.

    Raises:
        ValueError: on another protocol, on parts that do not fit (see `labelled_parts`), or if no class has two
            training images, so that "tuned" can hold none out.
    """
    parts = labelled_parts(features, labels, test_features, test_labels)
    if protocol == "paper":
        return _paper_probe(*parts, seed)
    check_pairs(labels)
    return tuned_probe(*parts, STRENGTHS, seed)


def tuned_probe(
    features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor, strengths: Sequence[float], seed: int
) -> ProbeResult:
    """The "tuned" protocol on checked parts; a single strength is taken as it is, and nothing is held out."""
    features, test_features = standardised(features, test_features)
    weights = features.new_zeros(features.shape[1] + 1, int(labels.max()) + 1)
    best, validation_accuracy = strengths[0], None
    if len(strengths) > 1:
        best, validation_accuracy = _best_strength(features, labels, weights, strengths, seed)
    weights = softmax_regression(features, labels, best, weights)
    return ProbeResult(
        accuracy(logits(test_features, weights).argmax(dim=1), test_labels),
        accuracy(logits(features, weights).argmax(dim=1), labels).value,
        validation_accuracy,
        {"l2": best},
    )


def _best_strength(
    features: Tensor, labels: Tensor, weights: Tensor, strengths: Sequence[float], seed: int
) -> tuple[float, float]:
    """The strength of highest held-out accuracy, the first of equal ones, and that accuracy."""
    fit, held_out = validation_split(labels, seed=seed)
    fit_features, held_out_features = features[fit], features[held_out]
    accuracies = {}
    for l2 in strengths:
        weights = softmax_regression(fit_features, labels[fit], l2, weights)
        accuracies[l2] = accuracy(logits(held_out_features, weights).argmax(dim=1), labels[held_out]).value
    return max(accuracies.items(), key=lambda pair: pair[1])


def _paper_probe(
    features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor, seed: int
) -> ProbeResult:
    layer = linear_layer(features.shape[1], int(labels.max()) + 1, seed).to(features)
    optimiser = torch.optim.SGD(
        layer.parameters(), PAPER["learning_rate"], PAPER["momentum"], weight_decay=PAPER["weight_decay"]
    )
    batches = list(zip(features.split(PAPER["batch_size"]), labels.split(PAPER["batch_size"]), strict=True))
    for _ in range(PAPER["epochs"]):
        for batch, batch_labels in batches:
            optimiser.zero_grad()
            F.cross_entropy(layer(batch), batch_labels).backward()
            optimiser.step()
    with torch.no_grad():
        return ProbeResult(
            accuracy(layer(test_features).argmax(dim=1), test_labels),
            accuracy(layer(features).argmax(dim=1), labels).value,
            None,
            dict(PAPER),
        )


def linear_layer(inputs: int, classes: int, seed: int) -> nn.Linear:
    """With torch's own initial weights, drawn from `seed` on the CPU; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Linear(inputs, classes)
