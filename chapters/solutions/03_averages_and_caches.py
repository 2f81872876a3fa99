"""Solutions of chapter 03. Each passes its check in `emc2_lite.course.checks.memory`."""

import math

import torch


def updated_average(log_u, log_mean, gamma):
    """The logarithm of (1 - gamma) u + gamma mean, and the mean itself where there was no u.

    torch.where asks every row on its own. log1p(-gamma) is log(1 - gamma), exact for a small gamma too.
    """
    average = torch.logaddexp(log_u + math.log1p(-gamma), log_mean + math.log(gamma))
    return torch.where(log_u == -math.inf, log_mean, average)


def average_weights(scores, log_u):
    """exp l / (m u), in one exponential: differences of large logarithms are small numbers."""
    return (scores - log_u[:, None] - math.log(scores.shape[1])).exp()


def noise_left(gamma, visits):
    """The sum of the squared weights of the visits: independent noises add their variances.

    The first visit has kept the weight (1 - gamma)^(visits - 1), one of a later age has gamma (1 - gamma)^age.
    """
    first = (1 - gamma) ** (visits - 1)
    later = [gamma * (1 - gamma) ** age for age in range(visits - 1)]
    return first**2 + sum(weight**2 for weight in later)


def sogclr_step(z1, z2, index, log_u, temperature, gamma):
    """A loss that is linear in the scores, with constant weights: its gradient is the estimate.

    Under no_grad neither the weights nor the averages become part of a graph. Only the scores of the last line do.
    """
    z, b = torch.cat((z1, z2)), len(z1)
    scores = z @ z.T / temperature
    sample, slot = torch.arange(2 * b) % b, torch.arange(2 * b) // b
    negatives = scores[sample[:, None] != sample].view(2 * b, 2 * b - 2)
    positive = torch.cat((scores.diagonal(b), scores.diagonal(-b)))
    places = index[sample], slot
    with torch.no_grad():
        log_mean = negatives.logsumexp(dim=1) - math.log(2 * b - 2)
        old = log_u[places]
        moved = torch.logaddexp(old + math.log1p(-gamma), log_mean + math.log(gamma))
        new = torch.where(old == -math.inf, log_mean, moved)
        weights = (negatives - new[:, None] - math.log(2 * b - 2)).exp()
        log_u = log_u.clone()
        log_u[places] = new
    return ((weights * negatives).sum(dim=1) - positive).mean(), log_u


def averages_after(u, index, means, gamma):
    """old == 0 asks every entry whether this is its first visit; the sum over the batch asked all of them at once."""
    old = u[index]
    new = torch.where(old == 0, means, (1 - gamma) * old + gamma * means)
    u = u.clone()
    u[index] = new
    return u


def cache_weights(cached_scores, sample, uniforms):
    """Minus infinity never wins a maximum. Each line of uniforms is a draw of its own, so a view can win twice."""
    scores = cached_scores.clone()
    scores[2 * sample : 2 * sample + 2] = -math.inf
    winners = (scores - (-uniforms.log()).log()).argmax(dim=1)
    return torch.bincount(winners, minlength=len(scores)) / len(uniforms)


def cache_step(table, index, cache, due, uniforms, temperature):
    """Write, draw, encode again: the cache chooses the negatives, and today's encoder pushes them."""
    b, flat = len(index), table.flatten(0, 1)  # flat[entries] encodes these entries
    entries = torch.cat((2 * index, 2 * index + 1))
    written = torch.cat((entries, due))
    cache = cache.flatten(0, 1).clone()
    cache[written] = flat[written].detach()
    z, loss = flat[entries], 0.0
    for r in range(2 * b):
        scores = cache @ z[r].detach() / temperature
        scores[2 * index[r % b] : 2 * index[r % b] + 2] = -math.inf
        drawn = (scores - (-uniforms[r].log()).log()).argmax(dim=1)
        push, pull = (flat[drawn] @ z[r]).mean(), z[r] @ z[(r + b) % (2 * b)]
        loss = loss + (push - pull) / temperature
    return loss / (2 * b), cache.view_as(table)


class SogCLR:
    """The whole method: one logarithm per view slot outlives the batch, and nothing else.

    The averages are looked up by (sample, slot), asked one by one whether they are new, and kept in float64, without a
    graph. The loss that comes back is linear in the scores, with constant weights.
    """

    def __init__(self, num_samples, temperature, gamma=0.9):
        self.temperature, self.gamma = temperature, gamma
        self.log_u = torch.full((num_samples, 2), -math.inf, dtype=torch.float64)

    def __call__(self, z1, z2, index):
        z, b = torch.cat((z1, z2)), len(z1)
        scores = z @ z.T / self.temperature
        sample, slot = torch.arange(2 * b) % b, torch.arange(2 * b) // b
        negatives = scores[sample[:, None] != sample].view(2 * b, 2 * b - 2)
        positive = torch.cat((scores.diagonal(b), scores.diagonal(-b)))
        with torch.no_grad():
            log_u = self.remember(negatives.logsumexp(dim=1) - math.log(2 * b - 2), index[sample], slot)
            weights = (negatives - log_u[:, None] - math.log(2 * b - 2)).exp()
        return ((weights * negatives).sum(dim=1) - positive).mean()

    def remember(self, log_mean, sample, slot):
        """Move the averages of these rows, and return them."""
        old = self.log_u[sample, slot]
        moved = torch.logaddexp(old + math.log1p(-self.gamma), log_mean + math.log(self.gamma))
        self.log_u[sample, slot] = torch.where(old == -math.inf, log_mean.to(old), moved)
        return self.log_u[sample, slot]
