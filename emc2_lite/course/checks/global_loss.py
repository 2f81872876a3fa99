"""Exercises of chapter 02; in the mistakes: similarities or log-normalisers s, samples n, weights w, temperature t."""

import math
import weakref
from contextlib import suppress
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise
from emc2_lite.laboratory import finite
from emc2_lite.losses import global_contrastive_loss


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _set(samples, views, dim, seed, spread=0.5):
    """Views scattered around one direction a sample: (samples, views, dim) float64, of length 1."""
    noise = _normal(seed, samples, views + 1, dim)
    return F.normalize(noise[:, :1] + spread * noise[:, 1:], dim=-1)


# Two samples whose views point away from each other.
_OPPOSED = _set(1, 4, 3, seed=7, spread=0.1).view(2, 2, 3) * torch.tensor([1.0, -1.0])[:, None, None]


def _own(z):
    """True where two rows are views of one sample: (NV, NV)."""
    sample = torch.arange(len(z)).repeat_interleave(z.shape[1])
    return sample[:, None] == sample


def _positives(z):
    return _own(z) & ~torch.eye(z.shape[0] * z.shape[1], dtype=torch.bool)


def _table(z, temperature):
    flat = z.flatten(0, 1)
    return flat @ flat.T / temperature


def _scores(z, i, v, temperature, left_out=slice(None), value=-torch.inf):
    """The scores of all views with the anchor's, and `value` for the views `left_out` of the anchor's sample."""
    scores = z @ z[i, v] / temperature
    scores[i, left_out] = value
    return scores


def _softmax(scores):
    return scores.flatten().softmax(dim=0).view_as(scores)


def _row_weights(z, i, v, temperature):
    return _softmax(_scores(z, i, v, temperature))


row_weights = Exercise(
    "row_weights",
    _row_weights,
    cases=[
        (_set(4, 2, 3, seed=4), 0, 0, 0.2),
        (_set(4, 2, 3, seed=4), 2, 1, 0.07),
        (_set(5, 3, 4, seed=5), 1, 2, 0.5),
        (_set(3, 2, 2, seed=6), 2, 0, 1.0),
        (_OPPOSED, 1, 1, 0.07),  # a score of -10 still has a weight here
    ],
    mistakes={
        "The own views still have a weight: give them none": lambda z, i, v, t: _softmax(z @ z[i, v] / t),
        "A score of 0 still has a share, as exp(0) = 1: set the scores of the own views to minus infinity": (
            lambda z, i, v, t: _softmax(_scores(z, i, v, t, value=0))
        ),
        "The softmax includes the positive: leave out all views of the own sample, not only the anchor": (
            lambda z, i, v, t: _softmax(_scores(z, i, v, t, left_out=v))
        ),
        "The own views were set to 0 after the softmax, so the rest does not sum to 1: mask the scores before it": (
            lambda z, i, v, t: _softmax(z @ z[i, v] / t).index_fill(0, torch.tensor(i), 0)
        ),
        "Each view number has its own softmax: take one softmax over all views of all other samples": (
            lambda z, i, v, t: _scores(z, i, v, t).softmax(dim=0)
        ),
        **wrong_temperatures(_row_weights),
    },
    runs="The next figure",
)


def _raw_log_sum(scores, dim=1, keepdim=False):
    """A log-sum-exp as it is written: exp of a large score is infinite."""
    return scores.exp().sum(dim=dim, keepdim=keepdim).log()


def _same_view_number(z):
    """True where two rows have different view numbers, or are the same row: (NV, NV)."""
    views = torch.arange(z.shape[1]).repeat(len(z))
    return (views[:, None] != views) | torch.eye(len(views), dtype=torch.bool)


def _global_loss(
    z, temperature, excluded="sample", in_sum=False, pairs="others", mean_inside=False, add=torch.logsumexp
):
    scores, own, itself = _table(z, temperature), _own(z), torch.eye(z.shape[0] * z.shape[1], dtype=torch.bool)
    masks = {"sample": own, "view": itself, "nothing": own & ~own, "others": own & ~itself, "all": ~itself}
    masks["other numbers"] = _same_view_number(z)
    log_sum = add(scores.masked_fill(masks[excluded], -torch.inf), dim=1, keepdim=True)
    if mean_inside:
        log_sum = log_sum - math.log(z.shape[1] * (len(z) - 1))
    terms = (torch.logaddexp(log_sum, scores) if in_sum else log_sum) - scores
    return terms[masks[pairs]].mean()


global_loss = Exercise(
    "global_loss",
    _global_loss,
    cases=[
        (_set(4, 2, 3, seed=0), 0.2),
        (_set(5, 3, 4, seed=1), 0.5),
        (_set(3, 4, 3, seed=2), 1.0),
        (_set(2, 2, 2, seed=3), 0.07),
        (_set(4, 3, 2, seed=19), 0.001),  # exp of the largest scores is infinite
    ],
    mistakes={
        "The positive is in the sum, as in the limit of NT-Xent: leave it out": partial(_global_loss, in_sum=True),
        "Only the view itself is left out: its sample's views are no negatives": partial(_global_loss, excluded="view"),
        "The row's own sample is in the sum: its views are no negatives": partial(_global_loss, excluded="nothing"),
        "The mean includes a view with itself: take different views": partial(_global_loss, pairs="sample"),
        "The mean includes all pairs: only views of one sample are positives": partial(_global_loss, pairs="all"),
        "This is the logarithm of a mean: take the logarithm of the sum": partial(_global_loss, mean_inside=True),
        "The terms are added up: take their mean over all ordered pairs of different views": (
            lambda z, t: _global_loss(z, t) * z.shape[0] * z.shape[1] * (z.shape[1] - 1)
        ),
        "Each row has V - 1 terms: divide by N V (V - 1)": lambda z, t: _global_loss(z, t) * (z.shape[1] - 1),
        "The sum has only the views with the row's own view number: take all views of the other samples": (
            partial(_global_loss, excluded="other numbers")
        ),
        "exp overflows at a low temperature: torch.logsumexp subtracts the largest score first": (
            partial(_global_loss, add=_raw_log_sum)
        ),
        **wrong_temperatures(_global_loss),
    },
    runs="The comparison with the library",
)


def _gradient_from(weights, z, temperature, pull=None, turned=1.0, straight=1.0, pairs=_positives):
    """`straight` and `turned` are the factors of G and of its transpose; `pull` is the weight of each positive."""
    flat, pull = z.flatten(0, 1), 1 / (z.shape[1] - 1) if pull is None else pull
    derivative = (weights - pull * pairs(z).to(weights)) / len(flat)
    return ((straight * derivative + turned * derivative.T) @ flat / temperature).view_as(z)


def _p(z, temperature):
    return _table(z, temperature).masked_fill(_own(z), -torch.inf).softmax(dim=1)


def _q(z, temperature):
    """The shares with the positive, or with V = 3 both positives, in the sum."""
    itself = torch.eye(z.shape[0] * z.shape[1], dtype=torch.bool)
    return _table(z, temperature).masked_fill(itself, -torch.inf).softmax(dim=1)


gradient_from = Exercise(
    "gradient_from",
    _gradient_from,
    cases=[
        (_p(_set(4, 2, 3, seed=8), 0.2), _set(4, 2, 3, seed=8), 0.2),
        (_p(_set(3, 3, 4, seed=9), 0.5), _set(3, 3, 4, seed=9), 0.5),
        (_q(_set(5, 2, 3, seed=10), 0.07), _set(5, 2, 3, seed=10), 0.07),
        (_normal(11, 8, 8).softmax(dim=1), _set(2, 4, 3, seed=11), 1.0),  # other weights than a softmax of the scores
    ],
    mistakes={
        "Each row is only an anchor here: as a negative or positive of other rows it is moved too, by G transposed": (
            partial(_gradient_from, turned=0)
        ),
        "Each row is only moved by other rows here: as an anchor it is moved too, by G itself": (
            partial(_gradient_from, straight=0)
        ),
        "G is taken for symmetric, but p_r(k) and p_k(r) differ: add G and its transpose": (
            partial(_gradient_from, turned=0, straight=2)
        ),
        "This is right for two views only: with V views a row has V - 1 positives, which share its pull": (
            partial(_gradient_from, pull=1)
        ),
        "The pull is missing: subtract 1, shared by the positives, from the weights": partial(_gradient_from, pull=0),
        "The pull has the sign of a push: subtract it from the weights": (
            lambda w, z, t: _gradient_from(w, z, t, pull=-1 / (z.shape[1] - 1))
        ),
        "This is the gradient of the sum over the rows: the loss is their mean": (
            lambda w, z, t: _gradient_from(w, z, t) * z.shape[0] * z.shape[1]
        ),
        "There are N V rows, not N": lambda w, z, t: _gradient_from(w, z, t) * z.shape[1],
        "The row itself is among its positives: take the diagonal out": partial(_gradient_from, pairs=_own),
        **wrong_temperatures(_gradient_from),
    },
    runs="The comparison with autograd",
)


def _scaled(z, temperature, power=2, outer=1.0, in_sum=False, turned=1.0):
    """The gradient with scores at `temperature ** power` and the factor `outer / temperature` outside."""
    shares = (_q if in_sum else _p)(z.double(), temperature**power)
    return outer * _gradient_from(shares, z.double(), temperature, turned=turned)


def _exact_gradient(z, temperature):
    return finite.exact_gradient(z, temperature)


exact_gradient = Exercise(
    "exact_gradient",
    _exact_gradient,
    cases=[
        (_set(4, 2, 3, seed=12), 1.0),
        (_set(5, 2, 4, seed=13), 0.07),
        (_set(3, 3, 3, seed=14), 0.2),
        (_set(6, 2, 3, seed=15), 2.0),
    ],
    mistakes={
        "The bug is still in it: at temperature 1 nothing is wrong, so look where the temperature comes in": _scaled,
        "The scores are right, but their derivative lacks its factor 1 / temperature": (
            lambda z, t: _scaled(z, t, power=1, outer=t)
        ),
        "The scores are right, but their derivative has the factor 1 / temperature twice": (
            lambda z, t: _scaled(z, t, power=1, outer=1 / t)
        ),
        "The temperature is missing from the scores: divide them once": partial(_scaled, power=0),
        "The scores have lost their temperature, and their derivative too": (
            lambda z, t: _scaled(z, t, power=0, outer=t)
        ),
        "The scores are multiplied by the temperature: divide them once": partial(_scaled, power=-1),
        "The positive is in the sum: this is the gradient of L+": partial(_scaled, power=1, in_sum=True),
        "The transpose of G is lost": partial(_scaled, power=1, turned=0),
    },
    runs="Every comparison with the exact gradient",
)


class Held(TorchFunctionMode):
    """Counts the numbers in the tensors that were made in its body and are still in memory, at their most.

    Tensors that autograd keeps for a backward pass are among them; those that a backward pass makes inside are not.
    """

    def __init__(self):
        super().__init__()
        self.most, self._sizes = 0, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return made

    def _note(self, tensor):
        with suppress(RuntimeError, NotImplementedError):  # a tensor without memory of its own, as in torch.func
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            if place not in self._sizes:
                weakref.finalize(storage, self._sizes.pop, place, None)
            self._sizes[place] = storage.nbytes() // tensor.element_size()
            self.most = max(self.most, sum(self._sizes.values()))


TOO_MUCH = "a table of all scores, or half of one, held in memory at once"


def _with_strips(answer, z, chunk, *inputs):
    """The answer, or words where it holds as many numbers as half a table of scores and more.

    Only tables of 20 strips and more are judged: the strips of others are no small part of them.
    """
    rows = z.shape[0] * z.shape[1]
    with Held() as held:
        result = answer(*inputs)
    return TOO_MUCH if rows >= 20 * chunk and held.most > rows**2 / 2 else result


def _strips(z, temperature, chunk, masked="sample", offset=True, value=-torch.inf):
    """Rows and scores of one strip after the other, minus infinity where a row has no negative."""
    flat, views = z.flatten(0, 1), z.shape[1]
    number = torch.arange(len(flat))
    for rows in number.split(chunk):
        first = rows if offset else rows - rows[0]
        mine = first[:, None] // views == number // views if masked == "sample" else rows[:, None] == number
        yield rows, (flat[rows] @ flat.T / temperature).masked_fill(mine & (masked != "nothing"), value)


def _log_sums(z, temperature, chunk, **how):
    return torch.cat([scores.logsumexp(dim=1) for _, scores in _strips(z, temperature, chunk, **how)])


def _at_once(z, temperature, chunk):
    return _log_sums(z, temperature, z.shape[0] * z.shape[1])


_MANY = _set(60, 3, 4, seed=20), 0.1, 6  # 30 strips

log_sums = Exercise(
    "log_sums",
    _log_sums,
    cases=[
        (_set(4, 2, 3, seed=16), 0.2, 3),
        (_set(3, 3, 4, seed=17), 1.0, 4),
        (_set(5, 2, 3, seed=18), 0.001, 100),
        (_OPPOSED, 0.001, 1),  # every row's largest score is near -1 / T
        _MANY,
    ],
    mistakes={
        "The whole table of scores is in memory at once: keep a strip of chunk rows, masks included": _at_once,
        "exp of 900 is infinite: torch.logsumexp subtracts the largest score of a row first": (
            lambda z, t, chunk: torch.cat([s.exp().sum(dim=1).log() for _, s in _strips(z, t, chunk)])
        ),
        "Minus 1 / T is no safe shift, as all of a row's exp may be 0 after it: subtract the row's own largest score": (
            lambda z, t, chunk: torch.cat([(s - 1 / t).exp().sum(1).log() + 1 / t for _, s in _strips(z, t, chunk)])
        ),
        "The rows of a strip are numbered from 0 in the mask: number them as in the whole table": (
            partial(_log_sums, offset=False)
        ),
        "Only the view itself is left out: its sample's views are no negatives": partial(_log_sums, masked="view"),
        "The row's own sample is in the sum: its views are no negatives": partial(_log_sums, masked="nothing"),
        "A score of 0 still counts, as exp(0) = 1: set the scores of the own views to minus infinity": (
            partial(_log_sums, value=0)
        ),
        "The last strip, shorter than the others, is missing": (
            lambda z, t, chunk: _log_sums(z, t, chunk)[: z.shape[0] * z.shape[1] // chunk * chunk]
        ),
        "This is the logarithm of a mean: take the logarithm of the sum": (
            lambda z, t, chunk: _log_sums(z, t, chunk) - math.log(z.shape[1] * (len(z) - 1))
        ),
        **wrong_temperatures(_log_sums),
    },
    runs="The next comparison",
    drive=lambda answer, z, temperature, chunk: _with_strips(answer, z, chunk, z, temperature, chunk),
)


def _log_sums_backward(z, s, eta, temperature, chunk, anchors=1.0, others=1.0, of_column=False, apart=False, **how):
    """`of_column` takes eta of the column; `apart` makes p as exp(l) times exp(-s)."""
    flat = z.flatten(0, 1)
    result = torch.zeros_like(flat)
    for rows, scores in _strips(z, temperature, chunk, **how):
        below = s[rows, None]
        p = scores.exp() * (-below).exp() if apart else (scores - below).exp()
        p = p * (eta if of_column else eta[rows, None])
        result[rows] += anchors * (p @ flat)
        result += others * (p.T @ flat[rows])
    return (result / temperature).view_as(z)


def _with_sums(z, temperature, chunk, eta):
    return z, _log_sums(z, temperature, chunk), eta, temperature, chunk


log_sums_backward = Exercise(
    "log_sums_backward",
    _log_sums_backward,
    cases=[
        _with_sums(_set(4, 2, 3, seed=16), 0.2, 3, _normal(21, 8)),
        _with_sums(_set(3, 3, 4, seed=17), 1.0, 4, _normal(22, 9)),
        _with_sums(_set(5, 2, 3, seed=18), 0.001, 100, _normal(23, 10)),
        _with_sums(_OPPOSED, 0.001, 1, _normal(24, 4)),
        _with_sums(*_MANY, _normal(25, 180)),
    ],
    mistakes={
        "The whole table of scores is in memory at once: keep a strip of chunk rows, masks included": (
            lambda z, s, eta, t, chunk: _log_sums_backward(z, s, eta, t, len(s))
        ),
        "Each row is only an anchor here: it is a negative of other rows too": partial(_log_sums_backward, others=0),
        "Each row is only a negative here: it is an anchor too": partial(_log_sums_backward, anchors=0),
        "The derivatives eta are not used: the push of row r is multiplied by eta_r": (
            lambda z, s, eta, t, chunk: _log_sums_backward(z, s, torch.ones_like(eta), t, chunk)
        ),
        "This has 1 / (NV) in place of eta: the push of row r is multiplied by eta_r": (
            lambda z, s, eta, t, chunk: _log_sums_backward(z, s, torch.full_like(eta, 1 / len(s)), t, chunk)
        ),
        "exp(l) overflows: exponentiate the difference l - s": partial(_log_sums_backward, apart=True),
        "A share p_r(k) is multiplied by the eta of its row r, not of its column k": (
            partial(_log_sums_backward, of_column=True)
        ),
        "The derivative of a score has a factor 1 / temperature": (
            lambda z, s, eta, t, chunk: t * _log_sums_backward(z, s, eta, t, chunk)
        ),
        "The rows of a strip are numbered from 0 in the mask: number them as in the whole table": (
            partial(_log_sums_backward, offset=False)
        ),
        "The row's own sample has a push: its views are no negatives": partial(_log_sums_backward, masked="nothing"),
        "This is divided by the number of rows: eta holds that factor already": (
            lambda z, s, eta, t, chunk: _log_sums_backward(z, s, eta, t, chunk) / len(s)
        ),
    },
    runs="The next comparison",
    drive=lambda answer, z, s, eta, temperature, chunk: _with_strips(answer, z, chunk, z, s, eta, temperature, chunk),
)


def _log_sum(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + _log_mean(similarities / temperature)


def _log_mean(scores):
    return scores.logsumexp(dim=0) - math.log(len(scores))


def _raw_exponentials(similarities, num_samples, temperature):
    return math.log(2 * (num_samples - 1)) + (similarities / temperature).exp().mean().log()


log_sum_from_batch = Exercise(
    "log_sum_from_batch",
    _log_sum,
    cases=[
        (torch.tensor([0.6, 0.1, -0.3, 0.2]), 100, 0.2),
        (torch.tensor([0.9, 0.85, 0.2, -0.4, 0.2, 0.0]), 300, 0.07),
        (torch.tensor([0.3, -0.3]), 5, 1.0),
        (torch.tensor([0.95, 0.1, 0.9, 0.4]), 100_000, 0.005),
        (torch.tensor([0.1, 0.9495, 0.95, -0.4]), 40, 0.001),
    ],
    mistakes={
        "This is the mean of the logs: take the exponentials, then their mean, then one logarithm": (
            lambda s, n, t: math.log(2 * (n - 1)) + (s / t).mean()
        ),
        "This is the batch's sum: rescale it to all |neg(r)| negatives": lambda s, n, t: (s / t).logsumexp(dim=0),
        "This is the log of the mean: multiply the mean by |neg(r)| first": lambda s, n, t: _log_mean(s / t),
        "This multiplies the batch's sum by |neg(r)|: multiply the batch's mean": (
            lambda s, n, t: math.log(2 * (n - 1)) + (s / t).logsumexp(dim=0)
        ),
        "The row's own sample is counted: |neg(r)| is 2 (N - 1)": lambda s, n, t: math.log(2 * n) + _log_mean(s / t),
        "Each other sample has two views: |neg(r)| is 2 (N - 1)": lambda s, n, t: math.log(n - 1) + _log_mean(s / t),
        "exp overflows at a low temperature: torch.logsumexp subtracts the largest score first": _raw_exponentials,
        "exp of 950 is infinite in float64 too: torch.logsumexp subtracts the largest score first": (
            lambda s, n, t: _raw_exponentials(s.double(), n, t)
        ),
        **wrong_temperatures(_log_sum),
    },
    runs="The next figure",
)


@cache
def _first_gradient():
    """torch.autograd.grad imports modules for seconds when it is first given a gradient."""
    weight = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * weight, weight, torch.ones(1))


class SmallEncoder(nn.Module):
    """images (k, ...) -> embeddings (k, dim) of length 1, float64; notes how many images were in memory at once.

    most: largest number of images of one call. held: the same of all calls whose graphs are still in memory.
    """

    def __init__(self, inputs, hidden, dim, seed):
        super().__init__()
        shapes = (hidden, inputs), (hidden,), (dim, hidden)
        weights = [_normal(seed + k, *shape) / inputs**0.5 for k, shape in enumerate(shapes)]
        self.first, self.shift, self.second = map(nn.Parameter, weights)
        self.most = self.held = self._now = 0

    def forward(self, images):
        self.most = max(self.most, len(images))
        activations = torch.tanh(images.flatten(1) @ self.first.T + self.shift)
        if activations.requires_grad:
            with suppress(RuntimeError, NotImplementedError):  # no memory of its own, as in torch.func
                weakref.finalize(activations.untyped_storage(), self._released, len(images))
                self._now += len(images)
                self.held = max(self.held, self._now)
        return F.normalize(activations @ self.second.T, dim=1)

    def _released(self, images):
        self._now -= images

    def __reduce_ex__(self, protocol):
        """Copied before a learner's time begins to run: torch's slow imports come here, not in their function."""
        _first_gradient()
        return super().__reduce_ex__(protocol)


def _encoded_in_chunks(answer, encoder, images, temperature, chunk):
    """The answer, or words where it encodes more than `chunk` images at once or keeps the graphs of several chunks."""
    for weight in encoder.parameters():
        weight.grad = torch.ones_like(weight)  # of an earlier step
    gradient = answer(encoder, images, temperature, chunk)
    if encoder.most > chunk:
        return "more than chunk images encoded in one call"
    return "the graphs of several chunks in memory at once" if encoder.held > 2 * chunk else gradient


def _of_weights(output, encoder, by):
    """Derivative (P,) of <output, by> in the encoder's weights."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(output, [*encoder.parameters()], by)])


def _parts(encoder, images, temperature, chunk, gradient=finite.exact_gradient):
    """The shares (P,) that the chunks have in the gradient; gradient: (z, temperature) -> (N, V, d)."""
    chunks = images.flatten(0, 1).split(chunk)
    with torch.no_grad():
        z = torch.cat([encoder(part) for part in chunks]).unflatten(0, images.shape[:2])
    rows = gradient(z, temperature).flatten(0, 1).split(chunk)
    return [_of_weights(encoder(part), encoder, by) for part, by in zip(chunks, rows, strict=True)]


def _weight_gradient(encoder, images, temperature, chunk, **how):
    return sum(_parts(encoder, images, temperature, chunk, **how))


def _encoded_at_once(encoder, images, temperature, chunk):
    z = encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    return _of_weights(global_contrastive_loss(z, temperature), encoder, None)


def _graphs_kept(encoder, images, temperature, chunk):
    z = torch.cat([encoder(part) for part in images.flatten(0, 1).split(chunk)]).unflatten(0, images.shape[:2])
    return _of_weights(global_contrastive_loss(z, temperature), encoder, None)


def _chunks_alone(encoder, images, temperature, chunk):
    samples = images.split(chunk // images.shape[1])
    return torch.stack([_encoded_at_once(encoder, part, temperature, chunk) for part in samples])


weight_gradient = Exercise(
    "weight_gradient",
    _weight_gradient,
    cases=[
        (SmallEncoder(5, 4, 3, seed=30), _normal(33, 8, 2, 5), 0.5, 5),
        (SmallEncoder(6, 3, 4, seed=34), _normal(37, 6, 3, 2, 3), 0.1, 7),
        (SmallEncoder(4, 3, 2, seed=38), _normal(41, 3, 2, 1, 2, 2), 1.0, 100),
        (SmallEncoder(4, 4, 3, seed=42), _normal(45, 6, 2, 4), 0.07, 4),
    ],
    mistakes={
        "All images are encoded at once: encode at most chunk of them, in both passes": _encoded_at_once,
        "The graphs of all chunks are kept: encode without gradient first, then again, one chunk at a time": (
            _graphs_kept
        ),
        "Each chunk has its own loss here: negatives come from the whole set": (
            lambda *inputs: _chunks_alone(*inputs).sum(dim=0)
        ),
        "Each chunk has its own loss here, and these are averaged: negatives come from the whole set": (
            lambda *inputs: _chunks_alone(*inputs).mean(dim=0)
        ),
        "The .grad of an earlier step is in the sum: set it to None first, or use torch.autograd.grad": (
            lambda *inputs: _weight_gradient(*inputs) + 1
        ),
        "The chunks' gradients are averaged: add them, the gradient of the mean loss has 1 / (NV) in it already": (
            lambda *inputs: torch.stack(_parts(*inputs)).mean(dim=0)
        ),
        "Only the last chunk is left: add the gradients of all chunks": lambda *inputs: _parts(*inputs)[-1],
        "The last chunk, shorter than the others, is missing": (
            lambda encoder, images, t, chunk: (
                sum(_parts(encoder, images, t, chunk)[: images.shape[0] * images.shape[1] // chunk])
                + torch.zeros(sum(weight.numel() for weight in encoder.parameters()))
            )
        ),
        "The negatives are held fixed: an embedding has a gradient as a negative and a positive of other rows too": (
            partial(_weight_gradient, gradient=partial(_scaled, power=1, turned=0))
        ),
        "The second pass takes a mean of embedding times gradient: take the sum": (
            lambda encoder, images, t, chunk: _weight_gradient(
                encoder, images, t, chunk, gradient=lambda z, t: _mean_of_each(finite.exact_gradient(z, t), chunk)
            )
        ),
        "The positive is in the sum: this is the gradient of L+": (
            partial(_weight_gradient, gradient=partial(_scaled, power=1, in_sum=True))
        ),
        "The scores have the factor 1 / temperature twice": partial(_weight_gradient, gradient=_scaled),
    },
    runs="The next comparison",
    drive=_encoded_in_chunks,
)


def _mean_of_each(gradient, chunk):
    """Each chunk divided by the count of its numbers."""
    return torch.cat([rows / rows.numel() for rows in gradient.flatten(0, 1).split(chunk)]).view_as(gradient)
