"""The plan counts and measures the price of a run before it begins."""

import pytest
from runs import CPU, small

from emc2_lite.training import make_encoder, plan


def test_a_plan_counts_steps_weights_and_memory():
    config = small("EMC2", training__epochs=5)
    forecast = plan(config, 1000, (1, 8, 8), CPU, in_memory=True)
    assert (forecast.steps_per_epoch, forecast.steps) == (125, 625)
    encoder = make_encoder(config)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert forecast.parameters == count
    assert forecast.memory["weights and gradients"] == 8 * count
    assert forecast.memory["optimiser"] == pytest.approx(8 * count, rel=1e-3)
    assert forecast.memory["loss"] == 1000 * 2 * 16
    assert forecast.memory["images"] == 1000 * 64 * 4
    assert forecast.memory["activations"] > 16 * (32 * 64 + 64 * 16 + 64 * 4) * 4
    assert forecast.seconds == pytest.approx(625 * forecast.seconds_per_step)
    assert 1 <= forecast.encoded_again <= 2  # every start is counted as encoded
    assert forecast.encoder_share > 0


def test_a_plan_of_sgd_without_momentum_needs_no_memory_for_the_optimiser():
    config = small("NT-Xent", optimiser__name="sgd", optimiser__momentum=0.0)
    forecast = plan(config, 100, (1, 8, 8), CPU, in_memory=False)
    assert (forecast.memory["optimiser"], forecast.memory["loss"], forecast.memory["images"]) == (0, 0, 0)
    assert forecast.encoded_again == 0


def test_a_price_pays_for_fewer_steps_of_a_loss_that_encodes_again():
    """A start that is encoded again costs 1 encoding of the 3 of a view, and a plan counts every one: 4 / 3 or more."""
    plain, dear = (
        plan(small(method, training__budget="price"), 100, (1, 8, 8), CPU, in_memory=True)
        for method in ("NT-Xent", "EMC2")
    )
    assert (plain.steps_per_epoch, plain.steps) == (12, 36)
    assert 36 / 2 <= dear.steps <= round(36 * 3 / 4)
    assert dear.seconds == pytest.approx(dear.steps * dear.seconds_per_step)


def test_several_processes_have_their_parts_of_batch_and_state():
    alone, one_of_four = (plan(small("EMC2"), 100, (1, 8, 8), CPU, in_memory=True, processes=k) for k in (1, 4))
    assert (one_of_four.steps, one_of_four.steps_per_epoch) == (alone.steps, alone.steps_per_epoch) == (36, 12)
    assert one_of_four.memory["loss"] == alone.memory["loss"] // 4
    assert one_of_four.memory["activations"] < 0.5 * alone.memory["activations"]
