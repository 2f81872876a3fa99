"""In evaluation mode a loss reads its state and leaves it alone: validation does not disturb training."""

import pytest
import reference
import torch
from trials import LOSSES, Encoder, call, random_visit

every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())
STATEFUL = [name for name in LOSSES if name not in ("NT-Xent", "DCL")]


def trained(make, table, generator, visits=20):
    criterion = make(*table.shape[::2], 0.2)
    for _ in range(visits):
        call(criterion, table, *random_visit(*table.shape[:2], 3, generator), generator=generator)
    return criterion


def state_of(criterion):
    return {name: buffer.clone() for name, buffer in criterion.named_buffers()}


@pytest.mark.parametrize("with_gradient", [True, False])
@every_loss
def test_a_call_in_evaluation_mode_writes_no_state_and_has_finite_numbers(make, with_gradient):
    table, generator = reference.unit_vectors(9, 3, 4, dtype=torch.float32).requires_grad_(), torch.Generator()
    criterion = trained(make, table, generator).eval()
    before, stats = state_of(criterion), criterion.stats
    with torch.set_grad_enabled(with_gradient):
        for _ in range(5):
            loss = call(criterion, table, *random_visit(9, 3, 4, generator), generator=generator)
    assert all(torch.equal(before[name], buffer) for name, buffer in criterion.named_buffers())
    assert loss.requires_grad == with_gradient and criterion.stats is not stats
    assert all(torch.isfinite(torch.as_tensor(number)) for number in criterion.stats)


@every_loss
def test_the_value_is_that_of_a_training_call_from_the_same_state(make):
    table, generator = reference.unit_vectors(9, 3, 4, dtype=torch.float32), torch.Generator().manual_seed(0)
    criterion = trained(make, table, generator)
    index, view = random_visit(9, 3, 4, generator)
    found = []
    for training in (False, True):
        criterion.train(training)
        loss = call(criterion, table, index, view, generator=torch.Generator().manual_seed(5))
        found.append((loss.item(), [float(number) for number in criterion.stats]))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", STATEFUL)
def test_a_call_in_training_mode_writes_its_state(name):
    table, generator = reference.unit_vectors(9, 3, 4, dtype=torch.float32), torch.Generator().manual_seed(0)
    criterion = trained(LOSSES[name], table, generator)
    before = state_of(criterion)
    for _ in range(5):
        call(criterion, table, *random_visit(9, 3, 4, generator), generator=generator)
    assert not all(torch.equal(before[name], buffer) for name, buffer in criterion.named_buffers())


@every_loss
def test_validation_between_steps_does_not_change_a_training_run(make):
    """SGD on a table of embeddings, bit for bit; the validation batches have their own generator."""
    start = reference.unit_vectors(12, 3, 4, dtype=torch.float32)

    def weights_and_losses(validated):
        weights, criterion = start.clone().requires_grad_(), make(12, 4, 0.1)
        generator, other, losses = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1), []
        for _ in range(25):
            table = torch.nn.functional.normalize(weights, dim=-1)
            loss = call(criterion, table, *random_visit(12, 3, 4, generator), Encoder(table), generator)
            losses.append(loss.item())
            weights = (weights - 0.1 * torch.autograd.grad(loss, weights)[0]).detach().requires_grad_()
            if validated:
                criterion.eval()
                with torch.no_grad():
                    call(criterion, table.detach(), *random_visit(12, 3, 3, other), generator=other)
                criterion.train()
        return weights.detach(), losses, state_of(criterion)

    plain, validated = weights_and_losses(False), weights_and_losses(True)
    assert torch.equal(plain[0], validated[0]) and plain[1] == validated[1]
    assert all(torch.equal(plain[2][name], validated[2][name]) for name in plain[2])
