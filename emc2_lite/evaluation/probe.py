"""Linear probe: how well one linear layer tells the classes apart on frozen features, and how many labels it needs."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Distinct, Seed, check_tensor, checked_settings
from emc2_lite.evaluation.checks import Count, check_labels, check_shots, labelled_parts
from emc2_lite.evaluation.intervals import Interval, accuracy

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
SMALL = 2_000_000  # numbers of the labelled rows: 100 labels of each of ten classes, 2,000 features
PAPER = {"learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 1024, "epochs": 100}


class ProbeResult(NamedTuple):
    """A linear probe's accuracies, and the settings of its last fit."""

    accuracy: Interval  # on the test part, with Wilson's 95 % interval
    train_accuracy: float  # on the whole training part
    validation_accuracy: float | None  # on the held-out part; None where no part was held out
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
    l2 / 2 * |W|^2 on the weights. The strength l2, from 1 to 1e-5, has the highest accuracy on a stratified fifth of
    the training part, drawn by `seed`; of equally good ones the strongest is taken, and a class with a single image
    holds out none. The last fit takes all training labels. Full-batch L-BFGS finds the convex problem's one solution,
    in float64 on the features' device and about 16 N f bytes, 4 GB for 126,000 x 2,048.

    "paper": the authors' released evaluation. One linear layer with bias on the raw features; SGD of learning rate 1e-3
    and momentum 0.9 without weight decay; 100 epochs of batches of 1,024 in the order given, even sorted by class;
    `seed` draws the initial weights. Few or small features stay far from trained: 1,437 digits make 200 small steps.

    Raises: ValueError: on another protocol, on parts that do not fit (see `labelled_parts`), or, under "tuned", if no
        class has two training images.

    >>> features, labels = torch.eye(2).repeat(5, 1), torch.arange(10) % 2
    >>> linear_probe(features, labels, features, labels).accuracy.value
    1.0
    """
    parts = labelled_parts(features, labels, test_features, test_labels)
    if protocol == "paper":
        return paper_probe(*parts, seed)
    check_pairs(labels)
    return tuned_probe(*parts, STRENGTHS, seed)


@checked_settings
def label_efficiency(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    counts: Annotated[Sequence[Count], Distinct()] = (1, 2, 5, 10, 20, 50, 100),
    draws: Count = 5,
    seed: Seed = 0,
) -> list[dict[str, int | float]]:
    """Test accuracy of the tuned linear probe with few labels a class: a row for each draw and each count.

    A row holds `labels_per_class`, `draw` (from 0) and `accuracy` (in [0, 1]). Within a draw, label sets are nested.
    Small problems are solved on the CPU, for on few rows a GPU waits for thousands of launches.
    With 1 label a class no label can be held out, and the penalty is the probe's strongest, l2 = 1.

    Raises: ValueError: on no counts, a count below 1, over the smallest class or twice, draws below 1, or on parts that
        do not fit (see `labelled_parts`).

    >>> features, labels = torch.eye(2).repeat(5, 1), torch.arange(10) % 2
    >>> label_efficiency(features, labels, features, labels, counts=[1], draws=1)
    [{'labels_per_class': 1, 'draw': 0, 'accuracy': 1.0}]
    """
    features, labels, test_features, test_labels = labelled_parts(features, labels, test_features, test_labels)
    check_shots(labels, max(counts), "counts holds")
    if max(counts) * len(labels.unique()) * features.shape[1] <= SMALL:
        features, labels, test_features, test_labels = (
            part.cpu() for part in (features, labels, test_features, test_labels)
        )
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for draw in range(draws):
        members = shuffled_members(labels, generator)
        for count in counts:
            chosen = torch.cat([indices[:count] for indices in members])
            strengths = STRENGTHS if count > 1 else STRENGTHS[:1]
            result = tuned_probe(features[chosen], labels[chosen], test_features, test_labels, strengths, seed)
            rows.append({"labels_per_class": count, "draw": draw, "accuracy": result.accuracy.value})
    return rows


def tuned_probe(
    features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor, strengths: Sequence[float], seed: int
) -> ProbeResult:
    """The "tuned" protocol on checked parts; a single strength needs no held-out part."""
    features, test_features = standardised(features, test_features)
    weights = features.new_zeros(features.shape[1] + 1, int(labels.max()) + 1)
    best, validation_accuracy = strengths[0], None
    if len(strengths) > 1:
        fit, held_out = validation_split(labels, seed=seed)
        fit_features, held_out_features = features[fit], features[held_out]
        accuracies = {}
        for l2 in strengths:
            weights = softmax_regression(fit_features, labels[fit], l2, weights)
            accuracies[l2] = accuracy(logits(held_out_features, weights), labels[held_out]).value
        best, validation_accuracy = max(accuracies.items(), key=lambda pair: pair[1])
    weights = softmax_regression(features, labels, best, weights)
    test_accuracy = accuracy(logits(test_features, weights), test_labels)
    train_accuracy = accuracy(logits(features, weights), labels).value
    return ProbeResult(test_accuracy, train_accuracy, validation_accuracy, {"l2": best})


def paper_probe(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor, seed: int) -> ProbeResult:
    """The "paper" protocol on checked parts."""
    rate, momentum, weight_decay, batch_size, epochs = PAPER.values()
    layer = linear_layer(features.shape[1], int(labels.max()) + 1, seed).to(features)
    optimiser = torch.optim.SGD(layer.parameters(), rate, momentum, weight_decay=weight_decay)
    batches = list(zip(features.split(int(batch_size)), labels.split(int(batch_size)), strict=True))
    for _ in range(int(epochs)):
        for batch, batch_labels in batches:
            optimiser.zero_grad()
            F.cross_entropy(layer(batch), batch_labels).backward()
            optimiser.step()
    with torch.no_grad():
        test_accuracy, train_accuracy = accuracy(layer(test_features), test_labels), accuracy(layer(features), labels)
    return ProbeResult(test_accuracy, train_accuracy.value, None, dict(PAPER))


def standardised(features: Tensor, *others: Tensor) -> list[Tensor]:
    """All in float64, less the mean and over the deviation of `features` by column; constant columns become 0."""
    deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
    # Rounding gives a constant column a deviation of some 1e-17, which must divide nothing.
    scale = torch.where(features.amax(dim=0) == features.amin(dim=0), 0, 1 / deviation)
    return [(part.double() - mean).mul_(scale) for part in (features, *others)]


def softmax_regression(features: Tensor, labels: Tensor, l2: float, start: Tensor) -> Tensor:
    """The minimum over W (f, C) and c (C,) of mean cross-entropy of (X W + c) + l2 / 2 * |W|^2, c in the last row.

    L-BFGS with a strong-Wolfe line search runs until no entry of the gradient exceeds 1e-6 or the value moves by less
    than 1e-9 nats, at most 300 steps. X is (N, f) float64, `labels` (N,) int64 from 0 to C - 1; `start`, (f + 1, C)
    float64, decides the time and not the result.

    Source: Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization.
    """
    weights = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weights],
        max_iter=300,
        history_size=30,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        loss = F.cross_entropy(logits(features, weights), labels) + l2 / 2 * weights[:-1].square().sum()
        (weights.grad,) = torch.autograd.grad(loss, weights)
        return loss

    optimiser.step(closure)
    return weights.detach()


def logits(features: Tensor, weights: Tensor) -> Tensor:
    return torch.addmm(weights[-1], features, weights[:-1])


def linear_layer(inputs: int, classes: int, seed: int) -> nn.Linear:
    """A layer with torch's initial weights, drawn from `seed` on the CPU; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Linear(inputs, classes)


def shuffled_members(labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Each class's indices in a random order, classes in order; the `generator` is on the CPU, whatever the device."""
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    return [indices[torch.randperm(len(indices), generator=generator).to(labels.device)] for indices in members]


@checked_settings
def validation_split(
    labels: Tensor, share: Annotated[float, Bounds(above=0, below=1)] = 0.2, seed: Seed = 0
) -> tuple[Tensor, Tensor]:
    """A stratified split at random: (fit, held_out) indices in increasing order, int64, on the device of `labels`.

    Each class of n images holds out round(share * n), but at least 1 and at most n - 1; a class with a single image
    holds out none.

    Raises: ValueError: on a share outside (0, 1), labels below 0, or if no class has two images.

    >>> fit, held_out = validation_split(torch.tensor([0, 0, 0, 1, 1, 1]), share=1 / 3)
    >>> len(fit), len(held_out)
    (4, 2)
    """
    check_tensor(labels, "labels")
    check_labels(labels, labels.numel())
    check_pairs(labels)
    fit, held_out = [], []
    for members in shuffled_members(labels, torch.Generator().manual_seed(seed)):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held_out.append(members[:count])
        fit.append(members[count:])
    return torch.cat(fit).sort().values, torch.cat(held_out).sort().values


def check_pairs(labels: Tensor) -> None:
    """At least one class has two images, one to fit and one to hold out."""
    classes, counts = labels.unique(return_counts=True)
    if counts.max() < 2:
        names = ", ".join(map(str, classes[:10].tolist())) + (", ..." if len(classes) > 10 else "")
        raise ValueError(
            f"Each class has a single image (classes {names}): pass at least 2 images of a class, one to fit and one "
            "to hold out."
        )
