"""SogCLR: a moving average of the normaliser for each sample, carried from batch to batch."""

import math
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from emc2_lite.checks import Bounds, Temperature, checked_settings
from emc2_lite.losses.criterion import Criterion, Estimate, Samples
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock


class SogCLRStats(NamedTuple):
    """Readable numbers of the last call, 0-dimensional tensors without gradient.

    loss: mean over rows of -l(r, pos) + log(m u_r), nats: the in-batch contrast with averaged normalisers. Steps of one
        batch size compare by it; the value that `forward` returns only carries the gradient.
    repulsion: mean over rows of the sum of the repulsive weights; the exact gradient's is 1.
    """

    loss: Tensor
    repulsion: Tensor


class SogCLRLoss(Criterion):
    """A surrogate that divides by a moving average of the normaliser instead of the batch's own.

    Every (sample, view slot) keeps u_r, an average of the mean over its in-batch negatives of exp l(r, k):

        first visit:  u_r = mean_k exp l(r, k);      later:  u_r <- (1 - gamma) u_r + gamma mean_k exp l(r, k),
        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k),      w(r, k) = exp l(r, k) / (m u_r),

    with l = <., .> / temperature, m = 2b - 2 and w detached. In expectation over batches at fixed embeddings, with u*_r
    the mean of exp l(r, .) over all of neg(r),

        E w(r, k) = p_r(k) E[ u*_r / u_r | k in the batch ].

    gamma = 1 gives DCL. As gamma tends to 0, after many more than 1 / gamma visits, u_r tends to u*_r, and the estimate
    to the exact gradient. In training what u_r remembers is (1 - gamma) / gamma visits old in the mean, and a row has a
    visit an epoch: a small gamma trades bias for staleness.

    Args:
        num_samples: N, the number of samples in the dataset; the state is log u, (N, 2), one float a view slot.
        temperature: > 0, dimensionless.
        gamma: the share of the new mean, in (0, 1]; 0.9 in the papers.
        two_towers: whether z1 and z2 are of two encoders, see `Criterion`.
        parallel: this process's place among several, which share the averages by samples.

    Call as any `Criterion`; `view`, `encode` and `generator` are not needed.
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, and on a damaged state.
    Source: Yuan et al. 2022, Provable stochastic optimization for global contrastive learning, Algorithm 1. LibAUC and
    the authors' code keep one u a sample, not one a view slot, and so have other gradients.

    Chapter 03 builds it.

    >>> z, criterion = torch.eye(2), SogCLRLoss(num_samples=3, temperature=0.5)
    >>> criterion(z, z, index=torch.tensor([0, 2]))  # the value only carries the gradient
    tensor(-2.)
    >>> criterion.log_u  # the negatives of samples 0 and 2 have l = 0; sample 1 has not come yet
    tensor([[0., 0.],
            [-inf, -inf],
            [0., 0.]])
    """

    state_name: ClassVar[str] = "averages"
    num_samples: int
    log_u: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        temperature: Temperature,
        gamma: Annotated[float, Bounds(above=0, most=1)] = 0.9,
        two_towers: bool = False,
        parallel: Parallel | None = None,
    ):
        super().__init__(temperature, num_samples, two_towers, parallel)
        self.gamma = gamma
        # log 0 marks an average before its first visit: a mean of exponentials of finite scores is never 0.
        self.register_buffer("log_u", torch.full((self.kept_samples, 2), -torch.inf))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        self.admit(block)
        log_m = math.log(block.negatives)
        softmax, log_sum = block.softmax()
        log_mean = log_sum - log_m
        chains, averages = self.places(block), self.log_u.view(-1)
        held = averages[chains].to(log_mean)
        kept = held + (math.log1p(-self.gamma) if self.gamma < 1 else -math.inf)
        log_u = torch.where(held.isneginf(), log_mean, torch.logaddexp(kept, log_mean + math.log(self.gamma)))
        weights = softmax.mul_((log_mean - log_u).exp_()[:, None])
        stats = SogCLRStats((log_u + log_m - block.positive).mean(), weights.sum(dim=1).mean())
        return Estimate(weights, stats, store=partial(averages.index_copy_, 0, chains, log_u.to(averages)))

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        log_u = saved.get("log_u")
        if log_u is not None and not (log_u < torch.inf).all():
            raise ValueError("The saved averages hold NaN or infinity: the state is damaged; load an earlier one.")
