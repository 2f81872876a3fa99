"""Experiments as functions that return data; plotting them is the course's business."""

from emc2_lite.laboratory.gradients import GradientBias, embedding_table, exact_gradient, gradient_bias

__all__ = ["GradientBias", "embedding_table", "exact_gradient", "gradient_bias"]
