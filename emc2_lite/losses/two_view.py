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
    """Scores of a batch's rows against its 2b columns; column r and column (r + b) mod 2b are views of one sample.

    The rows are all 2b columns, or those of some samples: first their columns in z1, then those in z2. R is their
    number.
    """

    embeddings: Tensor  # (2b, d), first all of z1, then all of z2, in float32 or float64, detached
    lengths: Tensor  # (2b,), the lengths of the embeddings
    tolerance: float  # the largest distance of a length from 1, in the dtypes of z1 and z2
    logits: Tensor  # (R, 2b), l(r, k) = <z_r, z_k> / temperature, nats
    positive: Tensor  # (R,), l(r, pos), the score of the row's other view
    index: Tensor  # (2b,) int64, the dataset index of each column's sample
    view: Tensor  # (2b,) int64, the number of each column's view
    temperature: float
    with_gradient: bool  # whether z1 or z2 needs a gradient
    samples: Tensor | None  # (R / 2,) int64, the places in the batch of the rows' samples; None for all
    two_towers: bool  # whether z1 and z2 are of two encoders, and a row's negatives those of the other one

    @property
    def negatives(self) -> int:
        """m, the number of in-batch negatives of a row: 2b - 2, or b - 1 where z1 and z2 are of two encoders."""
        return count_negatives(len(self.embeddings) // 2, self.two_towers)

    @property
    def anchors(self) -> Tensor:
        """The embeddings of the rows: (R, d)."""
        return self.rows_of(self.embeddings)

    def rows_of(self, columns: Tensor) -> Tensor:
        """What belongs to the rows, of a tensor with a first dimension of 2b."""
        if self.samples is None:
            return columns
        return columns.unflatten(0, (2, -1))[:, self.samples].flatten(0, 1)

    def negative_logits(self) -> Tensor:
        """The scores, -inf where a column is no negative of the row: (R, 2b)."""
        logits = self.logits.clone()
        fill_own(logits, self.samples, -torch.inf)
        if self.two_towers:
            fill_own_tower(logits, -torch.inf)
        return logits

    def softmax(self) -> tuple[Tensor, Tensor]:
        """The softmax over each row's in-batch negatives, (R, 2b), and log of the sum of their exp l, (R,), nats.

        The softmax is 0 where a column is no negative of the row. With p its largest entry, the sum is exp(l) / p.
        """
        logits = self.negative_logits()
        softmax = logits.softmax(dim=1)
        return softmax, logits.amax(dim=1) - softmax.amax(dim=1).log()

    def chains(self, parts: int = 1) -> Tensor:
        """The place of each row's (sample, view slot) in a buffer (n, 2, ...) laid out as (2n, ...): (R,) int64. The
        buffer has one of `parts` of the samples, those with index mod parts = the part."""
        first = 2 * torch.div(self.rows_of(self.index).chunk(2)[0], parts, rounding_mode="floor")
        return torch.cat((first, first + 1))


def count_negatives(b: int, two_towers: bool = False) -> int:
    """m, the number of a row's negatives in a batch of b samples."""
    return b - 1 if two_towers else 2 * b - 2


def two_view_block(
    z1: Tensor,
    z2: Tensor,
    index: Tensor,
    view: Tensor | None,
    temperature: float,
    samples: Tensor | None = None,
    two_towers: bool = False,
) -> TwoViewBlock:
    """Lay out a batch; half-precision embeddings are raised to float32, for exp l overflows below it.

    z1, z2: (b, d); index: (b,); view: (2, b), or None for 0 and 1; samples: (n,) int64, the places in the batch of the
    rows' samples, or None for all.
    """
    view = torch.cat((torch.zeros_like(index), torch.ones_like(index))) if view is None else view.flatten()
    embeddings = torch.cat((z1.detach(), z2.detach()))
    if embeddings.dtype != torch.float64:
        embeddings = embeddings.float()
    rows = embeddings if samples is None else embeddings[torch.cat((samples, samples + len(z1)))]
    with full_precision(embeddings):
        logits = (rows @ embeddings.T).div_(temperature)
    lengths, allowed = torch.linalg.vector_norm(embeddings, dim=1), max(tolerance(z1.dtype), tolerance(z2.dtype))
    positive = positive_entries(logits, samples)
    index = torch.cat((index, index))
    gradient = torch.is_grad_enabled() and (z1.requires_grad or z2.requires_grad)
    where = samples, two_towers
    return TwoViewBlock(embeddings, lengths, allowed, logits, positive, index, view, temperature, gradient, *where)


def full_precision(like: Tensor) -> AbstractContextManager:
    """Products in the operands' own dtype, whatever autocast says on the device of `like`."""
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def own_entries(matrix: Tensor) -> Tensor:
    """Writable view of the entries of (2b, 2b) that pair a row with its own sample: (row slot, column slot, sample)."""
    b = len(matrix) // 2
    return matrix.view(2, b, 2, b).diagonal(dim1=1, dim2=3)


def fill_own(matrix: Tensor, samples: Tensor | None, value: float) -> None:
    """Write the value where a row of (R, 2b) meets the views of its own sample; `samples` as in `two_view_block`."""
    if samples is None:
        own_entries(matrix).fill_(value)
    else:
        own = torch.stack((samples, samples + matrix.shape[1] // 2), dim=1)
        matrix.scatter_(1, own.repeat(2, 1), value)


def fill_own_tower(matrix: Tensor, value: float) -> None:
    """Write the value where a row of (R, 2b) meets its own slot."""
    rows, b = len(matrix) // 2, matrix.shape[1] // 2
    matrix[:rows, :b] = matrix[rows:, b:] = value


def positive_entries(matrix: Tensor, samples: Tensor | None) -> Tensor:
    """The entries where a row of (R, 2b) meets its positive: (R,)."""
    if samples is None:
        own = own_entries(matrix)
        return torch.cat((own[0, 1], own[1, 0]))
    return matrix.gather(1, _positive_columns(matrix, samples)).squeeze(1)


def put_positive(matrix: Tensor, samples: Tensor | None, values: Tensor) -> None:
    """Write the values (R,) to the `positive_entries`."""
    if samples is None:
        own = own_entries(matrix)
        own[0, 1], own[1, 0] = values.chunk(2)
    else:
        matrix.scatter_(1, _positive_columns(matrix, samples), values[:, None])


def _positive_columns(matrix: Tensor, samples: Tensor) -> Tensor:
    return torch.cat((samples + matrix.shape[1] // 2, samples))[:, None]


@untraced
def random_proposals(
    b: int, like: Tensor, generator: Generator | None, samples: Tensor | None = None, two_towers: bool = False
) -> tuple[Tensor, Tensor]:
    """Each row's candidate order and uniforms, for the 2b rows of a batch; in the dtype and on the device of `like`.

    The order, (2b, m) int32, has the columns of a row's m negatives, drawn per row: a fixed order would spend the whole
    burn-in on one of the two views. The uniforms, (2b, m), are Uniform(0, 1), one a candidate. With `samples`, (n,)
    int64, places in the batch, only the 2n rows of these: a row gets the same in either case. `two_towers` as in
    `TwoViewBlock`.

    >>> order, uniforms = random_proposals(3, torch.empty(0), torch.Generator().manual_seed(0))
    >>> order[0].sort().values  # row 0 is sample 0's, and so is row 3
    tensor([1, 2, 4, 5], dtype=torch.int32)
    """
    m = count_negatives(b, two_towers)
    if kernels.compiles_for(like.device):
        places = torch.arange(b, device=like.device) if samples is None else samples
        order = torch.empty(2 * len(places), m, dtype=torch.int32, device=like.device)
        uniforms = torch.empty(order.shape, dtype=like.dtype, device=like.device)
        key, bits = kernels.random_key(generator), kernels.uniform_bits(like.dtype)
        kernels.deal(order.numpy(), uniforms.numpy(), places.numpy(), b, key, bits)
        return order, uniforms
    keys = torch.rand(2 * b, 2 * b, generator=generator, device=like.device)
    own_entries(keys).fill_(2.0)
    if two_towers:
        fill_own_tower(keys, 2.0)
    order = keys.argsort(dim=1)[:, :m].int()
    uniforms = random_uniforms(order.shape, like.dtype, like.device, generator)
    if samples is None:
        return order, uniforms
    rows = torch.cat((samples, samples + b))
    return order[rows], uniforms[rows]
