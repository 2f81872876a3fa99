"""The exact global contrastive loss and the five estimators of it that train from small batches.

The estimators are modules called as ``criterion(z1, z2, index, view=None, encode=None, generator=None)``; NT-Xent and
DCL need no index. The scalar they return has the estimate as its gradient; ``criterion.stats`` holds the numbers to
read.
"""

from emc2_lite.losses.criterion import Criterion, LossStats
from emc2_lite.losses.dcl import DCLLoss
from emc2_lite.losses.emc2 import EMC2Loss, EMC2Stats
from emc2_lite.losses.global_loss import global_contrastive_loss
from emc2_lite.losses.methods import LOSSES, METHODS, Method, make_criterion
from emc2_lite.losses.negative_cache import NegativeCacheLoss, NegativeCacheStats
from emc2_lite.losses.nt_xent import NTXentLoss
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.sogclr import SogCLRLoss, SogCLRStats
from emc2_lite.losses.two_view import random_proposals

__all__ = ["LOSSES", "METHODS", "Criterion", "DCLLoss", "EMC2Loss", "EMC2Stats", "LossStats", "Method", "NTXentLoss"]
__all__ += ["NegativeCacheLoss", "NegativeCacheStats", "SogCLRLoss", "SogCLRStats", "global_contrastive_loss"]
__all__ += ["make_criterion", "random_proposals"]
__all__ += ["Parallel"]
