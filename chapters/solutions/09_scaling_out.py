"""Solutions to the exercises of chapter 09."""

import torch
from torch.nn import functional as F


def positive_columns(n, rank, size):
    """First views find their positives among the second views, which begin after the n * size first ones."""
    own = torch.arange(rank * n, (rank + 1) * n)
    return torch.cat((n * size + own, own))


def gathered_gradient(gradients, rank):
    """The loss of every process depends on this process's rows: what all of them ask of these rows adds up.

    In a running process the sum is a message, `reduce(gradient)`: no process needs the list of all gradients.
    """
    rows = len(gradients[0]) // len(gradients)
    return sum(gradient[rank * rows : (rank + 1) * rows] for gradient in gradients)


def own_places(index, rank, size):
    """Sample i lives in process i mod K; there it is number i // K, for the samples before it are K apart."""
    places = torch.nonzero(index % size == rank).squeeze(1)
    return places, index[places] // size


def handed_loss(own_losses, b, size):
    """The processes' gradients are averaged: K here cancels 1 / K there, and each of the 2b rows counts 1 / 2b.

    A sum and not a mean: a process without a row adds 0, where a mean of nothing would be nan.
    """
    return size * own_losses.sum() / (2 * b)


def step_time(machine, b, K, d, weights):
    """Rates times amounts, and a constant.

    The gathered table of 2b rows travels three times, once forward and twice in the sum backward; the weights'
    gradients travel twice. A process's own part of each stays where it is.
    """
    table, rows = 4 * 2 * b * d, 2 * b / K
    seconds = machine.step + 6 * b / K * machine.encodings + 3 * machine.passes
    seconds += (2 if K == 1 else 3) * rows * 2 * b * d * machine.products
    if K > 1:
        seconds += 9 * machine.messages + (K - 1) / K * (3 * table + 2 * 4 * weights) * machine.bytes
    return 1000 * seconds


def clip_loss(images, captions, temperature):
    """The rows of the scores are the images' softmaxes, the columns the captions'."""
    scores, pair = images @ captions.T / temperature, torch.arange(len(images))
    return (F.cross_entropy(scores, pair) + F.cross_entropy(scores.T, pair)) / 2


def own_pairs_loss(images, captions, all_images, all_captions, rank, temperature):
    """The process's own n pairs begin at column n * rank, on both sides.

    Process 0 is right without it, so that one process, and a test with one, shows nothing.
    """
    pair = len(images) * rank + torch.arange(len(images))
    of_images = F.cross_entropy(images @ all_captions.T / temperature, pair)
    of_captions = F.cross_entropy(captions @ all_images.T / temperature, pair)
    return (of_images + of_captions) / 2


def process_step(process, x1, x2, weights, temperature):
    """Two backward passes. The first stops at the gathered columns, whose gradient is added up over the processes;
    the second takes the sum for one's own rows on through the encoder, where it joins what came from the rows.

    The loss is the sum over this process's rows divided by the 2b rows of the batch, so that the sums over processes
    are the batch's loss and gradient, whatever each process holds.
    """
    encoder = weights.clone().requires_grad_()
    z1, z2 = F.normalize(x1 @ encoder, dim=1), F.normalize(x2 @ encoder, dim=1)
    first, second = process.gather(z1.detach()), process.gather(z2.detach())
    columns = torch.cat((*first, *second)).requires_grad_()
    n, b = len(x1), len(columns) // 2
    place = sum(len(part) for part in first[: process.rank]) + torch.arange(n)
    rows, own, positives = torch.cat((z1, z2)), torch.cat((place, place + b)), torch.cat((place + b, place))
    scores = rows @ columns.T / temperature
    scores[torch.arange(2 * n), own] = -torch.inf  # a row is no negative of its own
    loss = F.cross_entropy(scores, positives, reduction="sum") / (2 * b)
    loss.backward(retain_graph=True)  # to the columns, and through this process's rows to the encoder
    asked = process.reduce(columns.grad)
    rows.backward(asked[own])
    return process.reduce(loss), process.reduce(encoder.grad)
