"""Solutions of chapter 08. Each passes its check in `emc2_lite.course.checks.evaluation`."""

import torch


def score_interval(successes, count):
    """Wilson's interval, with z = 1.96."""
    p, z = successes / count, 1.96
    centre = p + z**2 / (2 * count)
    reach = z * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    return (centre - reach) / (1 + z**2 / count), (centre + reach) / (1 + z**2 / count)


def vote(cosines, labels, temperature):
    """The largest cosine is taken off first: exp of a raw score overflows, and the winner stays the same."""
    weights = ((cosines - cosines.max()) / temperature).exp()
    votes = torch.zeros(int(labels.max()) + 1)
    for weight, label in zip(weights, labels, strict=True):
        votes[label] += weight
    return votes.argmax()


def paired_difference(a, b):
    """Most images are right for both or wrong for both: their differences are 0 and add nothing to the spread."""
    difference = a.float() - b.float()
    return difference.mean(), 1.96 * difference.std() / len(difference) ** 0.5
