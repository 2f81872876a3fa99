"""Do the chains follow their softmax? Measured on live chains of EMC2 at fixed embeddings."""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from emc2_lite.checks import Bounds, Seed, checked_settings
from emc2_lite.laboratory.gradients import BatchSize, Step, check_table
from emc2_lite.losses import EMC2Loss
from emc2_lite.sampling import effective_sample_size, total_variation


class ChainMixing(NamedTuple):
    """One number a chain, (N, 2), and shares over all chains and visits.

    distance: total variation between the views at which the chain's visits ended and its exact softmax, in [0, 1].
    noise: the same for as many independent draws from the softmax itself: what a perfect chain would show.
    effective_sample_size: independent draws that its scores are worth, out of `visits`.
    acceptance_rate: share of steps that moved, and carried_over_share: of rows that count their carried-over view.
    views_encoded, views_encoded_with_gradient: views encoded again a step, in encodings.
    visits: how often each chain was visited.
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
    criterion: EMC2Loss,
    table: Tensor,
    *,
    batch_size: BatchSize,
    visits: Annotated[int, Bounds(least=4)],
    warm_up: Step = 0,
    seed: Seed = 0,
) -> ChainMixing:
    """Let every chain be visited once an epoch, and compare where its visits end with the exact softmax.

    Args:
        criterion: the chains; they go on from where they are.
        table: (N, 2, d) normalised embeddings; view v of a sample is in slot v.
        batch_size: b, a divisor of N, so that an epoch visits every chain.
        visits: epochs to measure, 4 or more to see a chain move; warm_up: epochs before, not measured.
        seed: of the batches and of the chains' draws.

    Raises:
        ValueError: on a table or batch size of another kind, or fewer than 4 visits.
    """
    check_table(table, batch_size)
    if len(table) % batch_size:
        raise ValueError(
            f"batch_size is {batch_size}: it must divide the number of samples, {len(table)}, so that an epoch visits "
            "every chain."
        )
    samples, temperature = len(table), criterion.temperature
    generator = torch.Generator().manual_seed(seed)
    flat = table.flatten(0, 1)
    own = torch.arange(2 * samples) // 2
    target = (flat @ flat.T / temperature).masked_fill(own[:, None] == own, -torch.inf).softmax(dim=1)
    counts, scores, stats = torch.zeros_like(target), [], []
    for epoch in range(warm_up + visits):
        order = torch.randperm(samples, generator=generator)
        for index in order.split(batch_size):
            z1, z2 = table[index].unbind(dim=1)
            criterion(z1, z2, index, None, lambda i, v: table[i, v], generator)
            if epoch >= warm_up:
                stats.append(criterion.stats)
        if epoch >= warm_up:
            held = (2 * criterion.chain_index.long() + criterion.chain_view).flatten()
            counts[torch.arange(2 * samples), held] += 1
            scores.append(criterion.chain_score.flatten().clone())
    drawn = torch.multinomial(target, visits, replacement=True, generator=generator)
    perfect = torch.zeros_like(target).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=target.dtype))

    def mean(name: str) -> float:
        return sum(float(getattr(of_step, name)) for of_step in stats) / len(stats)

    return ChainMixing(
        total_variation(counts / visits, target).view(samples, 2),
        total_variation(perfect / visits, target).view(samples, 2),
        effective_sample_size(torch.stack(scores, dim=1)).view(samples, 2),
        mean("acceptance_rate"),
        mean("carried_over_share"),
        mean("views_encoded"),
        mean("views_encoded_with_gradient"),
        visits,
    )
