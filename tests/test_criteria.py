"""Properties of every loss: precision, state, randomness, defaults and direction."""

import io

import pytest
import reference
import torch
from trials import LOSSES, Encoder, call, gradient_of, random_visit

every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())


def visits(criterion, table, b, generator, count):
    """The losses of `count` visits to random samples in random views."""
    losses = []
    for _ in range(count):
        index, view = random_visit(*table.shape[:2], b, generator)
        losses.append(call(criterion, table, index, view, generator=generator).item())
    return losses


@every_loss
def test_a_resumed_run_repeats_the_interrupted_one_bit_for_bit(make):
    """30 visits, a save to a file that loads with weights_only, and 30 more visits, the same in both runs."""
    table = reference.unit_vectors(12, 3, 4, dtype=torch.float32)
    criterion, generator = make(12, 4, 0.1), torch.Generator().manual_seed(0)
    visits(criterion, table, 3, generator, 30)
    file = io.BytesIO()
    torch.save({"criterion": criterion.state_dict(), "generator": generator.get_state()}, file)
    interrupted = visits(criterion, table, 3, generator, 30)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed, generator = make(12, 4, 0.1), torch.Generator()
    resumed.load_state_dict(saved["criterion"])
    generator.set_state(saved["generator"])
    assert visits(resumed, table, 3, generator, 30) == interrupted
    assert all(torch.equal(a, b) for a, b in zip(resumed.buffers(), criterion.buffers(), strict=True))


STATE_BYTES = {
    "NT-Xent": 0,
    "DCL": 0,
    "SogCLR": 4 * 2 * 1_000,
    "cache": (4 * 16 + 8) * 2 * 1_000 + 8,
    "EMC2": 16 * 2 * 1_000,
    "EMC2 multiproposal": 16 * 2 * 1_000,
    "EMC2 remembered": (32 + 4 * 16) * 1_000,
}


@pytest.mark.parametrize(("name", "size"), STATE_BYTES.items(), ids=STATE_BYTES)
def test_state_takes_the_documented_number_of_bytes(name, size):
    """1,000 samples, d = 16. SogCLR: a float a chain; cache: an embedding and a view number an entry, and a cursor."""
    state = LOSSES[name](1_000, 16, 0.07).state_dict()
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) == size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
@every_loss
def test_low_precision_stays_finite_at_low_temperature(make, temperature, dtype):
    """Scores reach 100 and 500 nats, whose exp overflows; averages and scores keep float32, the gradient its dtype."""
    table = reference.unit_vectors(8, 2, 3, dtype=dtype).requires_grad_()
    criterion, generator = make(8, 3, temperature), torch.Generator().manual_seed(0)
    for _ in range(10):
        index, _ = random_visit(8, 2, 4, generator)
        loss = call(criterion, table, index, generator=generator)
        gradient = torch.autograd.grad(loss, table)[0]
        numbers = torch.stack([torch.as_tensor(number, dtype=torch.float64) for number in criterion.stats])
        assert torch.isfinite(loss) and torch.isfinite(numbers).all()
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0 and gradient.dtype == dtype
    kept = [buffer for name, buffer in criterion.named_buffers() if name != "chain_embedding"]
    assert all(buffer.dtype != dtype or dtype == torch.float32 for buffer in kept)


@every_loss
def test_autocast_does_not_change_the_estimate(make):
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32)
    outside, inside = make(8, 5, 0.07), make(8, 5, 0.07)
    expected = visits(outside, table, 3, torch.Generator().manual_seed(0), 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert visits(inside, table, 3, torch.Generator().manual_seed(0), 10) == expected
    assert all(torch.equal(a, b) for a, b in zip(inside.buffers(), outside.buffers(), strict=True))


@every_loss
def test_a_backward_pass_inside_autocast_is_in_full_precision(make):
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32).requires_grad_()
    gradients = []
    for autocast in (False, True):
        criterion, generator = make(8, 5, 0.07), torch.Generator().manual_seed(0)
        visits(criterion, table, 3, generator, 10)
        loss = call(criterion, table, torch.tensor([1, 5, 2]), generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            gradients.append(torch.autograd.grad(loss, table)[0])
    assert torch.equal(*gradients)


@every_loss
def test_a_loss_can_be_divided_and_added_to_in_place(make):
    """As gradient accumulation does; the numbers to read keep their values."""
    table = reference.unit_vectors(8, 2, 5).requires_grad_()
    criterion, generator = make(8, 5, 0.1), torch.Generator().manual_seed(0)
    loss = call(criterion, table, torch.tensor([1, 5, 2]), generator=generator)
    value, stats = loss.item(), [float(number) for number in criterion.stats]
    full = torch.autograd.grad(loss, table, retain_graph=True)[0]
    loss /= 2
    loss += 1
    assert loss.item() == pytest.approx(value / 2 + 1)
    torch.testing.assert_close(torch.autograd.grad(loss, table)[0], full / 2)
    with torch.no_grad():
        loss /= 2
    assert [float(number) for number in criterion.stats] == stats


@every_loss
def test_a_second_derivative_is_refused(make):
    """The second derivative would silently lack the weights' dependence on the embeddings."""
    table = reference.unit_vectors(8, 2, 5).requires_grad_()
    criterion, generator = make(8, 5, 0.1), torch.Generator().manual_seed(0)
    loss = call(criterion, table, torch.tensor([1, 5, 2]), generator=generator)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(loss, table, create_graph=True)


@every_loss
def test_state_in_half_precision_is_enough(make):
    """So it is after module.bfloat16() of a model with the loss inside; the estimate itself stays in float32."""
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32)
    criterion, generator = make(8, 5, 0.1).bfloat16(), torch.Generator().manual_seed(0)
    assert all(torch.isfinite(torch.tensor(visits(criterion, table, 3, generator, 10))))


@every_loss
def test_torch_s_default_device_plays_no_part(make):
    """Under the default device meta, which holds no numbers, a loss and embeddings on the CPU stay on the CPU."""
    table, index = reference.unit_vectors(8, 2, 5, dtype=torch.float32), torch.tensor([1, 5, 2])
    criterion = make(8, 5, 0.1)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    expected = [call(make(8, 5, 0.1), table, index, generator=generators[0]).item() for _ in range(1)]
    with torch.device("meta"):
        assert [call(criterion, table, index, generator=generators[1]).item()] == expected


@every_loss
def test_an_encoder_in_half_precision_is_enough(make):
    table = reference.unit_vectors(8, 2, 5, dtype=torch.float32)
    criterion, generator = make(8, 5, 0.07), torch.Generator().manual_seed(0)
    for _ in range(10):
        index, _ = random_visit(8, 2, 3, generator)
        loss = call(criterion, table, index, None, Encoder(table.bfloat16()), generator)
        assert torch.isfinite(loss) and loss.dtype == torch.float32


@every_loss
def test_default_views_are_zero_and_one(make):
    table, index = reference.unit_vectors(6, 2, 3), torch.tensor([4, 1, 3])
    runs = []
    for view in (None, torch.tensor([[0, 0, 0], [1, 1, 1]])):
        criterion, generator = make(6, 3, 0.2), torch.Generator().manual_seed(0)
        losses = [call(criterion, table, index, view, generator=generator).item() for _ in range(5)]
        runs.append((losses, criterion.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])


@every_loss
def test_all_randomness_comes_from_the_generator(make):
    """A given generator leaves torch's own untouched; without one, torch's own serves."""
    table = reference.unit_vectors(8, 2, 5)
    before = torch.get_rng_state()
    expected = visits(make(8, 5, 0.2), table, 3, torch.Generator().manual_seed(7), 10)
    assert torch.equal(torch.get_rng_state(), before)

    with torch.random.fork_rng():
        torch.manual_seed(7)
        assert visits(make(8, 5, 0.2), table, 3, None, 10) == expected


@every_loss
def test_a_call_without_gradient_reads_the_same_numbers(make):
    """Evaluation: under no_grad a call gives the same value and leaves the same state."""
    table = reference.unit_vectors(8, 2, 5)
    with_gradient, without = make(8, 5, 0.2), make(8, 5, 0.2)
    expected = visits(with_gradient, table.clone().requires_grad_(), 3, torch.Generator().manual_seed(0), 10)
    with torch.no_grad():
        assert visits(without, table, 3, torch.Generator().manual_seed(0), 10) == expected
    assert all(torch.equal(a, b) for a, b in zip(with_gradient.buffers(), without.buffers(), strict=True))
    assert not any(getattr(number, "requires_grad", False) for number in with_gradient.stats)


@every_loss
def test_state_and_numbers_have_no_gradient_even_if_encode_always_has_one(make):
    """Here the output of `encode` is a leaf, also under no_grad."""
    table, generator = reference.unit_vectors(8, 2, 5, dtype=torch.float32).requires_grad_(), torch.Generator()
    criterion = make(8, 5, 0.2)
    for _ in range(5):
        index, view = random_visit(8, 2, 3, generator)
        call(criterion, table, index, view, lambda i, v: table.detach()[i, v].requires_grad_(), generator)
        numbers = [*criterion.buffers(), *criterion.stats]
        assert not any(getattr(number, "requires_grad", False) for number in numbers)


@every_loss
def test_positives_attract_and_negatives_repel(make):
    """A first visit to three samples in the plane, views 0.2 to either side: a step down the gradient draws them in."""
    angles = torch.tensor([0.0, 1.2, 3.0], dtype=torch.float64)[:, None] + torch.tensor([-0.2, 0.2])
    table = torch.stack((angles.cos(), angles.sin()), dim=-1).requires_grad_()
    criterion, generator = make(3, 2, 0.5), torch.Generator().manual_seed(0)
    gradient = gradient_of(criterion, table, torch.arange(3), generator=generator)
    moved = torch.nn.functional.normalize(table.detach() - 0.01 * gradient, dim=-1)
    assert reference.global_loss(moved, 0.5) < reference.global_loss(table.detach(), 0.5)
