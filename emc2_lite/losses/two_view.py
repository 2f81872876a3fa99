"""The similarity block of a two-view batch: the one place where rows, positives and negatives are laid out."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from emc2_lite import kernels
from emc2_lite.losses.checks import tolerance
from emc2_lite.sampling import random_uniforms
from emc2_lite.tracing import untraced


@dataclass(frozen=True)
class TwoViewBlock:
    """Scores among the 2b rows of a batch; row r and row (r + b) mod 2b are the two views of one sample."""

    embeddings: Tensor  # (2b, d), first all of z1, then all of z2, in float32 or float64, detached
    lengths: Tensor  # (2b,), the lengths of the embeddings
    tolerance: float  # the largest distance of a length from 1, in the dtypes of z1 and z2
    logits: Tensor  # (2b, 2b), l(r, k) = <z_r, z_k> / temperature, dimensionless
    positive: Tensor  # (2b,), l(r, pos), the score of the row's other view
    index: Tensor  # (2b,) int64, the dataset index of each row's sample
    view: Tensor  # (2b,) int64, the number of each row's view
    temperature: float
    with_gradient: bool  # whether z1 or z2 needs a gradient

    def negative_logits(self) -> Tensor:
        """The scores, -inf at the views of the row's own sample: (2b, 2b)."""
        logits = self.logits.clone()
        own_entries(logits).fill_(-torch.inf)
        return logits

    def softmax(self) -> tuple[Tensor, Tensor]:
        """The softmax over each row's in-batch negatives, (2b, 2b), and log of the sum of their exp l, (2b,), nats.

        The softmax is 0 at the views of the row's own sample. With p its largest entry, the sum is exp(l) / p.
        """
        logits = self.negative_logits()
        softmax = logits.softmax(dim=1)
        return softmax, logits.amax(dim=1) - softmax.amax(dim=1).log()

    def chains(self) -> Tensor:
        """The place of each row's (sample, view slot) in a buffer (N, 2, ...) laid out as (2N, ...): (2b,) int64."""
        first = 2 * self.index[: len(self.index) // 2]
        return torch.cat((first, first + 1))


def two_view_block(z1: Tensor, z2: Tensor, index: Tensor, view: Tensor | None, temperature: float) -> TwoViewBlock:
    """Lay out a batch; half-precision embeddings are raised to float32, for exp l overflows below it.

    z1, z2: (b, d); index: (b,); view: (2, b), or None for 0 and 1.
    """
    view = torch.cat((torch.zeros_like(index), torch.ones_like(index))) if view is None else view.flatten()
    embeddings = torch.cat((z1.detach(), z2.detach()))
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    with full_precision(embeddings):
        logits = (embeddings @ embeddings.T).div_(temperature)
    lengths, allowed = torch.linalg.vector_norm(embeddings, dim=1), max(tolerance(z1.dtype), tolerance(z2.dtype))
    positive, index = torch.cat((own_entries(logits)[0, 1], own_entries(logits)[1, 0])), torch.cat((index, index))
    gradient = torch.is_grad_enabled() and (z1.requires_grad or z2.requires_grad)
    return TwoViewBlock(embeddings, lengths, allowed, logits, positive, index, view, temperature, gradient)


def full_precision(like: Tensor) -> AbstractContextManager:
    """Products in the operands' own dtype, whatever autocast says on the device of `like`."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def own_entries(matrix: Tensor) -> Tensor:
    """Writable view of the entries that pair a row with its own sample: (row slot, column slot, sample)."""
    b = len(matrix) // 2
    return matrix.view(2, b, 2, b).diagonal(dim1=1, dim2=3)


@untraced
def random_proposals(b: int, like: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Each row's candidate order and uniforms, for the 2b rows of a batch; in the dtype and on the device of `like`.

    The order, (2b, 2b - 2) int32, has the columns of a row's negatives, drawn per row: a fixed order would spend the
    whole burn-in on one of the two views. The uniforms, (2b, 2b - 2), are Uniform(0, 1), one a candidate.

    >>> order, uniforms = random_proposals(3, torch.empty(0), torch.Generator().manual_seed(0))
    >>> order[0].sort().values  # row 0 is sample 0's, and so is row 3
    tensor([1, 2, 4, 5], dtype=torch.int32)
    """
    if kernels.compiles_for(like.device):
        order = torch.empty(2 * b, 2 * b - 2, dtype=torch.int32, device=like.device)
        uniforms = torch.empty(order.shape, dtype=like.dtype, device=like.device)
        kernels.deal(order.numpy(), uniforms.numpy(), kernels.random_key(generator), kernels.uniform_bits(like.dtype))
        return order, uniforms
    keys = torch.rand(2 * b, 2 * b, generator=generator, device=like.device)
    own_entries(keys).fill_(2.0)
    order = keys.argsort(dim=1)[:, :-2].int()
    return order, random_uniforms(order.shape, like.dtype, like.device, generator)
