"""The method's formulas in plain loops, float64, without any of the library's code."""

import itertools
import math
from typing import NamedTuple

import torch


def unit_vectors(*shape, seed=0, dtype=torch.float64):
    vectors = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (vectors / vectors.norm(dim=-1, keepdim=True)).to(dtype)


def metropolis_hastings(log_scores, initial, uniforms):
    """One row: move to candidate j iff l_j - log U_j > l_current. Returns the states, the moves and the last score."""
    states, moves, current, score = [], [], -1, initial
    for j, (candidate, uniform) in enumerate(zip(log_scores, uniforms, strict=True)):
        challenge = math.inf if uniform == 0 and candidate > -math.inf else candidate
        moved = challenge > score if uniform == 0 else candidate - math.log(uniform) > score
        if moved:
            current, score = j, candidate
        states.append(current)
        moves.append(moved)
    return states, moves, score


def transition_matrix(log_scores):
    m = len(log_scores)
    matrix = torch.zeros(m, m, dtype=torch.float64)
    for here in range(m):
        for there in range(m):
            if there != here:
                matrix[here, there] = min(1.0, math.exp(min(0.0, log_scores[there] - log_scores[here]))) / m
        matrix[here, here] = 1 - matrix[here].sum()
    return matrix


def global_loss(table, temperature, include_positive=False):
    """Mean over i, v, w != v of -l(iv, iw) + log sum over j != i, u of exp l(iv, ju)."""
    samples, views, _ = table.shape
    terms = []
    for i in range(samples):
        for v in range(views):
            scores = [table[i, v] @ table[j, u] / temperature for j in range(samples) if j != i for u in range(views)]
            for w in range(views):
                if w != v:
                    positive = table[i, v] @ table[i, w] / temperature
                    summed = torch.stack([*scores, positive] if include_positive else scores)
                    terms.append(summed.logsumexp(0) - positive)
    return torch.stack(terms).mean()


def global_gradient(table, temperature):
    """-E[grad l(positive)] + E over rows, E over k ~ softmax over neg(r) of [grad l(r, k)]; no autograd."""
    samples, views, _ = table.shape
    gradient, rows = torch.zeros_like(table), samples * views
    for i in range(samples):
        for v in range(views):
            for w in range(views):
                if w != v:
                    gradient[i, v] -= table[i, w] / temperature / rows / (views - 1)
                    gradient[i, w] -= table[i, v] / temperature / rows / (views - 1)
            negatives = [(j, u) for j in range(samples) if j != i for u in range(views)]
            scores = torch.stack([table[i, v] @ table[k] for k in negatives]) / temperature
            for k, p in zip(negatives, torch.softmax(scores, 0), strict=True):
                gradient[i, v] += p * table[k] / temperature / rows
                gradient[k] += p * table[i, v] / temperature / rows
    return gradient


def nt_xent(z1, z2, temperature):
    rows, b = [*z1, *z2], len(z1)
    terms = []
    for r in range(2 * b):
        positive = rows[r] @ rows[(r + b) % (2 * b)] / temperature
        others = [rows[r] @ rows[k] / temperature for k in range(2 * b) if k != r]
        terms.append(torch.stack(others).logsumexp(0) - positive)
    return torch.stack(terms).mean()


def dcl(z1, z2, temperature):
    rows, b = [*z1, *z2], len(z1)
    terms = []
    for r in range(2 * b):
        negatives = [rows[r] @ rows[k] / temperature for k in range(2 * b) if k % b != r % b]
        terms.append(torch.stack(negatives).logsumexp(0) - rows[r] @ rows[(r + b) % (2 * b)] / temperature)
    return torch.stack(terms).mean()


def sogclr(averages, z1, z2, index, *, temperature, gamma, first_visit="of a chain"):
    """One call; `averages` {(sample, slot): u} is changed in place. Returns the surrogate and the weights of the rows.

    u is raw, not its logarithm. `first_visit="of the batch"` begins averages only where no row of the batch has one.
    """
    rows, b = [*z1, *z2], len(z1)
    chains = [(int(index[r % b]), r // b) for r in range(2 * b)]
    known = [chain in averages for chain in chains]
    total, all_weights = 0.0, []
    for r, chain in enumerate(chains):
        negatives = [k for k in range(2 * b) if k % b != r % b]
        raw = {k: math.exp((rows[r] @ rows[k]).item() / temperature) for k in negatives}
        mean = sum(raw.values()) / len(raw)
        if known[r] or (first_visit == "of the batch" and any(known)):
            mean = (1 - gamma) * averages.get(chain, 0.0) + gamma * mean
        averages[chain] = mean
        weights = {k: raw[k] / (len(raw) * mean) for k in negatives}
        total = total - rows[r] @ rows[(r + b) % (2 * b)] / temperature
        total = total + sum(w * (rows[r] @ rows[k]) / temperature for k, w in weights.items())
        all_weights.append(weights)
    return total / (2 * b), all_weights


def negative_cache(cache, cursor, table, index, view, uniforms, *, temperature, refresh):
    """One call on views of a table (N, V, d); `cache` {(sample, slot): (view, embedding)} is changed in place.

    `uniforms` are (2b, K, 2N). Returns the surrogate, the new cursor, the readable loss, the mean staleness, and the
    views encoded without and with gradient, each a list in the order of the cache.
    """
    b, entries = len(index), 2 * len(table)
    names = [(int(index[r % b]), int(view[r // b, r % b])) for r in range(2 * b)]
    rows = [table[name] for name in names]
    slots = [(names[r][0], r // b) for r in range(2 * b)]
    before = dict(cache)
    for r in range(2 * b):
        cache[slots[r]] = (names[r][1], rows[r].detach())
    count, refreshed = math.ceil(refresh * entries), []
    for place in range(cursor, cursor + count):
        slot = (place % entries // 2, place % entries % 2)
        if slot not in slots:
            name = (slot[0], before[slot][0] if slot in before else slot[1])
            cache[slot] = (name[1], table[name].detach())
            refreshed.append(name)
    total, readable, stale, encoded, draws = 0.0, 0.0, 0.0, set(), uniforms.shape[1]
    for r in range(2 * b):
        total = total - rows[r] @ rows[(r + b) % (2 * b)] / temperature
        others = {slot: held for slot, held in cache.items() if slot[0] != names[r][0]}
        scores = {slot: (rows[r] @ held[1]).item() / temperature for slot, held in others.items()}
        log_sum = torch.logsumexp(torch.tensor(list(scores.values()), dtype=torch.float64), 0).item()
        readable += log_sum - (rows[r] @ rows[(r + b) % (2 * b)]).item() / temperature
        for k in range(draws):
            gumbel = {s: -math.log(-math.log(uniforms[r, k, 2 * s[0] + s[1]].item())) for s in scores}
            drawn = max(scores, key=lambda slot: scores[slot] + gumbel[slot])
            name = (drawn[0], others[drawn][0])
            if name not in names:
                encoded.add(name)
            score = rows[r] @ table[name] / temperature
            total = total + score / draws
            stale += abs(scores[drawn] - score.item()) if name not in names else 0.0
    rows_drawn = 2 * b * draws
    return total / (2 * b), (cursor + count) % entries, readable / (2 * b), stale / rows_drawn, refreshed, encoded


def weighted_gradient(table, temperature, weight, pull=lambda r: 1.0):
    """Mean over rows r = (i, v) of  -pull(r) grad l(r, pos) + sum over k in neg(r) of weight(r, k) grad l(r, k)."""
    samples = len(table)
    gradient = torch.zeros_like(table)
    for i in range(samples):
        for v in range(2):
            forces = {(j, u): weight((i, v), (j, u)) for j in range(samples) if j != i for u in range(2)}
            forces[i, 1 - v] = -pull((i, v))
            for k, force in forces.items():
                gradient[i, v] += force * table[k] / temperature / (2 * samples)
                gradient[k] += force * table[i, v] / temperature / (2 * samples)
    return gradient


class Chain(NamedTuple):
    """What a chain of EMC2 keeps."""

    view: tuple[int, int]
    score: float  # at the last visit
    embedding: torch.Tensor | None = None  # when the view was last seen


def emc2(chains, table, index, view, draws, *, temperature, burn_in=0.5, held, kernel, reencode=1.0, trap=None):
    """One call on views of a table (N, V, d); `chains` {(sample, slot): Chain} is changed in place.

    `draws` are those of `trials.draws`; without coins (None) views count with their mean weight. `trap` puts in a
    mistake of public implementations that test_traps.py names. Returns the surrogate, the weights [(in-batch
    {column: weight}, carried-over weight)] of the rows, and the pairs to encode without and with gradient, each a set:
    all scores are fresh, except those without effect.
    """
    b = len(index)
    names = [(int(index[r % b]), int(view[r // b, r % b])) for r in range(2 * b)]
    z, many = [table[name] for name in names], kernel == "multiproposal"
    total, all_weights, scored, encoded, stored = 0.0, [], set(), set(), {}
    for r in range(2 * b):
        chain = names[r][0], 0 if trap == "one chain for both views" else r // b
        name, start, memory = chains.get(chain, Chain(None, -math.inf))
        outside = name is not None and name not in names
        if name in names:
            memory = table[name].detach()
        if name is not None and held in ("encoded", "remembered") and trap != "a score that is never refreshed":
            if outside and held == "encoded":
                memory = table[name].detach()
                if many or not forgets_its_start(z, r, *(draw[r] for draw in draws[:2]), temperature, burn_in):
                    scored.add(name)
            start = (z[r].detach() @ memory / temperature).item()
        if many:
            weights, carried, last, last_score = many_proposals(z, names, r, name, start, draws, temperature)
        else:
            weights, carried, last, last_score = kept_steps(z, names, r, start, draws, temperature, burn_in, trap)
        all_weights.append((weights, carried))
        counted = carried
        if outside and draws[-1] is not None:
            counted = (draws[-1][r].item() < reencode * carried) / (reencode or 1)
        if held == "dropped" and trap != "mass dropped without renormalising":
            weights = {k: w / (1 - carried) for k, w in weights.items()}
        elif counted > 0:
            total = total + counted * (z[r] @ table[name]) / temperature
        if outside and held == "remembered":
            total = total + (carried - counted) * (z[r] @ memory) / temperature
        if outside and held != "dropped" and counted > 0:
            encoded.add(name)
            memory = table[name].detach()
        for k, w in weights.items():
            total = total + w * (z[r] @ z[k]) / temperature
        total = total - z[r] @ z[(r + b) % (2 * b)] / temperature
        stored[chain] = Chain(name, last_score, memory)
        if last >= 0:
            stored[chain] = Chain(names[last], last_score, z[last].detach())
    chains.update(stored)
    return total / (2 * b), all_weights, scored, encoded


def kept_steps(z, names, r, start, draws, temperature, burn_in, trap):
    """A visit by Metropolis-Hastings: the weights, in the batch and carried over, the last column and its score."""
    candidates, uniforms = (draw[r].tolist() for draw in draws[:2])
    assert sorted(candidates) == [k for k in range(len(z)) if names[k][0] != names[r][0]]
    scores = [(z[r] @ z[k] / temperature).item() for k in candidates]
    states, _, last_score = metropolis_hastings(scores, start, uniforms)
    m = len(candidates)
    dropped = math.floor(burn_in * m)
    kept, divisor = states[dropped:], m - dropped
    assert len(kept) == divisor
    if trap == "one step fewer than the divisor":
        kept = kept[1:]
    weights = {candidates[j]: kept.count(j) / divisor for j in range(m) if j in kept}
    carried = kept.count(-1) / divisor
    if trap == "burn-in subtracted twice":
        carried = kept[dropped:].count(-1) / divisor
    if trap == "index -1 as the last column":
        weights[candidates[-1]] = weights.get(candidates[-1], 0) + carried
        carried = 0
    return weights, carried, -1 if states[-1] < 0 else candidates[states[-1]], last_score


def many_proposals(z, names, r, held, start, draws, temperature):
    """As `kept_steps`: a heat bath over views of the held sample, then a step to one view of each other sample."""
    exchange, half, move = (draw[r].tolist() for draw in draws[:3])
    scores = {k: (z[r] @ z[k] / temperature).item() for k in range(len(z)) if names[k][0] != names[r][0]}
    here = names.index(held) if held in names else -1

    def drawn(logits, uniforms):
        return max(logits, key=lambda k: logits[k] - math.log(-math.log(uniforms[1 + k])))

    twins = {k: score for k, score in scores.items() if held is not None and names[k][0] == held[0]}
    place = here if held is None else drawn(twins if here >= 0 else twins | {-1: start}, exchange)
    now = scores.get(place, start)
    first = {k for k in scores if (half[k % len(half)] < 0.5) == (k < len(half))}
    steps, staying = [], []
    for urn in (first, scores.keys() - first):
        urn = scores.keys() if held is None else urn - twins.keys()
        raw = {k: math.exp(score) for k, score in {-1: now, **{k: scores[k] for k in urn}}.items()}
        q = {k: number / sum(raw.values()) for k, number in raw.items()}
        steps.append({k: q[k] / (1 - min(q[k], q[-1])) for k in urn})
        # A chain stays where its proposal, drawn with probability q(z') / (1 - q(z)), is refused.
        staying.append(sum(q[k] / (1 - q[-1]) - steps[-1][k] for k in urn) if urn else 1.0)
    weights = {k: sum(step.get(k, 0) for step in steps) / 2 for k in scores}
    last = drawn({k: math.log(p) for k, p in {-1: staying[0], **steps[0]}.items() if p > 0}, move)
    score, stays = scores.get(last, now), sum(staying) / 2
    if place not in (-1, here):  # the twin is the state that the second step starts from
        weights[place] += stays
        stays, last = 0.0, place if last < 0 else last
    return weights, stays, last, score


def forgets_its_start(z, r, candidates, uniforms, temperature, burn_in):
    """Whether a candidate of the burn-in, or the first one after it, beats the highest possible score of two views."""
    for j in range(math.floor(burn_in * len(candidates)) + 1):
        challenge = (z[r] @ z[candidates[j]]).item() / temperature - math.log(uniforms[j])
        if challenge > 1.01 * z[r].norm().item() / temperature:
            return True
    return False


def visit_law(log_scores, orders, burn_in):
    """The exact law of a chain's visit, averaged over equally likely orders of in-batch candidates.

    `log_scores` are over neg(r); `orders` lists the visits, each a list of states in the order they are proposed.
    Returns (kernel, kept): kernel[z, z'] is the law of the last state and kept[z, z'] the mean share of kept steps at
    z', for a chain that comes with z.
    """
    n, m = len(log_scores), len(orders[0])
    kernel, kept = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for order in orders:
        law = torch.eye(n, dtype=torch.float64)
        for step, proposal in enumerate(order):
            accept = (log_scores[proposal] - log_scores).clamp(max=0).exp()
            moved = law * accept
            law = law - moved
            law[:, proposal] += moved.sum(dim=1)
            if step >= math.floor(burn_in * m):
                kept += law / (m - math.floor(burn_in * m)) / len(orders)
        kernel += law / len(orders)
    return kernel, kept


def heat_bath(together):
    """The law of the next state, (1 + m,): the softmax over the state, which is first, and its proposals."""
    return torch.softmax(together, 0)


def metropolised(together):
    """The same for the metropolised step: propose z' with q(z') / (1 - q(z)), then accept or refuse as Metropolis."""
    q, others = torch.softmax(together, 0).tensor_split([1])
    there, back = others / (1 - q), q / (1 - others)
    law = there * (others * back / (q * there)).clamp(max=1).nan_to_num(0)  # a place without a proposal
    return torch.cat((1 - law.sum(0, keepdim=True), law))


def multiproposal_law(log_scores, sets, step=metropolised):
    """The exact law of one step of many proposals: `sets(z)` lists the equally likely sets proposed from state z.

    Returns kernel[z, z'], the law of the next state and also the mean of its weights.
    """
    n = len(log_scores)
    kernel = torch.zeros(n, n, dtype=torch.float64)
    for z in range(n):
        proposed = list(sets(z))
        for proposals in proposed:
            together = [z, *proposals]
            kernel[z].index_add_(0, torch.tensor(together), step(log_scores[together]) / len(proposed))
    return kernel


def one_view_a_sample(samples, b):
    """Sets of one random view of each of b - 1 random samples of two views, z's left out if it is among them.

    State 2 j + u is view u of sample j.
    """

    def sets(z):
        for batch in itertools.combinations(range(samples), b - 1):
            for views in itertools.product(range(2), repeat=b - 1):
                yield [2 * j + u for j, u in zip(batch, views, strict=True) if j != z // 2]

    return sets


def second_eigenvalue(kernel, p):
    """The largest below 1, of a kernel that is reversible for p."""
    root = p.sqrt()
    return torch.linalg.eigvalsh(root[:, None] * kernel / root)[-2].item()


def stationary_law(kernel):
    n = len(kernel)
    equations = torch.cat((kernel.T - torch.eye(n, dtype=kernel.dtype), torch.ones(1, n, dtype=kernel.dtype)))
    right = torch.zeros(n + 1, 1, dtype=kernel.dtype)
    right[-1] = 1
    return torch.linalg.lstsq(equations, right).solution.squeeze(1)
