"""The methods that experiments compare, by the names that their rows and records use."""

from collections.abc import Callable
from typing import Any

from emc2_lite.losses import Criterion, DCLLoss, EMC2Loss, NegativeCacheLoss, NTXentLoss, SogCLRLoss
from emc2_lite.vision import DigitViews, load_digits

Row = dict[str, Any]
Progress = Callable[[str], None]
DIM = 32


def digit_views(samples: int) -> DigitViews:
    """Views of the first so many digits of the training split."""
    images = load_digits("train").images
    if samples > len(images):
        raise ValueError(f"samples is {samples}: there are {len(images)} digits to train on.")
    return DigitViews(images[:samples])


# What a row's `method` names: makes the criterion for (samples, temperature, length of an embedding).
METHODS: dict[str, Callable[[int, float, int], Criterion]] = {
    "NT-Xent": lambda samples, temperature, dim: NTXentLoss(temperature),
    "DCL": lambda samples, temperature, dim: DCLLoss(temperature),
    "SogCLR": lambda samples, temperature, dim: SogCLRLoss(samples, temperature),
    "cache": lambda samples, temperature, dim: NegativeCacheLoss(samples, dim, temperature),
    "EMC2": lambda samples, temperature, dim: EMC2Loss(samples, temperature),
    "EMC2 multiproposal": lambda samples, temperature, dim: EMC2Loss(samples, temperature, kernel="multiproposal"),
    "EMC2 stored": lambda samples, temperature, dim: EMC2Loss(samples, temperature, state="stored"),
    "EMC2 without refresh": lambda samples, temperature, dim: EMC2Loss(samples, temperature, refresh_scores=False),
}
EXACT = "exact gradient"
_SETTINGS = (
    [("EMC2", EMC2Loss, "burn_in", share) for share in (0.0, 0.75)]
    + [("SogCLR", SogCLRLoss, "gamma", gamma) for gamma in (0.1, 0.3)]
    + [("cache", NegativeCacheLoss, "refresh", refresh) for refresh in (0.0, 0.05)]
    + [("cache", NegativeCacheLoss, "num_negatives", 4)]
)


def criterion(method: str, samples: int, temperature: float, dim: int = DIM) -> Criterion:
    """The method's criterion, new. "SogCLR, gamma=0.1" is SogCLR with that setting; the exact gradient is DCL's, which
    with the whole set as the batch is exact."""
    if method == EXACT:
        return DCLLoss(temperature)
    if method in METHODS:
        return METHODS[method](samples, temperature, dim)
    for name, make, setting, value in _SETTINGS:
        if method == f"{name}, {setting}={value:g}":
            sizes = (samples, dim) if make is NegativeCacheLoss else (samples,)
            return make(*sizes, temperature=temperature, **{setting: value})
    raise ValueError(f"There is no method {method!r}: use one of {', '.join([*VARIANTS, EXACT])}.")


VARIANTS = (*METHODS, *(f"{name}, {setting}={value:g}" for name, _, setting, value in _SETTINGS))
