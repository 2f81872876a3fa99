"""How good are the features? Probes and neighbours on frozen encoders, and the supervised baseline beside them."""

from emc2_lite.evaluation.encoders import features_of, supervised_accuracy
from emc2_lite.evaluation.intervals import Interval, wilson
from emc2_lite.evaluation.neighbours import (
    few_shot_accuracy,
    knn_accuracy,
    nearest_neighbour_accuracy,
    nearest_neighbours,
)
from emc2_lite.evaluation.probe import ProbeResult, label_efficiency, linear_probe, validation_split

__all__ = ["Interval", "ProbeResult", "features_of", "label_efficiency", "linear_probe", "supervised_accuracy"]
__all__ += ["few_shot_accuracy", "knn_accuracy", "nearest_neighbour_accuracy", "nearest_neighbours"]
__all__ += ["validation_split", "wilson"]
