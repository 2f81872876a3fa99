"""Exercises of chapter 05; in the mistakes: burn-in b, weight w of the held view, temperature t, rho of the coin c."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from emc2_lite.course.exercise import Exercise
from emc2_lite.losses import EMC2Loss, random_proposals

NEW = -math.inf  # the score of a chain that holds nothing yet


def _shares(kept, m, steps):
    """The share of `steps` at each of m candidates and, in the last place, at the held view, -1."""
    return torch.bincount(kept % (m + 1), minlength=m + 1).double() / steps


def _kept_weights(states, m, burn_in):
    burned = math.floor(burn_in * m)
    return _shares(states[burned:], m, m - burned)


kept_weights = Exercise(
    "kept_weights",
    _kept_weights,
    cases=[
        (torch.tensor([-1, -1, 2, 2]), 4, 0.5),
        (torch.tensor([-1, -1, -1, 3, 3, 5]), 6, 0.5),
        (torch.tensor([-1, -1, -1, -1, -1, -1]), 6, 0.5),
        (torch.tensor([-1, 1, 1, 1, 4, 4, 4, 4, 8, 8]), 10, 0.75),
        (torch.tensor([0, 0, 2, 2, 2, 5]), 6, 0.0),
        (torch.tensor([-1, 4, 4, 0, 0, 2]), 6, 0.5),
        (torch.tensor([-1, -1, 4, 0, 0, 2]), 6, 0.25),
    ],
    mistakes={
        "Step B is dropped too: keep the steps from number B on, B included": (
            lambda states, m, b: _shares(states[math.floor(b * m) + 1 :], m, m - math.floor(b * m))
        ),
        "The shares do not sum to 1: divide by the R = m - B kept steps, not by all m": (
            lambda states, m, b: _shares(states[math.floor(b * m) :], m, m)
        ),
        "State -1 is the held view, but as an index it selects the last entry: give the state its own place": (
            lambda states, m, b: _kept_weights(states % m, m, b)
        ),
        "The first B = floor(burn_in m) steps are counted: drop them": lambda states, m, b: _kept_weights(states, m, 0),
        "B is rounded up: floor(burn_in m) rounds down": (
            lambda states, m, b: _shares(states[math.ceil(b * m) :], m, m - math.ceil(b * m))
        ),
        "The share of the held view is missing: put it in the last place": (
            lambda states, m, b: _kept_weights(states, m, b) * (torch.arange(m + 1) < m)
        ),
        "The share of the held view comes first: it belongs last": (
            lambda states, m, b: _kept_weights(states, m, b).roll(1)
        ),
    },
    runs="The live figure",
)


def _one_visit(
    scores,
    held_score,
    uniforms,
    burn_in,
    bonus=lambda u: -math.log(u),
    spent=True,
    moves=True,
    weights=_kept_weights,
):
    """A visit in plain steps; the options are mistakes."""
    states, current, current_score = [], -1, held_score
    for j, (score, u) in enumerate(zip(scores.tolist(), uniforms.tolist(), strict=True)):
        if score + bonus(u) > current_score:
            current = j
            if moves:
                current_score = score if spent else score + bonus(u)
        states.append(current)
    shares = weights(torch.tensor(states), len(states), burn_in)
    return shares[:-1], shares[-1], current


def _visits():
    """Visits at temperatures from 0.05 to 1: by number, new chains and chains that hold a score."""
    generator = torch.Generator().manual_seed(5)
    for number, (m, burn_in) in enumerate([(6, 0.5), (6, 0.25), (6, 0.75), (10, 0.75), (4, 0.0), (10, 0.25)] * 2):
        cosines = 2 * torch.rand(m, generator=generator, dtype=torch.float64) - 1
        uniforms = torch.rand(m, generator=generator, dtype=torch.float64)
        temperature = (0.05, 0.2, 1.0)[number % 3]
        yield cosines / temperature, NEW if number in (1, 8) else 0.3 / temperature, uniforms, burn_in


one_visit = Exercise(
    "one_visit",
    _one_visit,
    cases=[
        (torch.tensor([1.0, 4.0, 2.0, 3.0]), 2.0, torch.full((4,), 0.5), 0.5),
        (torch.tensor([1.0, 0.5, 0.2, 0.1]), 6.0, torch.full((4,), 0.5), 0.25),  # never leaves
        (torch.tensor([1.0, 3.0, 5.8, 0.1]), 6.0, torch.full((4,), 0.5), 0.25),  # leaves after burn-in
        (torch.tensor([880.0, 900.0, 870.0, 899.0]), 890.0, torch.tensor([0.3, 0.9, 0.2, 0.7]), 0.0),
        *_visits(),
    ],
    mistakes={
        "log U is negative, so adding it is a penalty: subtract it": partial(_one_visit, bonus=math.log),
        "This walk only climbs: add the bonus -log U to a candidate's score": partial(_one_visit, bonus=lambda u: 0),
        "The bonus is spent: once the chain has moved, its score is l_j without the bonus": (
            partial(_one_visit, spent=False)
        ),
        "Every candidate is compared with the score held at the start: a move changes the current score": (
            partial(_one_visit, moves=False)
        ),
        "All m steps are counted: drop the first B = floor(burn_in m)": (
            partial(_one_visit, weights=lambda states, m, b: _kept_weights(states, m, 0))
        ),
        "B is rounded up: floor(burn_in m) rounds down": (
            partial(
                _one_visit, weights=lambda states, m, b: _shares(states[math.ceil(b * m) :], m, m - math.ceil(b * m))
            )
        ),
        "The weights do not sum to 1: divide by the R = m - B kept steps": (
            partial(_one_visit, weights=lambda states, m, b: _shares(states[math.floor(b * m) :], m, m))
        ),
        "State -1 is the held view, but as an index it selects the last candidate: count it apart": (
            partial(_one_visit, weights=lambda states, m, b: _kept_weights(states % m, m, b))
        ),
    },
    runs="The loop below",
)

stored_state = Exercise(
    "stored_state",
    lambda last, candidates, held: held if last < 0 else candidates[last],
    cases=[
        (2, [(4, 0), (9, 1), (7, 0), (4, 1)], (3, 1)),
        (-1, [(4, 0), (9, 1), (7, 0), (4, 1)], (3, 1)),
        (0, [(5, 6), (8, 6)], (5, 2)),
        (-1, [(5, 6), (8, 6)], (1, 2)),
        (4, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (2, 0)),
        (1, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (3, 0)),
        (3, [(9, 1), (3, 0), (8, 1), (3, 1), (6, 0)], (3, 1)),
    ],
    mistakes={
        "State -1 means that the chain has not moved, but candidates[-1] is the last candidate: return held": (
            lambda last, candidates, held: candidates[last]
        ),
        "A chain that has moved stores the candidate it moved to": lambda last, candidates, held: held,
        "State 0 is the first candidate: only -1 means that the chain has not moved": (
            lambda last, candidates, held: candidates[last] if last > 0 else held
        ),
    },
    runs="The loop below",
)


def _gradients(loss, *leaves):
    """The loss's gradient in each leaf; what is no tensor is handed on if it stands for "not written"."""
    if loss is None or loss is ...:
        return loss
    if not isinstance(loss, torch.Tensor):
        if loss == 0:
            return [torch.zeros_like(leaf) for leaf in leaves]
        raise TypeError(f"a {type(loss).__name__} has no gradient: return the tensor")
    if not loss.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


def _emc2_loss(z1, z2, weights, held_weight, held, temperature, positive=1.0, pairing=1, kept=1.0):
    """The loss, weights detached; the options are mistakes."""
    z = torch.cat((z1, z2))
    pos = z.roll(pairing * len(z1), dims=0)
    pull = positive * (z * pos).sum(dim=1)
    push = (weights.detach() * (z @ z.T)).sum(dim=1) + kept * held_weight.detach() * (z * held).sum(dim=1)
    return (push - pull).mean() / temperature


def _step_gradients(answer, z1, z2, weights, held_weight, held, temperature):
    """Gradients in z1, z2 and held. The weights get a gradient of their own, which must not count."""
    leaves = [tensor.clone().requires_grad_() for tensor in (z1, z2, held)]
    z = torch.cat(leaves[:2])
    one = torch.exp(z @ z.T - (z @ z.T).detach())  # equals 1, with a gradient
    inputs = weights * one, held_weight * one.diagonal(), leaves[2]
    return _gradients(answer(*leaves[:2], *inputs, temperature), *leaves)


def _batch(b, dim, temperature, seed, held=True):
    """A batch with weights as a visit gives them: shares of kept steps, 0 at a row's own sample."""
    generator = torch.Generator().manual_seed(seed)
    z1, z2, one, other = F.normalize(torch.randn(4, b, dim, generator=generator, dtype=torch.float64), dim=-1)
    counts = torch.randint(4, (2 * b, 2 * b + 1), generator=generator).double()
    counts[:, :-1] *= ~torch.eye(b, dtype=torch.bool).repeat(2, 2)
    counts[:, -1] = counts[:, -1] * held + (counts.sum(dim=1) == 0)
    shares = counts / counts.sum(dim=1, keepdim=True)
    return z1, z2, shares[:, :-1], shares[:, -1], torch.cat((one, other)), temperature


def _with_undetached_weights(z1, z2, weights, held_weight, held, temperature, fixed=False, negatives=lambda z: z):
    """The loss with a gradient through w(r, 0) and, unless they are `fixed`, the weights of the batch."""
    z = torch.cat((z1, z2))
    weights = weights.detach() if fixed else weights
    push = (weights * (z @ negatives(z).T)).sum(dim=1) + held_weight * (z * held).sum(dim=1)
    return (push - (z * torch.cat((z2, z1))).sum(dim=1)).mean() / temperature


def _with_fixed_others(z1, z2, weights, held_weight, held, temperature):
    z = torch.cat((z1, z2))
    push = (weights.detach() * (z @ z.T.detach())).sum(dim=1)
    push = push + held_weight.detach() * (z * held.detach()).sum(dim=1)
    return (push - (z * torch.cat((z2, z1)).detach()).sum(dim=1)).mean() / temperature


emc2_loss = Exercise(
    "emc2_loss",
    _emc2_loss,
    cases=[_batch(2, 3, 0.07, 0), _batch(3, 4, 0.2, 1), _batch(4, 3, 1.0, 2), _batch(3, 5, 0.5, 3, held=False)],
    mistakes={
        "The weights carry a gradient: detach them, for they are counts of a walk, not a function to minimise": (
            _with_undetached_weights
        ),
        "held_weight is a weight too: detach it": partial(_with_undetached_weights, fixed=True),
        "The weights of the batch carry a gradient: detach weights as well as held_weight": (
            lambda z1, z2, weights, w, held, t: _with_undetached_weights(z1, z2, weights, w.detach(), held, t)
        ),
        "The other embedding of each pair is detached: the gradient flows through both": _with_fixed_others,
        "Both ends of a pair are pushed, a negative as well as the row: detach neither": (
            lambda z1, z2, weights, w, held, t: _with_undetached_weights(
                z1, z2, weights.detach(), w.detach(), held, t, negatives=torch.Tensor.detach
            )
        ),
        "The held view gets no gradient: do not detach held": (
            lambda z1, z2, weights, w, held, t: _emc2_loss(z1, z2, weights, w, held.detach(), t)
        ),
        "The term of the held view is missing: add w(r, 0) l(r, held)": partial(_emc2_loss, kept=0.0),
        "The positive is missing: subtract l(r, pos)": partial(_emc2_loss, positive=0.0),
        "The positive is pushed away: its score has a minus sign": partial(_emc2_loss, positive=-1.0),
        "The sum over the rows is not divided: take the mean over the 2b rows": (
            lambda z1, z2, *rest: 2 * len(z1) * _emc2_loss(z1, z2, *rest)
        ),
        "The sum over the 2b rows is divided by b: divide it by 2b": (
            lambda z1, z2, *rest: 2 * _emc2_loss(z1, z2, *rest)
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda z1, z2, weights, w, held, t: _emc2_loss(z1, z2, weights, w, held, 1.0)
        ),
    },
    runs="The step below",
    drive=_step_gradients,
)


def _batch_weights(columns, burn_in):
    """One more column than the batch has: index -1 is that one."""
    rows, m = columns.shape
    kept = columns[:, math.floor(burn_in * m) :]
    weights = torch.zeros(rows, rows + 1)
    weights.index_put_((torch.arange(rows)[:, None], kept), torch.tensor(1 / kept.shape[1]), accumulate=True)
    return weights[:, :-1], weights[:, -1]


def _last_column(columns, burn_in):
    weights, _ = _batch_weights(columns % len(columns), burn_in)
    return weights, 1 - weights.sum(dim=1)


def _first_column(columns, burn_in):
    weights, _ = _batch_weights(columns.clamp_min(0), burn_in)
    return weights, 1 - weights.sum(dim=1)


def _walks(b, seed):
    """Columns held after each step, (2b, 2b - 2): some chains never leave the held view, some leave late."""
    order, uniforms = random_proposals(b, torch.empty(0), torch.Generator().manual_seed(seed))
    moves = uniforms < torch.linspace(0, 1, 2 * b)[:, None]
    last_move = torch.where(moves, torch.arange(order.shape[1]), -1).cummax(dim=1).values
    return torch.where(last_move < 0, -1, order.long().gather(1, last_move.clamp_min(0)))


batch_weights = Exercise(
    "batch_weights",
    _batch_weights,
    cases=[
        (torch.tensor([[-1, 3], [2, 0], [-1, -1], [0, 2]]), 0.5),
        *((_walks(b, b), burn_in) for b in (3, 4, 5) for burn_in in (0.0, 0.3, 0.5, 0.75)),
    ],
    mistakes={
        "The bug is still in it": _last_column,
        "State -1 now selects the first column: it is no column of the batch at all": _first_column,
        "The weight of the held view is right, but the last column has it too": (
            lambda columns, b: (_last_column(columns, b)[0], _batch_weights(columns, b)[1])
        ),
        "The weights in the batch are right, but w(r, 0) is missing: 1 minus the sum of the others": (
            lambda columns, b: (_batch_weights(columns, b)[0], torch.zeros(len(columns)))
        ),
        "The weights in the batch are divided by 1 - w(r, 0): that is the variant called dropped": (
            lambda columns, b: (
                F.normalize(_batch_weights(columns, b)[0], p=1, dim=1),
                _batch_weights(columns, b)[1],
            )
        ),
    },
    runs="The comparison below",
)

dropped_variant = Exercise(
    "dropped_variant",
    lambda weights, held_weight: weights / (1 - held_weight) if held_weight < 1 else torch.zeros_like(weights),
    cases=[
        (torch.tensor([0.5, 0.0, 0.25, 0.0]), 0.25),
        (torch.tensor([0.0, 0.0, 1.0]), 0.0),
        (torch.tensor([0.0, 0.0]), 1.0),
        (torch.tensor([0.0, 0.1, 0.2, 0.3]), 0.4),
    ],
    mistakes={
        "These weights do not sum to 1: divide by what is left, 1 - w(r, 0)": lambda weights, held_weight: weights,
        "This divides by w(r, 0): divide by what is left, 1 - w(r, 0)": (
            lambda weights, held_weight: weights / torch.tensor(held_weight)
        ),
        "A row that kept no in-batch step has no repulsion: 0 / 0 is not a number, so return zeros": (
            lambda weights, held_weight: weights / (1 - torch.tensor(held_weight))
        ),
    },
    runs="The next figure",
)


def _coin_weights(held_weight, reencode, coin):
    encoded = 1 / reencode if coin < reencode * held_weight else 0.0
    return encoded, held_weight - encoded


coin_weights = Exercise(
    "coin_weights",
    _coin_weights,
    cases=[
        (0.5, 0.5, 0.1),
        (0.5, 0.5, 0.3),
        (1.0, 1.0, 0.7),
        (1 / 3, 0.25, 0.05),
        (0.5, 1.0, 0.3),
        (0.5, 1.0, 0.6),
        (0.0, 0.5, 0.01),
        (0.5, 0.0, 0.2),
    ],
    mistakes={
        "The mean of c is reencode w(r, 0), too small: a view that is encoded counts 1 / reencode": (
            lambda w, rho, c: (1.0, w - 1.0) if c < rho * w else (0.0, w)
        ),
        "The mean of c is w(r, 0) squared: a view that is encoded counts 1 / reencode": (
            lambda w, rho, c: (w / rho, w - w / rho) if c < rho * w else (0.0, w)
        ),
        "The mean of c is 1: the chance of encoding is reencode w(r, 0)": (
            lambda w, rho, c: (1 / rho, w - 1 / rho) if c < rho else (0.0, w)
        ),
        "The two weights sum to w(r, 0): the remembered embedding gets w(r, 0) - c": (
            lambda w, rho, c: (_coin_weights(w, rho, c)[0], w)
        ),
        "Do not cut w(r, 0) - c at 0: where c is too much, it takes the excess back": (
            lambda w, rho, c: (_coin_weights(w, rho, c)[0], max(_coin_weights(w, rho, c)[1], 0.0))
        ),
        "The weight of the view encoded again comes first": lambda w, rho, c: _coin_weights(w, rho, c)[::-1],
    },
    runs="The step below",
)


def _remembered_term(z_r, memory, encode, held_weight, c, temperature):
    term = (held_weight - c) * (z_r @ memory.detach())
    return (term + c * (z_r @ encode()) if c else term) / temperature


def _term_gradients(answer, z_r, memory, view, held_weight, c, temperature):
    """Gradients in the row's embedding, the remembered one and the view's of today, and how often it was encoded."""
    leaves, calls = [tensor.clone().requires_grad_() for tensor in (z_r, memory, view)], []

    def encode():
        calls.append(1)
        return leaves[2].clone()

    gradients = _gradients(answer(leaves[0], leaves[1], encode, held_weight, c, temperature), *leaves)
    return [*gradients, len(calls)] if isinstance(gradients, list) else gradients


def _vectors(seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(3, 4, generator=generator, dtype=torch.float64), dim=-1).unbind()


def _always_encoded(z_r, memory, encode, w, c, t):
    return (c * (z_r @ encode()) + (w - c) * (z_r @ memory.detach())) / t


remembered_term = Exercise(
    "remembered_term",
    _remembered_term,
    cases=[
        (*_vectors(0), 0.5, 0.0, 0.07),
        (*_vectors(1), 0.5, 2.0, 0.07),
        (*_vectors(2), 1 / 3, 4.0, 0.2),
        (*_vectors(3), 1.0, 1.0, 1.0),
        (*_vectors(4), 1 / 3, 0.0, 0.5),
    ],
    mistakes={
        "The view is encoded where c is 0 too: call encode only where c counts, or the memory saves nothing": (
            _always_encoded
        ),
        "The remembered embedding gets a gradient: it is a constant, so detach it": (
            lambda z_r, memory, encode, w, c, t: ((w - c) * (z_r @ memory) + (c * (z_r @ encode()) if c else 0.0)) / t
        ),
        "The view encoded again gets no gradient: do not detach what encode returns": (
            lambda z_r, memory, encode, w, c, t: _remembered_term(z_r, memory, lambda: encode().detach(), w, c, t)
        ),
        "The remembered embedding has the weight w(r, 0) even where the view is encoded: it is w(r, 0) - c": (
            lambda z_r, memory, encode, w, c, t: (
                (w * (z_r @ memory.detach()) + (c * (z_r @ encode()) if c else 0.0)) / t
            )
        ),
        "Where the view is encoded, the remembered one still counts: its weight w(r, 0) - c is negative, not 0": (
            lambda z_r, memory, encode, w, c, t: (c * (z_r @ encode()) if c else w * (z_r @ memory.detach())) / t
        ),
        "The temperature is missing: a score is a similarity divided by the temperature": (
            lambda z_r, memory, encode, w, c, t: _remembered_term(z_r, memory, encode, w, c, 1.0)
        ),
    },
    runs="The step below",
    drive=_term_gradients,
)


class _Library:
    """`EMC2Loss` behind the interface of the exercise. Batch t comes with the draws of seed t, so it draws them too."""

    def __init__(self, num_samples, temperature, burn_in, *_):
        self.criterion, self.calls = EMC2Loss(num_samples, temperature, burn_in), 0

    def __call__(self, z1, z2, index, view, encode, order, uniforms):
        generator = torch.Generator().manual_seed(self.calls)
        self.calls += 1
        return self.criterion(z1, z2, index, view, encode, generator)

    @property
    def held(self):
        return torch.stack((self.criterion.chain_index.long(), self.criterion.chain_view), dim=-1)


class _Faulty:
    """EMC2 in plain loops, with one fault."""

    def __init__(self, fault, num_samples, temperature, burn_in):
        self.fault, self.temperature = fault, temperature
        self.burn_in = 0 if fault == "no burn-in" else burn_in
        self.held = torch.full((num_samples, 2, 2), -1)
        self.score = torch.full((num_samples, 2), NEW, dtype=torch.float64)

    def __call__(self, z1, z2, index, view, encode, order, uniforms):
        if self.fault == "new in each batch":
            self.held.fill_(-1)
        if self.fault == "slot as view":
            view = torch.tensor([[0], [1]]).expand_as(view)
        z, names = torch.cat((z1, z2)), torch.stack((index.repeat(2), view.flatten()), dim=1)
        terms = [self.row(r, z, names, encode, order[r].long(), uniforms[r]) for r in range(len(z))]
        return torch.stack(terms).sum() / {"sum": 1, "half": len(index)}.get(self.fault, len(z))

    def row(self, r, z, names, encode, order, uniforms):
        b, fault = len(z) // 2, self.fault
        chain = names[r, 0], 0 if fault == "one chain" else r // b
        held, scores = self.held[chain].clone(), z[order] @ z[r] / self.temperature
        start, own = NEW, None
        if held[0] >= 0 and fault != "forgets":
            viewed = held[1:] if fault != "view lost" else torch.tensor([r // b])
            embedding = encode(held[:1], viewed)[0]
            own = (embedding.detach() if fault == "no gradient" else embedding) @ z[r]
            start = self.score[chain].item() if fault == "stale" else own.item() / self.temperature
        weights, w0, last = _one_visit(scores.detach(), start, uniforms, self.burn_in)
        if last >= 0 or fault == "last candidate":
            column = last if fault == "no order" else order[last]
            self.held[chain], self.score[chain] = names[column], scores[last].detach()
        loss = weights.to(scores) @ scores - z[(r + b) % len(z)] @ z[r] / self.temperature
        return loss + w0.item() * own / self.temperature if w0 > 0 and fault != "dropped" else loss


def _visited(kind, num_samples, temperature, burn_in, batches):
    """The gradient in all views' embeddings, batch after batch, and at the end the views that the chains hold."""
    criterion = kind(num_samples, temperature, burn_in)
    if criterion is None or criterion is ...:
        return criterion
    gradients = []
    for embeddings, index, view, order, uniforms in batches:
        table = embeddings.clone().requires_grad_()

        def encode(index, view, table=table):
            return table[torch.as_tensor(index).clone(), torch.as_tensor(view).clone()]  # a chain may change in place

        z1, z2 = table[index, view[0]], table[index, view[1]]
        loss = criterion(z1, z2, index, view, encode, order, uniforms)
        gradient = _gradients(loss, table)
        if not isinstance(gradient, list):
            return gradient
        gradients += gradient
    held = torch.as_tensor(criterion.held)
    return [*gradients, torch.where(held[..., :1] < 0, -1, held)]  # a new chain holds -1


def _batches(num_samples, b, count):
    """Batches of a set of three views a sample whose embeddings move, with the draws of the seeds 0, 1, 2, ..."""
    generator = torch.Generator().manual_seed(b)
    at, to = torch.randn(2, num_samples, 3, 4, generator=generator, dtype=torch.float64)
    for number in range(count):
        embeddings = F.normalize(at + number / count * to, dim=-1)
        index = torch.randperm(num_samples, generator=generator)[:b]
        view = torch.rand(3, b, generator=generator).argsort(dim=0)[:2]
        order, uniforms = random_proposals(b, embeddings, torch.Generator().manual_seed(number))
        yield embeddings, index, view, order.long(), uniforms


EMC2 = Exercise(
    "EMC2",
    _Library,
    cases=[
        (6, 0.2, 0.5, list(_batches(6, 3, 8))),
        (7, 0.07, 0.5, list(_batches(7, 4, 8))),
        (5, 0.5, 0.25, list(_batches(5, 4, 6))),
        (4, 0.1, 0.0, list(_batches(4, 2, 6))),
    ],
    mistakes={
        "Both view slots of a sample share one chain: each (sample, view slot) has its own": partial(
            _Faulty, "one chain"
        ),
        "Every visit starts a new chain: a chain goes on from the view that it holds": partial(_Faulty, "forgets"),
        "All chains are new in each batch: make held once, in __init__": partial(_Faulty, "new in each batch"),
        "A chain starts from the score of its last visit: encode the held view again, for the embeddings have moved": (
            partial(_Faulty, "stale")
        ),
        "The term of the held view is missing: add w(r, 0) l(r, held)": partial(_Faulty, "dropped"),
        "The held view gets no gradient: the last term counts like any other": partial(_Faulty, "no gradient"),
        "A chain that stays stores the last candidate: state -1 keeps the view that it held": (
            partial(_Faulty, "last candidate")
        ),
        "The held view's number is lost: a chain stores the pair (index, view)": partial(_Faulty, "view lost"),
        "The view number is view[slot, place], not the slot": partial(_Faulty, "slot as view"),
        "The chain's pair is that of column order[r, last], not of column last": partial(_Faulty, "no order"),
        "The burn-in is not dropped: count the steps from floor(burn_in m) on": partial(_Faulty, "no burn-in"),
        "The sum over the rows is not divided: take the mean over the 2b rows": partial(_Faulty, "sum"),
        "The sum over the 2b rows is divided by b: divide it by 2b": partial(_Faulty, "half"),
    },
    drive=_visited,
)
