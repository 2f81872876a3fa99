"""The similarity block of a two-view batch: the one place where rows, positives and negatives are laid out."""

from typing import NamedTuple

import torch
from torch import Tensor


class TwoViewBlock(NamedTuple):
    """Scores among the 2b rows of a batch; row r and row (r + b) mod 2b are the two views of one sample.

    embeddings: (2b, d), first all of z1, then all of z2, in float32 or float64.
    logits: (2b, 2b), l(r, k) = <z_r, z_k> / temperature, dimensionless.
    positive: (2b,), l(r, pos), the score of the row's other view.
    own: (2b, 2b) bool, True where the column is a view of the row's own sample; the other m = 2b - 2 are its negatives.
    """

    embeddings: Tensor
    logits: Tensor
    positive: Tensor
    own: Tensor

    def negatives_logsumexp(self) -> Tensor:
        """log of the sum over each row's in-batch negatives of exp l(r, k): (2b,), nats."""
        return self.logits.masked_fill(self.own, -torch.inf).logsumexp(dim=1)


def two_view_block(z1: Tensor, z2: Tensor, temperature: float) -> TwoViewBlock:
    """Lay out a batch; half-precision embeddings are raised to float32, for exp l overflows below it."""
    b = z1.shape[0]
    embeddings = torch.cat((z1, z2))
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        logits = embeddings @ embeddings.T / temperature
    positive = torch.cat((logits.diagonal(b), logits.diagonal(-b)))
    own = torch.eye(b, dtype=torch.bool, device=z1.device).repeat(2, 2)
    return TwoViewBlock(embeddings, logits, positive, own)
