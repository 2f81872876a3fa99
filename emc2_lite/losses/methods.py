"""The five estimators by the names that configurations, experiments and records use."""

import inspect
from typing import Any

from emc2_lite.losses.criterion import Criterion
from emc2_lite.losses.dcl import DCLLoss
from emc2_lite.losses.emc2 import EMC2Loss
from emc2_lite.losses.negative_cache import NegativeCacheLoss
from emc2_lite.losses.nt_xent import NTXentLoss
from emc2_lite.losses.sogclr import SogCLRLoss

METHODS: dict[str, type[Criterion]] = {
    "NT-Xent": NTXentLoss,
    "DCL": DCLLoss,
    "SogCLR": SogCLRLoss,
    "cache": NegativeCacheLoss,
    "EMC2": EMC2Loss,
}


def make_criterion(method: str, *, num_samples: int, dim: int, temperature: float, **settings: Any) -> Criterion:
    """The method's criterion, new; `settings` are its own, such as gamma of SogCLR. Sizes that it has no use for are
    left out.

    Args:
        method: a name of `METHODS`.
        num_samples, dim: N, the number of samples, and d, the length of an embedding.
        temperature: > 0, dimensionless.

    Raises:
        ValueError: on another method, a setting that it does not have, or a value that it refuses.

    >>> make_criterion("SogCLR", num_samples=100, dim=8, temperature=0.2, gamma=0.5)
    SogCLRLoss(num_samples=100, temperature=0.2, gamma=0.5)
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}: use one of {', '.join(METHODS)}.")
    accepted = inspect.signature(METHODS[method]).parameters
    sizes = {"num_samples": num_samples, "dim": dim}
    own = [name for name in accepted if name not in (*sizes, "temperature")]
    for name in settings:
        if name not in own:
            raise ValueError(f"{method} has no setting {name!r}: it has {', '.join(own) or 'none of its own'}.")
    needed = {name: size for name, size in sizes.items() if name in accepted}
    return METHODS[method](temperature=temperature, **needed, **settings)
