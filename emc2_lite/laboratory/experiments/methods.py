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


EXACT = "exact gradient"
Methods = Annotated[Sequence[Literal[*METHODS]], Distinct()]
MethodsOrExact = Annotated[Sequence[Literal[*METHODS, EXACT]], Distinct()]


@checked_settings
def criterion(method: Literal[*METHODS, EXACT], samples: int, temperature: Temperature, dim: int = DIM) -> Criterion:
    """The variant's criterion, new; the exact gradient is DCL's, which with the whole set as the batch is exact."""
    if method == EXACT:
        return DCLLoss(temperature)
    return make_criterion(method, num_samples=samples, dim=dim, temperature=temperature)
