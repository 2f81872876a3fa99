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
    index: (2b,) int64, the dataset index of each row's sample.
    view: (2b,) int64, the number of each row's view.
    """

    embeddings: Tensor
    logits: Tensor
    positive: Tensor
    own: Tensor
    index: Tensor
    view: Tensor

    @property
    def num_negatives(self) -> int:
        """m = 2b - 2."""
        return len(self.logits) - 2

    def negative_logits(self) -> Tensor:
        """The scores, -inf at the views of the row's own sample: (2b, 2b)."""
        return self.logits.masked_fill(self.own, -torch.inf)

    def negatives_logsumexp(self) -> Tensor:
        """log of the sum over each row's in-batch negatives of exp l(r, k): (2b,), nats."""
        return self.negative_logits().logsumexp(dim=1)

    def columns_of(self, index: Tensor, view: Tensor) -> Tensor:
        """Where the named views (k,), (k,) stand in the batch: (k, 2b) bool, a row without True if they do not."""
        return (index[:, None] == self.index) & (view[:, None] == self.view)

    def state_of(self, buffer: Tensor) -> Tensor:
        """What a per-(sample, view slot) buffer (N, 2, ...) holds for each row: (2b, ...)."""
        return buffer[self.index[: len(self.index) // 2]].transpose(0, 1).flatten(0, 1)

    def store(self, buffer: Tensor, of_rows: Tensor) -> None:
        """Write one value a row, (2b, ...), into a per-(sample, view slot) buffer (N, 2, ...)."""
        buffer[self.index[: len(self.index) // 2]] = of_rows.unflatten(0, (2, -1)).transpose(0, 1).to(buffer.dtype)


def two_view_block(z1: Tensor, z2: Tensor, index: Tensor, view: Tensor | None, temperature: float) -> TwoViewBlock:
    """Lay out a batch; half-precision embeddings are raised to float32, for exp l overflows below it.

    z1, z2: (b, d); index: (b,); view: (2, b), or None for 0 and 1.
    """
    b = z1.shape[0]
    if view is None:
        view = torch.stack((torch.zeros_like(index), torch.ones_like(index)))
    embeddings = torch.cat((z1, z2))
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        logits = embeddings @ embeddings.T / temperature
    positive = torch.cat((logits.diagonal(b), logits.diagonal(-b)))
    own = torch.eye(b, dtype=torch.bool, device=z1.device).repeat(2, 2)
    return TwoViewBlock(embeddings, logits, positive, own, index.repeat(2), view.flatten())
