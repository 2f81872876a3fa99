"""The methods that experiments compare, by the names that their rows and records use."""

from collections.abc import Callable
from typing import Any

from emc2_lite.losses import METHODS, Criterion, DCLLoss, make_criterion
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


# What a row's `method` names: the library's method, and its settings where they are not the defaults.
VARIANTS: dict[str, tuple[str, Row]] = {
    **{method: (method, {}) for method in METHODS},
    "EMC2 multiproposal": ("EMC2", {"kernel": "multiproposal"}),
    "EMC2 stored": ("EMC2", {"state": "stored"}),
    "EMC2 without refresh": ("EMC2", {"refresh_scores": False}),
    **{
        f"{method}, {setting}={value:g}": (method, {setting: value})
        for method, setting, values in (
            ("EMC2", "burn_in", (0.0, 0.75)),
            ("SogCLR", "gamma", (0.1, 0.3)),
            ("cache", "refresh", (0.0, 0.05)),
            ("cache", "num_negatives", (4,)),
        )
        for value in values
    },
}
EXACT = "exact gradient"


def criterion(method: str, samples: int, temperature: float, dim: int = DIM) -> Criterion:
    """The variant's criterion, new; the exact gradient is DCL's, which with the whole set as the batch is exact."""
    if method == EXACT:
        return DCLLoss(temperature)
    if method not in VARIANTS:
        raise ValueError(f"There is no method {method!r}: use one of {', '.join([*VARIANTS, EXACT])}.")
    name, settings = VARIANTS[method]
    return make_criterion(name, num_samples=samples, dim=dim, temperature=temperature, **settings)
