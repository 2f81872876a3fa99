"""How many labels good features need."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from emc2_lite.checks import Distinct, Seed, checked_settings
from emc2_lite.evaluation.checks import Count, check_shots, labelled_parts
from emc2_lite.evaluation.probe import STRENGTHS, tuned_probe
from emc2_lite.evaluation.splits import shuffled_members


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

    A row holds `labels_per_class`, `draw` (from 0) and `accuracy` (in [0, 1]). Within a draw, label sets are nested:
    counts differ by their size alone. With 1 label a class none can be held out: the penalty is not tuned but fixed at
    the strongest of the probe's, l2 = 1.

    Args:
        features, labels: (N, f) and (N,) int64, the images whose labels are drawn.
        test_features, test_labels: (M, f) and (M,) int64.

    Raises:
        ValueError: on no counts, a count below 1, over the smallest class or twice, draws below 1, or on parts that do
            not fit (see `labelled_parts`).
    """
    parts = labelled_parts(features, labels, test_features, test_labels)
    check_shots(labels, max(counts), "counts holds")
    features, labels, test_features, test_labels = parts
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
