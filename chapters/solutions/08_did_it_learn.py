"""Solutions of chapter 08. Each passes its check in `emc2_lite.course.checks.evaluation`."""

import torch
from scipy.stats import t as student
from torch.nn import functional as F

from emc2_lite.evaluation import knn_accuracy


def vote(cosines, labels, temperature):
    """The largest cosine is taken off first: exp of a raw score overflows, and the winner stays the same."""
    weights = ((cosines - cosines.max()) / temperature).exp()
    votes = torch.zeros(int(labels.max()) + 1)
    for weight, label in zip(weights, labels, strict=True):
        votes[label] += weight
    return votes.argmax()


def classify(features, labels, queries, k, temperature, block):
    """A block of queries has block x N similarities; topk keeps k of each row, and the rest is forgotten."""
    directions = F.normalize(features, dim=1)
    classes = []
    for part in queries.split(block):
        cosines, nearest = (F.normalize(part, dim=1) @ directions.T).topk(k, dim=1)
        weights = ((cosines - cosines[:, :1]) / temperature).exp()  # topk puts the largest first
        votes = weights.new_zeros(len(part), int(labels.max()) + 1)
        votes.scatter_add_(1, labels[nearest], weights)
        classes.append(votes.argmax(dim=1))
    return torch.cat(classes)


def probe_objective(weights, features, labels, l2):
    """The gradient by the scores is the softmax minus the one at the class; the last row of weights is the bias."""
    scores = features @ weights[:-1] + weights[-1]
    value = F.cross_entropy(scores, labels) + l2 / 2 * weights[:-1].square().sum()
    error = (scores.softmax(dim=1) - F.one_hot(labels, weights.shape[1])) / len(labels)
    gradient = torch.cat((features.T @ error + l2 * weights[:-1], error.sum(dim=0, keepdim=True)))
    return value, gradient


def score_interval(successes, count):
    """The two accuracies at which the measured one lies 1.96 of their own standard deviations away."""
    share = successes / count
    centre = share + 1.96**2 / (2 * count)
    reach = 1.96 * (share * (1 - share) / count + 1.96**2 / (4 * count**2)) ** 0.5
    return (centre - reach) / (1 + 1.96**2 / count), (centre + reach) / (1 + 1.96**2 / count)


def paired_difference(first, second):
    """Most images are right for both or wrong for both: their differences are 0 and add nothing to the spread."""
    difference = first.double() - second.double()
    return difference.mean(), 1.96 * difference.std() / len(difference) ** 0.5


def seed_interval(values):
    """The deviation is estimated from as few values as the mean: Student's factor makes up for its own luck."""
    mean, error = values.mean(), values.std() / len(values) ** 0.5
    reach = student.ppf(0.975, len(values) - 1) * error
    return mean, mean - reach, mean + reach


def best_checkpoint(checkpoints, labels, fit, held_out, new_labels):
    """Checkpoint and k are chosen together on the held-out images; the test images are looked at once, at the end."""
    highest = -1.0
    for number, (known, _) in enumerate(checkpoints):
        for k in (1, 5, 20):
            reached = knn_accuracy(known[fit], labels[fit], known[held_out], labels[held_out], k=k).value
            if reached > highest:
                highest, best, best_k = reached, number, k
    known, new = checkpoints[best]
    return best, knn_accuracy(known[fit], labels[fit], new, new_labels, k=best_k).value


def claim(first, second):
    """Seeds and images are two sources of luck: their squared reaches add, and pairing is by image and by seed."""
    limit = min(first["price"][-1], second["price"][-1])
    last = [int((method["price"] <= limit).sum()) - 1 for method in (first, second)]
    difference = first["right"][last[0]].double() - second["right"][last[1]].double()  # (seeds, images)
    by_seed, by_image = difference.mean(dim=1), difference.mean(dim=0)
    seeds = student.ppf(0.975, len(by_seed) - 1) * by_seed.std() / len(by_seed) ** 0.5
    images = 1.96 * by_image.std() / len(by_image) ** 0.5
    mean, reach = difference.mean().item(), ((seeds**2 + images**2) ** 0.5).item()
    low, high = mean - reach, mean + reach
    return mean, low, high, int(low > 0) - int(high < 0)
