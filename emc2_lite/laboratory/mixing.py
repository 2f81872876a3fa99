"""Do the chains follow their softmax? Measured on live chains of EMC2 at fixed embeddings."""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Seed, checked_settings
from emc2_lite.laboratory.gradients import BatchSize, Step, check_table
from emc2_lite.losses import EMC2Loss
from emc2_lite.sampling import effective_sample_size, total_variation

Visits = Annotated[int, Bounds(least=4)]


class ChainMixing(NamedTuple):
    """One number per chain, (N, 2), and means over all chains and visits.

    distance: total variation between the views at which the chain's visits ended and its exact softmax, in [0, 1].
    noise: the same for `visits` independent draws from the softmax itself: the distance of a perfect chain.
    effective_sample_size: the number of independent draws that the chain's scores are worth, out of `visits`.
    acceptance_rate: share of steps that moved; carried_over_share: share of rows that count their held view.
    views_encoded, views_encoded_with_gradient: views encoded again per step, in encodings.
    visits: number of visits to each chain.
    """

    distance: Tensor
    noise: Tensor
    effective_sample_size: Tensor
    acceptance_rate: float
    carried_over_share: float
    views_encoded: float
    views_encoded_with_gradient: float
    visits: int


@checked_settings
@torch.no_grad()
def chain_mixing(
    criterion: EMC2Loss, table: Tensor, *, batch_size: BatchSize, visits: Visits, warm_up: Step = 0, seed: Seed = 0
) -> ChainMixing:
    """Visit every chain once an epoch, and compare the views where its visits end with the exact softmax.

    Args:
        criterion: the chains; they continue from their present state.
        table: (N, 2, d) normalised embeddings; view v of a sample is in slot v.
        batch_size: b, a divisor of N, so that an epoch visits every chain.
        visits: epochs to measure, 4 or more to see a chain move; warm_up: epochs before, not measured.
        seed: of the batches and of the chains' draws.

    Raises: ValueError: on a table or batch size of another kind, or fewer than 4 visits.

    >>> from emc2_lite.laboratory import embedding_table
    >>> chain_mixing(EMC2Loss(8, 0.2), embedding_table(8), batch_size=4, visits=10).distance.shape
    torch.Size([8, 2])
    """
    check_table(table, batch_size)
    if len(table) % batch_size:
        raise ValueError(
            f"batch_size is {batch_size}: it must divide the number of samples, {len(table)}, so that an epoch visits "
            "every chain."
        )
    generator = torch.Generator().manual_seed(seed)
    flat, rows = table.flatten(0, 1), torch.arange(2 * len(table))
    own = rows // 2
    target = (flat @ flat.T / criterion.temperature).masked_fill(own[:, None] == own, -torch.inf).softmax(dim=1)
    counts, scores, stats = torch.zeros_like(target), [], []
    for epoch in range(warm_up + visits):
        for index in torch.randperm(len(table), generator=generator).split(batch_size):
            z1, z2 = table[index].unbind(dim=1)
            criterion(z1, z2, index, None, lambda i, v: table[i, v], generator)
            if epoch >= warm_up:
                stats.append(criterion.stats)
        if epoch >= warm_up:
            counts[rows, (2 * criterion.chain_index.long() + criterion.chain_view).flatten()] += 1
            scores.append(criterion.chain_score.flatten().clone())
    drawn = torch.multinomial(target, visits, replacement=True, generator=generator)
    perfect = torch.zeros_like(target).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=target.dtype))
    distance, noise = (total_variation(ends / visits, target).unflatten(0, (-1, 2)) for ends in (counts, perfect))
    worth = effective_sample_size(torch.stack(scores, dim=1)).unflatten(0, (-1, 2))
    means = {name: sum(float(getattr(step, name)) for step in stats) / len(stats) for name in ChainMixing._fields[3:7]}
    return ChainMixing(distance, noise, worth, **means, visits=visits)
