"""Experiments as functions that return data; plotting them is the course's business."""

from emc2_lite.laboratory.finite import exact_gradient, pull_back, view_table
from emc2_lite.laboratory.gradients import (
    GradientBias,
    GradientQuality,
    embedding_table,
    gradient_bias,
    gradient_quality,
)
from emc2_lite.laboratory.mixing import ChainMixing, chain_mixing
from emc2_lite.laboratory.profile import median_profile, step_profile
from emc2_lite.laboratory.statistics import Interval, Lead, disjoint, leads, of_seeds, over_seeds
from emc2_lite.laboratory.training import TrainingCurve, training_curve
from emc2_lite.training.price import step_price, visit_price

__all__ = ["ChainMixing", "GradientBias", "GradientQuality", "Interval", "Lead", "TrainingCurve", "chain_mixing"]
__all__ += ["disjoint", "embedding_table", "exact_gradient", "gradient_bias", "gradient_quality", "leads"]
__all__ += ["median_profile", "of_seeds", "over_seeds", "pull_back", "step_price", "step_profile", "training_curve"]
__all__ += ["view_table", "visit_price"]
