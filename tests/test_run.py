"""A configured run: its steps, its measurements, its files."""

import json
import math
import warnings
from itertools import pairwise

import pytest
import torch
from runs import CPU, LOSSES, VIEWS, new_run, outcome, same, small, weights

from emc2_lite.evaluation import features_of, nearest_neighbour_accuracy, validation_split
from emc2_lite.losses import EMC2Loss
from emc2_lite.records import FIELDS
from emc2_lite.runs import evaluate_run, load_views, neighbour_monitor, pick_device, settings_of, train_run
from emc2_lite.training import (
    EpochSampler,
    Run,
    load_checkpoint,
    make_encoder,
    read_metrics,
    save_checkpoint,
    train,
    views_of_epoch,
)
from emc2_lite.training import run as run_module
from emc2_lite.training.price import step_price
from emc2_lite.training.run import precision_on
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits


def test_a_run_without_a_schedule_is_the_plain_loop():
    run = new_run(optimiser__learning_rate=0.003)
    run.schedule.step = lambda: None
    run.update.optimiser.param_groups[0]["lr"] = 0.003
    for _ in range(10):
        run.advance()
    torch.manual_seed(0)
    encoder = DigitEncoder(8)
    train(encoder, VIEWS, EMC2Loss(48, 0.2), steps=10, batch_size=8, learning_rate=0.003)
    assert torch.equal(weights(run.encoder), weights(encoder))


def test_the_rate_warms_up_step_by_step_and_falls_to_zero():
    run = new_run()
    rates = []
    while not run.finished:
        rates.append(run.update.optimiser.param_groups[0]["lr"])
        run.advance()
    assert rates[:3] == pytest.approx([0.001, 0.002, 0.003])
    assert max(rates) == rates[2] == 0.003
    assert all(later < earlier for earlier, later in pairwise(rates[3:]))
    assert run.update.optimiser.param_groups[0]["lr"] == 0


@pytest.mark.parametrize(("units", "chosen"), [(True, "bfloat16"), (False, "float16")])
def test_auto_is_the_half_precision_that_the_gpu_computes_in(monkeypatch, units, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: units)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    gpu = torch.device("cuda")
    assert precision_on(gpu, "auto") == chosen and precision_on(CPU, "auto") == "float32"
    assert precision_on(gpu, "float32") == "float32" and precision_on(CPU, "bfloat16") == "bfloat16"
    if units:
        assert precision_on(gpu, "bfloat16") == "bfloat16"
    else:
        with pytest.raises(ValueError, match="bfloat16, and Tesla T4 has no units for it: say float16, or auto"):
            precision_on(gpu, "bfloat16")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_run_goes_on_on_another_gpu_with_a_warning(monkeypatch, precision):
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "precision_on", lambda device, name: "bfloat16")
        first = new_run(training__precision="auto")
    first.gpu = "NVIDIA L4"
    first.advance()
    assert first.precision == "bfloat16"
    monkeypatch.setattr(run_module, "precision_on", lambda device, name: precision)
    second = new_run(training__precision="auto")
    second.gpu = "Tesla T4"
    words = (
        f"The run was on NVIDIA L4 in bfloat16 and goes on on Tesla T4 in {precision}: from here on its weights differ"
    )
    with pytest.warns(UserWarning, match=words):
        second.load_state_dict(first.state_dict())
    second.advance()
    assert second.step == 2 and second.scaler.is_enabled() == (precision == "float16")
    with warnings.catch_warnings(action="error"):
        second.load_state_dict(second.state_dict())


def test_a_price_buys_fewer_steps_of_a_dearer_loss_and_the_rate_follows_what_is_spent():
    """3 epochs of 6 steps cost NT-Xent 18 x 48 encodings. At this temperature chains stay, and are encoded again."""
    plain, dear = (
        new_run(method, training__budget="price", optimiser__warmup_epochs=0, loss__temperature=temperature)
        for method, temperature in (("NT-Xent", 0.2), ("EMC2", 0.002))
    )
    spent, rates = [0], []
    for run in (plain, dear):
        while not run.finished:
            rates.append(run.update.optimiser.param_groups[0]["lr"])
            run.advance()
            spent.append(spent[-1] + step_price(run.criterion.stats, 8) if run is dear else 0)
    assert plain.step == 18 and plain.spent == 18 * 48
    assert dear.step < 18 and 18 * 48 <= dear.spent < 18 * 48 + 4 * 16
    expected = [0.0015 * (1 + math.cos(math.pi * done / (18 * 48))) for done in spent[18:-1]]
    assert rates[18:] == pytest.approx(expected)
    assert dear.update.optimiser.param_groups[0]["lr"] == 0


def test_an_epoch_has_each_sample_once_and_peek_shows_the_next_batch():
    sampler = EpochSampler(20, 6, torch.Generator().manual_seed(0))
    assert sampler.peek() is None
    seen = []
    for _ in range(6):
        coming = sampler.peek()
        epoch, batch = next(sampler)
        assert coming is None or torch.equal(coming, batch)
        seen.append((epoch, batch))
    assert [epoch for epoch, _ in seen] == [0, 0, 0, 1, 1, 1]
    for epoch in (0, 1):
        assert len(torch.cat([batch for e, batch in seen if e == epoch]).unique()) == 18


def test_peek_draws_nothing():
    plain, peeking = (EpochSampler(20, 6, torch.Generator().manual_seed(0)) for _ in range(2))
    for _ in range(9):
        peeking.peek()
        assert torch.equal(next(plain)[1], next(peeking)[1])
        peeking.peek()
    assert torch.equal(plain.generator.get_state(), peeking.generator.get_state())


def test_views_are_new_in_each_epoch():
    index = torch.tensor([5, 2])
    assert views_of_epoch(0, index).tolist() == [[0, 0], [1, 1]]
    assert views_of_epoch(7, index).tolist() == [[14, 14], [15, 15]]
    assert views_of_epoch(7, index, fixed=True).tolist() == [[0, 0], [1, 1]]


class Watching(DigitViews):
    """Notes the announced views and the requested views."""

    def __init__(self):
        super().__init__(VIEWS.images)
        self.announced, self.asked = [], []

    def prefetch(self, index, view):
        self.announced.append((index.tolist(), view.tolist()))

    def trusted(self, index, view):
        self.asked.append((index.tolist(), view.tolist()))
        return super().trusted(index, view)


def test_a_step_announces_the_next_batch():
    views = Watching()
    run = Run(small("NT-Xent"), views, CPU)
    for _ in range(6):
        run.advance()
    assert len(views.announced) == 5  # nothing announces the first batch of an epoch
    assert views.announced == views.asked[1:]


@pytest.mark.parametrize("method", LOSSES)
def test_views_encoded_again_cost_at_most_two_more_passes(method):
    run = new_run(method)
    run.advance()  # the first call checks `encode` with another pass
    passes = []
    run.encoder.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    for _ in range(11):
        passes.clear()
        run.advance()
        assert passes[0] == 16
        assert len(passes) <= 3
        assert sum(passes[1:]) == getattr(run.update.criterion.stats, "views_encoded", 0)


def test_means_are_of_the_steps_since_the_last_call():
    run = new_run()
    stats = []
    for stretch in (5, 3):
        stats.clear()
        for _ in range(stretch):
            run.advance()
            stats.append(run.update.criterion.stats)
        row = run.means()
        assert row["loss"] == pytest.approx(sum(s.loss.item() for s in stats) / stretch, rel=1e-6)
        assert row["encoded_again"] == pytest.approx(sum(s.views_encoded for s in stats) / (16 * stretch))
        assert "views_encoded" not in row


def test_a_run_leaves_metrics_checkpoints_and_a_record(tmp_path):
    record = train_run(small(optimiser__clip=5.0), tmp_path, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "metrics.jsonl", "record.json"]
    assert tuple(record) == FIELDS
    assert json.loads((tmp_path / "record.json").read_text()) == record
    assert record["config"] == small(optimiser__clip=5.0).as_dict()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert record["metrics"] == rows
    trained = [row for row in rows if "loss" in row]
    assert [row["step"] for row in trained] == [4, 8, 12, 16, 18]
    assert all(
        {"encoded_again", "acceptance_rate", "learning_rate", "images_per_second", "gradient_norm"} <= row.keys()
        for row in trained
    )
    judged = [row for row in rows if "accuracy" in row]
    assert [(row["step"], row["epoch"]) for row in judged] == [(6, 1), (12, 2), (18, 3)]
    assert record["final"][0]["best_accuracy"] == max(row["accuracy"] for row in judged)


def test_the_best_checkpoint_is_of_the_highest_accuracy(tmp_path):
    record = train_run(small(training__epochs=5), tmp_path, progress=False)
    judged = [row for row in record["metrics"] if "accuracy" in row]
    best = max(judged, key=lambda row: row["accuracy"])
    state = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (state["step"], state["best"]) == (best["step"], best["accuracy"])


def test_a_finished_run_does_not_change(tmp_path):
    train_run(small(), tmp_path, progress=False)
    before = outcome(tmp_path)
    train_run(small(), tmp_path, progress=False)
    assert same(outcome(tmp_path), before)


def test_the_evaluation_has_no_influence_on_the_run(tmp_path):
    train_run(small(), tmp_path / "with", progress=False)
    train_run(small(training__evaluate_epochs=0), tmp_path / "without", progress=False)
    assert not (tmp_path / "without" / "best.pt").exists()
    one, other = (outcome(tmp_path / name) for name in ("with", "without"))
    assert same(one["encoder"], other["encoder"]) and same(one["criterion"], other["criterion"])


def test_the_monitor_is_one_nearest_neighbour_on_held_out_labels():
    digits = load_digits("train")
    views, encoder = DigitViews(digits.images), DigitEncoder(8)
    known, held_out = validation_split(digits.labels)
    features = features_of(encoder, views)
    expected = nearest_neighbour_accuracy(
        features[known], digits.labels[known], features[held_out], digits.labels[held_out]
    )
    assert neighbour_monitor(views, digits.labels, 5000)(encoder) == expected
    assert neighbour_monitor(views, torch.full_like(digits.labels, -1), 5000) is None
    assert neighbour_monitor(views, torch.arange(1437), 5000) is None
    lonely = torch.where(torch.arange(1437) == 5, 77, digits.labels)
    assert 0 < neighbour_monitor(views, lonely, 5000)(encoder) <= 1
    hidden = digits.labels.clone()
    hidden[::2] = -1
    assert 0 < neighbour_monitor(views, hidden, 200)(encoder) <= 1


def test_training_loads_no_test_images(tmp_path, monkeypatch):
    parts = []

    def spy(config, part, device, **settings):
        parts.append(part)
        return load_views(config, part, device, **settings)

    for module in ("train", "evaluate"):
        monkeypatch.setattr(f"emc2_lite.runs.{module}.load_views", spy)
    train_run(small(), tmp_path, progress=False)
    assert set(parts) == {"train", "labelled"}
    evaluate_run(tmp_path)
    assert "test" in parts


def test_an_evaluation_has_a_row_with_an_interval_for_each_measure(tmp_path):
    train_run(small(training__epochs=1), tmp_path, progress=False)
    rows = evaluate_run(tmp_path, labels_a_class=(1, 5), supervised_epochs=1)
    assert json.loads((tmp_path / "evaluation.json").read_text())["rows"] == rows
    named = {row["measure"]: row for row in rows if "low" in row}
    assert list(named) == [
        "1-NN",
        "20-NN, weighted",
        "linear probe, tuned",
        "linear probe, released code's protocol",
        "supervised, 1 epochs",
        "supervised, 1 labels a class",
        "supervised, 5 labels a class",
    ]
    for row in named.values():
        assert 0 <= row["low"] < row["accuracy"] < row["high"] <= 1
    assert sum(row["measure"] == "linear probe, 5 labels a class" for row in rows) == 5
    digits = load_digits("test")
    encoder = make_encoder(small())
    encoder.load_state_dict(outcome(tmp_path)["encoder"])
    train_digits = load_digits("train")
    points = [encoder.features(part.images).detach() for part in (train_digits, digits)]
    expected = nearest_neighbour_accuracy(points[0], train_digits.labels, points[1], digits.labels)
    assert named["1-NN"]["accuracy"] == pytest.approx(expected, abs=1 / 360 + 1e-9)


def test_a_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="A GPU is asked for, and torch finds none: on Colab choose a GPU runtime"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == CPU


def test_threads_are_set_and_restored():
    torch.set_num_threads(2)
    try:
        with settings_of(small(), CPU):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_resuming_restores_torchs_global_generator(tmp_path):
    run = new_run()
    torch.rand(5)
    save_checkpoint(tmp_path / "x.pt", run.state_dict())
    expected = torch.rand(3)
    new_run().load_state_dict(load_checkpoint(tmp_path / "x.pt"))
    assert torch.equal(torch.rand(3), expected)


def test_weights_that_are_not_finite_are_not_saved():
    run = new_run()
    for number in (float("nan"), float("inf")):
        with torch.no_grad():
            run.encoder.projector.bias[3] = number
        with pytest.raises(ValueError, match=r"NaN or infinite at step 0: no checkpoint of them is written"):
            run.state_dict()
