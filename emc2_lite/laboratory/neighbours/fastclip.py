"""FastCLIP's schedule: SogCLR's averages, whose share of the new mean falls by a cosine."""

import math
from typing import Annotated

import torch
from torch import Generator, Tensor

from emc2_lite.checks import Bounds, Temperature, checked_settings
from emc2_lite.losses import SogCLRLoss
from emc2_lite.losses.criterion import Estimate, Samples
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.two_view import TwoViewBlock


class FastCLIPLoss(SogCLRLoss):
    """SogCLR with a share gamma of the new mean that falls from 1 to gamma_min over the first decay_steps calls.

    Call number t = 0, 1, ... in training is SogCLR's with

        gamma_t = gamma_min + (1 - gamma_min) (1 + cos(pi t / decay_steps)) / 2,      gamma_min from t = decay_steps on.

    Early, the encoder moves fast and old means mislead: gamma = 1 is DCL. Late, it moves little and long averages pay.
    At fixed embeddings the mean gradient is SogCLR's at the present gamma, so its bias ends as SogCLR's at gamma_min.
    ``criterion.gamma`` is the share in the last call, and ``criterion.stats`` are SogCLR's.

    The source lowers gamma once an epoch, and has a normaliser of exp(l(r, k) - l(r, pos)) for each image and each
    text; here gamma falls at every call, and the normalisers are those of `SogCLRLoss`, one a (sample, view slot).

    Args:
        num_samples: N, the number of samples in the dataset; the state is log u, (N, 2), and the number of calls.
        temperature: > 0, dimensionless.
        decay_steps: calls in training until gamma is gamma_min, half of the run in the source; 0 is plain SogCLR.
        gamma_min: the last share, in (0, 1]; 0.2 in most of the source's scripts.

    Call as any `Criterion`; `view`, `encode` and `generator` are not needed.
    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, and on a damaged state.
    Source: Wei et al. 2024, FastCLIP (arXiv 2407.01445), FastCLIP-v1: formula and advice of the released code's README.

    >>> z, criterion = torch.eye(2), FastCLIPLoss(num_samples=2, temperature=0.5, decay_steps=2)
    >>> for _ in range(4):
    ...     _ = criterion(z, z, index=torch.tensor([0, 1]))
    ...     print(round(criterion.gamma, 3))
    1.0
    0.6
    0.2
    0.2
    """

    calls: Tensor

    @checked_settings
    def __init__(
        self,
        num_samples: Samples,
        temperature: Temperature,
        decay_steps: Annotated[int, Bounds(least=0)],
        gamma_min: Annotated[float, Bounds(above=0, most=1)] = 0.2,
    ):
        super().__init__(num_samples, temperature)
        self.decay_steps, self.gamma_min = decay_steps, gamma_min
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        calls = int(self.calls)
        above = (1 + math.cos(math.pi * calls / self.decay_steps)) / 2 if calls < self.decay_steps else 0
        self.gamma = self.gamma_min + (1 - self.gamma_min) * above
        estimate = super().estimate(block, encode, generator)
        return estimate._replace(store=lambda: (estimate.store(), self.calls.add_(1)))

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        super().check_saved(saved)
        calls = saved.get("calls")
        if calls is not None and calls < 0:
            raise ValueError(f"The saved number of calls is {calls}: the state is damaged; load an earlier one.")
