"""Exercises of chapter 08; in the mistakes: cosines c, temperature t, k successes of n, outcomes a and b."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from emc2_lite.course.exercise import Exercise
from emc2_lite.evaluation import knn_accuracy, wilson
from emc2_lite.laboratory import of_seeds


def _vote(cosines, labels, temperature):
    return labels.bincount(((cosines - cosines.max()) / temperature).exp()).argmax()


def _overflowing(cosines, labels, temperature):
    return labels.bincount((cosines / temperature).exp()).argmax()


def _one_of_each_class(cosines, labels, temperature):
    votes = torch.zeros(int(labels.max()) + 1)
    votes[labels] += ((cosines - cosines.max()) / temperature).exp()
    return votes.argmax()


def _mean_of_each_class(cosines, labels, temperature):
    weights = ((cosines - cosines.max()) / temperature).exp()
    return (labels.bincount(weights) / labels.bincount().clamp_min(1)).argmax()


vote = Exercise(
    "vote",
    _vote,
    cases=[
        *((torch.tensor([0.99, 0.8, 0.8, 0.8, 0.7]), torch.tensor([2, 0, 0, 0, 1]), t) for t in (0.07, 1.0)),
        (torch.tensor([0.9, 0.85, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 0, 0, 0]), 0.1),
        (torch.tensor([0.999, 0.9985, 0.9984]), torch.tensor([0, 1, 1]), 0.01),
        (torch.tensor([0.6, 0.5]), torch.tensor([1, 0]), 0.001),
        (torch.tensor([0.9, 0.89, 0.88, 0.87, 0.87]), torch.tensor([1, 7, 3, 5, 5]), 0.07),
        (torch.tensor([0.5, 0.5, 0.9, 0.5, 0.85]), torch.tensor([4, 4, 12, 4, 12]), 0.1),
        (torch.tensor([-0.2, -0.3, -0.3]), torch.tensor([9, 2, 2]), 0.5),
        (torch.tensor([0.99, 0.98, 0.98]), torch.tensor([7, 3, 3]), 0.001),
        *((torch.tensor([0.9501, 0.95, 0.95]), torch.tensor(labels), 0.001) for labels in ([2, 5, 5], [5, 2, 2])),
        (torch.tensor([-0.1, -0.6]), torch.tensor([8, 3]), 0.07),
        (torch.tensor([0.8]), torch.tensor([6]), 0.07),
        # The class of most votes has the nearest and a distant one: its sum wins, its last weight alone loses. Then its
        # mean loses too; then it wins.
        (torch.tensor([0.9, 0.85, 0.2]), torch.tensor([3, 0, 3]), 0.1),
        (torch.tensor([0.9, 0.81, 0.78]), torch.tensor([1, 4, 1]), 0.1),
    ],
    mistakes={
        "A class with several neighbours gets the weight of one alone: w[labels] += weights adds a repeated index "
        "once; use bincount or index_add_": _one_of_each_class,
        "This is the mean weight of a class: take the sum": _mean_of_each_class,
        "Every neighbour has the same weight here: weigh each by exp(cosine / temperature)": (
            lambda c, labels, t: labels.bincount().argmax()
        ),
        "Only the nearest neighbour votes: let every neighbour vote": lambda c, labels, t: labels[c.argmax()],
        "This weighs by exp(cosine): divide by the temperature first": lambda c, labels, t: _vote(c, labels, 1.0),
        "exp of a large number is infinite: subtract the largest cosine first, the winner stays the same": _overflowing,
        "exp of 950 is infinite in float64 too: subtract the largest cosine first, the winner stays the same": (
            lambda c, labels, t: _overflowing(c.double(), labels, t)
        ),
        "This is the winner's place in the list of the classes that occur: return the class itself": (
            lambda c, labels, t: _vote(c, labels.unique(return_inverse=True)[1], t)
        ),
    },
    runs="The next cell",
)


class _Watch(TorchFunctionMode):
    """Notes the largest matrix of queries by stored points that torch makes, and whether it sorts all of a row."""

    def __init__(self, points: int, k: int):
        super().__init__()
        self.points, self.k, self.most, self.sorted = points, k, 0, False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        name = getattr(func, "__name__", "")
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Tensor):
                if part.dim() == 2 and self.points in part.shape:
                    self.most = max(self.most, part.numel() // self.points)
                full = name in ("sort", "argsort", "msort") and self.points in part.shape
                self.sorted |= full or (name == "topk" and max(part.shape) >= self.points > self.k)
        return result


def _watched(classify, features, labels, queries, k, temperature, block):
    """The classes, and in words how many similarities there were at once and whether all of them were sorted."""
    watch = _Watch(len(features), k)
    with watch:
        classes = classify(features, labels, queries, k, temperature, block)
    if classes is None or classes is ...:
        return classes
    once = "a block of queries" if watch.most <= block else f"{watch.most} queries"
    order = "all of them sorted" if watch.sorted else "the largest picked out"
    return classes, f"similarities of {once} at once", order


def _largest(cosines):
    return cosines[:, :1]


def _classify(
    features,
    labels,
    queries,
    k,
    temperature,
    block,
    *,
    pick=torch.topk,
    normalise=F.normalize,
    largest=_largest,
    add=Tensor.scatter_add_,
):
    classes = []
    for part in queries.split(block):
        cosines, nearest = pick(normalise(part, dim=1) @ normalise(features, dim=1).T, k)
        weights = ((cosines - largest(cosines)) / temperature).exp()
        votes = add(weights.new_zeros(len(part), int(labels.max()) + 1), 1, labels[nearest], weights)
        classes.append(votes.argmax(dim=1))
    return torch.cat(classes)


def _by_sorting(similarities, k):
    order = similarities.argsort(dim=1, descending=True)[:, :k]
    return similarities.gather(1, order), order


def _points(seed, classes, count=60, queries=45, width=4):
    """Clusters of points at random distances from the origin: features (60, 4), labels (60,), queries (45, 4)."""
    generator = torch.Generator().manual_seed(seed)
    names = torch.tensor(classes)
    middles = torch.randn(len(classes), width, generator=generator)
    which, asked = (torch.randint(len(classes), (n,), generator=generator) for n in (count, queries))
    points = [middles[w] + torch.randn(len(w), width, generator=generator) for w in (which, asked)]
    lengths = [0.2 + 3 * torch.rand(len(w), 1, generator=generator) for w in (which, asked)]
    return points[0] * lengths[0], names[which], points[1] * lengths[1]


classify = Exercise(
    "classify",
    _classify,
    cases=[
        (*_points(0, [0, 1, 2, 3]), 5, 0.07, 7),
        (*_points(1, [0, 1, 2, 3]), 1, 0.07, 10),
        (*_points(2, [0, 1, 2]), 20, 1.0, 16),
        (*_points(3, [0, 1, 2, 3]), 10, 0.001, 8),
        (*_points(4, [2, 5, 9]), 7, 0.1, 44),
        (*_points(5, [0, 1, 2, 3]), 15, 0.02, 10),
    ],
    mistakes={
        "All similarities are made at once: split the queries into blocks": (
            lambda features, labels, queries, k, t, block: _classify(features, labels, queries, k, t, len(queries))
        ),
        "A full sort is not needed: topk finds the k largest": lambda *inputs: _classify(*inputs, pick=_by_sorting),
        "These are dot products: divide features and queries by their lengths first": (
            lambda *inputs: _classify(*inputs, normalise=lambda points, dim: points)
        ),
        "Every neighbour has the same weight here: weigh each by exp(cosine / temperature)": (
            lambda features, labels, queries, k, t, block: _classify(features, labels, queries, k, 1e9, block)
        ),
        "A class with several neighbours gets the weight of one alone: votes[rows, labels] += weights adds a repeated "
        "index once; use scatter_add_ or bincount": lambda *inputs: _classify(*inputs, add=Tensor.scatter_),
        "Only the nearest neighbour votes: let all k vote": (
            lambda features, labels, queries, k, t, block: _classify(features, labels, queries, 1, t, block)
        ),
        "This weighs by exp(cosine): divide by the temperature first": (
            lambda features, labels, queries, k, t, block: _classify(features, labels, queries, k, 1.0, block)
        ),
        "This is the winner's place in the list of the classes that occur: return the class itself": (
            lambda features, labels, *rest: _classify(features, labels.unique(return_inverse=True)[1], *rest)
        ),
        "exp of a large number is infinite: subtract each query's largest cosine first": (
            lambda *inputs: _classify(*inputs, largest=lambda cosines: 0.0)
        ),
        "topk with largest=False finds the k least similar": (
            lambda *inputs: _classify(*inputs, pick=lambda similarities, k: similarities.topk(k, largest=False))
        ),
    },
    runs="Each 1-NN and 20-NN number below",
    drive=_watched,
)


def _objective(weights, features, labels, l2, *, decayed=slice(0, -1), half=0.5, mean=1.0, slope=1.0):
    scores = features @ weights[:-1] + weights[-1]
    penalty = torch.zeros_like(weights)
    penalty[decayed] = weights[decayed]
    error = scores.softmax(dim=1) - F.one_hot(labels, weights.shape[1])
    share = mean / len(labels)
    value = F.cross_entropy(scores, labels, reduction="sum") * share + half * l2 * penalty.square().sum()
    gradient = torch.cat((features.T @ error, error.sum(dim=0, keepdim=True))) * share * slope
    return value, gradient + 2 * half * l2 * penalty


def _without_the_largest(weights, features, labels, l2):
    value, gradient = _objective(weights, features, labels, l2)
    scores = features @ weights[:-1] + weights[-1]
    return value - scores.logsumexp(1).mean() + scores.exp().sum(1).log().mean(), gradient


def _probe(seed, count, width, classes, l2, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    weights = scale * torch.randn(width + 1, classes, generator=generator, dtype=torch.float64)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return weights, features, torch.randint(max(2, classes - 1), (count,), generator=generator), l2


probe_objective = Exercise(
    "probe_objective",
    _objective,
    cases=[
        _probe(0, 12, 3, 4, 0.1),
        _probe(1, 5, 2, 3, 1.0),
        _probe(2, 30, 6, 2, 1e-3),
        _probe(3, 8, 3, 5, 0.01, scale=500.0),
        _probe(4, 7, 4, 3, 0.0),
    ],
    mistakes={
        "The penalty is for the weights alone: leave out the last row, the biases": (
            lambda w, x, y, l2: _objective(w, x, y, l2, decayed=slice(None))
        ),
        "The penalty is l2 / 2 times the sum of squares: a half is missing": (
            lambda w, x, y, l2: _objective(w, x, y, l2, half=1.0)
        ),
        "This is the sum over the images: take the mean": (
            lambda w, x, y, l2: _objective(w, x, y, l2, mean=float(len(y)))
        ),
        "The value is a mean, and the gradient a sum: divide by n": (
            lambda w, x, y, l2: _objective(w, x, y, l2, slope=float(len(y)))
        ),
        "The error has the wrong sign: it is the softmax minus the 1 at the image's class": (
            lambda w, x, y, l2: _objective(w, x, y, l2, slope=-1.0)
        ),
        "The gradient lacks the penalty's part, l2 times the weights": (
            lambda w, x, y, l2: (_objective(w, x, y, l2)[0], _objective(w, x, y, 0.0)[1])
        ),
        "The penalty is missing": lambda w, x, y, l2: _objective(w, x, y, 0.0),
        "The whole gradient has the wrong sign: it must point to where the objective grows": (
            lambda w, x, y, l2: (_objective(w, x, y, l2)[0], -_objective(w, x, y, l2)[1])
        ),
        "exp of a large score is infinite: use logsumexp, or cross_entropy": _without_the_largest,
    },
    runs="The next cell",
)


score_interval = Exercise(
    "score_interval",
    lambda successes, count: wilson(successes, count)[1:],
    cases=[(350, 360), (10, 10), (0, 20), (5, 10), (7800, 8000)],
    tolerance=2e-5,  # the library has more digits of 1.96
    mistakes={
        "This is the plain interval, with the measured share under the root: the true one belongs there (at 10 of 10 "
        "it is a single point)": (
            lambda k, n: tuple(k / n + z * (k / n * (1 - k / n) / n) ** 0.5 for z in (-1.96, 1.96))
        ),
        "Divide by 1 + 1.96^2 / n at the end": lambda k, n: tuple(x * (1 + 1.96**2 / n) for x in wilson(k, n)[1:]),
        "With 1 in the place of 1.96 the interval covers 68 %, not 95 %": (
            lambda k, n: wilson(k, n, math.erf(0.5**0.5))[1:]
        ),
        "The centre is shifted towards one half: add 1.96^2 / 2n to the share before you divide": (
            lambda k, n: tuple(x - 1.96**2 / (2 * n) / (1 + 1.96**2 / n) for x in wilson(k, n)[1:])
        ),
    },
    runs="Each interval of an accuracy below",
)


def _mean(a, b):
    return (a.double() - b.double()).mean()


def _reach(a, b, correction=1):
    return 1.96 * (a.double() - b.double()).std(correction=correction) / len(a) ** 0.5


def _right(share, count, seed):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share


_A = _right(0.9, 300, 0)
paired_difference = Exercise(
    "paired_difference",
    lambda first, second: (_mean(first, second), _reach(first, second)),
    also_right=[lambda first, second: (_mean(first, second), _reach(first, second, 0))],  # either deviation will do
    cases=[
        (_A, _A ^ _right(0.05, 300, 1)),
        (_right(0.7, 50, 2), _right(0.5, 50, 3)),
        (_right(0.5, 50, 3), _right(0.7, 50, 2)),
        (_A, _A),
        (torch.tensor([True, True, False, True]), torch.tensor([True, False, False, False])),
    ],
    mistakes={
        "This adds the errors of two test sets, but both encoders saw the same images: take differences first": (
            lambda a, b: (_mean(a, b), 1.96 * ((a.double().var() + b.double().var()) / len(a)) ** 0.5)
        ),
        "This is the spread of single images: divide by the square root of their number": (
            lambda a, b: (_mean(a, b), _reach(a, b) * len(a) ** 0.5)
        ),
        "This is the second minus the first: take the first minus the second": lambda a, b: (_mean(b, a), _reach(a, b)),
        "The sign says which encoder is better: take no absolute value": lambda a, b: (_mean(a, b).abs(), _reach(a, b)),
        "This counts the images on which the two differ: the first minus the second keeps the sign": (
            lambda a, b: ((a ^ b).double().mean(), _reach(a, b))
        ),
        "This is one standard error: 95 % reaches 1.96 of them": lambda a, b: (_mean(a, b), _reach(a, b) / 1.96),
    },
    runs="The next cell",
)


def _around(values, factor, error=None):
    error = values.std() / len(values) ** 0.5 if error is None else error
    return values.mean(), values.mean() - factor * error, values.mean() + factor * error


def _student(count, share=0.975):
    return float(stdtrit(count - 1, share))


def _values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


seed_interval = Exercise(
    "seed_interval",
    lambda values: of_seeds(values.tolist()),
    cases=[
        (_values(0.962, 0.971, 0.968),),
        (_values(-0.02, 0.01, 0.03, 0.02, -0.005),),
        (_values(3.0, 5.0),),
        (_values(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0),),
        (_values(0.5, 0.5, 0.5, 0.5),),
    ],
    mistakes={
        "1.96 is for many values: three or five seeds need Student's factor, student.ppf(0.975, n - 1)": (
            lambda values: _around(values, 1.96)
        ),
        "Student's factor belongs to n - 1, not to n": lambda values: _around(values, _student(len(values) + 1)),
        "95 % leaves 2.5 % on each side: take the factor at 0.975, not at 0.95": (
            lambda values: _around(values, _student(len(values), 0.95))
        ),
        "This is the spread of single seeds: divide by the square root of their number": (
            lambda values: _around(values, _student(len(values)), values.std())
        ),
        "The deviation of a sample divides by n - 1: correction=1, torch's default": (
            lambda values: _around(values, _student(len(values)), values.std(correction=0) / len(values) ** 0.5)
        ),
        "These are the lowest and the highest seed: take the mean and Student's factor": (
            lambda values: (values.mean(), values.min(), values.max())
        ),
    },
    runs="The next figure",
)


def _accuracy(known, labels, new, new_labels, k):
    return knn_accuracy(known, labels, new, new_labels, k=k).value


def _tried_on(checkpoints, labels, fit, held_out, new_labels):
    """Rows (held-out accuracy, number, k) of each checkpoint and k."""
    return [
        (_accuracy(known[fit], labels[fit], known[held_out], labels[held_out], k), number, k)
        for number, (known, _) in enumerate(checkpoints)
        for k in (1, 5, 20)
    ]


def _highest(rows):
    """The first row of the highest held-out accuracy."""
    return max(rows, key=lambda row: row[0])


def _reported(number, k, checkpoints, labels, fit, held_out, new_labels):
    known, new = checkpoints[number]
    return number, _accuracy(known[fit], labels[fit], new, new_labels, k)


def _best_checkpoint(checkpoints, labels, fit, held_out, new_labels):
    inputs = checkpoints, labels, fit, held_out, new_labels
    return _reported(*_highest(_tried_on(*inputs))[1:], *inputs)


def _chosen_on_the_test_images(checkpoints, labels, fit, held_out, new_labels):
    best, reported = 0, 0.0
    for number, (known, new) in enumerate(checkpoints):
        held = (known[held_out], labels[held_out])
        tried = {k: _accuracy(known[fit], labels[fit], *held, k) for k in (1, 5, 20)}
        k = max(tried, key=lambda k: tried[k])
        reached = _accuracy(known[fit], labels[fit], new, new_labels, k)
        if reached > reported:
            best, reported = number, reached
    return best, reported


def _held_out_reported(*inputs):
    highest, number, _ = _highest(_tried_on(*inputs))
    return number, highest


def _k_on_the_test_images(*inputs):
    number = _highest(_tried_on(*inputs))[1]
    return number, max(_reported(number, k, *inputs)[1] for k in (1, 5, 20))


def _among_themselves(checkpoints, labels, fit, held_out, new_labels):
    tried = {
        (number, k): _accuracy(known, labels, known[held_out], labels[held_out], k)
        for number, (known, _) in enumerate(checkpoints)
        for k in (1, 5, 20)
    }
    place = max(tried, key=lambda pair: tried[pair])
    return _reported(*place, checkpoints, labels, fit, held_out, new_labels)


def _last_of_equals(*inputs):
    """The last checkpoint and the last k of the highest held-out accuracy."""
    return _reported(*_highest(_tried_on(*inputs)[::-1])[1:], *inputs)


def _last_equal_checkpoint(*inputs):
    rows = _tried_on(*inputs)
    number = _highest(rows[::-1])[1]
    return _reported(number, _highest([row for row in rows if row[1] == number])[2], *inputs)


def _last_equal_k(*inputs):
    rows = _tried_on(*inputs)
    number = _highest(rows)[1]
    return _reported(number, _highest([row for row in rows[::-1] if row[1] == number])[2], *inputs)


def _last_one(checkpoints, *rest):
    return _reported(len(checkpoints) - 1, _highest(_tried_on(checkpoints[-1:], *rest))[2], checkpoints, *rest)


def _run(seed, count=7, images=90):
    """Checkpoints of a run: pairs of features, labels, the images to fit and those held out, and the test labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (images,), generator=generator)
    new_labels = torch.randint(3, (40,), generator=generator)
    checkpoints = []
    for _ in range(count):
        middles = torch.randn(3, 4, generator=generator)
        parts = [middles[of] + 1.2 * torch.randn(len(of), 4, generator=generator) for of in (labels, new_labels)]
        checkpoints.append(tuple(parts))
    order = torch.randperm(images, generator=generator)
    return checkpoints, labels, order[30:], order[:30], new_labels


best_checkpoint = Exercise(
    "best_checkpoint",
    _best_checkpoint,
    # The highest held-out accuracy is that of one pair in the first three, of two checkpoints, of two k.
    cases=[_run(seed) for seed in (1, 19, 45, 71, 49)],
    mistakes={
        "The bug is still in it: the checkpoint is chosen by the number that is then reported": (
            _chosen_on_the_test_images
        ),
        "The checkpoint is right, but this is its held-out accuracy, the largest of many lucky draws: report the test "
        "images'": _held_out_reported,
        "The checkpoint is right, but k is still chosen on the test images: keep the k that was best on the held-out "
        "images": _k_on_the_test_images,
        "The held-out images are among their own neighbours: look for neighbours among the images of fit alone": (
            _among_themselves
        ),
        "Of equally good ones the first is kept: compare with >": _last_of_equals,
        "Of equally good checkpoints the first is kept: compare with >": _last_equal_checkpoint,
        "Of equally good k the smallest is kept: compare with >": _last_equal_k,
        "This is the last checkpoint: take the one that is best on the held-out images": _last_one,
    },
    runs="The next cell",
)


MOST_ALARMS, LEAST_FOUND, LEAST_HELD = 10, 80, 90  # of 100 simulated tables


def _at_equal_price(first, second) -> list[Tensor]:
    """The outcomes (..., S, n) of each method's last checkpoint within the price that both have paid."""
    last = _last_within(first["price"], second["price"])
    return [method["right"][..., place, :, :].double() for method, place in zip((first, second), last, strict=True)]


def _last_within(*prices):
    """The place of each method's last checkpoint within the price that both have paid."""
    limit = min(price[-1] for price in prices)
    return [int((price <= limit).sum()) - 1 for price in prices]


def _claimed(difference, reach):
    low, high = difference - reach, difference + reach
    return difference, low, high, (low > 0) * 1.0 - (high < 0) * 1.0


def _with_both_kinds_of_luck(a, b, factor=None):
    difference = a - b
    *_, seeds, images = difference.shape
    error = difference.mean(-1).std(-1) / seeds**0.5
    reach = 1.96 * difference.mean(-2).std(-1) / images**0.5
    factor = _student(seeds) if factor is None else factor
    return _claimed(difference.mean((-2, -1)), ((factor * error) ** 2 + reach**2) ** 0.5)


def _claim(first, second):
    return _with_both_kinds_of_luck(*_at_equal_price(first, second))


def _of_images(a, b):
    difference = a.mean(0) - b.mean(0)
    return _claimed(difference.mean(), 1.96 * difference.std() / len(difference) ** 0.5)


def _of_seeds(a, b):
    mean, low, high = of_seeds((a - b).mean(1).tolist())
    return _claimed(torch.tensor(mean), torch.tensor(high - low) / 2)


def _unpaired(a, b):
    squares = torch.tensor(0.0, dtype=torch.float64)
    for part in (a, b):
        seeds, images = part.shape
        squares += (_student(seeds) * part.mean(1).std()) ** 2 / seeds + 1.96**2 * part.mean(0).var() / images
    return _claimed((a - b).mean(), squares.sqrt())


def _pooled(a, b):
    return _claimed((a - b).mean(), 1.96 * (a - b).std() / (a - b).numel() ** 0.5)


def _bootstrapped(a, b, draws=200):
    generator = torch.Generator().manual_seed(0)

    def shares(count):
        drawn = torch.randint(count, (draws, count), generator=generator)
        share = torch.full_like(drawn, 1 / count, dtype=torch.float64)
        return torch.zeros_like(share).scatter_add_(1, drawn, share)

    means = ((shares(len(a)) @ (a - b)) * shares(a.shape[1])).sum(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return (a - b).mean(), low, high, (low > 0) * 1.0 - (high < 0) * 1.0


def _then(judge: Callable, pick: Callable = _at_equal_price) -> Callable:
    return lambda first, second: judge(*pick(first, second))


def _last(first, second):
    return [method["right"][-1].double() for method in (first, second)]


def _same_number(first, second):
    number = min(len(first["price"]), len(second["price"])) - 1
    return [method["right"][number].double() for method in (first, second)]


def _nearest_to_the_limit(first, second):
    limit = min(first["price"][-1], second["price"][-1])
    return [method["right"][(method["price"] - limit).abs().argmin()].double() for method in (first, second)]


def _in_a_word(first, second):
    *numbers, verdict = _claim(first, second)
    return *numbers, {1: "ahead", -1: "behind", 0: "no difference"}[int(verdict)]


def _simulated(first, second, *, seeds, images, alike=1.0, own=0.1, luck=0.05, seed=0, tables=100) -> tuple:
    """Two methods, each given by the prices and true accuracies of its checkpoints, with their outcomes.

    "right" is (tables, checkpoints, seeds, images): true where a normal number is positive, the sum of the accuracy's
    quantile, the image's ease for both methods (deviation `alike`) and for one (`own`), the luck of the method's seed
    (`luck`) and a draw of its own (1).
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(tables, *shape, generator=generator)

    ease, methods = alike * normal(1, 1, images), []
    for price, accuracy in (first, second):
        quantiles = torch.special.ndtri(torch.tensor(accuracy)) * (1 + alike**2 + own**2 + luck**2) ** 0.5
        effects = ease + own * normal(1, 1, images) + luck * normal(1, seeds, 1)
        right = quantiles.view(-1, 1, 1) + effects + normal(len(accuracy), seeds, images) > 0
        methods.append({"price": torch.tensor(price), "accuracy": accuracy, "right": right})
    return tuple(methods)


def _tried(claim, first, second) -> Any:
    """The claims on all tables as four values, one for each number of a claim: differences, then three in words.

    The words are those of a right claim where they are right.
    """
    claims, worded = [], False
    for a, b in zip(first["right"], second["right"], strict=True):
        answer = claim(*({"price": method["price"].clone(), "right": r} for method, r in ((first, a), (second, b))))
        if not isinstance(answer, tuple | list | np.ndarray | Tensor) or len(answer) != 4:
            return answer
        worded |= isinstance(answer[3], str)
        claims.append([math.nan if isinstance(part, str) else float(part) for part in answer])
    difference, low, high, verdict = torch.tensor(claims, dtype=torch.float64).T
    places = _last_within(first["price"], second["price"])
    truth = first["accuracy"][places[0]] - second["accuracy"][places[1]]
    around = (low <= difference) & (difference <= high)
    follows = verdict == (low > 0) * 1.0 - (high < 0) * 1.0
    if truth == 0:
        found = f"a false alarm in {_in_words(verdict != 0, MOST_ALARMS, most=True)}"
    else:
        found = f"the difference found in {_in_words(verdict == (1 if truth > 0 else -1), LEAST_FOUND)}"
    return [
        difference,
        f"the truth held in {_in_words((low <= truth) & (truth <= high), LEAST_HELD)}",
        f"the difference between low and high in {_in_words(around, len(around))}",
        "a word"
        if worded
        else f"a verdict that follows from its interval in {_in_words(follows, len(follows))}, {found}",
    ]


def _in_words(happened: Tensor, limit: int, most: bool = False) -> str:
    """How often it happened; where the limit is kept, the limit."""
    count = int(happened.sum())
    kept = count <= limit if most else count >= limit
    bound = "all" if limit == len(happened) else f"at {'most' if most else 'least'} {limit}"
    return f"{bound if kept else count} of {len(happened)} tables"


claim = Exercise(
    "claim",
    _claim,
    cases=[
        _simulated(([100], [0.9]), ([100], [0.9]), seeds=3, images=800, luck=0.7, seed=0),
        _simulated(([100], [0.9]), ([100], [0.9]), seeds=5, images=150, own=1.5, seed=1),
        _simulated(
            ([150, 300, 450], [0.85, 0.92, 0.95]),
            ([100, 200, 300], [0.8, 0.86, 0.89]),
            seeds=5,
            images=600,
            alike=3.0,
            luck=0.02,
            seed=2,
        ),
        _simulated(
            ([100, 200, 300], [0.8, 0.85, 0.9]),
            ([140, 280, 310, 560], [0.84, 0.9, 0.94, 0.96]),  # the nearest to 300 is 310
            seeds=5,
            images=300,
            seed=3,
        ),
        _simulated(([100], [0.8]), ([100], [0.84]), seeds=4, images=800, alike=3.0, luck=0.02, seed=4),
    ],
    mistakes={
        "One seed: the luck of the other seeds is left out": _then(lambda a, b: _of_images(a[:1], b[:1])),
        "The luck of the images alone: other seeds could turn the difference round": _then(_of_images),
        "The luck of the seeds alone: they share the test images, and other images could turn the difference round": (
            _then(_of_seeds)
        ),
        "Unpaired: both methods saw the same images, so take the difference image by image": _then(_unpaired),
        "Seeds times images are counted as if all were independent: an image stays hard in every seed": _then(_pooled),
        "The last checkpoints have different prices: compare at the price that both have paid": _then(
            _with_both_kinds_of_luck, _last
        ),
        "This checkpoint has cost more than the lower of the two final prices: take the last that has not": _then(
            _with_both_kinds_of_luck, _nearest_to_the_limit
        ),
        "This compares at an equal number of checkpoints: compare at an equal price": _then(
            _with_both_kinds_of_luck, _same_number
        ),
        "1.96 for so few seeds is too small: take Student's factor for the luck of the seeds": _then(
            lambda a, b: _with_both_kinds_of_luck(a, b, 1.96)
        ),
        "A bootstrap of three seeds is too narrow: take Student's factor for the luck of the seeds": (
            _then(_bootstrapped)
        ),
        "The verdict is a word: return 1, 0 or -1 as the fourth number": _in_a_word,
        "This is the second minus the first": _then(lambda a, b: _with_both_kinds_of_luck(b, a)),
    },
    runs="The last cell",
    drive=_tried,
)
