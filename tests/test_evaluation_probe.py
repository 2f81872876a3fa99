"""The linear probe: its optimum, its choice of a penalty without the test set, and the paper's protocol in steps."""

import copy

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn
from torch.nn import functional as F

from emc2_lite.evaluation import linear_probe, validation_split, wilson
from emc2_lite.evaluation import probe as probe_module
from emc2_lite.evaluation.probe import logits, softmax_regression, standardised


def clouds(count, seed=0, classes=4, dim=6, apart=1.0):
    """Overlapping normal clouds round fixed centres, the classes in a random order."""
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    labels = torch.randperm(count, generator=generator) % classes
    return centres[labels] + torch.randn(count, dim, generator=generator), labels


TRAIN, TEST = clouds(200), clouds(100, seed=1)


def fitted(l2):
    return softmax_regression(TRAIN[0].double(), TRAIN[1], l2, torch.zeros(7, 4, dtype=torch.float64))


@pytest.mark.parametrize("l2", [1, 1e-2, 1e-4])
def test_the_gradient_is_zero_at_the_optimum(l2):
    features, weights = TRAIN[0].double(), fitted(l2)
    error = (torch.softmax(features @ weights[:-1] + weights[-1], dim=1) - F.one_hot(TRAIN[1])) / 200
    assert (features.T @ error + l2 * weights[:-1]).abs().max() < 2e-5
    assert error.sum(dim=0).abs().max() < 2e-5  # of the bias, which is not penalised


@pytest.mark.parametrize("l2", [1, 1e-2, 1e-4])
def test_the_optimum_is_scikit_learns(l2):
    theirs = LogisticRegression(C=1 / (l2 * 200), tol=1e-8, max_iter=10_000)
    theirs.fit(TRAIN[0].double().numpy(), TRAIN[1].numpy())
    expected = torch.from_numpy(theirs.predict_proba(TEST[0].double().numpy()))
    torch.testing.assert_close(logits(TEST[0].double(), fitted(l2)).softmax(dim=1), expected, rtol=0, atol=5e-4)


def test_the_start_does_not_decide_the_result():
    elsewhere = softmax_regression(TRAIN[0].double(), TRAIN[1], 1e-2, fitted(1e-4))
    torch.testing.assert_close(elsewhere, fitted(1e-2), rtol=0, atol=1e-3)


def test_features_are_standardised_by_the_training_part_and_constants_become_zero():
    features = TRAIN[0] * 3 + 5
    features[:, 2] = 0.1
    new = TEST[0].clone()
    known, other = standardised(features, new)
    assert known.dtype == other.dtype == torch.float64
    varying = [0, 1, 3, 4, 5]
    torch.testing.assert_close(known.mean(dim=0), torch.zeros(6).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(known[:, varying].square().mean(dim=0), torch.ones(5).double())
    assert (known[:, 2] == 0).all() and (other[:, 2] == 0).all()
    mean, deviation = features[:, 0].double().mean(), features[:, 0].double().std(correction=0)
    torch.testing.assert_close(other[:, 0], (new[:, 0].double() - mean) / deviation)
    assert torch.equal(new, TEST[0])


def test_a_constant_becomes_zero_in_spite_of_rounding(monkeypatch):
    std_mean = torch.std_mean

    def rounded(*arguments, **options):
        deviation, mean = std_mean(*arguments, **options)
        return deviation.clamp(min=1e-17), mean * (1 + 1e-15)

    monkeypatch.setattr(torch, "std_mean", rounded)
    (known,) = standardised(torch.full((50, 1), 0.1))
    assert (known == 0).all()


def test_standardising_leaves_double_features_as_they_are():
    features = TRAIN[0].double()
    standardised(features)
    assert torch.equal(features, TRAIN[0].double())


@pytest.mark.parametrize("protocol", ["tuned", "paper"])
def test_test_labels_change_nothing_but_the_accuracy(protocol):
    result = linear_probe(*TRAIN, *TEST, protocol=protocol)
    other_labels = (TEST[1] + 1) % 4
    other = linear_probe(*TRAIN, TEST[0], other_labels, protocol=protocol)
    assert result[1:] == other[1:]
    assert result.accuracy.value > other.accuracy.value + 0.1
    few = linear_probe(*TRAIN, TEST[0][:7], TEST[1][:7], protocol=protocol)
    assert few[1:] == result[1:]


def test_the_penalty_is_the_best_on_held_out_labels_and_then_all_are_fitted():
    """Scikit-learn in the place of each fit. A wide, noisy set on which the strengths differ."""
    train, test = clouds(200, dim=60, apart=0.15), clouds(400, seed=1, dim=60, apart=0.15)
    test = (3 * test[0] + torch.linspace(-1, 1, 60), test[1])  # another mean and scale than the training part's
    result = linear_probe(*train, *test)
    known, new = (part.numpy() for part in standardised(train[0], test[0]))
    fit, held_out = (part.numpy() for part in validation_split(train[1]))
    labels = train[1].numpy()

    def model(rows, l2):
        return LogisticRegression(C=1 / (l2 * len(rows)), tol=1e-5, max_iter=10_000).fit(known[rows], labels[rows])

    accuracies = {l2: model(fit, l2).score(known[held_out], labels[held_out]) for l2 in probe_module.STRENGTHS}
    best = max(accuracies.values())
    assert accuracies[1] < best > accuracies[1e-5]
    assert result.validation_accuracy == pytest.approx(best)
    assert result.settings == {"l2": max(l2 for l2, accuracy in accuracies.items() if accuracy == best)}
    final = model(range(200), result.settings["l2"])
    assert result.accuracy == wilson(round(400 * final.score(new, test[1].numpy())), 400)
    assert result.train_accuracy == pytest.approx(final.score(known, labels))
    assert log_loss(labels, final.predict_proba(known)) > 0.01  # not separated: the test is not an easy one


def test_a_class_with_a_single_image_is_fitted_and_never_held_out():
    """Class 9's one image lies far from the others; its test image lies beside it."""
    far = torch.full((1, 6), 30.0)
    features, labels = torch.cat((TRAIN[0], far)), torch.cat((TRAIN[1], torch.tensor([9])))
    fit, held_out = validation_split(labels)
    assert 200 in fit and 200 not in held_out and len(fit) + len(held_out) == 201
    result = linear_probe(features, labels, far + 1, torch.tensor([9]))
    assert result.accuracy.value == 1
    assert result.validation_accuracy is not None


def test_the_strongest_of_equally_good_penalties_is_taken():
    features = F.one_hot(torch.arange(40) % 4).float() + torch.arange(40.0)[:, None] / 1e4
    result = linear_probe(features, torch.arange(40) % 4, features[:8], torch.arange(8) % 4)
    assert result.validation_accuracy == 1
    assert result.settings == {"l2": max(probe_module.STRENGTHS)}


def test_scale_and_shift_of_a_feature_do_not_matter_to_the_tuned_probe():
    scale, shift = torch.tensor([1e-3, 1, 10, 1e3, 1, 0.1]), torch.tensor([5.0, 0, -3, 100, 1, 0])
    plain = linear_probe(*TRAIN, *TEST)
    moved = linear_probe(TRAIN[0] * scale + shift, TRAIN[1], TEST[0] * scale + shift, TEST[1])
    assert moved == plain


@pytest.mark.parametrize("protocol", ["tuned", "paper"])
def test_no_gradient_flows_into_the_encoder(protocol):
    weights = torch.ones(6, requires_grad=True)
    features = TRAIN[0] * weights  # as an encoder's output is
    assert linear_probe(features, TRAIN[1], *TEST, protocol=protocol) == linear_probe(*TRAIN, *TEST, protocol=protocol)
    assert weights.grad is None


def test_classes_may_have_any_numbers():
    names = torch.tensor([3, 4, 70, 900])
    for protocol in ("tuned", "paper"):
        expected = linear_probe(*TRAIN, *TEST, protocol=protocol)
        assert linear_probe(TRAIN[0], names[TRAIN[1]], TEST[0], names[TEST[1]], protocol=protocol) == expected


def paper_by_hand(layer, features, labels, *, order=None, epochs=100):
    """SGD with momentum, written out: v <- 0.9 v + g, w <- w - 0.001 v; batches of 1,024 rows as they come."""
    velocity = [torch.zeros_like(p) for p in layer.parameters()]
    order = torch.arange(len(features)) if order is None else order
    for _ in range(epochs):
        for start in range(0, len(features), 1024):
            rows = order[start : start + 1024]
            loss = F.cross_entropy(features[rows] @ layer.weight.T + layer.bias, labels[rows])
            gradients = torch.autograd.grad(loss, list(layer.parameters()))
            with torch.no_grad():
                for p, v, g in zip(layer.parameters(), velocity, gradients, strict=True):
                    p -= 0.001 * v.mul_(0.9).add_(g)
    return layer


@pytest.fixture
def layers(monkeypatch):
    """The linear layers that the paper's protocol makes: (as made, as trained)."""
    made = []
    make = probe_module.linear_layer

    def record(*arguments):
        layer = make(*arguments)
        made.append((copy.deepcopy(layer), layer))
        return layer

    monkeypatch.setattr(probe_module, "linear_layer", record)
    return made


def test_the_papers_protocol_is_plain_sgd_in_the_order_given(layers):
    features, labels = clouds(1500, seed=2)  # a batch of 1,024 and one of 476
    result = linear_probe(features, labels, *TEST, protocol="paper", seed=5)
    torch.random.manual_seed(5)
    (made, trained), fresh = layers[0], nn.Linear(6, 4)
    assert torch.equal(made.weight, fresh.weight) and torch.equal(made.bias, fresh.bias)
    expected = paper_by_hand(made, features, labels)
    torch.testing.assert_close(list(trained.parameters()), list(expected.parameters()), rtol=1e-4, atol=1e-6)
    shuffled = paper_by_hand(fresh, features, labels, order=torch.randperm(1500))
    assert (shuffled.weight - expected.weight).abs().max() > 1e-4  # an order can be told from another
    right = (expected(TEST[0]).argmax(dim=1) == TEST[1]).sum()
    assert result.accuracy == wilson(int(right), 100)
    assert result.train_accuracy == pytest.approx((expected(features).argmax(1) == labels).float().mean().item())
    assert result.validation_accuracy is None
    assert result.settings == {
        "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 0, "batch_size": 1024, "epochs": 100
    }  # fmt: skip


def test_the_papers_protocol_is_far_from_trained_on_small_features():
    small = (TRAIN[0] / 10, TRAIN[1], TEST[0] / 10, TEST[1])
    assert linear_probe(*small, protocol="paper").accuracy.high < linear_probe(*small).accuracy.low


def test_only_the_seed_decides_and_the_global_random_state_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = {p: linear_probe(*TRAIN, *TEST, protocol=p) for p in ("tuned", "paper")}
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert {p: linear_probe(*TRAIN, *TEST, protocol=p) for p in ("tuned", "paper")} == first
    assert linear_probe(*TRAIN, *TEST, protocol="paper", seed=1) != first["paper"]
    assert len({linear_probe(*TRAIN, *TEST, seed=s).validation_accuracy for s in range(4)}) > 1


def test_a_single_strength_is_taken_without_holding_out():
    result = probe_module.tuned_probe(*TRAIN, *TEST, (1e-2,), 0)
    assert result.settings == {"l2": 1e-2} and result.validation_accuracy is None
    assert result.train_accuracy > 0.6
