"""Exercises of chapter 01; in the mistakes: similarities s, temperature t."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise
from emc2_lite.losses import DCLLoss


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _unit(seed, *shape):
    return F.normalize(_normal(seed, *shape), dim=-1)


def _products(rows):
    return rows @ rows.T


def _batch_logits(h1, h2, temperature, dim=1):
    return _products(F.normalize(torch.cat((h1, h2)), dim=dim)) / temperature


batch_logits = Exercise(
    "batch_logits",
    _batch_logits,
    cases=[
        (_normal(0, 2, 3), _normal(1, 2, 3), 0.5),
        (_normal(2, 3, 4) * 5, _normal(3, 3, 4) / 5, 0.07),
        (_normal(4, 4, 2), _normal(5, 4, 2), 2.0),
    ],
    mistakes={
        **wrong_temperatures(_batch_logits),
        "The embeddings need length 1: normalise each row first": lambda h1, h2, t: _products(torch.cat((h1, h2))) / t,
        "This gives length 1 to each column: each row needs length 1 (dim=1)": partial(_batch_logits, dim=0),
        "Both factors are divided by the temperature: divide once": lambda h1, h2, t: _batch_logits(h1, h2, t**2),
        "The result has 2b rows and 2b columns: stack the two views before the product": (
            lambda h1, h2, t: F.normalize(h1, dim=1) @ F.normalize(h2, dim=1).T / t
        ),
        "The rows are in the wrong order: first all of h1, then all of h2": (
            lambda h1, h2, t: _products(F.normalize(torch.stack((h1, h2), dim=1).flatten(0, 1), dim=1)) / t
        ),
    },
    runs="The next figure",
)


def _half(count):
    """The partner of each row where row r and row r + b belong together."""
    return torch.arange(count).roll(count // 2)


def _neighbour(count):
    """The partner of each row where rows 2i and 2i + 1 belong together."""
    return torch.arange(count) ^ 1


def _nt_xent_of_rows(z, temperature, partner, own_score=-math.inf, rows=slice(None)):
    """NT-Xent of the anchors `rows`; each row has `own_score` with itself."""
    logits = (_products(z) / temperature).fill_diagonal_(own_score)
    return F.cross_entropy(logits[rows], partner(len(z))[rows])


def _other_view_only(z1, z2, temperature):
    logits, rows = z1 @ z2.T / temperature, torch.arange(len(z1))
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


def _nt_xent(z1, z2, temperature, partner=_half, **changes):
    return _nt_xent_of_rows(torch.cat((z1, z2)), temperature, partner, **changes)


def _raw_exponentials(z1, z2, temperature):
    z = torch.cat((z1, z2))
    scores = (z @ z.T / temperature).exp().masked_fill(torch.eye(len(z), dtype=torch.bool), 0)
    return -(scores[torch.arange(len(z)), _half(len(z))] / scores.sum(1)).log().mean()


def _dcl(z1, z2, temperature):
    return DCLLoss(temperature)(z1, z2, torch.arange(len(z1)))


def _loss_and_gradients(nt_xent, z1, z2, temperature):
    """What is compared: the loss, then the temperature times its gradients in z1 and z2, nan if it is not finite."""
    leaves = z1.clone().requires_grad_(), z2.clone().requires_grad_()
    loss = nt_xent(*leaves, temperature)
    if loss is None or loss is ...:
        return loss
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise ValueError("autograd cannot follow the number: return what torch computed, without .item() or .detach()")
    if not loss.isfinite().all():
        return loss, *(torch.full_like(z, math.nan) for z in (z1, z2))
    try:
        gradients = torch.autograd.grad(loss.sum(), leaves, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        raise ValueError(
            "autograd needs a result that was overwritten: use masked_fill in the place of fill_diagonal_"
        ) from error
    return loss, *(temperature * gradient for gradient in gradients)


# a simplex, where a score of -10 is no minus infinity
_SIMPLEX = F.normalize((torch.eye(4).double() - 1 / 4) / (3 / 4) ** 0.5 + 0.01 * _normal(3, 4, 4), dim=1)

nt_xent = Exercise(
    "nt_xent",
    _nt_xent,
    cases=[
        (*_unit(0, 2, 2, 3), 0.5),
        (*_unit(1, 2, 5, 4), 0.07),
        (*_unit(2, 2, 4, 2), 2.0),
        (*_SIMPLEX.chunk(2), 0.06),
        (*_unit(4, 2, 3, 3).float(), 0.005),  # exp of a score of 200 is infinite in float32
    ],
    mistakes={
        "Each row's score with itself is in its sum: leave it out": (
            lambda z1, z2, t: _nt_xent(z1, z2, t, own_score=1 / t)
        ),
        "A score of 0 still counts in a sum, as exp(0) = 1: set each row's score with itself to minus infinity": (
            partial(_nt_xent, own_score=0)
        ),
        "The positive of row r is row r + b, and of row r + b it is row r": partial(_nt_xent, partner=_neighbour),
        "The positive is missing from the sum: NT-Xent includes it": _dcl,
        "Only the first views are anchors: each of the 2b rows must be an anchor once": (
            lambda z1, z2, t: _nt_xent(z1, z2, t, rows=slice(len(z1)))
        ),
        "The sum has only the rows of the other view: it needs every row except the anchor": _other_view_only,
        "This is the sum over the rows: the loss is their mean": (lambda z1, z2, t: _nt_xent(z1, z2, t) * 2 * len(z1)),
        "The sign is wrong: the loss is the negative logarithm of a share": lambda *inputs: -_nt_xent(*inputs),
        "z1 and z2 have length 1 already: normalising them again changes the gradient": (
            lambda z1, z2, t: _nt_xent(F.normalize(z1, dim=1), F.normalize(z2, dim=1), t)
        ),
        "The exp of a score overflows at a low temperature: take log_softmax, logsumexp or cross_entropy": (
            _raw_exponentials
        ),
        **wrong_temperatures(_nt_xent),
    },
    drive=_loss_and_gradients,
    runs="The comparison with the library",
)


def _paired(z, temperature, **changes):
    return _nt_xent_of_rows(z, temperature, _neighbour, **changes)


def _marked(z, temperature, own, partner, flag=math.nan):
    """The positive in front of all scores, with `own` and `partner` (None: as it is) written by position.

    Scores that equal `flag` are left out.
    """
    scores, rows = z @ z.T / temperature, torch.arange(len(z))
    positive = scores[rows, rows ^ 1]
    scores[rows, rows] = own
    if partner is not None:
        scores[rows, rows ^ 1] = partner
    negatives = scores.masked_fill(scores == flag, -math.inf)
    log_sum = torch.cat((positive[:, None], negatives), dim=1).logsumexp(dim=1)
    return (log_sum - positive).mean()


def _flagged(z, temperature, flag=0.0):
    """The chapter's code with its bug for a flag of 0."""
    return _marked(z, temperature, flag, flag, flag)


def _planes(*degrees):
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), dim=1)


# Rows without a coordinate in common, as after a ReLU: a score of exactly 0.
_SPARSE = torch.tensor([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0.6, 0.8]], dtype=torch.float64)
# A row opposite all others: scores of exactly -1 / temperature.
_OPPOSITE = torch.tensor([[1, 0], [-1, 0], [-1, 0], [-1, 0]], dtype=torch.float64)
# Each two rows share one coordinate, with opposite signs: all scores are exactly -0.375^2 / temperature.
_EDGES = torch.tensor([[1, 1, 1, 0, 0, 0], [-1, 0, 0, 1, 1, 0], [0, -1, 0, -1, 0, 1], [0, 0, -1, 0, -1, -1]])
_ALIKE = torch.cat((0.375 * _EDGES.double(), (1 - 3 * 0.375**2) ** 0.5 * torch.eye(4).double()), dim=1)

paired_nt_xent = Exercise(
    "paired_nt_xent",
    _paired,
    cases=[
        (_SPARSE, 0.5),
        (_unit(0, 4, 3), 0.5),
        (_unit(1, 10, 4), 0.07),
        (_unit(2, 8, 2), 2.0),
        (_SIMPLEX, 0.06),
        (_OPPOSITE, 1.0),
        (_OPPOSITE, 0.1),
        (_OPPOSITE, 0.2),  # scores of 5
        (_ALIKE, 1.40625e-10),  # scores of exactly -1e9
        (torch.eye(4, dtype=torch.float64), 0.2),  # here the positive's score is 0, too
    ],
    mistakes={
        "The bug is still in it": _flagged,
        "The mark is another number now, and a score can have that value, too: mark by position": (
            partial(_flagged, flag=-1.0)
        ),
        "The mark is 5 now, and a score can be 5, too: mark by position": partial(_flagged, flag=5.0),
        "The mark is -1e9 now, and at a low temperature a score can be -1e9, too: mark by position": (
            partial(_flagged, flag=-1e9)
        ),
        "-1e9 is no minus infinity, for at a low temperature a score can be as low: write -math.inf": (
            partial(_marked, own=-1e9, partner=-1e9)
        ),
        "A 0 still counts in the sum, as exp(0) = 1: both the row itself and its partner must be at minus infinity": (
            partial(_marked, own=-math.inf, partner=0)
        ),
        "Both zeros still count in the sum, as exp(0) = 1: write minus infinity in their places": (
            partial(_marked, own=0, partner=0)
        ),
        "The positive is in the sum twice: once in front, once among the negatives": (
            partial(_marked, own=-math.inf, partner=None)
        ),
        "The exp of a score is 0 or infinite at a low temperature: take logsumexp or cross_entropy": (
            lambda z, t: _raw_exponentials(z[::2], z[1::2], t)
        ),
        "Rows i and i + b are partners in the chapter's layout; here rows 2i and 2i + 1 belong together": (
            lambda z, t: _nt_xent_of_rows(z, t, _half)
        ),
        "Each row's score with itself is in its sum: leave it out": lambda z, t: _paired(z, t, own_score=1 / t),
        "The positive is missing from the sum: NT-Xent includes it": lambda z, t: _dcl(z[::2], z[1::2], t),
        "Only the even rows are anchors: every row must be an anchor once": partial(_paired, rows=slice(0, None, 2)),
        "This is the sum over the rows: the loss is their mean": lambda z, t: _paired(z, t) * len(z),
        "The sign is wrong: the loss is the negative logarithm of a share": lambda z, t: -_paired(z, t),
        "The sum has only the rows of the other view: it needs every row except the anchor": (
            lambda z, t: _other_view_only(z[::2], z[1::2], t)
        ),
        **wrong_temperatures(_paired),
    },
)


def _shares(anchor, positive, negatives, temperature):
    """q of the positive and of the negatives."""
    q = (torch.cat((positive[None], negatives)) @ anchor / temperature).softmax(0)
    return q[0], q[1:]


def _row_forces(anchor, positive, negatives, temperature):
    _, pushes = _shares(anchor, positive, negatives, temperature)
    return pushes.sum() * positive, pushes[:, None] * negatives


def _changed_forces(change: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """A wrong answer: `change(pull, pushes, anchor, positive, negatives, temperature)` of the right one."""
    return lambda *inputs: change(*_row_forces(*inputs), *inputs)


def _without_the_positive(anchor, positive, negatives, temperature):
    shares = (negatives @ anchor / temperature).softmax(0)
    return positive, shares[:, None] * negatives


def _pull_of_its_share(anchor, positive, negatives, temperature):
    q, pushes = _shares(anchor, positive, negatives, temperature)
    return q * positive, pushes[:, None] * negatives


def _differences(pull, pushes, anchor, positive, negatives, t):
    strength, shares = pull @ positive, (pushes * negatives).sum(1)
    return strength * (positive - anchor), shares[:, None] * (negatives - anchor)


row_forces = Exercise(
    "row_forces",
    _row_forces,
    cases=[
        (_unit(0, 3), _unit(1, 3), _unit(2, 4, 3), 0.5),
        (_unit(3, 2), _unit(4, 2), _unit(5, 2, 2), 2.0),
        (_unit(6, 4), _unit(7, 4), _unit(8, 6, 4), 0.07),
        (*_planes(90, 150), _planes(55, 10, -30, -90, -130, -165), 0.2),
        (_unit(9, 2), _unit(10, 2), _unit(11, 1, 2), 0.3),
    ],
    mistakes={
        "The formula is for -temperature times the gradient: do not divide the forces by the temperature": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pull / t, pushes / t))
        ),
        "The pull is 1 - q(pos), not q(pos): a row that knows its answer rests": _pull_of_its_share,
        "The positive is missing from the sum of the shares: q runs over the positive and the negatives": (
            _without_the_positive
        ),
        "The pushes are shares of the softmax with the positive in it: they sum to 1 - q(pos)": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pull, pushes / (pull @ p)))
        ),
        "The pushes are added up: return one row for each negative": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pull, pushes.sum(0)))
        ),
        "These are the strengths: multiply each with its embedding": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pull @ p, (pushes * n).sum(1)))
        ),
        "The pushes come with a plus sign here: the formula subtracts them": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pull, -pushes))
        ),
        "A force is along the other embedding, not along its difference to the anchor": _changed_forces(_differences),
        "The order is wrong: first the pull, then the pushes": (
            _changed_forces(lambda pull, pushes, a, p, n, t: (pushes, pull))
        ),
        **wrong_temperatures(_row_forces),
    },
    runs="The figure of the forces",
)


def _score_gradient(z, temperature, own_score=-math.inf, partner=_half):
    """G: the shares minus 1 at the positives, divided by the number of rows."""
    q = (_products(z) / temperature).fill_diagonal_(own_score).softmax(1)
    return (q - torch.eye(len(z), dtype=z.dtype)[partner(len(z))]) / len(z)


def _nt_xent_gradient(z, temperature, **changes):
    g = _score_gradient(z, temperature, **changes)
    return (g + g.T) @ z / temperature


def _gradient_without_the_positive(z, temperature):
    rows, positive = torch.arange(len(z)), _half(len(z))
    scores = (_products(z) / temperature).fill_diagonal_(-math.inf)
    scores[rows, positive] = -math.inf
    g = scores.softmax(1)
    g[rows, positive] = -1
    return (g + g.T) @ z / temperature / len(z)


nt_xent_gradient = Exercise(
    "nt_xent_gradient",
    _nt_xent_gradient,
    cases=[
        (_unit(0, 4, 3), 0.5),
        (_unit(1, 6, 2), 2.0),
        (_unit(2, 10, 4), 0.07),
    ],
    mistakes={
        "Each embedding is in the scores of other rows, too: G.T @ z is missing": (
            lambda z, t: _score_gradient(z, t) @ z / t
        ),
        "G is not symmetric, since each row has its own sum: 2 G is not G + G.T": (
            lambda z, t: 2 * _score_gradient(z, t) @ z / t
        ),
        "The derivative of a score has a factor 1 / temperature: divide by it": lambda z, t: (
            _nt_xent_gradient(z, t) * t
        ),
        "The loss is a mean over 2b rows: divide by 2b": lambda z, t: _nt_xent_gradient(z, t) * len(z),
        "The mean is over 2b rows, not over b": lambda z, t: _nt_xent_gradient(z, t) * 2,
        "The sign is wrong: G is q minus 1 at the positives": lambda z, t: -_nt_xent_gradient(z, t),
        "Each row's score with itself is in its shares: leave it out": (
            lambda z, t: _nt_xent_gradient(z, t, own_score=1 / t)
        ),
        "The positive of row r is row r + b, and of row r + b it is row r": (
            partial(_nt_xent_gradient, partner=_neighbour)
        ),
        "The positive is missing from the shares: q runs over the positive and the negatives": (
            _gradient_without_the_positive
        ),
        **wrong_temperatures(_nt_xent_gradient),
    },
    runs="The next comparison",
)


def _entropy(similarities, temperature):
    log_shares = (similarities / temperature).log_softmax(0)
    return -(log_shares.exp() * log_shares).sum()


def _effective_negatives(similarities, temperature):
    return _entropy(similarities, temperature).exp()


effective_negatives = Exercise(
    "effective_negatives",
    _effective_negatives,
    cases=[
        (torch.tensor([0.9, 0.7, 0.2, -0.1, -0.5], dtype=torch.float64), 0.2),
        (torch.full((8,), 0.3, dtype=torch.float64), 0.07),
        (torch.tensor([0.8, 0.75, 0.6, 0.0], dtype=torch.float64), 1.0),
        (torch.tensor([0.95, 0.9, -0.4, -0.9], dtype=torch.float64), 0.002),
        (torch.tensor([-0.4, 0.95, -0.9, 0.949]), 0.002),
        (torch.tensor([0.6]), 0.07),
    ],
    mistakes={
        "This is the entropy: the effective number is its exponential": _entropy,
        "This is the entropy in bits: take it in nats, then its exponential": lambda s, t: _entropy(s, t) / math.log(2),
        "The entropy is in bits, but exp needs nats: use one base": lambda s, t: (_entropy(s, t) / math.log(2)).exp(),
        "This is 1 / (largest share): take exp of the entropy": lambda s, t: 1 / (s / t).softmax(0).max(),
        "This is 1 / (sum of squared shares): take exp of the entropy": lambda s, t: (s / t).softmax(0).norm() ** -2,
        "Where a share rounds to 0, 0 times log 0 is not a number: take log_softmax instead of log": (
            lambda s, t: (-(s / t).softmax(0) * (s / t).softmax(0).log()).sum().exp()
        ),
        "exp of 475 is infinite in float32: softmax and log_softmax subtract the largest score first": (
            lambda s, t: torch.special.entr((s / t).exp() / (s / t).exp().sum()).sum().exp()
        ),
        "The minus sign is missing: the entropy is -sum of p log p": lambda s, t: 1 / _effective_negatives(s, t),
        **wrong_temperatures(_effective_negatives),
    },
    runs="Each count in the next two figures",
)


def _row_normalised(h):
    return F.normalize(h, dim=1)


def _simclr(
    encoder,
    batches,
    temperature,
    learning_rate,
    loss=_nt_xent,
    optimiser=torch.optim.SGD,
    normalised=_row_normalised,
    forget=True,
    late=False,
):
    """The losses of the steps, before the update or after it (`late`); `forget` the gradients of earlier steps."""
    update, losses = optimiser(encoder.parameters(), learning_rate), []
    for first, second in batches:
        value = loss(normalised(encoder(first)), normalised(encoder(second)), temperature)
        if forget:
            update.zero_grad()
        value.backward()
        update.step()
        if late:
            value = loss(normalised(encoder(first)), normalised(encoder(second)), temperature)
        losses.append(value.item())
    return losses


def _trained(simclr, encoder, batches, temperature, learning_rate):
    """What is compared, in one list: the loss of each step, then the encoder's trained weights."""
    losses = simclr(encoder, batches, temperature, learning_rate)
    try:
        losses = list(losses)
    except TypeError:  # nothing, or one number
        return losses
    return [*losses, *(weights.detach() for weights in encoder.parameters())]


def _linear(seed, width, dim, bias):
    layer = nn.Linear(width, dim, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        for number, weights in enumerate(layer.parameters()):
            weights.copy_(_normal(seed + number, *weights.shape))
    return layer


def _views(seed, steps, b, width):
    first = _normal(seed, steps, b, width)
    return list(zip(first, first + 0.5 * _normal(seed + 1, steps, b, width), strict=True))


simclr = Exercise(
    "simclr",
    _simclr,
    cases=[
        (_linear(0, 5, 3, bias=True), _views(10, 8, 3, 5), 0.5, 0.3),
        (_linear(2, 4, 2, bias=False), _views(20, 7, 4, 4), 0.2, 0.05),
        (_linear(4, 6, 4, bias=True), _views(30, 9, 2, 6), 1.0, 1.0),
    ],
    drive=_trained,
    mistakes={
        "The gradients of earlier steps are still there: set them to zero in each step": (
            partial(_simclr, forget=False)
        ),
        "The weights are never changed: subtract the learning rate times the gradient in each step": (
            lambda encoder, batches, t, rate: _simclr(encoder, batches, t, 0.0)
        ),
        "The weights move up the gradient: subtract the step": (
            partial(_simclr, optimiser=partial(torch.optim.SGD, maximize=True))
        ),
        "The embeddings need length 1: normalise what the encoder returns": (partial(_simclr, normalised=lambda h: h)),
        "Return the loss that the step differentiates, before its update": partial(_simclr, late=True),
        "This is Adam: plain SGD subtracts the learning rate times the gradient": partial(
            _simclr, optimiser=torch.optim.Adam
        ),
        "This has momentum: plain SGD has none": partial(_simclr, optimiser=partial(torch.optim.SGD, momentum=0.9)),
        "The loss is DCL: NT-Xent has the positive in its sum": partial(_simclr, loss=_dcl),
        "The sum has only the rows of the other view: it needs every row except the anchor": (
            partial(_simclr, loss=_other_view_only)
        ),
        "The step is taken on the sum over the rows: the loss is their mean": (
            partial(_simclr, loss=lambda z1, z2, t: _nt_xent(z1, z2, t) * 2 * len(z1))
        ),
        **wrong_temperatures(_simclr),
    },
    runs="The next figure",
)
