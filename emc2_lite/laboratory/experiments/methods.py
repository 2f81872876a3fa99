"""The methods that experiments compare, by the names that their rows and records use."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from emc2_lite.checks import Bounds, Distinct, Temperature, checked_settings
from emc2_lite.laboratory.gradients import BatchSize
from emc2_lite.losses import METHODS, Criterion, DCLLoss, make_criterion
from emc2_lite.vision import DigitViews, load_digits

Row = dict[str, Any]
Progress = Callable[[str], None]
DIM = 32
DIGITS = 1437  # in the training split
Digits = Annotated[int, Bounds(least=2, most=DIGITS)]
BatchSizes = Annotated[Sequence[BatchSize], Distinct()]
Temperatures = Annotated[Sequence[Temperature], Distinct()]


@checked_settings
def digit_views(samples: Digits) -> DigitViews:
    """Views of the first so many digits of the training split."""
    return DigitViews(load_digits("train").images[:samples])


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
Methods = Annotated[Sequence[Literal[*VARIANTS]], Distinct()]
MethodsOrExact = Annotated[Sequence[Literal[*VARIANTS, EXACT]], Distinct()]


@checked_settings
def criterion(method: Literal[*VARIANTS, EXACT], samples: int, temperature: Temperature, dim: int = DIM) -> Criterion:
    """The variant's criterion, new; the exact gradient is DCL's, which with the whole set as the batch is exact."""
    if method == EXACT:
        return DCLLoss(temperature)
    name, settings = VARIANTS[method]
    return make_criterion(name, num_samples=samples, dim=dim, temperature=temperature, **settings)
