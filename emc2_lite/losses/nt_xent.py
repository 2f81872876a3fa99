"""NT-Xent, the loss of SimCLR: the softmax over the batch stands in for the softmax over the dataset."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.losses.checks import check_batch, check_temperature
from emc2_lite.losses.two_view import two_view_block


class NTXentStats(NamedTuple):
    """loss: the last call's value in nats, a 0-dimensional tensor without gradient."""

    loss: Tensor


class NTXentLoss(nn.Module):
    """Normalised temperature-scaled cross entropy over the 2b rows of a batch.

    loss = mean over rows r of  -l(r, pos) + log( exp l(r, pos) + sum over k in neg(r) of exp l(r, k) ),

    with l(r, k) = <z_r, z_k> / temperature and neg(r) the 2b - 2 rows of the other samples. Its repulsive weights are a
    softmax over the batch, so its gradient is a biased estimate of the global one, the more so the smaller the batch
    and the temperature. No state.

    Args:
        temperature: > 0, dimensionless.

    Call with z1, z2: (b, d) normalised embeddings of two views of b >= 2 samples; index: (b,) int64 dataset indices,
    each once. `view`, `encode` and `generator` are not needed. Returns a scalar in nats.

    Raises:
        ValueError: on bad temperature, shapes, dtypes, embeddings or indices.

    Source: Chen et al. 2020, A simple framework for contrastive learning of visual representations, equation 1.
    """

    def __init__(self, temperature: float):
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.stats: NTXentStats | None = None

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        index: Tensor,
        view: Tensor | None = None,
        encode: Callable[[Tensor, Tensor], Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_batch(z1, z2, index, view, num_samples=None)
        block = two_view_block(z1, z2, self.temperature)
        log_denominator = torch.logaddexp(block.positive, block.negatives_logsumexp())
        loss = (log_denominator - block.positive).mean()
        self.stats = NTXentStats(loss.detach())
        return loss
