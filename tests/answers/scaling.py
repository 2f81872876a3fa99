"""Right and wrong answers to the exercises of chapter 09."""

import numpy as np
import torch
from torch.nn import functional as F

from emc2_lite.course.checks import scaling
from emc2_lite.laboratory.scaling import Work
from emc2_lite.losses import NTXentLoss


def part(rows, rank, size):
    return rows.chunk(size)[rank]


def own_one_by_one(index, rank, size):
    pairs = [(place, i // size) for place, i in enumerate(index.tolist()) if i % size == rank]
    return [place for place, _ in pairs], [slot for _, slot in pairs]


def own_in_numpy(index, rank, size):
    index = index.numpy()
    (places,) = np.where(index % size == rank)
    return places, np.floor_divide(index[places] - rank, size)


def handed_row_by_row(own_losses, b, size):
    total = 0.0
    for loss in own_losses.tolist():
        total += loss * size / (2 * b)
    return total


def handed_by_shares(own_losses, b, size):
    return size * own_losses.mean() * (len(own_losses) / (2 * b)) if len(own_losses) else torch.tensor(0.0)


def time_of_work(machine, b, K, d, weights):
    alone = K == 1
    table = 4 * 2 * b * d
    sent = 0 if alone else (table + 2 * table + 2 * 4 * weights) * (1 - 1 / K)
    products = (2 if alone else 3) * (2 * b / K) * 2 * b * d
    work = Work(6 * b / K, 3, products, 0, 0, 0 if alone else 9, 0, sent)
    return 1000 * machine.seconds(work)


def time_in_numpy(machine, b, K, d, weights):
    rates = np.array([machine.encodings, machine.passes, machine.products, machine.messages, machine.bytes])
    together = np.array([6 * b / K, 3, 12 * b * b * d / K, 9, (24 * b * d + 8 * weights) * (K - 1) / K])
    alone = np.array([6 * b, 3, 8 * b * b * d, 0, 0])
    return (rates @ (alone if K == 1 else together) + machine.step) * 1e3


def both_sides_at_once(images, captions, temperature):
    scores = images @ captions.T / temperature
    return (scores.logsumexp(0) + scores.logsumexp(1) - 2 * scores.diag()).mean() / 2


def pairs_by_columns(images, captions, all_images, all_captions, rank, temperature):
    total, n = 0.0, len(images)
    for anchors, others in ((images, all_captions), (captions, all_images)):
        for i, scores in enumerate(anchors @ others.T / temperature):
            total += (scores.logsumexp(0) - scores[rank * n + i]) / (2 * n)
    return total


def pairs_by_their_own_scores(images, captions, all_images, all_captions, rank, temperature):
    positive = (images * captions).sum(dim=1) / temperature
    sums = [(a @ o.T / temperature).logsumexp(1) for a, o in ((images, all_captions), (captions, all_images))]
    return ((sums[0] + sums[1]) / 2 - positive).mean()


class Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, process):
        parts = process.gather(rows)
        ctx.process, ctx.lengths = process, [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.process.reduce(gradient).split(ctx.lengths)[ctx.process.rank], None


def step_of_a_gather(process, x1, x2, weights, temperature):
    encoder = weights.clone().requires_grad_()
    z1, z2 = (F.normalize(x @ encoder, dim=-1) for x in (x1, x2))
    columns = torch.cat((Gathered.apply(z1, process), Gathered.apply(z2, process)))
    b, lengths = len(columns) // 2, [len(part) for part in process.gather(x1[:, 0])]
    places = torch.arange(b).split(lengths)[process.rank]
    total = 0.0
    for z, own, positive in ((z1, places, places + b), (z2, places + b, places)):
        scores = (z @ columns.T / temperature).scatter(1, own[:, None], -torch.inf)
        total = total + F.cross_entropy(scores, positive, reduction="sum") / (2 * b)
    (gradient,) = torch.autograd.grad(total, encoder)
    return process.reduce(total), process.reduce(gradient)


def step_of_everything(process, x1, x2, weights, temperature):
    """Every process takes the loss of the whole batch, and the gradient of its own rows alone."""
    encoder = weights.clone().requires_grad_()
    own = [F.normalize(x @ encoder, dim=1) for x in (x1, x2)]
    start = sum(len(part) for part in process.gather(x1[:, 0])[: process.rank])
    whole = [torch.cat(process.gather(z)) for z in own]
    for z, rows in zip(whole, own, strict=True):
        z[start : start + len(rows)] = rows
    loss = NTXentLoss(temperature).double()(*whole, torch.arange(len(whole[0])))
    (gradient,) = torch.autograd.grad(loss, encoder)
    return loss, process.reduce(gradient)


def step_by_hand(process, x1, x2, weights, temperature):
    """With the formula of chapter 01, the gradient (G + G^T) z / T, without autograd."""
    x = torch.cat((x1, x2))
    h = x @ weights
    length = h.norm(dim=1, keepdim=True)
    z = h / length
    n, lengths = len(x1), [len(part) // 2 for part in process.gather(z)]
    parts = [part.chunk(2) for part in process.gather(z)]
    columns = torch.cat([first for first, _ in parts] + [second for _, second in parts])
    b, start = len(columns) // 2, sum(lengths[: process.rank])
    scores = columns @ columns.T / temperature
    scores.fill_diagonal_(-torch.inf)
    positive = torch.arange(2 * b).roll(b)
    g = scores.softmax(dim=1)
    g[torch.arange(2 * b), positive] -= 1
    asked = (g + g.T) @ columns / (2 * b * temperature)
    own = torch.cat((torch.arange(n), torch.arange(n) + b)) + start
    asked = asked[own]
    asked = (asked - (asked * z).sum(dim=1, keepdim=True) * z) / length
    return F.cross_entropy(scores, positive), process.reduce(x.T @ asked)


RIGHT = [
    (
        scaling.positive_columns,
        lambda n, rank, size: (
            [(n * (size + rank) + i) % (2 * n * size) for i in range(n)] + [rank * n + i for i in range(n)]
        ),
    ),
    (
        scaling.positive_columns,
        lambda n, rank, size: torch.arange(2 * n * size).view(2, size, n)[[1, 0], rank].flatten(),
    ),
    (scaling.gathered_gradient, lambda gradients, rank: torch.stack(gradients).sum(0).chunk(len(gradients))[rank]),
    (scaling.gathered_gradient, lambda gradients, rank: sum(g.tensor_split(len(gradients))[rank] for g in gradients)),
    (scaling.own_places, own_one_by_one),
    (scaling.own_places, own_in_numpy),
    (scaling.handed_loss, handed_row_by_row),
    (scaling.handed_loss, handed_by_shares),
    (scaling.step_time, time_of_work),
    (scaling.step_time, time_in_numpy),
    (scaling.clip_loss, both_sides_at_once),
    (
        scaling.clip_loss,
        lambda i, c, t: -((i @ c.T / t).softmax(0).diag() * (i @ c.T / t).softmax(1).diag()).log().mean() / 2,
    ),
    (scaling.own_pairs_loss, pairs_by_columns),
    (scaling.own_pairs_loss, pairs_by_their_own_scores),
    (scaling.process_step, step_of_a_gather),
    (scaling.process_step, step_of_everything),
    (scaling.process_step, step_by_hand),
]

positives = scaling.positive_columns.reference
places = scaling.own_places.reference
step_time = scaling.step_time.reference
step = scaling.process_step.reference


def clip(i, c, t):
    return F.cross_entropy(i @ c.T / t, torch.arange(len(i)))


def pairs_of(diagonal):
    """The loss of own pairs with another diagonal of positives, from n, the rank and b."""

    def wrong(images, captions, all_images, all_captions, rank, temperature):
        pair = diagonal(len(images), rank, len(all_images))
        of_images = F.cross_entropy(images @ all_captions.T / temperature, pair)
        return (of_images + F.cross_entropy(captions @ all_images.T / temperature, pair)) / 2

    return wrong


WRONG = [
    (scaling.positive_columns, lambda n, r, k: torch.arange(2 * n) + r * n),
    (scaling.positive_columns, lambda n, r, k: torch.cat((r + k * torch.arange(n) + n * k, r + k * torch.arange(n)))),
    (scaling.positive_columns, lambda n, r, k: (torch.arange(2 * n) + n) % (2 * n)),
    (scaling.positive_columns, lambda n, r, k: torch.arange(2 * n).roll(n) + r * n + 1),
    (scaling.positive_columns, lambda n, r, k: positives(n, r, k).flip(0)),
    (scaling.positive_columns, lambda n, r, k: positives(n, k - 1 - r, k)),
    (scaling.gathered_gradient, lambda g, r: part(sum(g), len(g) - 1 - r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(sum(g), r, len(g)) / len(g) ** 0.5),
    (scaling.gathered_gradient, lambda g, r: part(sum(g[: r + 1]), r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(g[0], r, len(g))),
    (scaling.gathered_gradient, lambda g, r: sum(g)[r :: len(g)]),
    (scaling.gathered_gradient, lambda g, r: part(torch.stack(g).amax(0), r, len(g))),
    (scaling.gathered_gradient, lambda g, r: part(torch.stack(g).median(0).values, r, len(g))),
    (scaling.own_places, lambda index, r, k: places(index, 0, k)),
    (scaling.own_places, lambda index, r, k: places(index, k - 1 - r, k)),
    (scaling.own_places, lambda index, r, k: places(index, r, k)[::-1]),
    (scaling.own_places, lambda index, r, k: (places(index, r, k)[0], places(index, r, k)[1] + 1)),
    (scaling.own_places, lambda index, r, k: (places(index, r, k)[0], -(-index[places(index, r, k)[0]] // k))),
    (scaling.own_places, lambda index, r, k: (torch.arange(len(index)), index // k)),
    (scaling.own_places, lambda index, r, k: (index % k == r, index[index % k == r] // k)),
    (scaling.handed_loss, lambda own, b, k: own.sum()),
    (scaling.handed_loss, lambda own, b, k: k * own / (2 * b)),
    (scaling.handed_loss, lambda own, b, k: k * own.sum() / (2 * b - 2)),
    (scaling.handed_loss, lambda own, b, k: own.mean() / k),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m, b, 1, d, w) / K),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m, b, K, d, 0)),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m, b // K, K, d, w)),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m._replace(encodings=m.encodings / 2), b, K, d, w)),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m._replace(passes=m.passes / 3), b, K, d, w)),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m._replace(messages=K * m.messages), b, K, d, w)),
    (scaling.step_time, lambda m, b, K, d, w: step_time(m._replace(bytes=8 * m.bytes), b, K, d, w)),
    (scaling.step_time, lambda m, b, K, d, w: 1000 * sum(m)),
    (scaling.clip_loss, lambda i, c, t: clip(torch.cat((i, c)), torch.cat((c, i)), t)),
    (scaling.clip_loss, lambda i, c, t: -(i * c).sum(1).mean() / t),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c, t) * clip(c, i, t)).sqrt()),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c.flip(0), t) + clip(c, i.flip(0), t)) / 2),
    (scaling.clip_loss, lambda i, c, t: (clip(i, c, t**0.5) + clip(c, i, t**0.5)) / 2),
    (scaling.clip_loss, lambda i, c, t: (i @ c.T / t).softmax(1).diag().log().mean()),
    (scaling.own_pairs_loss, pairs_of(lambda n, rank, b: torch.arange(n).flip(0) + n * rank)),
    (scaling.own_pairs_loss, pairs_of(lambda n, rank, b: torch.arange(n) * (b // n) + rank)),
    (scaling.own_pairs_loss, pairs_of(lambda n, rank, b: torch.arange(n) + b - n)),
    (scaling.own_pairs_loss, lambda i, c, all_i, all_c, r, t: pairs_by_columns(i, c, all_i, all_c, r, 1.0)),
    (scaling.own_pairs_loss, lambda i, c, all_i, all_c, r, t: 2 * pairs_by_columns(i, c, all_i, all_c, r, t)),
    (scaling.own_pairs_loss, lambda i, c, all_i, all_c, r, t: len(i) * pairs_by_columns(i, c, all_i, all_c, r, t)),
    (scaling.process_step, lambda process, x1, x2, w, t: (step(process, x1, x2, w, t)[0], torch.zeros_like(w))),
    (scaling.process_step, lambda process, x1, x2, w, t: step(process, x2, x2, w, t)),
    (scaling.process_step, lambda process, x1, x2, w, t: (lambda loss, g: (loss, g + w))(*step(process, x1, x2, w, t))),
    (scaling.process_step, lambda process, x1, x2, w, t: (lambda loss, g: (loss, -g))(*step(process, x1, x2, w, t))),
    (scaling.process_step, lambda process, x1, x2, w, t: (lambda loss, g: (loss, g / 2))(*step(process, x1, x2, w, t))),
    (scaling.process_step, lambda process, x1, x2, w, t: (lambda loss, g: (loss, g.T))(*step(process, x1, x2, w, t))),
]
