"""On another device a loss gives the CPU's numbers and keeps its state there, and the host's waits are few."""

import copy

import pytest
import reference
import torch
from elsewhere import DEVICE, Elsewhere
from trials import EMC2, LOSSES, Encoder, without_compiled_code

CPU = torch.device("cpu")
SAMPLES, VISITS = 20, 12
START, DRIFT = (reference.unit_vectors(SAMPLES, 4, 6, seed=seed, dtype=torch.float32) for seed in range(2))


def run(name, device, visits=VISITS, around=Elsewhere):
    """Visits while the embeddings move: the value, gradient, numbers and waits of each, and the criterion."""
    criterion = LOSSES[name](SAMPLES, 6, 0.2).to(device)
    generator, order = torch.Generator(device).manual_seed(0), torch.Generator().manual_seed(0)
    rows = []
    for visit in range(visits):
        moved = torch.nn.functional.normalize(START + 0.1 * visit * DRIFT, dim=-1)
        table = moved.to(device, non_blocking=True).requires_grad_()
        index = torch.randperm(SAMPLES, generator=order)[:6]
        view = torch.stack((torch.zeros_like(index), torch.ones_like(index))) + visit % 3
        index, view = (t.to(device, non_blocking=True) for t in (index, view))
        z1, z2 = table[index, view[0]], table[index, view[1]]
        with around() as elsewhere:
            loss = criterion(z1, z2, index, view, lambda i, v, table=table: table[i, v], generator)
            loss.backward()
        assert loss.device == device and table.grad.device == device
        waits = getattr(elsewhere, "waits", None)
        rows.append((loss.item(), table.grad.cpu(), [float(n) for n in criterion.stats], waits))
    return rows, criterion


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_the_numbers_of_the_cpu(name, monkeypatch):
    without_compiled_code(monkeypatch)
    here, expected = run(name, CPU)
    with Elsewhere():
        there, criterion = run(name, DEVICE)
        assert all(buffer.device == DEVICE for buffer in criterion.buffers())
        state = {key: tensor.cpu() for key, tensor in criterion.state_dict().items()}
    for (loss, gradient, numbers, _), (other, other_gradient, other_numbers, _) in zip(here, there, strict=True):
        assert loss == other and numbers == other_numbers and torch.equal(gradient, other_gradient)
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.state_dict().items())


# One wait checks the batch, one tells which views count and checks the encodings that were scored, and one checks the
# encodings with gradient.
WAITS = dict.fromkeys(LOSSES, 1) | dict.fromkeys(("cache", *EMC2), 3) | {"EMC2 dropped": 1}


@pytest.mark.parametrize(("name", "most"), WAITS.items())
def test_the_host_waits_at_most_three_times_a_step(name, most):
    with Elsewhere():
        rows, _ = run(name, DEVICE)
    waits = [waits for *_, waits in rows[1:]]  # the first step also checks `encode`
    assert all(set(counts) <= {"tolist"} for counts in waits)
    assert max(counts.total() for counts in waits) == most
    assert rows[0][-1].total() <= 1 + most


BAD = {
    "an index too large": lambda z1, z2, index, view: (z1, z2, index + SAMPLES, view),
    "an index below 0": lambda z1, z2, index, view: (z1, z2, index - SAMPLES, view),
    "a view below 0": lambda z1, z2, index, view: (z1, z2, index, view - 9),
    "NaN": lambda z1, z2, index, view: (z1 * float("nan"), z2, index, view),
}


class Guarded(Elsewhere):
    """Refuses indices out of range: on a GPU they would end the process."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, places = function.overloadpacket.__name__, []
        if name in ("index", "index_put", "index_put_"):
            places = list(enumerate(args[1]))
        elif name in ("index_select", "index_copy_", "gather", "scatter_add_"):
            places = [args[1:3]]
        for dim, place in places:
            if place is not None and place.dtype == torch.int64:
                numbers, size = getattr(place, "inner", place), args[0].shape[dim]
                assert ((numbers >= -size) & (numbers < size)).all(), name
        return super().__torch_dispatch__(function, types, args, kwargs)


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("NT-Xent", "DCL")])
def test_bad_input_is_refused_before_it_serves_as_an_index(name, fault):
    with Elsewhere():
        _, criterion = run(name, DEVICE, visits=6)
        before, stats = copy.deepcopy({k: t.cpu() for k, t in criterion.state_dict().items()}), criterion.stats
        table, index = START.to(DEVICE), torch.tensor([3, 8, 1]).to(DEVICE)
        view = torch.tensor([[0, 0, 0], [1, 1, 1]]).to(DEVICE)
        batch = BAD[fault](table[index, 0], table[index, 1], index, view)
        with Guarded(), pytest.raises(ValueError):
            criterion(*batch, Encoder(table), torch.Generator(DEVICE))
        assert criterion.stats is stats
        assert all(torch.equal(before[key], tensor.cpu()) for key, tensor in criterion.state_dict().items())
