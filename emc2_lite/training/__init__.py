"""Training an encoder with any of the estimators."""

from emc2_lite.training.checkpoints import contents_of, load_checkpoint, save_checkpoint
from emc2_lite.training.config import Config
from emc2_lite.training.configuring import changed, from_dict, read_config, shipped_configs
from emc2_lite.training.fitting import BEST, LAST, METRICS, fit
from emc2_lite.training.loop import EpochSampler, TrainingStep, train, views_of_epoch
from emc2_lite.training.metrics import read_metrics
from emc2_lite.training.optimisers import LARS, make_optimiser, warmup_cosine
from emc2_lite.training.plan import Plan, plan
from emc2_lite.training.run import Run, make_encoder

__all__ = ["BEST", "LARS", "LAST", "METRICS", "Config", "EpochSampler", "Plan", "Run", "TrainingStep", "changed"]
__all__ += ["contents_of", "fit", "from_dict", "load_checkpoint", "make_encoder", "make_optimiser", "plan"]
__all__ += ["read_config", "read_metrics", "save_checkpoint", "shipped_configs", "train", "views_of_epoch"]
__all__ += ["warmup_cosine"]
