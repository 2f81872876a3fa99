"""DCL, decoupled contrastive learning: NT-Xent without the positive in its denominator."""

import torch

from emc2_lite.checks import Temperature, checked_settings
from emc2_lite.losses.criterion import Criterion, Estimate, LossStats
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock


class DCLLoss(Criterion):
    """The global contrastive loss of the batch, as if the batch were the dataset.

    loss = mean over rows r of  -l(r, pos) + log sum over k in neg(r) of exp l(r, k),

    with l(r, k) = <z_r, z_k> / temperature and neg(r) the m = 2b - 2 rows of the other samples. The positive pulls with
    weight 1 and the negatives push with weights that sum to 1. In expectation over batches the weights are

        E w(r, k) = p_r(k) E[ u*_r / u_r | k in the batch ],

    u*_r the mean of exp l(r, .) over all of neg(r) and u_r its mean over the batch's. A hard negative raises the u_r of
    its own batch: on the whole, the hardest get too little and the easy ones too much. No state.

    Args:
        temperature: > 0, dimensionless.
        two_towers: whether z1 and z2 are of two encoders, see `Criterion`.
        parallel: this process's place among several.

    Call as any `Criterion`; only z1 and z2 are needed. Returns a scalar in nats, the value above.
    Raises: ValueError: on bad temperature, shapes, dtypes, embeddings or indices.
    Source: Yeh et al. 2022, Decoupled contrastive learning, equation 5 (without its weighting of positives).

    Chapter 02 builds it.

    >>> z = torch.eye(2)  # two samples at a right angle, and both views of each alike: l is 2 and 0
    >>> DCLLoss(temperature=0.5)(z, z)  # -2 + log(1 + 1)
    tensor(-1.3069)
    """

    @checked_settings
    def __init__(self, temperature: Temperature, two_towers: bool = False, parallel: Parallel | None = None):
        super().__init__(temperature, two_towers=two_towers, parallel=parallel)

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        self.admit(block)
        softmax, log_sum = block.softmax()
        loss = (log_sum - block.positive).mean()
        return Estimate(softmax, LossStats(loss), loss=loss)
