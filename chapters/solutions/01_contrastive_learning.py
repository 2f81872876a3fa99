"""Solutions to the exercises of chapter 01."""

import math

import torch
from torch.nn import functional as F


def batch_logits(h1, h2, temperature):
    """Stack, give each row length 1, multiply all rows with all rows, divide once by the temperature.

    Dividing z by the temperature before the product would count it twice.
    """
    z = F.normalize(torch.cat((h1, h2)), dim=1)
    return z @ z.T / temperature


def nt_xent(z1, z2, temperature):
    """NT-Xent is a cross entropy: the classes are the rows, and the right class of row r is its positive.

    Minus infinity on the diagonal takes each row out of its own quiz, because exp of it is 0. Row r belongs to row
    r + b, and row r + b to row r: that is the list 0, 1, ..., 2b - 1, moved by b places.
    """
    z = torch.cat((z1, z2))
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, positive)


def paired_nt_xent(z, temperature):
    """Which scores are negatives follows from their place, never from their value.

    The bug: 0 marked the two places that hold no negative, but two embeddings at a right angle have the score 0, and
    such a negative was left out of the sum. Embeddings after a ReLU, with many zeros, have that angle often.
    The partner of row 2i is row 2i + 1 and the other way round: flip the last bit of the row number.
    """
    rows = torch.arange(len(z), device=z.device)
    scores = z @ z.T / temperature
    positive = scores[rows, rows ^ 1]
    others = scores.masked_fill(rows[:, None] == rows, -math.inf)  # the positive is one of the others
    return (others.logsumexp(dim=1) - positive).mean()


def row_forces(anchor, positive, negatives, temperature):
    """The shares of all others are one softmax; the pull is as strong as all the pushes together.

    The sum of the pushes' shares is 1 - q(pos) without the rounding error of a difference.
    """
    others = torch.cat((positive[None], negatives))
    shares = (others @ anchor / temperature).softmax(0)[1:]
    return shares.sum() * positive, shares[:, None] * negatives


def nt_xent_gradient(z, temperature):
    """Differentiate the loss by the scores (G), then the scores by the embeddings.

    Row a is in the scores (a, k), where it meets z_k, and in the scores (r, a), where it meets z_r: the first give
    G z, the second G.T z.
    """
    rows = len(z)
    q = (z @ z.T / temperature).fill_diagonal_(-math.inf).softmax(dim=1)
    is_positive = torch.eye(rows, dtype=z.dtype, device=z.device).roll(rows // 2, dims=1)
    G = (q - is_positive) / rows
    return (G + G.T) @ z / temperature


def effective_negatives(similarities, temperature):
    """exp of the entropy. `log_softmax` keeps the logarithm finite where a share rounds to 0."""
    log_shares = (similarities / temperature).log_softmax(0)
    entropy = -(log_shares.exp() * log_shares).sum()
    return entropy.exp()


def simclr(encoder, batches, temperature, learning_rate):
    """Embed both views, take NT-Xent, let autograd find the gradient, and take one step down it, batch after batch.

    Gradients add up in PyTorch: without zero_grad, a step would also take those of the earlier batches. The update
    itself must not be recorded for a derivative, hence no_grad.
    """
    losses = []
    for first, second in batches:
        z = F.normalize(torch.cat((encoder(first), encoder(second))), dim=1)
        logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
        loss = F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(first)))
        encoder.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weights in encoder.parameters():
                weights -= learning_rate * weights.grad
        losses.append(loss.item())
    return losses
