"""Bad input gets one clear sentence: what came, what was expected, what to do. Nothing is lost by it."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from emc2_lite.evaluation import few_shot_accuracy
from emc2_lite.laboratory import embedding_table, gradient_bias
from emc2_lite.losses import EMC2Loss, NTXentLoss, global_contrastive_loss
from emc2_lite.sampling import (
    effective_sample_size,
    gumbel_max,
    metropolis_hastings,
    total_variation,
    transition_matrix,
)
from emc2_lite.training import train
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

TABLE = embedding_table(num_samples=10, dim=4)
INDEX = torch.tensor([3, 1, 7])
VIEW = torch.tensor([[0, 0, 0], [1, 1, 1]])


def batch(**changes):
    z1, z2 = TABLE[INDEX].unbind(1)
    return {"z1": z1, "z2": z2, "index": INDEX, "view": VIEW, "encode": lambda i, v: TABLE[i, v]} | changes


def emc2():
    criterion = EMC2Loss(num_samples=10, temperature=0.2)
    criterion(**batch())
    return criterion


def nan_at_one_place(z):
    z = z.clone()
    z[0, 0] = math.nan
    return z


BAD_BATCHES = {
    "z1 has shape (3, 4) and z2 (2, 4): both must be the same (b, d)": {"z2": TABLE[:2, 0]},
    "z1 has shape (3, 1, 4) and z2 (3, 1, 4)": {"z1": TABLE[INDEX][:, :1], "z2": TABLE[INDEX][:, 1:]},
    "z1 is a list: pass a torch.Tensor": {"z1": [[1.0, 0.0]]},
    "index is a ndarray: pass a torch.Tensor": {"index": INDEX.numpy()},
    "The batch holds 1 sample: at least 2 are needed": {
        "z1": TABLE[:1, 0],
        "z2": TABLE[:1, 1],
        "index": INDEX[:1],
        "view": VIEW[:, :1],
    },
    "z2 is not normalised (lengths from 2 to 2): pass vectors of length 1": {"z2": 2 * TABLE[INDEX, 1]},
    "z1 holds NaN or infinite values": {"z1": nan_at_one_place(TABLE[INDEX, 0])},
    "z2 is not normalised (lengths from 0 to 0)": {"z2": 0 * TABLE[INDEX, 1]},
    "z1 is torch.int64: pass floating-point embeddings": {"z1": torch.ones(3, 4).long()},
    "index holds 3 more than once: each sample may come once a batch": {"index": torch.tensor([3, 1, 3])},
    "index holds -1: dataset indices must be": {"index": torch.tensor([3, -1, 7])},
    "index is torch.int32 of shape (3,) on cpu: pass torch.int64 of shape (3,)": {"index": INDEX.int()},
    "index is torch.int64 of shape (2,)": {"index": INDEX[:2]},
    "view is torch.int64 of shape (3, 2) on cpu: pass torch.int64 of shape (2, 3)": {"view": VIEW.T},
    "view holds -1: view numbers start at 0": {"view": VIEW - 1},
    "view holds 0 twice for sample 3: the two views of a sample must differ": {"view": 0 * VIEW},
}


@pytest.mark.parametrize("make", [emc2, lambda: NTXentLoss(0.2)], ids=["EMC2", "NT-Xent"])
@pytest.mark.parametrize(("sentence", "changes"), BAD_BATCHES.items(), ids=BAD_BATCHES)
def test_a_bad_batch_is_refused_in_one_sentence(make, sentence, changes):
    with pytest.raises(ValueError) as refusal:
        make()(**batch(**changes))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


BAD_FOR_EMC2 = BAD_BATCHES | {
    "index holds 10: dataset indices must be from 0 to 9 (num_samples = 10)": {"index": torch.tensor([3, 10, 7])},
    'EMC2Loss(state="reencoded") was called without encode: pass encode(index, view)': {"encode": None},
    "it must return one embedding a view": {"encode": lambda i, v: TABLE[i, v][:, :2]},
    "What encode returned is a NoneType: pass a torch.Tensor": {"encode": lambda i, v: None},
    "What encode returned is not normalised": {"encode": lambda i, v: 3 * TABLE[i, v]},
    "What encode returned holds NaN": {"encode": lambda i, v: math.nan * TABLE[i, v]},
}


@pytest.mark.parametrize(("sentence", "changes"), BAD_FOR_EMC2.items(), ids=BAD_FOR_EMC2)
def test_a_refused_batch_leaves_the_chains_as_they_were(sentence, changes):
    criterion = emc2()
    for column, held in enumerate((0, 9)):  # states outside the batch, so that encode is asked
        criterion.chain_index[:, column] = held
    before, stats = copy.deepcopy(criterion.state_dict()), criterion.stats
    with pytest.raises(ValueError) as refusal:
        criterion(**batch(**changes))
    assert sentence in str(refusal.value)
    assert all(torch.equal(before[name], now) for name, now in criterion.state_dict().items())
    assert criterion.stats is stats


def test_a_call_refused_after_sampling_leaves_the_chains_as_they_were():
    """Slot 0 is held fast and asks for an encoding with gradient, at the end; slot 1 is new and would have moved."""
    criterion = EMC2Loss(num_samples=10, temperature=0.2, refresh_scores=False)
    criterion.chain_index[:, 0], criterion.chain_score[:, 0] = 9, 1000
    before = copy.deepcopy(criterion.state_dict())
    with pytest.raises(ValueError, match="What encode returned holds NaN"):
        criterion(**batch(encode=lambda i, v: math.nan * TABLE[i, v]))
    assert all(torch.equal(before[name], now) for name, now in criterion.state_dict().items())
    assert criterion.stats is None


def test_an_encoding_without_gradient_is_refused_where_it_counts():
    criterion = EMC2Loss(num_samples=10, temperature=0.2, refresh_scores=False)
    criterion.chain_index[:], criterion.chain_score[:] = 9, 1000
    table = TABLE.clone().requires_grad_()
    z1, z2 = table[INDEX].unbind(1)
    with pytest.raises(ValueError, match="encode returned embeddings without gradient"):
        criterion(**batch(z1=z1, z2=z2, encode=lambda i, v: TABLE[i, v]))
    with torch.no_grad():
        criterion(**batch(z1=z1, z2=z2, encode=lambda i, v: TABLE[i, v]))


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize(
    "use", [NTXentLoss, lambda t: EMC2Loss(10, t), lambda t: global_contrastive_loss(TABLE, t)], ids=["a", "b", "c"]
)
def test_temperature_must_be_positive_and_finite(use, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}: it must be a positive, finite number"):
        use(temperature)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"burn_in": 1.0}, "burn_in is 1.0: it is a share of steps and must be in"),
        ({"burn_in": -0.1}, "burn_in is -0.1"),
        ({"burn_in": math.nan}, "burn_in is nan"),
        ({"state": "cached"}, 'state is \'cached\': use "reencoded" or "stored"'),
        ({"num_samples": 1}, "num_samples is 1: at least 2 samples are needed"),
    ],
)
def test_bad_settings_of_emc2_are_refused(settings, sentence):
    with pytest.raises(ValueError) as refusal:
        EMC2Loss(**({"num_samples": 10, "temperature": 0.2} | settings))
    assert sentence in str(refusal.value)


def test_chains_of_another_dataset_are_refused_before_anything_is_loaded():
    criterion, other = emc2(), EMC2Loss(num_samples=11, temperature=0.2)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=r"have shape \(10, 2\), but this loss was made for 11 samples"):
        other.load_state_dict(criterion.state_dict())
    assert all(torch.equal(before[name], now) for name, now in other.state_dict().items())


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            {"chain_index": torch.full((10, 2), 10)},
            "The saved chains hold samples 10 to 10 of 10",
        ),
        ({"chain_view": torch.zeros(10, 1)}, "The saved chains have shape (10, 1)"),
        ({"chain_score": torch.zeros(())}, "The saved chains have shape ()"),
    ],
)
def test_damaged_chains_are_refused_before_anything_is_loaded(damage, sentence):
    criterion = emc2()
    before = copy.deepcopy(criterion.state_dict())
    with pytest.raises(ValueError) as refusal:
        criterion.load_state_dict(criterion.state_dict() | damage)
    assert sentence in str(refusal.value)
    assert all(torch.equal(before[name], now) for name, now in criterion.state_dict().items())


@pytest.mark.parametrize("temperature", ["0.2", None, torch.tensor(0.2)])
def test_temperature_must_be_a_number(temperature):
    with pytest.raises(ValueError, match="it must be a positive, finite number"):
        NTXentLoss(temperature)


DIGITS = DigitViews(load_digits("test").images)
SCORES = torch.zeros(2, 3)
ONE = torch.tensor([1])
REFUSALS = {
    "embeddings has shape (10, 4): pass (N, V, d)": lambda: global_contrastive_loss(TABLE[:, 0], 0.2),
    "embeddings has shape (10, 1, 4): pass (N, V, d) with N >= 2": lambda: global_contrastive_loss(TABLE[:, :1], 0.2),
    "embeddings is not normalised": lambda: global_contrastive_loss(1.1 * TABLE, 0.2),
    "chunk_size is 0: it must be at least 1 row": lambda: global_contrastive_loss(TABLE, 0.2, chunk_size=0),
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
