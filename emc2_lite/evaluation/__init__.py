"""How good are the features? Measures on frozen encoders."""

from emc2_lite.evaluation.neighbours import few_shot_accuracy, nearest_neighbour_accuracy

__all__ = ["few_shot_accuracy", "nearest_neighbour_accuracy"]
