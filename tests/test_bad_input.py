"""Bad input is refused in one clear sentence: what came, what was expected, what to do."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from trials import LOSSES

from emc2_lite.evaluation import few_shot_accuracy
from emc2_lite.laboratory import embedding_table, gradient_bias
from emc2_lite.losses import EMC2Loss, NTXentLoss, global_contrastive_loss
from emc2_lite.sampling import (
    effective_sample_size,
    gumbel_max,
    metropolis_hastings,
    multiproposal,
    spectral_gap,
    total_variation,
    transition_matrix,
)
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

TABLE = embedding_table(num_samples=10, dim=4)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
def test_temperature_must_be_positive_and_finite(make, temperature):
    for use in (lambda t: make(10, 4, t), lambda t: global_contrastive_loss(TABLE, t)):
        with pytest.raises(ValueError, match=f"temperature is {temperature}: it must be a number above 0"):
            use(temperature)


@pytest.mark.parametrize("temperature", ["0.2", None, torch.tensor(0.2)])
def test_temperature_must_be_a_number(temperature):
    with pytest.raises(ValueError, match="it must be a number above 0"):
        NTXentLoss(temperature)


SCORES = torch.zeros(2, 3)
CALLS = {
    "log_scores": [
        lambda scores: metropolis_hastings(scores, torch.zeros(2)),
        lambda scores: multiproposal(scores, torch.zeros(2)),
        gumbel_max,
        transition_matrix,
        spectral_gap,
    ],
    "initial_log_score": [
        lambda initial: metropolis_hastings(SCORES, initial),
        lambda initial: multiproposal(SCORES, initial),
    ],
    "uniforms": [
        lambda uniforms: metropolis_hastings(SCORES, torch.zeros(2), uniforms=uniforms),
        lambda uniforms: multiproposal(SCORES, torch.zeros(2), uniforms=uniforms),
        lambda uniforms: gumbel_max(SCORES, uniforms=uniforms),
    ],
    "p": [lambda p: total_variation(p, torch.ones(1))],
    "q": [lambda q: total_variation(torch.ones(1), q)],
    "chain": [effective_sample_size],
    "embeddings": [lambda embeddings: global_contrastive_loss(embeddings, 0.2)],
}


@pytest.mark.parametrize("value", [[0.5, 0.5], np.full((2, 3), 0.5), None], ids=["a list", "an array", "None"])
@pytest.mark.parametrize("name", CALLS)
def test_a_value_that_is_no_tensor_is_refused_with_its_name(name, value):
    for call in CALLS[name]:
        if value is None and name == "uniforms":
            continue
        with pytest.raises(ValueError, match=f"^{name} is a {type(value).__name__}: pass a torch.Tensor.$"):
            call(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda generator: metropolis_hastings(SCORES, torch.zeros(2), generator=generator),
        lambda generator: multiproposal(SCORES, torch.zeros(2), generator=generator),
        lambda generator: gumbel_max(SCORES, generator=generator),
    ],
)
def test_a_value_that_is_no_generator_is_refused(call):
    with pytest.raises(ValueError, match=r"^generator is a int: pass a torch.Generator, or None for torch's default.$"):
        call(0)


DIGITS = DigitViews(load_digits("test").images)
ONE = torch.tensor([1])


def with_projector(weight):
    """An encoder whose projector has this value in every weight."""
    encoder = DigitEncoder()
    with torch.no_grad():
        for parameter in encoder.projector.parameters():
            parameter.fill_(weight)
    return encoder


REFUSALS = {
    "embeddings has shape (10, 4): pass (N, V, d)": lambda: global_contrastive_loss(TABLE[:, 0], 0.2),
    "embeddings has shape (10, 1, 4): pass (N, V, d) with N >= 2": lambda: global_contrastive_loss(TABLE[:, :1], 0.2),
    "embeddings is not normalised": lambda: global_contrastive_loss(1.1 * TABLE, 0.2),
    "chunk_size is 0: it must be a whole number of 1 or more": lambda: global_contrastive_loss(
        TABLE, 0.2, chunk_size=0
    ),
    "log_scores has shape (3,): pass 2 dimensions": lambda: metropolis_hastings(SCORES[0], SCORES[0]),
    "initial_log_score has shape (3,), but log_scores has 2 rows": lambda: metropolis_hastings(SCORES, SCORES[0]),
    "initial_log_score holds NaN": lambda: metropolis_hastings(SCORES, torch.full((2,), math.nan)),
    "initial_log_score holds NaN or +inf": lambda: metropolis_hastings(SCORES, torch.full((2,), math.inf)),
    "Both uniforms and generator were given: pass one of them": lambda: gumbel_max(
        SCORES, uniforms=SCORES, generator=torch.Generator()
    ),
    "log_scores holds NaN or +inf": lambda: metropolis_hastings(SCORES + math.nan, torch.zeros(2)),
    "log_scores is torch.float16: pass float32 or float64": lambda: gumbel_max(SCORES.half()),
    "backend is 'cuda'": lambda: metropolis_hastings(SCORES, torch.zeros(2), backend="cuda"),
    "uniforms has shape (3,)": lambda: metropolis_hastings(SCORES, torch.zeros(2), uniforms=torch.rand(3)),
    "uniforms holds numbers outside [0, 1)": lambda: gumbel_max(SCORES, uniforms=SCORES + 1),
    "A row of log_scores is -inf throughout": lambda: gumbel_max(SCORES - math.inf),
    "log_scores has shape (2, 1, 3): pass 2 dimensions": lambda: multiproposal(SCORES[:, None], torch.zeros(2)),
    "log_scores is torch.bfloat16": lambda: multiproposal(SCORES.bfloat16(), torch.zeros(2)),
    "initial_log_score has shape (2, 1), but": lambda: multiproposal(SCORES, SCORES[:, :1]),
    "initial_log_score holds NaN or": lambda: multiproposal(SCORES, torch.tensor([0, math.nan])),
    "A row of log_scores and its initial_log_score are -inf": lambda: multiproposal(
        SCORES - math.inf, torch.tensor([0, -math.inf])
    ),
    "uniforms has shape (2, 3), but log_scores (2, 4): pass one a score": lambda: multiproposal(
        SCORES, torch.zeros(2), uniforms=SCORES
    ),
    "log_scores holds -inf: leave states of probability 0 out": lambda: transition_matrix(SCORES - math.inf),
    "q is not a probability vector": lambda: total_variation(torch.ones(1), torch.tensor([0.5])),
    "their last dimensions must agree": lambda: total_variation(torch.ones(1), torch.ones(2) / 2),
    "The chain has 3 steps: pass at least 4": lambda: effective_sample_size(SCORES),
    'split is \'validation\': use "all", "train" or "test"': lambda: load_digits("validation"),
    "images is torch.float32 of shape (8, 8): pass floating-point (N, 1, H, W)": lambda: DigitViews(
        DIGITS.images[0, 0]
    ),
    "in a set of 360 images: indices must be from 0 to 359": lambda: DIGITS(ONE + 359, ONE),
    "view numbers 0 or more": lambda: DIGITS(ONE, ONE - 2),
    "index has shape (0,) and view (0,): pass two of the same (k,), k >= 1": lambda: DIGITS(ONE[:0], ONE[:0]),
    "index is torch.int32 and view torch.int64: pass torch.int64": lambda: DIGITS(ONE.int(), ONE),
    "batch_size is 1: it must be from 2 to the number of images, 360": lambda: train(
        DigitEncoder(), DIGITS, NTXentLoss(0.2), steps=1, batch_size=1
    ),
    "The loss was made for 340 samples, but there are 360 images": lambda: train(
        DigitEncoder(), DIGITS, EMC2Loss(340, 0.2), steps=1, batch_size=4
    ),
    "z1 holds vectors of length 0 (4 of 4): the encoder's output there is all zeros, as when it has died or "
    "collapsed; go back to an earlier state of it and lower the learning rate, warm up for longer or clip": lambda: (
        train(with_projector(0), DIGITS, NTXentLoss(0.2), steps=1, batch_size=4)
    ),
    "z1 holds NaN or infinite values: an image is broken, or the encoder has diverged; if so, go back to an earlier "
    "state of it and lower the learning rate": lambda: train(
        with_projector(math.nan), DIGITS, NTXentLoss(0.2), steps=1, batch_size=4
    ),
    "images holds numbers outside [0, 1]": lambda: DigitViews(16 * DIGITS.images),
    "There are 2 labels for 4 features": lambda: few_shot_accuracy(
        torch.eye(4), torch.arange(2), torch.eye(4), torch.arange(4)
    ),
    "batch_size is 100: it must be from 2 to the number of samples, 10": lambda: gradient_bias(
        NTXentLoss(0.2), TABLE, batch_size=100, checkpoints=[20]
    ),
    "table has shape (10, 4): pass (N, 2, d)": lambda: gradient_bias(
        NTXentLoss(0.2), TABLE[:, 0], batch_size=2, checkpoints=[20]
    ),
    "checkpoints is [30]: pass increasing multiples of 20": lambda: gradient_bias(
        NTXentLoss(0.2), TABLE, batch_size=2, checkpoints=[30]
    ),
    "shots is 3: the smallest class has 2 points": lambda: few_shot_accuracy(
        F.one_hot(torch.arange(4) // 2), torch.arange(4) // 2, torch.eye(2), torch.arange(2), shots=3
    ),
}


@pytest.mark.parametrize(("sentence", "call"), REFUSALS.items(), ids=REFUSALS)
def test_bad_input_is_refused_in_one_sentence(sentence, call):
    with pytest.raises(ValueError) as refusal:
        call()
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
