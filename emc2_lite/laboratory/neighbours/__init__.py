"""SogCLR's neighbours from 2024 to 2026: three other ways to carry the log-normaliser from batch to batch.

Each is a `Criterion` with an estimate of the exact gradient, as the losses of `emc2_lite.losses`. They are subjects of
experiments, and no run is configured with them: the register of methods does not list them.
"""

from emc2_lite.laboratory.neighbours.fastclip import FastCLIPLoss
from emc2_lite.laboratory.neighbours.neuclip import NeuCLIPLoss
from emc2_lite.laboratory.neighbours.scent import SCENTLoss
from emc2_lite.losses import Criterion

NEIGHBOURS: dict[str, type[Criterion]] = {"FastCLIP": FastCLIPLoss, "SCENT": SCENTLoss, "NeuCLIP": NeuCLIPLoss}

__all__ = ["NEIGHBOURS", "FastCLIPLoss", "NeuCLIPLoss", "SCENTLoss"]
