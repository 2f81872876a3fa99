"""A user's script, for the type checker: nothing that the public names give back is of an unknown type."""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

from emc2_lite.evaluation import Interval, features_of, knn_accuracy
from emc2_lite.laboratory import GradientBias, embedding_table, gradient_bias
from emc2_lite.losses import Criterion, EMC2Loss, NTXentLoss, global_contrastive_loss, make_criterion
from emc2_lite.sampling import ChainRun, metropolis_hastings, spectral_gap
from emc2_lite.training import Config, changed, read_config, train
from emc2_lite.vision import DigitEncoder, DigitViews, LabelledImages, load_digits

digits = assert_type(load_digits("train"), LabelledImages)
views = DigitViews(digits.images)
encoder = DigitEncoder(dim=16)
criterion: Criterion = EMC2Loss(num_samples=len(views), temperature=0.2, burn_in=0.5)
train(encoder, views, criterion, steps=10, batch_size=8, seed=1)
assert_type(features_of(encoder, views), Tensor)
assert_type(knn_accuracy(digits.images.flatten(1), digits.labels, digits.images.flatten(1), digits.labels), Interval)
table = assert_type(embedding_table(64, 2, 8), Tensor)
assert_type(global_contrastive_loss(table, 0.2, chunk_size=128), Tensor)
assert_type(NTXentLoss(0.2)(table[:4, 0], table[:4, 1], torch.arange(4)), Tensor)
assert_type(gradient_bias(NTXentLoss(0.2), table, batch_size=4, checkpoints=[20, 40]), GradientBias)
assert_type(metropolis_hastings(table[0], torch.zeros(2)), ChainRun)
assert_type(spectral_gap(table[0]), Tensor)
assert_type(make_criterion("DCL", num_samples=64, dim=8, temperature=0.2), Criterion)
config = assert_type(changed(read_config(Path("digits")), **{"training.epochs": 1}), Config)
