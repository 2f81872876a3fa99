"""Solutions to the exercises of chapter 02."""

import math

import torch


def global_loss(z, temperature):
    """One pass over all ordered pairs of different views, as the definition reads.

    `others` holds every view of every other sample; torch.logsumexp is the logarithm of the sum of exponentials.
    """
    samples, views, _ = z.shape
    terms = []
    for i in range(samples):
        others = torch.cat((z[:i], z[i + 1 :])).flatten(0, 1)
        for v in range(views):
            log_sum = (others @ z[i, v] / temperature).logsumexp(dim=0)
            terms += [log_sum - z[i, v] @ z[i, w] / temperature for w in range(views) if w != v]
    return torch.stack(terms).mean()


def row_weights(z, i, v, temperature):
    """Scores of all views, minus infinity for those of the own sample, then one softmax over everything.

    exp(-inf) is 0, so the own views get no weight and the others sum to 1.
    """
    scores = z @ z[i, v] / temperature
    scores[i] = -torch.inf
    return scores.flatten().softmax(dim=0).view_as(scores)


def log_sum_from_batch(similarities, num_samples, temperature):
    """|neg(r)| times the batch's mean of exp l, in logarithms; |neg(r)| = 2 (N - 1).

    The estimate is right on average before the logarithm, and too low on average after it.
    """
    log_mean = (similarities / temperature).logsumexp(dim=0) - math.log(len(similarities))
    return math.log(2 * (num_samples - 1)) + log_mean
