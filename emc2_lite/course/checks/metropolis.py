"""Exercises of chapter 04; in the mistakes: scores or similarities s, temperature t, uniform number u, burn-in b."""

import math
from functools import partial
from math import ceil, exp, floor, log, log10

import torch

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise
from emc2_lite.sampling import effective_sample_size, metropolis_hastings

NEW = -math.inf  # the score of a walker that holds nothing yet


def _accepts(new, held, temperature, uniform):
    return new / temperature - log(uniform) > held / temperature


def _decisions(count):
    """Random arguments, none of them close to a tie."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    while len(cases) < count:
        new, held, place, uniform = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        case = round(2 * new - 1, 2), round(2 * held - 1, 2), (0.2, 0.5, 1.0, 2.0)[int(4 * place)], round(uniform, 2)
        if 0 < case[3] < 1 and abs((case[0] - case[1]) / case[2] - log(case[3])) > 0.02:
            cases.append(case)
    return cases


accepts = Exercise(
    "accepts",
    _accepts,
    cases=[
        *((0.5, 0.3, 0.2, uniform) for uniform in (0.99, 0.05)),
        *((0.3, 0.5, 0.2, uniform) for uniform in (0.36, 0.38, 0.05, 0.9)),
        (0.3, 0.5, 0.07, 0.05),
        (0.3, 0.5, 1.0, 0.75),
        (-0.2, -0.6, 0.5, 0.9),
        *((-0.6, -0.2, 0.5, uniform) for uniform in (0.5, 0.4)),
        (0.25, 0.25, 0.3, 0.7),
        *_decisions(40),
    ],
    mistakes={
        "This subtracts U itself: the bonus is -log U": lambda new, held, t, u: new / t - u > held / t,
        "Accept when U is below p(new) / p(held), not above": lambda new, held, t, u: u > exp((new - held) / t),
        "This walker only climbs: U decides whether a lower score is accepted": lambda new, held, t, u: new > held,
        "The bonus must help the newcomer: here it is a penalty, or helps the state held": (
            lambda new, held, t, u: (new - held) / t > -log(u)
        ),
        "Divide both similarities by the temperature, and the bonus not: no temperature, or one that divides "
        "the bonus too, gives this": lambda new, held, t, u: new - log(u) > held,
        **{words: wrong for words, wrong in wrong_temperatures(_accepts).items() if "missing" not in words},
    },
    runs="The count below",
)


def _bonus(u):
    return -log(u)


def _walk(proposed_scores, held_score, uniforms, bonus=_bonus, spent=True, start=-1, repeats=True, returns=False):
    held, path = start, []
    for step, (score, u) in enumerate(zip(proposed_scores, uniforms, strict=True)):
        accepted = score + bonus(u) > held_score
        if accepted:
            held, held_score = step, score if spent else score + bonus(u)
        elif returns:
            held = -1
        if accepted or repeats:
            path.append(held)
    return path, held_score


def _last_proposed(proposed_scores, held_score, uniforms):
    return _walk(proposed_scores, held_score, uniforms)[0], proposed_scores[-1]


def _last_indexed(proposed_scores, held_score, uniforms):
    path, _ = _walk(proposed_scores, held_score, uniforms)
    return path, proposed_scores[path[-1]]


def _proposed(steps, seed, spread=2.0, shift=0.0):
    """Scores and uniforms, rounded so that a learner can read them: two lists."""
    generator = torch.Generator().manual_seed(seed)
    scores = (spread * torch.randn(steps, generator=generator, dtype=torch.float64)).round(decimals=2) + shift
    uniforms = torch.rand(steps, generator=generator, dtype=torch.float64).clamp(0.01, 0.99).round(decimals=2)
    return scores.tolist(), uniforms.tolist()


def _start(steps, seed, held_score, **options):
    scores, uniforms = _proposed(steps, seed, **options)
    return scores, held_score, uniforms


walk = Exercise(
    "walk",
    _walk,
    cases=[
        ([1.0, 3.0, 2.0], NEW, [0.9, 0.5, 0.2]),
        ([1.0, 3.0, 2.0, -1.5], 2.5, [0.9, 0.5, 0.3, 0.4]),
        ([-4.0, -6.0, -5.0, -4.5, -9.0], 3.0, [0.6, 0.3, 0.9, 0.2, 0.5]),
        ([0.5], 1.0, [0.3]),
        _start(12, 1, NEW),
        _start(30, 2, 1.5),
        _start(40, 3, NEW, spread=0.6),
        _start(40, 4, -3.0, spread=15.0),
        _start(25, 5, 1000.5, shift=1000.0),
        _start(15, 6, NEW, shift=-1000.0),
    ],
    mistakes={
        "The bonus is spent: the next proposal meets the score of the state held, without its bonus": (
            partial(_walk, spent=False)
        ),
        "log U is negative, so adding it is a penalty: subtract it": partial(_walk, bonus=log),
        "This walker only climbs: the bonus -log U lets a lower score win too": partial(_walk, bonus=lambda u: 0),
        "The bonus is -log U, not U": partial(_walk, bonus=lambda u: u),
        "A rejected step counts too: write down the state that is held once more": partial(_walk, repeats=False),
        "After a rejection the walker holds what it held before, not what it came with": partial(_walk, returns=True),
        "Until its first move the walker holds what it came with: that is -1": partial(_walk, start=0),
        "The last score is that of the state held at the end, not of the last proposal": _last_proposed,
        "Index -1 is the state held before: its score is not that of the last proposal": _last_indexed,
        "Return the pair (path, last score)": lambda *case: _walk(*case)[0],
    },
    runs="The next figure",
)


def _kept_shares(states, m, burn_in, whole=floor, steps=len, keep=lambda states, dropped: states[dropped:], held=None):
    kept = keep(states, int(whole(burn_in * steps(states))))
    counts = torch.bincount(kept.where(kept >= 0, m if held is None else held), minlength=m + 1)
    return counts.double() / len(kept)


def _states(steps, m, seed, held=0):
    """A path of candidates; the first `held` steps stay at the state held before."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randint(m, (steps,), generator=generator)
    stay = torch.rand(steps, generator=generator) < 0.4
    for step in range(1, steps):
        states[step] = states[step - 1] if stay[step] else states[step]
    states[:held] = -1
    return states


kept_shares = Exercise(
    "kept_shares",
    _kept_shares,
    cases=[
        (torch.tensor([-1, 2, 2, 0, 2]), 3, 0.3),
        (torch.tensor([-1, -1, 1, 3, 3, 3, 0]), 4, 0.5),
        (torch.full((5,), -1), 2, 0.5),
        (_states(10, 6, seed=0, held=4), 6, 0.29),
        (_states(10, 4, seed=1), 4, 0.25),
        (_states(12, 4, seed=5, held=2), 4, 0.25),
        (_states(30, 5, seed=2, held=30), 5, 0.0),
        (_states(9, 12, seed=3, held=8), 12, 0.2),
        (_states(40, 3, seed=4, held=2), 3, 0.49),
    ],
    mistakes={
        "The burn-in is rounded up: B is floor(burn_in * n)": partial(_kept_shares, whole=ceil),
        "The burn-in is rounded to the nearest number: B is floor(burn_in * n)": partial(_kept_shares, whole=round),
        "No burn-in is dropped": partial(_kept_shares, whole=lambda steps: 0),
        "The first B steps are dropped, not the last": (
            partial(_kept_shares, keep=lambda states, dropped: states[: len(states) - dropped])
        ),
        "Divide by R = n - B, the number of kept steps, not by n": lambda states, m, b: (
            _kept_shares(states, m, b) * (1 - floor(b * len(states)) / len(states))
        ),
        "The share of the state held before comes last": lambda states, m, b: _kept_shares(states, m, b).roll(1),
        "The kept steps at -1 are missing: their share is the last entry": lambda states, m, b: _kept_shares(
            states, m, b
        ).index_fill(0, torch.tensor(m), 0),
        "These are counts: divide by R": lambda states, m, b: (
            _kept_shares(states, m, b) * (len(states) - floor(b * len(states)))
        ),
        "Index -1 means the state held before, not the last candidate": lambda states, m, b: _kept_shares(
            states, m, b, held=m - 1
        ),
    },
    runs="The next figure",
)


def _counted_shares(scores, uniforms, burn_in, first=0, divisor=0, whole=floor):
    n, held, held_score = len(scores), -1, NEW
    dropped = int(whole(burn_in * n))
    weights = torch.zeros(n, dtype=torch.float64)
    for j, (score, u) in enumerate(zip(scores, uniforms, strict=True)):
        if score - log(u) > held_score:
            held, held_score = j, score
        if j >= dropped + first:
            weights[held] += 1 / (n - dropped + divisor)
    return weights


counted_shares = Exercise(
    "counted_shares",
    _counted_shares,
    cases=[
        ([1.0, 3.0, 2.0, -1.0], [0.9, 0.5, 0.2, 0.7], 0.5),
        (*_proposed(8, 0), 0.5),
        (*_proposed(9, 1), 0.5),
        (*_proposed(30, 2, spread=1.0), 0.25),
        (*_proposed(14, 3, spread=0.5), 0.0),
        (*_proposed(20, 4, spread=1.0), 0.99),
    ],
    mistakes={
        "The bug is still in it": partial(_counted_shares, first=1),
        "The weights sum to 1 now, but a kept step still is not counted: R = n - B steps are kept": (
            lambda s, u, b: torch.nn.functional.normalize(_counted_shares(s, u, b, first=1), p=1, dim=0)
        ),
        "The step that is kept in addition is the last of the burn-in": partial(_counted_shares, first=-1),
        "All steps are counted: the first B are to be dropped": lambda s, u, b: _counted_shares(s, u, 0),
        "The burn-in was right: B is floor(burn_in * n)": partial(_counted_shares, whole=ceil),
    },
    runs="The next cell",
)


def _transitions(similarities, temperature, proposals_among=0, inverted=False, remainder=True, most=1):
    scores = similarities / temperature
    m = len(scores)
    ratio = (scores - scores[:, None]).exp()
    matrix = (1 / ratio if inverted else ratio).clamp(max=most) / (m + proposals_among)
    matrix.fill_diagonal_(0)
    return matrix + torch.diag(1 - matrix.sum(dim=1)) if remainder else matrix


step_matrix = Exercise(
    "step_matrix",
    _transitions,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3]), 0.2),
        (torch.tensor([0.0, 0.5]), 1.0),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2]), 0.07),
        (torch.tensor([0.1, 0.1, 0.1, 0.1]), 0.5),
    ],
    mistakes={
        "The diagonal is missing: rejected moves stay, so each row sums to 1": partial(_transitions, remainder=False),
        "The diagonal holds only the proposal of the state itself: every rejected proposal stays there too": (
            lambda s, t: _transitions(s, t, remainder=False) + torch.eye(len(s)) / len(s)
        ),
        "A proposal is one of all m states, k itself included: divide by m": partial(_transitions, proposals_among=-1),
        "The ratio is upside down: accept the move from k to j with probability min(1, p(j) / p(k))": (
            partial(_transitions, inverted=True)
        ),
        "This matrix is transposed: entry [k, j] is the move from k to j": lambda s, t: _transitions(s, t).T,
        "A probability is at most 1: cut the ratio": partial(_transitions, most=math.inf),
        "These are exact draws: the walker proposes uniformly and accepts": lambda s, t: (
            (s / t).softmax(dim=0).expand(len(s), -1)
        ),
        **wrong_temperatures(_transitions),
    },
    runs="The next figure",
)


def _acceptance(scores, proposals, hastings=1, target=1):
    """Factors of the two parts of the logarithm of the ratio."""
    log_target, log_proposals = scores - scores[:, None], proposals.T.log() - proposals.log()
    return (target * log_target + hastings * log_proposals).clamp(max=0).exp()


def _from_probabilities(scores, proposals):
    flow = scores.softmax(dim=0)[:, None] * proposals
    return (flow.T / flow).clamp(max=1)


def _proposals(m, seed, rows=None):
    weights = torch.rand(rows or m, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    return (weights / weights.sum(dim=1, keepdim=True)).expand(m, m).clone()


acceptance = Exercise(
    "acceptance",
    _acceptance,
    cases=[
        (torch.tensor([1.0, 0.0]).double(), torch.tensor([[0.5, 0.5], [0.2, 0.8]]).double()),
        (torch.tensor([2.0, 1.0, -0.5]).double(), _proposals(3, 0)),
        (torch.tensor([0.3, 1.4, -2.0, 0.9, 0.0]).double(), _proposals(5, 1, rows=1)),
        (torch.linspace(-1, 1, 4).double(), torch.full((4, 4), 0.25).double()),
        (torch.tensor([0.0, -801.0, -800.0, 5.0]).double(), _proposals(4, 2)),
        (torch.tensor([0.7, 0.7, 0.7]).double(), _proposals(3, 3)),
    ],
    mistakes={
        "Hastings' correction is missing: the proposals back and forth, Q(j, k) / Q(k, j), do not cancel": (
            partial(_acceptance, hastings=0)
        ),
        "The proposals are upside down: the way back, Q(j, k), stands above": partial(_acceptance, hastings=-1),
        "The probabilities are upside down: p(j), where the walker would go, stands above": (
            partial(_acceptance, target=-1)
        ),
        "This is transposed: entry [k, j] is the move from k to j": lambda s, q: _acceptance(s, q).T,
        "A probability is at most 1: cut the ratio": lambda s, q: (s - s[:, None]).exp() * q.T / q,
        "Each factor is cut at 1 by itself: cut their product": lambda s, q: (
            _acceptance(s, q, hastings=0) * _acceptance(s, q, target=0)
        ),
        "This is the probability to be offered j and to move there: leave out the factor Q(k, j)": lambda s, q: (
            q * _acceptance(s, q)
        ),
        "Small probabilities underflow, and 0 / 0 is nan: p(j) / p(k) is the exponential of a difference of scores": (
            _from_probabilities
        ),
    },
    runs="The next figure",
)


def _gap(similarities, temperature):
    return 1 / (len(similarities) * (similarities / temperature).softmax(dim=0).max().item())


def _steps_to_forget(similarities, temperature, epsilon, gap=_gap, rounded=ceil):
    return rounded(log(epsilon) / log(1 - gap(similarities, temperature)))


steps_to_forget = Exercise(
    "steps_to_forget",
    _steps_to_forget,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 0.2, 0.01),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 0.07, 0.001),
        (torch.tensor([0.3, -0.3]), 1.0, 0.1),
        (torch.linspace(-0.8, 0.8, 100), 0.1, 0.05),
        (torch.tensor([-0.5, 0.9, -0.9, -0.7]), 1.0, 1e-12),
    ],
    mistakes={
        "The gap is 1 / (number of negatives x p_max), not p_max / number": (
            partial(_steps_to_forget, gap=lambda s, t: (s / t).softmax(dim=0).max().item() / len(s))
        ),
        "The walker takes whole steps: round up": partial(_steps_to_forget, rounded=float),
        "Rounded down, the bound is still above epsilon: round up": partial(_steps_to_forget, rounded=int),
        "Both logarithms need the same base": lambda s, t, e: ceil(log10(e) / log(1 - _gap(s, t))),
        "1 / gap steps divide the distance by about e = 2.7, whatever epsilon is": lambda s, t, e: ceil(1 / _gap(s, t)),
        "log(1 - gap) is not -gap: these are a few steps too many": lambda s, t, e: ceil(-log(e) / _gap(s, t)),
        **wrong_temperatures(_steps_to_forget),
    },
    runs="The next figure",
)


def _correlations(values, centred=True, terms=None):
    x = values.double() - (values.double().mean() if centred else 0)
    n = len(x)
    products = torch.stack([x[: n - t] @ x[t:] for t in range(n)])
    means = products / (n if terms is None else terms(n))
    return means / means[0]


def _pairs(alpha, monotone=True, stop=True):
    pairs = alpha[: len(alpha) // 2 * 2].view(-1, 2).sum(dim=1)
    kept = pairs[: int((pairs > 0).double().cumprod(dim=0).sum())] if stop else pairs
    return kept.cummin(dim=0).values if monotone else kept


def _effective_size(values, inverse=lambda total: 2 * total - 1, total=lambda alpha: _pairs(alpha).sum(), **options):
    return len(values) / inverse(total(_correlations(values, **options)))


def _before_alone(alpha):
    """Each pair is cut at the one before it, not at the smallest so far."""
    kept = _pairs(alpha, monotone=False)
    return kept[:1].sum() + torch.minimum(kept[1:], kept[:-1]).sum()


def _until_negative(alpha):
    """The sum of the autocorrelations before the first that is not positive."""
    return (alpha * (alpha > 0).double().cumprod(dim=0)).sum()


def _walked(states, steps, seed):
    """The scores that a walk on `states` scores holds."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(states, generator=generator, dtype=torch.float64)
    offered = scores[torch.randint(states, (1, steps), generator=generator)]
    luck = torch.rand(1, steps, generator=generator, dtype=torch.float64)
    state = metropolis_hastings(3 * offered, 3 * offered[:, 0], uniforms=luck).state.clamp_min(0)
    return offered.gather(1, state)[0]


def _swinging(steps, seed):
    """Values whose neighbours tend to lie on opposite sides of the mean."""
    values = torch.randn(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for step in range(1, steps):
        values[step] -= 0.6 * values[step - 1]
    return values + 1


def _size(values):  # the argument as the exercise names it
    return effective_sample_size(values)


effective_size = Exercise(
    "effective_size",
    _size,
    cases=[
        (torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 1.0, 1.0]).double(),),
        (_walked(20, 300, seed=0),),
        (_walked(8, 401, seed=1),),
        (_walked(30, 250, seed=2) + 4,),
        (_swinging(200, seed=3),),
        # a pair that grows again after a smaller one, twice
        (torch.tensor([3.0, 0, 1, 3, 1, 2, 0, 2, 0, 2, 2, 0, 1]).double(),),
    ],
    mistakes={
        "Lag 0 is counted twice: the sum in 1 + 2 (alpha_1 + alpha_2 + ...) begins at lag 1": (
            partial(_effective_size, inverse=lambda total: 2 * total + 1)
        ),
        "The factor 2 is missing: a lag counts forwards and backwards": (
            partial(_effective_size, inverse=lambda total: total)
        ),
        "The mean of the values is to be subtracted first": partial(_effective_size, centred=False),
        "Divide every sum of products by n, not by its n - t terms": (
            partial(_effective_size, terms=lambda n: torch.arange(n, 0, -1))
        ),
        "The pairs may not grow again: take each at most as large as the smallest before": (
            partial(_effective_size, total=lambda alpha: _pairs(alpha, monotone=False).sum())
        ),
        "Stop before the first pair that is not positive": partial(
            _effective_size, total=lambda alpha: _pairs(alpha, stop=False).sum()
        ),
        "Compare with the smallest pair so far, not with the pair before alone": partial(
            _effective_size, total=_before_alone
        ),
        "The first pair is lags 0 and 1": partial(_effective_size, total=lambda alpha: 1 + _pairs(alpha[1:]).sum()),
        "A walk that swings is worth more than n draws: do not cut the answer at n": (
            lambda values: min(_effective_size(values), len(values))
        ),
        "Stop at the first pair that is not positive, not at the first autocorrelation": (
            partial(_effective_size, total=_until_negative)
        ),
        "This is 1 + 2 (alpha_1 + alpha_2 + ...), the steps for one draw: divide n by it": lambda values: (
            len(values) / _effective_size(values)
        ),
    },
    runs="The table below",
)


def _sampler(log_scores, held_scores, uniforms):
    return tuple(metropolis_hastings(log_scores, held_scores, uniforms=uniforms))


def _rows(rows, steps, seed, held, spread=2.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(rows, steps, generator=generator) + shift
    return scores, torch.tensor(held), torch.rand(rows, steps, generator=generator)


def _hold_the_bonus(log_scores, held_scores, uniforms, returned=True):
    challenge, current = log_scores - uniforms.log(), held_scores.clone()
    accepted = torch.zeros_like(log_scores, dtype=torch.bool)
    for step in range(log_scores.shape[1]):
        accepted[:, step] = challenge[:, step] > current
        current = torch.where(accepted[:, step], challenge[:, step], current)
    states, _ = torch.where(accepted, torch.arange(log_scores.shape[1]), -1).cummax(dim=1)
    last = log_scores.gather(1, states[:, -1:].clamp_min(0))[:, 0].where(states[:, -1] >= 0, held_scores)
    return states, accepted, current if returned else last


def _decided(accepts, log_scores, held_scores, uniforms):
    """The sampler with a decision of its own."""
    current, accepted = held_scores.clone(), torch.zeros_like(log_scores, dtype=torch.bool)
    for step in range(log_scores.shape[1]):
        accepted[:, step] = accepts(log_scores[:, step], current, uniforms[:, step])
        current = torch.where(accepted[:, step], log_scores[:, step], current)
    states, _ = torch.where(accepted, torch.arange(log_scores.shape[1]), -1).cummax(dim=1)
    return states, accepted, current


def _last_by_index(log_scores, held_scores, uniforms, least=-1):
    states, accepted, _ = _sampler(log_scores, held_scores, uniforms)
    return states, accepted, log_scores[torch.arange(len(states)), states[:, -1].clamp_min(least)]


def _with_states(change):
    def wrong(log_scores, held_scores, uniforms):
        states, accepted, last = _sampler(log_scores, held_scores, uniforms)
        return change(states, accepted), accepted, last

    return wrong


def _penalised(log_scores, held_scores, uniforms):
    current, states, accepted = held_scores, [], []
    for step in range(log_scores.shape[1]):
        accepted.append(log_scores[:, step] + uniforms[:, step].log() > current)
        current = torch.where(accepted[-1], log_scores[:, step], current)
        before = states[-1] if states else torch.full((len(log_scores),), -1)
        states.append(torch.where(accepted[-1], step, before))
    return torch.stack(states, 1), torch.stack(accepted, 1), current


sampler = Exercise(
    "sampler",
    _sampler,
    cases=[
        (torch.tensor([[1.0, 3.0, 2.0], [-9.0, -8.0, -9.0]]), torch.tensor([NEW, 4.0]), torch.full((2, 3), 0.5)),
        _rows(4, 7, 0, [NEW, 0.5, 6.0, -3.0]),
        _rows(3, 40, 1, [NEW, NEW, 1.0], spread=0.5),
        _rows(5, 12, 2, [20.0, -50.0, NEW, 0.0, 300.0], spread=100.0),
        _rows(6, 1, 3, [NEW, 0.0, 1.0, -1.0, 5.0, 0.2]),
        _rows(3, 5, 4, [NEW, -1000.0, -990.0], shift=-1000.0),
        (torch.tensor([[-900.0, 2.0, 5.0]]), torch.tensor([3.0]), torch.tensor([[0.0, 0.9, 0.0]])),
        (torch.tensor([[NEW, NEW, 1.0], [NEW, 0.0, NEW]]), torch.tensor([NEW, 2.0]), torch.full((2, 3), 0.05)),
    ],
    tolerance=0,  # bit for bit
    mistakes={
        "The bonus is spent: the next proposal meets the score of the state held, without its bonus": _hold_the_bonus,
        "The bonus is spent in the comparisons too: carry the score on without it": (
            partial(_hold_the_bonus, returned=False)
        ),
        "Index -1 is the state held before: its score is not that of the last proposal": _last_by_index,
        "A row that never moves ends with the score it came with, not with that of the first proposal": (
            partial(_last_by_index, least=0)
        ),
        "After a rejection the row holds what it held before: carry the last accepted step on": (
            _with_states(lambda states, accepted: states.where(accepted, -1))
        ),
        "With U = 0 the bonus is infinite: exp(difference) underflows to 0, so use the bonus form": (
            partial(_decided, lambda new, held, u: u < (new - held).exp())
        ),
        "-inf is not above -inf: use >": partial(_decided, lambda new, held, u: new - u.log() >= held),
        "A row that has not moved yet is at -1": _with_states(lambda states, accepted: states.clamp_min(0)),
        "Each row has uniforms of its own": lambda s, held, u: _sampler(s, held, u[:1].expand_as(u)),
        "The last score is that of the state held at the end, not of the last proposal": lambda s, held, u: (
            *_sampler(s, held, u)[:2],
            s[:, -1],
        ),
        "log U is negative, so adding it is a penalty: subtract it": _penalised,
    },
    runs="The next cell",
)
