"""Solutions to the exercises of chapter 04."""

import math

import torch


def accepts(new, held, temperature, uniform):
    """Scores are similarities divided by the temperature, and -log U is the newcomer's bonus.

    `uniform < math.exp((new - held) / temperature)` is the same decision; the log form does not overflow.
    """
    return new / temperature - math.log(uniform) > held / temperature


def walk(proposed_scores, held_score, uniforms):
    """The bonus decides one step and is then spent: what is held is the score alone.

    The path gets an entry at each step, moved or not: a state's repeats are its share.
    """
    held, path = -1, []
    for step, (score, u) in enumerate(zip(proposed_scores, uniforms, strict=True)):
        if score - math.log(u) > held_score:
            held, held_score = step, score
        path.append(held)
    return path, held_score


def kept_shares(states, m, burn_in):
    """Drop the first B steps, then count: candidate k in bin k, the state held before in the last bin, number m.

    Each kept step is in one bin, so that the shares sum to 1.
    """
    kept = states[math.floor(burn_in * len(states)) :]
    counts = torch.bincount(torch.where(kept < 0, m, kept), minlength=m + 1)
    return counts.double() / len(kept)


def counted_shares(scores, uniforms, burn_in):
    """Steps are counted from 0: the first B are 0, ..., B - 1, and step B is kept: `j >= dropped`.

    With `j > dropped` there are n - B - 1 steps to count, each with a weight of 1 / (n - B).
    """
    n, held, held_score = len(scores), -1, -math.inf
    dropped = math.floor(burn_in * n)
    weights = torch.zeros(n, dtype=torch.float64)
    for j, (score, u) in enumerate(zip(scores, uniforms, strict=True)):
        if score - math.log(u) > held_score:
            held, held_score = j, score
        if j >= dropped:
            weights[held] += 1 / (n - dropped)
    return weights


def step_matrix(similarities, temperature):
    """Off the diagonal: proposed with probability 1/m, then accepted with min(1, p(j) / p(k)).

    The diagonal takes the rest: the proposal of k itself and all the rejected ones.
    """
    scores = similarities / temperature
    matrix = (scores[None, :] - scores[:, None]).exp().clamp(max=1) / len(scores)
    matrix.fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1))


def acceptance(scores, proposals):
    """min(1, p(j) Q(j, k) / (p(k) Q(k, j))), from logarithms: neither a normaliser nor a small probability is needed.

    `proposals.T` has Q(j, k) at [k, j]. Where Q is uniform, the second difference is 0 and Metropolis' rule is left.
    """
    log_ratio = scores[None, :] - scores[:, None] + proposals.T.log() - proposals.log()
    return log_ratio.clamp(max=0).exp()


def steps_to_forget(similarities, temperature, epsilon):
    """Solve (1 - gap)^t = epsilon for t with gap = 1 / (|neg(r)| p_max), and round up: steps are whole."""
    p_max = (similarities / temperature).softmax(dim=0).max().item()
    gap = 1 / (len(similarities) * p_max)
    return math.ceil(math.log(epsilon) / math.log(1 - gap))


def effective_size(values):
    """Autocorrelations are summed in pairs, and no further than they can be told from noise.

    In a reversible chain the exact pairs are never negative and never grow: where an estimated pair is not positive,
    little but noise is left. Without a stop the lags from 1 on would sum to -1/2, whatever the walk.
    """
    n, x = len(values), values - values.mean()
    variance, pairs = x @ x / n, []
    for lag in range(0, n - 1, 2):
        pair = sum(x[: n - t] @ x[t:] / n for t in (lag, lag + 1)) / variance
        if pair <= 0:
            break
        pairs.append(min([pair.item(), *pairs[-1:]]))
    return n / (2 * sum(pairs) - 1)


def sampler(log_scores, held_scores, uniforms):
    """The rows walk side by side: step j decides for all of them at once, with one column of bonuses.

    A row's state is its last accepted step: write j where step j was accepted and -1 elsewhere, and take the largest
    number so far. Only the held scores are carried from step to step.
    """
    bonus, current = -uniforms.log(), held_scores
    accepted = torch.empty_like(log_scores, dtype=torch.bool)
    for j in range(log_scores.shape[1]):
        accepted[:, j] = log_scores[:, j] + bonus[:, j] > current
        current = torch.where(accepted[:, j], log_scores[:, j], current)
    steps = torch.arange(log_scores.shape[1])
    states = torch.where(accepted, steps, -1).cummax(dim=1).values
    return states, accepted, current
