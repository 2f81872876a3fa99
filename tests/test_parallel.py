"""Losses of several processes: value, gradient, state and numbers are those of one process on the whole batch."""

import pytest
import torch
from processes import in_processes
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from emc2_lite.losses import make_criterion, two_view, visits
from emc2_lite.losses import parallel as parallel_module
from emc2_lite.losses.parallel import Parallel

N, VIEWS, DIM, B, TEMPERATURE = 23, 4, 8, 10, 0.1
METHODS = {
    "NT-Xent": {},
    "DCL": {},
    "SogCLR": {},
    "cache": {"refresh": 0.1, "num_negatives": 2},
    "EMC2": {},
    "EMC2 stale": {},
    "EMC2 dropped": {},
    "EMC2 remembered": {},
    "EMC2 multiproposal": {},
    "EMC2 multiproposal remembered": {},
    "NT-Xent between two towers": {"two_towers": True},
    "cache between two towers": {"two_towers": True, "refresh": 0.1},
    "EMC2 between two towers": {"two_towers": True},
}
STATELESS = ("NT-Xent", "DCL", "SogCLR", "EMC2 dropped")


class Encoder(nn.Module):
    """Two layers over a fixed table of view "pixels", and a buffer, which DDP sends to all processes at each call."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("calls", torch.zeros(()))
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, DIM)).double()

    def forward(self, pixels):
        self.calls += 1
        return F.normalize(self.layers(pixels), dim=1)


PIXELS = torch.randn(N, VIEWS, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def steps_of(method, settings, steps, rank=0, size=1, *, share_rows=True, uneven=False):
    """Train for some steps; the values, numbers, gradients of each, and weights and state at the end."""
    parallel = Parallel(share_rows=share_rows) if size > 1 else None
    encoder = Encoder()
    model = DistributedDataParallel(encoder) if size > 1 else encoder
    how = {"num_samples": N, "dim": DIM, "temperature": TEMPERATURE, "parallel": parallel, **settings}
    criterion = make_criterion(method.removesuffix(" between two towers"), **how).double()
    optimiser = torch.optim.SGD(encoder.parameters(), 0.5)
    generator = torch.Generator().manual_seed(2)
    values, gradients, stats = [], [], []
    for step in range(steps):
        index = torch.randperm(N, generator=generator)[:B]
        if step == 2:
            index = torch.arange(0, 4 * B, 4) % N  # with 4 processes, rows for some of them only
        view = torch.stack((torch.full_like(index, 2 * (step % 2)), torch.full_like(index, 2 * (step % 2) + 1)))
        mine = slice(None)
        if size > 1:
            bounds = [0, 1, *torch.linspace(1, B, size).round().int().tolist()[1:]] if uneven else None
            bounds = bounds or torch.linspace(0, B, size + 1).round().int().tolist()
            mine = slice(bounds[rank], bounds[rank + 1])
        own, own_view = index[mine], view[:, mine]
        both = model(PIXELS[own.repeat(2), own_view.flatten()])
        loss = criterion(*both.chunk(2), own, own_view, lambda i, v: encoder(PIXELS[i, v]), generator)
        optimiser.zero_grad()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
        optimiser.step()
        values.append(loss.item())
        stats.append({name: float(number) for name, number in criterion.stats._asdict().items()})
    state = criterion.state_dict()
    return values, gradients, stats, parallel.whole(state) if parallel else state


def compare(method, alone, together):
    for rank, (values, gradients, stats, state) in enumerate(together):
        assert values == pytest.approx(alone[0], abs=1e-10)
        for one, other in zip(alone[1], gradients, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
        for one, other in zip(alone[2], stats, strict=True):
            for name, number in one.items():
                if name.startswith("views_encoded"):  # a view that rows of several processes need is encoded in each
                    assert number <= other[name] <= number + B
                else:
                    assert other[name] == pytest.approx(number, abs=1e-10)
        assert state.keys() == (alone[3].keys() if rank == 0 else set())
        for name, one in alone[3].items() if rank == 0 else ():
            tolerance = {"rtol": 0, "atol": 1e-10} if one.is_floating_point() else {"rtol": 0, "atol": 0}
            torch.testing.assert_close(state[name], one, **tolerance)


def work(rank, size, share_rows, uneven):
    methods = METHODS if share_rows else STATELESS
    return {
        method: steps_of(method, METHODS[method], 8, rank, size, share_rows=share_rows, uneven=uneven)
        for method in methods
    }


@pytest.fixture(scope="module")
def alone():
    return {method: steps_of(method, settings, 8) for method, settings in METHODS.items()}


@pytest.mark.parametrize(("size", "share_rows", "uneven"), [(2, True, False), (4, True, True), (2, False, True)])
def test_every_loss_is_that_of_a_single_process(alone, size, share_rows, uneven):
    """8 steps in float64, within 1e-10: values, gradients of the weights, numbers to read and the state of all."""
    parts = in_processes(size, work, share_rows, uneven)
    for method in parts[0]:
        compare(method, alone[method], [part[method] for part in parts])


def gradient_divided_by_the_number_of_processes():
    original = parallel_module._Gather.backward
    parallel_module._Gather.backward = staticmethod(
        lambda ctx, gradient: (original(ctx, gradient)[0] / ctx.parallel.size, None, None)
    )


def remote_rows_without_gradient():
    parallel_module._Gather.backward = staticmethod(
        lambda ctx, gradient: (gradient.split(ctx.lengths)[ctx.parallel.rank], None, None)
    )


def positives_on_the_diagonal_of_the_first_process():
    two_view._positive_columns = lambda matrix, samples: torch.cat(
        (torch.arange(len(samples)) + matrix.shape[1] // 2, torch.arange(len(samples)))
    )[:, None]


def the_same_random_numbers_in_every_process():
    original = two_view.random_proposals

    def repeated(b, like, generator, samples, towers):
        """Each row's own candidates, with the uniforms of the first rows."""
        again = torch.Generator().set_state(generator.get_state())
        uniforms = original(b, like, again, torch.arange(len(samples)), towers)[1]
        return original(b, like, generator, samples, towers)[0], uniforms

    visits.random_proposals = repeated


def chains_at_the_places_of_other_samples():
    original = two_view.TwoViewBlock.chains
    two_view.TwoViewBlock.chains = lambda self, parts: (original(self, parts) + 2) % (2 * (N // parts))


PLANTED = {
    gradient_divided_by_the_number_of_processes: "NT-Xent",
    remote_rows_without_gradient: "DCL",
    positives_on_the_diagonal_of_the_first_process: "NT-Xent",
    the_same_random_numbers_in_every_process: "EMC2",
    chains_at_the_places_of_other_samples: "SogCLR",
}


def work_with_bugs(rank, size):
    """For each planted bug what two processes compute with it; modules are put back in between."""
    found = {}
    for plant, method in PLANTED.items():
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (
                (parallel_module._Gather, "backward"), (two_view, "_positive_columns"), (visits, "random_proposals"),
                (two_view.TwoViewBlock, "chains"),
            ):  # fmt: skip
                patch.setattr(owner, name, getattr(owner, name))
            plant()
            found[plant.__name__] = steps_of(method, METHODS[method], 3, rank, size)
    return found


def test_bugs_of_public_libraries_are_caught():
    """Each of them planted, and the comparison with a single process fails."""
    parts = in_processes(2, work_with_bugs)
    for plant, method in PLANTED.items():
        single = steps_of(method, METHODS[method], 3)
        with pytest.raises(AssertionError):
            compare(method, single, [part[plant.__name__] for part in parts])
