"""The register of methods: each estimator by name, with its settings and its look in figures."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from emc2_lite.losses.criterion import Criterion
from emc2_lite.losses.dcl import DCLLoss
from emc2_lite.losses.emc2 import EMC2Loss
from emc2_lite.losses.negative_cache import NegativeCacheLoss
from emc2_lite.losses.nt_xent import NTXentLoss
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.sogclr import SogCLRLoss


class Method(NamedTuple):
    """A loss with settings and its look in every figure, in plotly's terms."""

    loss: type[Criterion]
    colour: str
    dash: str
    marker: str
    settings: Mapping[str, Any] = MappingProxyType({})  # what differs from the defaults of the class


# Colours of Okabe and Ito 2008 that reach a contrast of 3:1 on white and on JupyterLab's dark theme, and grey.
_SOGCLR = Method(SogCLRLoss, "#D55E00", "dot", "diamond")
_CACHE = Method(NegativeCacheLoss, "#009E73", "dashdot", "triangle-up")
_EMC2 = Method(EMC2Loss, "#0072B2", "solid", "cross")
_REMEMBERED = _EMC2._replace(dash="dash", marker="star", settings={"held": "remembered", "reencode": 0.5})

METHODS: dict[str, Method] = {
    "NT-Xent": Method(NTXentLoss, "#797979", "solid", "circle"),
    "DCL": Method(DCLLoss, "#CC79A7", "dash", "square"),
    "SogCLR": _SOGCLR,
    "cache": _CACHE,
    "EMC2": _EMC2,
    "EMC2 multiproposal": _EMC2._replace(dash="longdash", marker="x", settings={"kernel": "multiproposal"}),
    "EMC2 multiproposal remembered": _REMEMBERED._replace(
        dash="longdashdot", marker="star-open", settings={**_REMEMBERED.settings, "kernel": "multiproposal"}
    ),
    "EMC2 remembered": _REMEMBERED,
    "EMC2 remembered, reencode=0": _REMEMBERED._replace(settings={"held": "remembered", "reencode": 0.0}),
    "EMC2 remembered, reencode=1": _REMEMBERED._replace(settings={"held": "remembered"}),
    "EMC2 stale": _EMC2._replace(dash="dashdot", marker="circle-open", settings={"held": "stale"}),
    "EMC2 dropped": _EMC2._replace(dash="dot", marker="square-open", settings={"held": "dropped"}),
    "EMC2, burn_in=0": _EMC2._replace(settings={"burn_in": 0.0}),
    "EMC2, burn_in=0.75": _EMC2._replace(settings={"burn_in": 0.75}),
    "SogCLR, gamma=0.1": _SOGCLR._replace(settings={"gamma": 0.1}),
    "SogCLR, gamma=0.3": _SOGCLR._replace(settings={"gamma": 0.3}),
    "cache, refresh=0": _CACHE._replace(settings={"refresh": 0.0}),
    "cache, refresh=0.05": _CACHE._replace(settings={"refresh": 0.05}),
    "cache, num_negatives=4": _CACHE._replace(settings={"num_negatives": 4}),
}
LOSSES = {name: method.loss for name, method in METHODS.items() if not method.settings}


def make_criterion(
    method: str,
    *,
    num_samples: int,
    dim: int,
    temperature: float,
    parallel: Parallel | None = None,
    **settings: Any,
) -> Criterion:
    """A new criterion of a method. A loss that needs no `num_samples` or `dim` is made without them.

    Args:
        method: a name of `METHODS`.
        num_samples, dim: N, the number of samples, and d, the length of an embedding.
        temperature: > 0, dimensionless.
        parallel: this process's place among several.
        settings: the loss's own, such as gamma of SogCLR; they override the method's.

    Raises: ValueError: on an unknown method, an unknown setting, or a value that the loss refuses.

    >>> make_criterion("SogCLR", num_samples=100, dim=8, temperature=0.2, gamma=0.5)
    SogCLRLoss(num_samples=100, temperature=0.2, gamma=0.5)
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}: use one of {', '.join(METHODS)}.")
    loss = METHODS[method].loss
    accepted = inspect.signature(loss).parameters
    sizes: dict[str, Any] = {"num_samples": num_samples, "dim": dim, "parallel": parallel}
    own = [name for name in accepted if name not in (*sizes, "temperature")]
    for name in settings:
        if name not in own:
            raise ValueError(f"{method} has no setting {name!r}: it has {', '.join(own) or 'none of its own'}.")
    needed = {name: size for name, size in sizes.items() if name in accepted}
    return loss(temperature=temperature, **needed, **{**METHODS[method].settings, **settings})
