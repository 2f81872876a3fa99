"""Solutions of chapter 05. Each passes its check in `emc2_lite.course.checks.emc2`."""

import math

import torch


def kept_weights(states, m, burn_in):
    """The steps from number B on are kept, B included: R = m - B of them, and that is the divisor.

    State -1 gets the last of m + 1 places. Python's weights[-1] happens to be that place, so counting with
    weights[state] works here; with m places only it would have hit the last candidate, which is a classic bug.
    """
    kept = states[math.floor(burn_in * m) :]
    weights = torch.zeros(m + 1)
    for state in kept.tolist():
        weights[state] += 1 / len(kept)
    return weights


def one_visit(scores, held_score, uniforms, burn_in):
    """Chapter 04's walk, with a count of the kept steps.

    A step counts the state after it, whether the chain moved or not. The bonus -log U decides and is then forgotten:
    the score that the next candidate must beat is that of the state, without a bonus.
    """
    m = len(scores)
    burned = math.floor(burn_in * m)
    weights, held_weight, current, current_score = torch.zeros(m), 0.0, -1, held_score
    for j in range(m):
        if scores[j] - math.log(uniforms[j]) > current_score:
            current, current_score = j, scores[j]
        if j >= burned and current >= 0:
            weights[current] += 1 / (m - burned)
        elif j >= burned:
            held_weight += 1 / (m - burned)
    return weights, held_weight, current


def stored_state(last, candidates, held):
    """A chain that did not move keeps what it held; candidates[-1] would be the last candidate."""
    return held if last == -1 else candidates[last]


def emc2_loss(z1, z2, weights, held_weight, held, temperature):
    """The weights are detached, the embeddings are not: each pair's score pulls or pushes both its ends.

    The weights are shares of a random walk's time. Their mean is what the softmax is, so they stand where the
    softmax stands in the gradient of the global loss, and there it is a factor, not something to differentiate.
    """
    z, positives = torch.cat((z1, z2)), torch.cat((z2, z1))
    logits = z @ z.T / temperature
    terms = -(z * positives).sum(dim=1) / temperature
    terms = terms + (weights.detach() * logits).sum(dim=1)
    terms = terms + held_weight.detach() * (z * held).sum(dim=1) / temperature
    return terms.mean()


def batch_weights(columns, burn_in):
    """An extra column for state -1: as an index it selects the last column, and that is now this one.

    With 2b columns only, the held view's weight went to the last column of the batch: the rows still summed to 1,
    w(r, 0) was 0 for every row, and nothing raised an error.
    """
    rows, m = columns.shape
    kept = columns[:, math.floor(burn_in * m) :]
    weights = torch.zeros(rows, rows + 1)
    row = torch.arange(rows)[:, None].expand_as(kept)
    weights.index_put_((row, kept), torch.tensor(1 / kept.shape[1]), accumulate=True)
    return weights[:, :-1], weights[:, -1]


def dropped_variant(weights, held_weight):
    """What is left sums to 1 - w(r, 0); a row that never left the view it held has nothing to repel."""
    if held_weight == 1:
        return torch.zeros_like(weights)
    return weights / (1 - held_weight)


def coin_weights(held_weight, reencode, coin):
    """c has the mean w(r, 0), whatever reencode is: its value, 1 / reencode, times its chance, reencode w(r, 0)."""
    encoded = 1 / reencode if coin < reencode * held_weight else 0.0
    return encoded, held_weight - encoded


def remembered_term(z_r, memory, encode, held_weight, c, temperature):
    """What is remembered is a constant, and pulls on the row alone; the view encoded again has both ends.

    In the mean over the coin the remembered embedding cancels: its weight w(r, 0) - c has the mean 0.
    """
    term = (held_weight - c) * (z_r @ memory.detach())
    if c > 0:
        term = term + c * (z_r @ encode())
    return term / temperature


class EMC2:
    """Loops over rows; a chain's state is a pair in the tensor `held`, at (sample, view slot).

    The held view is encoded with gradient at once, and its score is l0. A view that the batch brings again needs no
    case of its own, for `encode` returns the embedding that the batch has.
    """

    def __init__(self, num_samples, temperature, burn_in):
        self.temperature, self.burn_in = temperature, burn_in
        self.held = torch.full((num_samples, 2, 2), -1)

    def __call__(self, z1, z2, index, view, encode, order, uniforms):
        b, z = len(index), torch.cat((z1, z2))
        pairs = torch.stack((index.repeat(2), view.flatten()), dim=1)  # (2b, 2): the (index, view) of each row
        loss = 0.0
        for r in range(2 * b):
            chain = pairs[r, 0], r // b
            scores = z[order[r]] @ z[r] / self.temperature
            held, l0 = self.held[chain].clone(), torch.tensor(-math.inf)
            if held[0] >= 0:
                l0 = encode(held[:1], held[1:])[0] @ z[r] / self.temperature
            weights, held_weight, last = self.visit(scores.tolist(), l0.item(), uniforms[r].tolist())
            loss = loss - z[(r + b) % (2 * b)] @ z[r] / self.temperature + weights.to(z) @ scores
            if held_weight > 0:
                loss = loss + held_weight * l0
            if last >= 0:
                self.held[chain] = pairs[order[r, last]]
        return loss / (2 * b)

    def visit(self, scores, held_score, uniforms):
        """Shares of the kept steps at the candidates and at the held view, and the last state."""
        m, current, current_score, states = len(scores), -1, held_score, []
        for j in range(m):
            if scores[j] - math.log(uniforms[j]) > current_score:
                current, current_score = j, scores[j]
            states.append(current)
        kept = torch.tensor(states[math.floor(self.burn_in * m) :])
        return (kept[:, None] == torch.arange(m)).double().mean(dim=0), (kept < 0).double().mean().item(), current
