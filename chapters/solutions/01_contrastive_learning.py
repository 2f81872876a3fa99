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


def paired_nt_xent(z, temperature):
    """The partner of row 2i is 2i + 1 and the other way round: flip the last bit of the row number.

    With the own score at minus infinity the softmax runs over the positive and all negatives.
    """
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    partner = torch.arange(len(z), device=z.device) ^ 1
    return F.cross_entropy(logits, partner)


def effective_negatives(similarities, temperature):
    """exp of the entropy. `log_softmax` keeps the logarithm finite where a share rounds to 0."""
    log_shares = (similarities / temperature).log_softmax(0)
    entropy = -(log_shares.exp() * log_shares).sum()
    return entropy.exp()
