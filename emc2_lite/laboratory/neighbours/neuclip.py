"""NeuCLIP: a small network, trained beside the encoder, predicts the log-normaliser from an embedding."""

import math
from typing import Annotated, ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from emc2_lite.checks import Bounds, Temperature, Width, checked_settings
from emc2_lite.losses import Criterion, SogCLRStats
from emc2_lite.losses.criterion import Estimate, Samples
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.two_view import TwoViewBlock, full_precision

_EPSILON = 1e-10  # AdaGrad's; a prototype whose gradient is 0 stays


class NeuCLIPLoss(Criterion):
    """A surrogate whose normaliser is learned: prototypes stand for all negatives, and no sample keeps a number.

    The network has P prototypes W_j, one layer and a log-mean-exp:

        nu(r) = log[(1 / P) sum_j exp(cos(z_r, W_j) / temperature)].

    With g_r the mean over the m = 2b - 2 in-batch negatives of exp l(r, k), log E g_r is the minimum over nu of
    E exp(-nu) g_r + nu - 1. So a call

    1. takes `updates` steps of AdaGrad in W on the mean over rows of exp(-nu(r)) g_r + nu(r), at fixed embeddings;
    2. returns, with the new nu and weights w detached,

        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k),      w(r, k) = exp(l(r, k) - nu(r)) / m;

    3. restarts: every `restart` calls, the batches of that call and of the next ones replace the prototypes, 2b a call.

    The first call has no prototypes and takes nu(r) = log g_r, as DCL. With frozen prototypes and no cut (below),
    E w(r, k) = p_r(k) E g_r / exp(nu(r)): bias is the network's error alone. Three things keep it from 0: P prototypes
    cannot stand for every row's negatives; nu has just been fitted to the batch that it weighs, in the extreme DCL; and
    in a small set, a row's own sample is among the prototypes after a restart.

    Differences from the source: it has a network for images and one for texts, here one serves both view slots; its
    scores have l(r, pos) subtracted, which cancels in w; it restarts in one call. The ratio g_r / exp(nu(r)) is cut at
    (N - 1) / (b - 1), which no true normaliser of two stored views exceeds, so that an untrained network cannot blow
    up. The learning rate is ours. Known here are the abstract and two summaries of the paper, not its full text.

    Args:
        num_samples: N, the number of samples in the dataset.
        dim: d, the length of an embedding; the state takes 8 P d + 8 bytes, whatever N.
        temperature: > 0, dimensionless.
        num_prototypes: P >= 1; 4,096 in the source, for millions of samples.
        updates: steps of AdaGrad a call, 10 in the source; 0 leaves the embeddings of the restarts as they are.
        learning_rate: of AdaGrad, > 0, in units of a prototype's coordinates, which start at length 1.
        restart: calls between restarts, 500 in the source.

    Call as any `Criterion`; `view`, `encode` and `generator` are not needed. ``stats`` are SogCLR's, with
    log(m u_r) = log m + nu(r). Time of a call is O(updates b P d).
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, and on a damaged state.
    Source: Wei, Lin and Yang 2025, NeuCLIP: efficient large-scale CLIP training with neural normalizer optimization
    (arXiv 2511.08417).

    >>> z, criterion = torch.eye(2), NeuCLIPLoss(num_samples=2, dim=2, temperature=0.5, num_prototypes=4)
    >>> criterion(z, z, index=torch.tensor([0, 1]))  # the value only carries the gradient
    tensor(-2.)
    >>> criterion.prototypes  # the batch's embeddings; the next call trains them
    tensor([[1., 0.],
            [0., 1.],
            [1., 0.],
            [0., 1.]])
    """

    state_name: ClassVar[str] = "prototypes"
    num_samples: int
    prototypes: Tensor
    squares: Tensor
    calls: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        dim: Width,
        temperature: Temperature,
        num_prototypes: Annotated[int, Bounds(least=1)] = 256,
        updates: Annotated[int, Bounds(least=0)] = 10,
        learning_rate: Annotated[float, Bounds(above=0)] = 0.03,
        restart: Annotated[int, Bounds(least=1)] = 500,
    ):
        super().__init__(temperature, num_samples)
        self.dim, self.num_prototypes = dim, num_prototypes
        self.updates, self.learning_rate, self.restart = updates, learning_rate, restart
        self.register_buffer("prototypes", torch.zeros(num_prototypes, dim))
        self.register_buffer("squares", torch.zeros(num_prototypes, dim))  # AdaGrad's sums of squared gradients
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        rows = block.embeddings
        if rows.shape[1] != self.dim:
            raise ValueError(f"z1 has d = {rows.shape[1]}, but the network was made for dim = {self.dim}.")
        *_, (calls,) = self.admit(block, self.calls)
        log_m, most = math.log(len(rows) - 2), math.log((self.num_samples - 1) / (len(rows) // 2 - 1))
        softmax, log_sum = block.softmax()
        log_mean = log_sum - log_m
        if calls:
            prototypes, squares = self.prototypes.to(rows, copy=True), self.squares.to(rows, copy=True)
            with full_precision(rows):
                for _ in range(self.updates):
                    gradient = self.gradient(prototypes, rows, log_mean, most)
                    squares += gradient.square()
                    prototypes -= self.learning_rate * gradient / (squares.sqrt() + _EPSILON)
                nu = self.scores(prototypes, rows).logsumexp(dim=1) - math.log(self.num_prototypes)
        else:
            prototypes = rows.repeat(math.ceil(self.num_prototypes / len(rows)), 1)[: self.num_prototypes]
            squares, nu = torch.zeros_like(prototypes), log_mean
        weights = softmax.mul_((log_mean - nu).clamp_max_(most).exp_()[:, None])
        stats = SogCLRStats((nu + log_m - block.positive).mean(), weights.sum(dim=1).mean())
        start = len(rows) * (calls % self.restart)
        new = slice(start, min(start + len(rows), self.num_prototypes))
        prototypes[new], squares[new] = rows[: len(prototypes[new])], 0
        return Estimate(weights, stats, store=lambda: self.store(prototypes, squares))

    def scores(self, prototypes: Tensor, rows: Tensor) -> Tensor:
        """cos(z_r, W_j) / temperature: (2b, P)."""
        return rows @ F.normalize(prototypes, dim=1).T / self.temperature

    def gradient(self, prototypes: Tensor, rows: Tensor, log_mean: Tensor, most: float) -> Tensor:
        """The gradient in W of the mean over rows of exp(-nu(r)) g_r + nu(r), with the ratio cut: (P, d).

        With q(r, j) the softmax over prototypes of cos(z_r, W_j) / temperature,

            sum over r of  [1 - g_r / exp(nu(r))] q(r, j) [z_r - cos(z_r, W_j) W_j / |W_j|] / (2b |W_j| temperature).
        """
        scores = self.scores(prototypes, rows)
        nu = scores.logsumexp(dim=1) - math.log(self.num_prototypes)
        slope = 1 - (log_mean - nu).clamp_max(most).exp()
        share = (slope[:, None] * scores.softmax(dim=1)).T / len(rows)
        along = (share * scores.T).sum(dim=1, keepdim=True)
        lengths = torch.linalg.vector_norm(prototypes, dim=1, keepdim=True)
        return (share @ rows / self.temperature - along * prototypes / lengths) / lengths

    def store(self, prototypes: Tensor, squares: Tensor) -> None:
        self.prototypes.copy_(prototypes)
        self.squares.copy_(squares)
        self.calls.add_(1)

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        for name, tensor in saved.items():
            if not torch.isfinite(tensor).all() or (name != "prototypes" and (tensor < 0).any()):
                raise ValueError(
                    f"The saved {name} of the network hold NaN, infinity or a negative count: the state is damaged; "
                    "load an earlier one."
                )
