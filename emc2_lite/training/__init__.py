"""Training an encoder with any of the estimators."""

from emc2_lite.training.loop import train

__all__ = ["train"]
