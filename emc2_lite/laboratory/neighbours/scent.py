"""SCENT: the log-normaliser as a dual variable, updated by stochastic proximal mirror descent."""

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid

from emc2_lite.checks import Temperature, checked_settings
from emc2_lite.losses import Criterion, SogCLRStats
from emc2_lite.losses.criterion import Estimate, Samples
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.two_view import TwoViewBlock


class SCENTLoss(Criterion):
    """A surrogate whose normaliser is an average with a share of the new mean that each chain sets for itself.

    log E exp s = min over nu of E exp(s - nu) + nu - 1, and the minimum lies at the log-normaliser. Every (sample, view
    slot) keeps a nu_r. With s(r, k) = l(r, k) - l(r, pos) and g_r the mean over the m = 2b - 2 in-batch negatives of
    exp s(r, k), a visit takes one proximal step of size alpha in the geometry of phi(nu) = exp(-nu),

        nu_r <- argmin over nu of  exp(-nu) g_r + nu + [phi(nu) - phi(nu_r) - phi'(nu_r) (nu - nu_r)] / alpha
             =  log[(1 - gamma_r) exp(nu_r) + gamma_r g_r],      gamma_r = alpha exp(nu_r) / (1 + alpha exp(nu_r)),

    the first visit nu_r = log g_r, and then, with weights w detached,

        loss = mean over rows r of  -l(r, pos) + sum_k w(r, k) l(r, k),      w(r, k) = exp(s(r, k) - nu_r) / m.

    So it is SogCLR with a gamma that is near 1 while exp(nu_r) is far above 1 / alpha, where negatives crowd the
    positive, and small where the row is already told apart. alpha = gamma / ((1 - gamma) exp(nu_r)) gives SogCLR, and a
    large alpha DCL. As alpha tends to 0 at fixed embeddings, the mean gradient tends to the exact one, in
    exp(-nu_r) / alpha visits. The trap of a small batch: a chain whose first visits met no hard negative has a small
    nu_r, so a small gamma_r, and gives the first hard negative a weight of up to 1 / gamma_r (beyond float32 where
    alpha exp(nu_r) is under e^-88, which takes a temperature under 0.03).

    The source has one dual variable for each image and each text (its `contrastive` code); here it is one a (sample,
    view slot). Its alpha is a constant of the run, since the step is in the units of exp(-s): tune it by temperature.

    Args:
        num_samples: N, the number of samples in the dataset; the state is nu, (N, 2), one float a chain.
        temperature: > 0, dimensionless.
        log_alpha: the logarithm of the step size; 10 in the source's contrastive runs.

    Call as any `Criterion`; `view`, `encode` and `generator` are not needed.
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, and on a damaged state.
    Source: Wei et al. 2026, A geometry-aware efficient algorithm for compositional entropic risk minimization (arXiv
    2602.02877), Lemma 3.1 and Algorithm 1, and the released code.

    >>> z, criterion = torch.eye(2), SCENTLoss(num_samples=3, temperature=0.5)
    >>> criterion(z, z, index=torch.tensor([0, 2]))  # the value only carries the gradient
    tensor(-2.)
    >>> criterion.nu  # the negatives of samples 0 and 2 have s = 0 - 2; sample 1 has not come yet
    tensor([[-2., -2.],
            [-inf, -inf],
            [-2., -2.]])
    """

    state_name: ClassVar[str] = "dual variables"
    num_samples: int
    nu: Tensor

    @checked_settings
    def __init__(self, num_samples: Samples, temperature: Temperature, log_alpha: float = 10.0):
        super().__init__(temperature, num_samples)
        self.log_alpha = log_alpha
        # -inf marks a chain before its first visit: a mean of exponentials of finite scores is never 0.
        self.register_buffer("nu", torch.full((num_samples, 2), -torch.inf))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        self.admit(block)
        log_m = math.log(len(block.logits) - 2)
        softmax, log_sum = block.softmax()
        log_mean = log_sum - log_m - block.positive
        chains, duals = block.chains(), self.nu.view(-1)
        held = duals[chains].to(log_mean)
        step = held + self.log_alpha
        averaged = torch.logaddexp(held + logsigmoid(-step), log_mean + logsigmoid(step))
        nu = torch.where(held.isneginf(), log_mean, averaged)
        weights = softmax.mul_((log_mean - nu).exp_()[:, None])
        stats = SogCLRStats((nu + log_m).mean(), weights.sum(dim=1).mean())
        return Estimate(weights, stats, store=partial(duals.index_copy_, 0, chains, nu.to(duals)))

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        nu = saved.get("nu")
        if nu is not None and not (nu < torch.inf).all():
            raise ValueError(
                "The saved dual variables hold NaN or infinity: the state is damaged; load an earlier one."
            )
