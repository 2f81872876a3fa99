"""NT-Xent, the loss of SimCLR: the softmax over the batch stands in for the softmax over the dataset."""

import torch
from torch.nn import functional as F

from emc2_lite.checks import Temperature, checked_settings
from emc2_lite.losses.criterion import Criterion, Estimate, LossStats
from emc2_lite.losses.encoding import Encode
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock


class NTXentLoss(Criterion):
    """Normalised temperature-scaled cross entropy over the 2b rows of a batch.

    loss = mean over rows r of  -l(r, pos) + log( exp l(r, pos) + sum over k in neg(r) of exp l(r, k) ),

    with l(r, k) = <z_r, z_k> / temperature and neg(r) the m = 2b - 2 rows of the other samples. Its gradient is a
    biased estimate of the global one, the more so the smaller the batch and the temperature: with g(r) the mean of
    exp l(r, k) over all of neg(r), the expected weight of a negative is

        E w(r, k) = p_r(k) E[ m g(r) / (exp l(r, pos) + sum over the batch's neg(r) of exp l(r, .)) | k in the batch ],

    and the pull of the positive is the expected sum of these weights. No state.

    Args:
        temperature: > 0, dimensionless.
        two_towers: whether z1 and z2 are of two encoders, see `Criterion`.
        parallel: this process's place among several.

    Call as any `Criterion`; only z1 and z2 are needed. Returns a scalar in nats, the value above.
    Raises: ValueError: on bad temperature, shapes, dtypes, embeddings or indices.
    Source: Chen et al. 2020, A simple framework for contrastive learning of visual representations, equation 1.

    Chapter 01 builds it.

    >>> z = torch.eye(2)  # two samples at a right angle, and both views of each alike: l is 2 and 0
    >>> NTXentLoss(temperature=0.5)(z, z)  # -2 + log(e^2 + 1 + 1)
    tensor(0.2395)
    """

    @checked_settings
    def __init__(self, temperature: Temperature, two_towers: bool = False, parallel: Parallel | None = None):
        super().__init__(temperature, two_towers=two_towers, parallel=parallel)

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        self.admit(block)
        softmax, log_sum = block.softmax()
        against = log_sum - block.positive
        # 1 minus the positive's share, as a sigmoid: the difference itself would leave rounding for a share near 1.
        pull = against.sigmoid()
        loss = -F.logsigmoid(-against).mean()
        return Estimate(softmax.mul_(pull[:, None]), LossStats(loss), pull, loss=loss)
