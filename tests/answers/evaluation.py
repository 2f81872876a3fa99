"""Right and wrong answers to the exercises of chapter 08.

Letters: k of n successes; cosines c, labels y; a and b say which images two encoders classify correctly; w weights of a
probe and x its features.
"""

import math

import numpy as np
import torch
from scipy.stats import t as student
from torch.nn import functional as F

from emc2_lite.course.checks import evaluation
from emc2_lite.evaluation import knn_accuracy, nearest_neighbours, wilson
from emc2_lite.laboratory import of_seeds


def log_votes(cosines, labels, temperature):
    return max(labels.unique(), key=lambda label: (cosines[labels == label] / temperature).logsumexp(0))


def votes_by_name(cosines, labels, temperature):
    votes = {}
    for cosine, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        votes[label] = votes.get(label, 0) + math.exp((cosine - cosines.max().item()) / temperature)
    return max(votes, key=votes.get)


def classified_one_by_one(features, labels, queries, k, temperature, block):
    classes = []
    for query in queries:
        cosines, nearest = F.cosine_similarity(features, query[None], dim=1).topk(k)
        classes.append(log_votes(cosines, labels[nearest], temperature))
    return torch.stack(classes)


def classified_by_the_library(features, labels, queries, k, temperature, block):
    cosines, nearest = nearest_neighbours(features, queries, k, chunk_size=block)
    return [int(log_votes(c, labels[n], temperature)) for c, n in zip(cosines, nearest, strict=True)]


def classified_in_numpy(features, labels, queries, k, temperature, block):
    x, y, asked = features.double().numpy(), labels.numpy(), queries.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    classes = []
    for start in range(0, len(asked), block):
        part = asked[start : start + block]
        cosines = part / np.linalg.norm(part, axis=1, keepdims=True) @ x.T
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        best = np.take_along_axis(cosines, nearest, 1)
        weights = np.exp((best - best.max(1, keepdims=True)) / temperature)
        votes = (weights[:, :, None] * (y[nearest][:, :, None] == np.arange(y.max() + 1))).sum(1)
        classes.append(votes.argmax(1))
    return np.concatenate(classes)


def objective_by_autograd(weights, features, labels, l2):
    weights = weights.clone().requires_grad_()
    scores = features @ weights[:-1] + weights[-1]
    picked = scores.gather(1, labels[:, None])[:, 0]
    value = (scores.logsumexp(1) - picked).mean() + 0.5 * l2 * weights[:-1].pow(2).sum()
    return value.detach(), torch.autograd.grad(value, weights)[0]


def objective_by_loops(weights, features, labels, l2):
    value, gradient = l2 / 2 * float((weights[:-1] ** 2).sum()), l2 * weights
    gradient[-1] = 0
    for row, label in zip(features, labels, strict=True):
        scores = row @ weights[:-1] + weights[-1]
        value += float(scores.logsumexp(0) - scores[label]) / len(labels)
        error = scores.softmax(0)
        error[label] -= 1
        gradient += torch.outer(torch.cat((row, torch.ones(1))), error) / len(labels)
    return value, gradient


def population_deviation(a, b):
    difference = a.float() - b.float()
    return torch.stack((difference.mean(), 1.96 * difference.std(correction=0) / math.sqrt(len(a))))


def counted_differences(a, b):
    n, only_a, only_b = len(a), (a & ~b).sum().item(), (b & ~a).sum().item()
    mean = (only_a - only_b) / n
    return [mean, 1.96 * math.sqrt(((only_a + only_b) / n - mean**2) / (n - 1))]


def interval_by_scipy(values):
    values = values.numpy()
    error = values.std(ddof=1) / math.sqrt(len(values))
    if error == 0:
        return (values.mean(),) * 3
    return values.mean(), *student.interval(0.95, len(values) - 1, values.mean(), error)


def held_out_first(checkpoints, labels, fit, held_out, new_labels):
    def accuracy(number, new, classes, k):
        known = checkpoints[number][0][fit]
        return knn_accuracy(known, labels[fit], new, classes, k=k).value

    held = [known[held_out] for known, _ in checkpoints]
    pairs = [(number, k) for number in range(len(held)) for k in (1, 5, 20)]
    number, k = max(pairs, key=lambda pair: accuracy(pair[0], held[pair[0]], labels[held_out], pair[1]))
    return number, accuracy(number, checkpoints[number][1], new_labels, k)


def mended_in_place(checkpoints, labels, fit, held_out, new_labels):
    best, highest, reported = 0, 0.0, 0.0
    for number, (known, new) in enumerate(checkpoints):
        seen = (known[fit], labels[fit])
        tried = {k: knn_accuracy(*seen, known[held_out], labels[held_out], k=k).value for k in (1, 5, 20)}
        k = max(tried, key=tried.get)
        if tried[k] > highest:
            best, highest = number, tried[k]
            reported = knn_accuracy(*seen, new, new_labels, k=k).value
    return best, reported


def at_equal_price(first, second):
    limit = min(max(first["price"].tolist()), max(second["price"].tolist()))
    return [
        method["right"][[price <= limit for price in method["price"].tolist()].count(True) - 1].double()
        for method in (first, second)
    ]


def outside_of_both(first, second):
    """The wider of the two intervals, a t interval over images too."""
    a, b = at_equal_price(first, second)
    intervals = [of_seeds((a - b).mean(dim).tolist()) for dim in (0, 1)]
    low, high = min(i.low for i in intervals), max(i.high for i in intervals)
    return [intervals[0].value, low, high, 1 if low > 0 else -1 if high < 0 else 0]


def variances_added(first, second):
    """One standard error of both, with Student's factor for the whole."""
    a, b = at_equal_price(first, second)
    d = (a - b).numpy()
    error = math.sqrt(d.mean(1).var(ddof=1) / len(d) + d.mean(0).var(ddof=1) / d.shape[1])
    reach = student.ppf(0.975, len(d) - 1) * error
    mean = d.mean()
    return np.array([mean, mean - reach, mean + reach, (mean > reach) * 1 - (mean < -reach) * 1])


RIGHT = [
    (evaluation.score_interval, lambda successes, n: torch.tensor(wilson(successes, n)[1:])),
    (evaluation.score_interval, lambda successes, n: list(wilson(successes, n)[1:])),
    (evaluation.vote, log_votes),
    (evaluation.vote, votes_by_name),
    (evaluation.vote, lambda c, labels, t: labels.bincount((c / t).softmax(0)).argmax().item()),
    (evaluation.classify, classified_one_by_one),
    (evaluation.classify, classified_by_the_library),
    (evaluation.classify, classified_in_numpy),
    (evaluation.probe_objective, objective_by_autograd),
    (evaluation.probe_objective, objective_by_loops),
    (evaluation.paired_difference, population_deviation),
    (evaluation.paired_difference, counted_differences),
    (evaluation.seed_interval, lambda values: list(of_seeds(values.tolist()))),
    (evaluation.seed_interval, interval_by_scipy),
    (evaluation.best_checkpoint, held_out_first),
    (evaluation.best_checkpoint, mended_in_place),
    (evaluation.claim, outside_of_both),
    (evaluation.claim, variances_added),
]


def first_largest(score):
    """The class with the largest sum of ``score(c / t)``; among equal sums, the class of the nearest neighbour."""

    def wrong(c, y, t):
        total = dict.fromkeys(y.tolist(), 0.0)
        for label, weight in zip(y.tolist(), score(c / t).tolist(), strict=True):
            total[label] += weight
        return max(total, key=total.get)

    return wrong


def sums(c, y, t):
    return y.bincount(((c - c.max()) / t).exp())


def classified_by_distance(features, labels, queries, k, temperature, block):
    near = [torch.cdist(part, features).topk(k, largest=False) for part in queries.split(block)]
    distances, nearest = (torch.cat(parts) for parts in zip(*near, strict=True))
    return torch.stack([sums(-d, labels[n], temperature).argmax() for d, n in zip(distances, nearest, strict=True)])


def classified_in_larger_blocks(features, labels, queries, k, temperature, block):
    cosines, nearest = nearest_neighbours(features, queries, k, chunk_size=40)
    return torch.stack([sums(c, labels[n], temperature).argmax() for c, n in zip(cosines, nearest, strict=True)])


def classified_by_topk_of_all(features, labels, queries, k, temperature, block):
    cosines, nearest = nearest_neighbours(features, queries, len(features), chunk_size=block)
    pairs = zip(cosines[:, :k], nearest[:, :k], strict=True)
    return torch.stack([sums(c, labels[n], temperature).argmax() for c, n in pairs])


def objective(w, x, y, l2):
    return objective_by_autograd(w, x, y, l2)


def transposed_penalty(w, x, y, l2):
    """The penalty on the length of the weights, not on its square."""
    value, gradient = objective_by_autograd(w, x, y, 0.0)
    return value + l2 * w[:-1].norm(), gradient + l2 * w


def difference(a, b):
    return a.double() - b.double()


def reach(a, b):
    return 1.96 * difference(a, b).std() / len(a) ** 0.5


def tried_on_the_test_images(checkpoints, labels, fit, held_out, new_labels):
    """Checkpoint and k by the test images."""
    tried = {
        (number, k): knn_accuracy(known[fit], labels[fit], new, new_labels, k=k).value
        for number, (known, new) in enumerate(checkpoints)
        for k in (1, 5, 20)
    }
    number, _ = max(tried, key=tried.get)
    return number, max(tried.values())


def always_one_neighbour(checkpoints, labels, fit, held_out, new_labels):
    """The right images, and k left at 1."""
    tried = [knn_accuracy(z[fit], labels[fit], z[held_out], labels[held_out], k=1).value for z, _ in checkpoints]
    known, new = checkpoints[tried.index(max(tried))]
    return tried.index(max(tried)), knn_accuracy(known[fit], labels[fit], new, new_labels, k=1).value


def never_sure(first, second):
    a, b = at_equal_price(first, second)
    return (a - b).mean(), -1.0, 1.0, 0


def half_as_wide(first, second):
    mean, low, high, _ = variances_added(first, second)
    low, high = (low + mean) / 2, (high + mean) / 2
    return mean, low, high, (low > 0) * 1 - (high < 0) * 1


def intervals_overlap(first, second):
    """A verdict from two separate intervals, and the interval that goes with it."""
    a, b = at_equal_price(first, second)
    nothing = {"price": torch.tensor([1]), "right": torch.zeros_like(a)[None]}
    one, other = (variances_added({"price": torch.tensor([1]), "right": x[None]}, nothing) for x in (a, b))
    low, high = one[1] - other[2], one[2] - other[1]
    return one[0] - other[0], low, high, (low > 0) * 1 - (high < 0) * 1


def verdict_by_sign(first, second):
    mean, low, high, _ = variances_added(first, second)
    return mean, low, high, 1 if mean > 0 else -1


def dearest_to_be_had(first, second):
    """Each method at its own last checkpoint within the higher of the two final prices."""
    limit = max(first["price"][-1], second["price"][-1])
    parts = [m["right"][int((m["price"] <= limit).sum()) - 1].double() for m in (first, second)]
    return variances_added(*({"price": torch.tensor([1]), "right": part[None]} for part in parts))


WRONG = [
    (evaluation.score_interval, lambda k, n: (0.0, 1.0)),
    (evaluation.score_interval, lambda k, n: (k / n, k / n)),
    (evaluation.score_interval, lambda k, n: (max(0, k / n - 1 / n**0.5), k / n)),
    (evaluation.score_interval, lambda k, n: wilson(k + 2, n + 4)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n)[:0:-1]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9)[1:]),
    (evaluation.score_interval, lambda k, n: wilson(k, n, 0.9545)[1:]),
    (evaluation.score_interval, lambda k, n: tuple(round(bound, 3) for bound in wilson(k, n)[1:])),
    (evaluation.vote, lambda c, y, t: y[0]),
    (evaluation.vote, lambda c, y, t: (sums(c, y, t) / y.bincount().clamp_min(1).sqrt()).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, t).max()),
    (evaluation.vote, lambda c, y, t: sums(c[:3], y[:3], t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c.abs(), y, t).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, t**0.5).argmax()),
    (evaluation.vote, lambda c, y, t: sums(c, y, 0.07).argmax()),
    (evaluation.vote, first_largest(lambda scores: scores.exp())),
    (evaluation.vote, first_largest(lambda scores: scores.double().exp())),
    (evaluation.vote, lambda c, y, t: y.bincount((c / t).clamp(max=80).exp()).argmax()),
    (evaluation.vote, lambda c, y, t: y.max()),
    (evaluation.vote, lambda c, y, t: y[c.argmin()]),
    (evaluation.classify, classified_by_distance),
    (evaluation.classify, classified_in_larger_blocks),
    (evaluation.classify, classified_by_topk_of_all),
    (evaluation.classify, lambda x, y, asked, k, t, block: classified_one_by_one(x, y, asked, k, 0.07, block)),
    (evaluation.classify, lambda x, y, asked, k, t, block: classified_one_by_one(x, y, asked[:block], k, t, block)),
    (evaluation.classify, lambda x, y, asked, k, t, block: classified_one_by_one(x, y, asked, k + 1, t, block)),
    (evaluation.probe_objective, lambda w, x, y, l2: objective(w, x, y, l2)[0]),
    (evaluation.probe_objective, lambda w, x, y, l2: objective(w, x, y, l2)[1]),
    (evaluation.probe_objective, lambda w, x, y, l2: (objective(w, x, y, l2)[0], objective(w, x, y, l2)[1] / len(y))),
    (evaluation.probe_objective, lambda w, x, y, l2: objective(w, x, y, l2 / len(y))),
    (evaluation.probe_objective, lambda w, x, y, l2: (-objective(w, x, y, l2)[0], objective(w, x, y, l2)[1])),
    (evaluation.probe_objective, transposed_penalty),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).clamp_min(0).mean(), reach(a, b))),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * (a ^ b).double().std() / len(a) ** 0.5),
    ),
    (
        evaluation.paired_difference,
        lambda a, b: (difference(a, b).mean(), 1.96 * ((a ^ b).double().mean() / len(a)) ** 0.5),
    ),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean(), -reach(a, b))),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).mean() - reach(a, b), reach(a, b))),
    (evaluation.paired_difference, lambda a, b: difference(a, b).mean()),
    (evaluation.paired_difference, lambda a, b: ((a ^ b).float().mean(), (a ^ b).float().std())),
    (evaluation.paired_difference, lambda a, b: (difference(a, b).sum(), difference(a, b).std() * 1.96)),
    (evaluation.seed_interval, lambda values: of_seeds(values.tolist())[1:]),
    (evaluation.seed_interval, lambda values: of_seeds(values.tolist())[::-1]),
    (evaluation.seed_interval, lambda values: (values.median(), *of_seeds(values.tolist())[1:])),
    (evaluation.seed_interval, lambda values: tuple(round(x, 3) for x in of_seeds(values.tolist()))),
    (evaluation.seed_interval, lambda values: of_seeds(values[:3].tolist())),
    (evaluation.best_checkpoint, tried_on_the_test_images),
    (evaluation.best_checkpoint, always_one_neighbour),
    (evaluation.best_checkpoint, lambda *inputs: (held_out_first(*inputs)[0], 1 - held_out_first(*inputs)[1])),
    (evaluation.best_checkpoint, lambda *inputs: (held_out_first(*inputs)[0] + 1, held_out_first(*inputs)[1])),
    (evaluation.claim, never_sure),
    (evaluation.claim, half_as_wide),
    (evaluation.claim, intervals_overlap),
    (evaluation.claim, verdict_by_sign),
    (evaluation.claim, lambda first, second: variances_added(first, second)[:3]),
    (evaluation.claim, lambda first, second: [*never_sure(first, second)[:3], True]),
    (evaluation.claim, dearest_to_be_had),
    (evaluation.claim, lambda first, second: variances_added(first, second)[[0, 2, 1, 3]]),
]
