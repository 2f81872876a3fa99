"""Configured runs from start to finish: find the images, train, evaluate, write the record."""

from emc2_lite.runs.evaluate import EVALUATION, evaluate_run
from emc2_lite.runs.export import export_encoder, exported_encoder, shipped_encoder
from emc2_lite.runs.images import device_name, load_views, pick_device, settings_of
from emc2_lite.runs.train import LOCK, RECORD, length_in_words, neighbour_monitor, train_run

__all__ = ["EVALUATION", "LOCK", "RECORD", "device_name", "evaluate_run", "export_encoder", "exported_encoder"]
__all__ += ["length_in_words", "load_views", "neighbour_monitor", "pick_device", "settings_of"]
__all__ += ["shipped_encoder", "train_run"]
