"""Simulated processes, and exercises of chapter 09.

In the mistakes: gradients g, rank r of k, n samples, images i, captions c, temperature t, a machine m.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from emc2_lite.course.checks import wrong_temperatures
from emc2_lite.course.exercise import Exercise
from emc2_lite.laboratory.scaling import Machine


class Process(NamedTuple):
    """What a process knows of the others.

    rank: its number, from 0. size: K. gather(tensor): the list of all processes' tensors, in the order of their ranks.
    reduce(tensor): the sum of all processes' tensors. Both wait until all processes have made the call, and carry
    numbers without gradient.
    """

    rank: int
    size: int
    gather: Callable[[Tensor], list[Tensor]]
    reduce: Callable[[Tensor], Tensor]


class Alone(RuntimeError):
    """A process waits for a message of a process that has ended."""


class _Exchange:
    """Messages between threads: a round ends when all have sent. No thread waits for one that has ended."""

    def __init__(self, size: int):
        self.size, self.changed = size, threading.Condition()
        self.sent: list[dict[int, Tensor]] = [{}]
        self.rounds, self.ended = [0] * size, [False] * size

    def gather(self, rank: int, tensor: Tensor) -> list[Tensor]:
        own = torch.as_tensor(tensor).detach().clone()
        with self.changed:
            place = self.rounds[rank]
            self.rounds[rank] += 1
            while len(self.sent) <= place:
                self.sent.append({})
            self.sent[place][rank] = own
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(self.sent[place]) == self.size or self._lost(place))
            if len(self.sent[place]) < self.size:
                raise Alone("one process waits for a message, and another has ended: all must send equally many")
            if place > 0:
                self.sent[place - 1] = {}  # all have read it, for all have sent the next one
            return [self.sent[place][other].clone() for other in range(self.size)]

    def _lost(self, place: int) -> bool:
        return any(ended and rounds <= place for ended, rounds in zip(self.ended, self.rounds, strict=True))

    def end(self, rank: int) -> None:
        with self.changed:
            self.ended[rank] = True
            self.changed.notify_all()


def _sum(tensors: list[Tensor]) -> Tensor:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"reduce was called with tensors of the shapes {shapes}: do all send the same messages in turn?"
        )
    return torch.stack(tensors).sum(dim=0)


def together(size: int, program: Callable[[Process], Any]) -> list[Any]:
    """Run `program` in so many simulated processes, threads that exchange messages: the list of what they return.

    Raises: the error of the first process that fails; Alone: if a process waits for a message that never comes.

    >>> together(3, lambda process: (process.rank, process.reduce(torch.tensor(process.rank + 1)).item()))
    [(0, 6), (1, 6), (2, 6)]
    """
    exchange, returned, errors = _Exchange(size), [None] * size, []

    def run(rank: int) -> None:
        gather = partial(exchange.gather, rank)
        try:
            returned[rank] = program(Process(rank, size, gather, lambda tensor: _sum(gather(tensor))))
        except BaseException as error:
            errors.append(error)
        finally:
            exchange.end(rank)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in sorted(errors, key=lambda error: isinstance(error, Alone)):
        raise error
    return returned


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# 9.1 and 9.2: columns and gradients


def _positives(n: int, rank: int, size: int) -> Tensor:
    own = rank * n + torch.arange(n)
    return torch.cat((own + n * size, own))


positive_columns = Exercise(
    "positive_columns",
    _positives,
    cases=[(2, 1, 2), (3, 0, 2), (1, 2, 4), (4, 3, 4), (5, 0, 1), (3, 1, 3)],
    mistakes={
        "These are the positives of process 0: this process's samples begin at column rank * n": (
            lambda n, r, k: _positives(n, 0, k)
        ),
        "The second views begin at column n * size, after the first views of all processes": (
            lambda n, r, k: torch.cat((r * n + torch.arange(n) + n, r * n + torch.arange(n)))
        ),
        "These are the columns of the rows themselves: the positive is the other view": (
            lambda n, r, k: _positives(n, r, k).roll(n)
        ),
        "These are the positives of the first views: add those of the second": lambda n, r, k: _positives(n, r, k)[:n],
        "These are the positives of the second views: begin with those of the first": (
            lambda n, r, k: _positives(n, r, k)[n:]
        ),
        "Here each process's two views lie side by side: all first views come before all second ones": (
            lambda n, r, k: 2 * r * n + torch.arange(2 * n).roll(n)
        ),
    },
    runs="The training below",
)


def _part(whole: Tensor, rank: int, size: int) -> Tensor:
    return whole.chunk(size)[rank]


def _gradients(size: int, n: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2 * size * n, 3, generator=generator) for _ in range(size)]


gathered_gradient = Exercise(
    "gathered_gradient",
    lambda gradients, rank: _part(torch.stack(gradients).sum(0), rank, len(gradients)),
    cases=[(_gradients(size, n, size), rank) for size, n, rank in ((2, 3, 1), (4, 2, 2), (3, 1, 0), (1, 4, 0))],
    mistakes={
        "This is what the process asks of its own rows: add what all others ask of them": (
            lambda g, r: _part(g[r], r, len(g))
        ),
        "This is the mean over processes: the gradient of a gathered row is the sum": (
            lambda g, r: _part(torch.stack(g).mean(0), r, len(g))
        ),
        "These are the rows of all processes: cut out those of this one": lambda g, r: sum(g),
        "These are the rows of process 0: cut out those of this one": lambda g, r: _part(
            torch.stack(g).sum(0), 0, len(g)
        ),
        "This process's own part is missing from the sum": (
            lambda g, r: _part(torch.stack(g).sum(0) - g[r], r, len(g))
        ),
        "This adds the parts of one process's gradient: add the same rows of every process's": (
            lambda g, r: sum(_part(g[r], p, len(g)) for p in range(len(g)))
        ),
    },
    runs="The training below",
)

# 9.3 and 9.4: shares of the state and of the loss


def _own_places(
    index: Tensor, rank: int, size: int, slots: Callable[[Tensor, int], Tensor] = lambda own, size: own // size
) -> tuple[Tensor, Tensor]:
    places = torch.nonzero(index % size == rank).squeeze(1)
    return places, slots(index[places], size)


own_places = Exercise(
    "own_places",
    _own_places,
    cases=[
        (torch.tensor([7, 4, 9, 2, 12]), 1, 3),
        (torch.tensor([7, 4, 9, 2, 12]), 2, 3),
        (torch.tensor([31, 3, 22, 11, 40, 19, 27]), 3, 4),
        (torch.tensor([8, 5, 0, 13]), 0, 1),
        (torch.tensor([8, 5, 0, 13, 6]), 0, 2),
        (torch.tensor([4, 8, 1]), 2, 4),
    ],
    mistakes={
        "The first tensor holds the samples' numbers: return their places in the batch": (
            lambda index, r, k: (index[index % k == r], _own_places(index, r, k)[1])
        ),
        "These slots are those of one process that keeps all N samples: here sample i has slot i // size": partial(
            _own_places, slots=lambda own, size: own
        ),
        "A slot belongs to a sample, not to a place in the batch: the next batch must find it again": partial(
            _own_places, slots=lambda own, size: torch.arange(len(own))
        ),
        "i % size is the process that keeps sample i; its slot there is i // size": partial(
            _own_places, slots=lambda own, size: own % size
        ),
        "The samples are dealt out in turn, index mod size: here every size-th place of the batch is taken": (
            lambda index, r, k: (torch.arange(len(index))[r::k], index[r::k] // k)
        ),
        "Keep the order of the batch: here the places are sorted by sample": lambda index, r, k: tuple(
            part[index[_own_places(index, r, k)[0]].argsort()] for part in _own_places(index, r, k)
        ),
    },
    runs="The next cell",
)


def _handed_loss(own_losses: Tensor, b: int, size: int) -> Tensor:
    return size * own_losses.sum() / (2 * b)


handed_loss = Exercise(
    "handed_loss",
    _handed_loss,
    cases=[
        (torch.tensor([2.0, 3.0, 4.0, 5.0]), 6, 3),
        (torch.tensor([2.0, 7.0]), 3, 2),
        (_normal(0, 10).exp(), 8, 2),
        (_normal(1, 6).exp(), 16, 8),
        (torch.tensor([]), 4, 2),
        (_normal(2, 8).exp(), 4, 1),
    ],
    mistakes={
        "As a mean of its own rows, a process with few of them counts as much as one with many; with none it is nan": (
            lambda own, b, k: own.mean()
        ),
        "The gradients are averaged over the processes afterwards: multiply by their number": (
            lambda own, b, k: own.sum() / (2 * b)
        ),
        "The average over the processes divides by their number once more: multiply by it here, do not divide": (
            lambda own, b, k: own.sum() / (2 * b * k)
        ),
        "A batch of b samples has 2b rows: divide by 2b": lambda own, b, k: k * own.sum() / b,
        "The sum must be divided by the 2b rows of the whole batch": lambda own, b, k: k * own.sum(),
        "This is K times the mean of the own rows: divide their sum by the 2b rows of the whole batch": (
            lambda own, b, k: k * own.mean()
        ),
    },
    runs="The next cell",
)

# 9.5: the time of a step


def _step_time(
    machine: Machine,
    b: int,
    K: int,
    d: int,
    weights: int,
    share: Callable[[int], int] = lambda K: K,
    rows: int = 2,
    sends: Callable[[int], float] = lambda K: (K - 1) / K,
    gathers: int = 3,
    sums: int = 2,
    waits: Callable[[int], int] = lambda K: 9 if K > 1 else 0,
    constant: bool = True,
    unit: float = 1000,
    products: Callable[[int], int] = lambda K: 2 if K == 1 else 3,
    views: int = 6,
    calls: Callable[[int], float] = lambda K: 3,
    number: int = 4,
) -> float:
    """Milliseconds of a step of NT-Xent; the other arguments are what a mistake gets wrong."""
    amounts = {
        "encodings": views * b / share(K),
        "passes": calls(K),
        "products": products(K) * (rows * b / share(K)) * (rows * b) * d,
        "messages": waits(K),
        "bytes": sends(K) * number * (gathers * rows * b * d + sums * weights),
        "step": 1 if constant else 0,
    }
    return unit * sum(getattr(machine, name) * amount for name, amount in amounts.items())


def _machine(**rates: float) -> Machine:
    return Machine(**dict.fromkeys(Machine._fields, 0.0) | rates)


def _only(name: str) -> Machine:
    """A machine on which all but one kind of work is free. Its type is printed, and so names the term that is wrong."""
    machine = type(f"Machine with the rate {name} 1, all others 0, a tuple", (Machine,), {})
    return machine(**dict.fromkeys(Machine._fields, 0.0) | {name: 1.0})


_TERMS = ("step", "encodings", "passes", "products", "messages", "bytes")
_DEAR_VIEWS = _machine(encodings=1e-4, passes=1e-3, products=1e-9, messages=2e-4, bytes=1e-9, step=3e-3)
_DEAR_BYTES = _machine(
    encodings=2e-6, passes=5e-4, products=2e-9, messages=1e-4, bytes=3e-8, step=1e-4, candidates=1.0, entries=1.0,
    turns=1.0,
)  # fmt: skip

step_time = Exercise(
    "step_time",
    _step_time,
    cases=[
        *((_only(name), 16, K, 32, 10_000) for name in _TERMS for K in (1, 2, 4)),
        (_DEAR_VIEWS, 16, 1, 32, 10_000),
        (_DEAR_VIEWS, 64, 2, 32, 90_000),
        (_DEAR_BYTES, 256, 4, 128, 20_000),
        (_DEAR_BYTES, 32, 8, 512, 1_000),
        (_DEAR_BYTES, 128, 1, 64, 50_000),
    ],
    mistakes={
        "With one process nothing is sent: no messages, no bytes": partial(
            _step_time, waits=lambda K: 9, sends=lambda K: 1.0
        ),
        "With one process nothing is sent: no messages": partial(_step_time, waits=lambda K: 9),
        "With one process nothing is sent: no bytes": partial(
            _step_time, sends=lambda K: 1.0 if K == 1 else (K - 1) / K
        ),
        "Calls of the encoder are not shared: 3 in every process": partial(_step_time, calls=lambda K: 3 / K),
        "These are 2b / K encodings, the forward pass alone: with backward, which costs two more, 6b / K": partial(
            _step_time, views=2
        ),
        "A number has 4 bytes: these are numbers sent, not bytes": partial(_step_time, number=1),
        "The rates are seconds: multiply by 1000": partial(_step_time, unit=1),
        "The encodings are shared: 6b / K for each process": lambda m, b, K, d, w: (
            _step_time(m, b, K, d, w) + 1000 * m.encodings * 6 * b * (1 - 1 / K)
        ),
        "A process's own part need not leave it: (K - 1) / K of the bytes are sent": partial(
            _step_time, sends=lambda K: 1.0 if K > 1 else 0.0
        ),
        "Backward, the gathered table is summed over processes, which sends it twice: three times in all": partial(
            _step_time, gathers=2
        ),
        "This sends each table once: a sum over processes sends its numbers twice": partial(
            _step_time, gathers=2, sums=1
        ),
        "A batch has 2b rows, two views of each sample": partial(_step_time, rows=1),
        "The constant, `machine.step`, is missing": partial(_step_time, constant=False),
        "With K = 1 there are two products, the scores and one for the gradient; with more processes three": partial(
            _step_time, products=lambda K: 3
        ),
    },
    runs="The next table",
)

# 9.6 and 9.7: two towers


def _one_side(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(anchors @ others.T / temperature, torch.arange(len(anchors)))


def _clip(images: Tensor, captions: Tensor, temperature: float) -> Tensor:
    return (_one_side(images, captions, temperature) + _one_side(captions, images, temperature)) / 2


def _pairs(count: int, seed: int, temperature: float) -> tuple[Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(seed)
    images, captions = (torch.randn(count, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    return F.normalize(images, dim=1), F.normalize(captions + 0.5 * images, dim=1), temperature


def _without_positives(anchors: Tensor, others: Tensor, temperature: float) -> Tensor:
    scores = anchors @ others.T / temperature
    negatives = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -torch.inf)
    return (negatives.logsumexp(1) - scores.diag()).mean()


clip_loss = Exercise(
    "clip_loss",
    _clip,
    cases=[_pairs(5, 0, 0.1), _pairs(8, 1, 0.5), _pairs(2, 2, 1.0), _pairs(6, 3, 0.01)],
    mistakes={
        "Only the images are anchors here: the captions are anchors too": _one_side,
        "Only the captions are anchors here: the images are anchors too": lambda i, c, t: _one_side(c, i, t),
        "This is the sum of both sides: take their mean": lambda i, c, t: 2 * _clip(i, c, t),
        "The pair itself is missing from the sums: CLIP's loss counts it, DCL's does not": (
            lambda i, c, t: (_without_positives(i, c, t) + _without_positives(c, i, t)) / 2
        ),
        "Here images are pushed from images: an image's negatives are captions": (
            lambda i, c, t: (_one_side(i, i, t) + _one_side(c, c, t)) / 2
        ),
        "This sums over the batch: take the mean": lambda i, c, t: len(i) * _clip(i, c, t),
        **wrong_temperatures(_clip),
    },
    runs="The next cell",
)


def _own_pairs_loss(
    images: Tensor,
    captions: Tensor,
    all_images: Tensor,
    all_captions: Tensor,
    rank: int,
    temperature: float,
    offsets: Callable[[int, int, int], tuple[int, int]] = lambda n, rank, b: (n * rank, n * rank),
) -> Tensor:
    n = len(images)
    sides = (images, all_captions), (captions, all_images)
    starts = offsets(n, rank, len(all_images))
    scores = [anchors @ others.T / temperature for anchors, others in sides]
    both = zip(scores, starts, strict=True)
    losses = [F.cross_entropy(one, (torch.arange(n) + start) % len(all_images)) for one, start in both]
    return torch.stack(losses).mean()


def _of_process(rank: int, size: int, n: int, seed: int, temperature: float):
    images, captions, _ = _pairs(size * n, seed, temperature)
    return images.chunk(size)[rank].clone(), captions.chunk(size)[rank].clone(), images, captions, rank, temperature


own_pairs_loss = Exercise(
    "own_pairs_loss",
    _own_pairs_loss,
    cases=[
        _of_process(0, 2, 4, 0, 0.2),
        _of_process(1, 2, 4, 0, 0.2),
        _of_process(2, 3, 2, 1, 0.07),
        _of_process(1, 4, 3, 2, 1.0),
        _of_process(3, 4, 1, 3, 0.5),
    ],
    mistakes={
        "The bug is still in it": partial(_own_pairs_loss, offsets=lambda n, r, b: (0, 0)),
        "One side is mended: the captions' rows have the same diagonal": partial(
            _own_pairs_loss, offsets=lambda n, r, b: (n * r, 0)
        ),
        "One side is mended: the images' rows have the same diagonal": partial(
            _own_pairs_loss, offsets=lambda n, r, b: (0, n * r)
        ),
        "The columns of process `rank` begin after those of `rank` processes of n samples each: at n * rank": partial(
            _own_pairs_loss, offsets=lambda n, r, b: (r, r)
        ),
        "The first column is number n * rank; ranks count from 0": partial(
            _own_pairs_loss, offsets=lambda n, r, b: (n * (r + 1), n * (r + 1))
        ),
        "These are the process's own columns alone: its negatives are those of all processes": (
            lambda i, c, all_i, all_c, r, t: _clip(i, c, t)
        ),
        "This is the loss of the whole batch: return that of the process's own rows": (
            lambda i, c, all_i, all_c, r, t: _clip(all_i, all_c, t)
        ),
    },
    runs="The next cell",
)

# 9.8: the step of a process


def process_step_reference(process, x1, x2, weights, temperature):
    """The loss of the whole batch and its gradient by the encoder's weights, in a process that has a part of it."""
    encoder = weights.detach().clone().requires_grad_()
    z1, z2 = (F.normalize(x @ encoder, dim=1) for x in (x1, x2))
    first, second = (process.gather(z.detach()) for z in (z1, z2))
    columns = torch.cat((*first, *second)).requires_grad_()
    n, b = len(x1), len(columns) // 2
    start = sum(len(part) for part in first[: process.rank])
    place = torch.arange(start, start + n)
    rows = torch.cat((z1, z2))
    scores = rows @ columns.T / temperature
    own = torch.zeros_like(scores, dtype=torch.bool)
    own[torch.arange(2 * n), torch.cat((place, place + b))] = True
    scores = scores.masked_fill(own, -torch.inf)
    loss = F.cross_entropy(scores, torch.cat((place + b, place)), reduction="sum") / (2 * b)
    loss.backward(retain_graph=True)
    asked = process.reduce(columns.grad)
    rows.backward(torch.cat((asked[place], asked[place + b])))
    return process.reduce(loss), process.reduce(encoder.grad)


def _process_step(
    process: Process,
    x1: Tensor,
    x2: Tensor,
    weights: Tensor,
    temperature: float,
    asked: Callable[[Process, Any], Any] = lambda process, gradient: process.reduce(gradient),
    start: Callable[[list[int], int], int] = lambda lengths, rank: sum(lengths[:rank]),
    mask: bool = True,
    positives: bool = True,
    length_one: bool = True,
    over: Callable[[Process, int, int], float] = lambda process, n, b: 2 * b,
    summed: Callable[[Process, Any], Tensor] = lambda process, value: process.reduce(value),
    read: Callable[[Process, Tensor], Tensor] = lambda process, value: process.reduce(value),
) -> tuple[Tensor, Tensor]:
    """The step with its mistakes."""
    encoder = weights.detach().clone().requires_grad_()
    z1, z2 = (x @ encoder for x in (x1, x2))
    z1, z2 = (F.normalize(z, dim=1) for z in (z1, z2)) if length_one else (z1, z2)
    first, second = (process.gather(z.detach()) for z in (z1, z2))
    columns = torch.cat((*first, *second)).requires_grad_()
    n, b = len(x1), len(columns) // 2
    true_place = torch.arange(n) + sum(len(part) for part in first[: process.rank])
    place = (torch.arange(n) + start([len(part) for part in first], process.rank)) % b
    rows = torch.cat((z1, z2))
    scores = rows @ columns.T / temperature
    left_out = torch.zeros_like(scores, dtype=torch.bool)
    if mask:
        left_out[torch.arange(2 * n), torch.cat((place, place + b))] = True
    targets = torch.cat((place + b, place))
    positive = scores.gather(1, targets[:, None])[:, 0]
    if not positives:
        left_out[torch.arange(2 * n), targets] = True
    losses = scores.masked_fill(left_out, -torch.inf).logsumexp(dim=1) - positive
    loss = losses.sum() / over(process, n, b)
    loss.backward(retain_graph=True)
    gradient = asked(process, columns.grad)
    if gradient is not None:
        rows.backward(torch.cat((gradient[true_place], gradient[true_place + b])))
    return read(process, loss.detach()), summed(process, encoder.grad)


def _averaged(process: Process, value: Tensor) -> Tensor:
    return process.reduce(value) / process.size


def _alone(process: Process, x1: Tensor, x2: Tensor, weights: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Each process's own negatives only; the mean over rows."""
    lonely = Process(0, 1, lambda tensor: [tensor], lambda tensor: tensor)
    loss, gradient = _process_step(lonely, x1, x2, weights, temperature)
    share = len(x1) / process.reduce(torch.tensor(float(len(x1)))).item()
    return process.reduce(share * loss), process.reduce(share * gradient)


class Sizes(tuple):
    """How many samples each process holds. As a process it is one that holds all of them."""

    rank, size = 0, 1

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return [tensor.detach().clone()]

    def reduce(self, tensor: Tensor) -> Tensor:
        return tensor.detach().clone()


def _has_pixels(tensor: Any, views: Sequence[Tensor]) -> bool:
    """Whether a message holds the pixels of a process, as they are, one beside the other, turned or in one row."""
    numbers = torch.as_tensor(tensor).detach().double().flatten()
    pixels = views[0].numel()
    return numbers.numel() >= pixels and any(bool(torch.isin(x.double().flatten(), numbers).all()) for x in views)


def in_processes(
    process_step: Callable, sizes: Sequence[int], x1: Tensor, x2: Tensor, weights: Tensor, temperature: float
) -> Any:
    """What `process_step` returns in each of len(sizes) simulated processes that share the rows of x1 and x2.

    Raises: ValueError: a process sends its pixels.

    >>> sizes = [2, 1]
    >>> in_processes(lambda process, x1, x2, *rest: (process.rank, len(x1)), sizes, *torch.ones(2, 3, 4), None, 1.0)
    [(0, 2), (1, 1)]
    """

    def program(process: Process) -> Any:
        own = [x.split(list(sizes))[process.rank].clone() for x in (x1, x2)]

        def message(send: Callable, tensor: Tensor) -> Any:
            if _has_pixels(tensor, own):
                raise ValueError("These are pixels: gather embeddings, or every process encodes the whole batch")
            return send(tensor)

        watched = process._replace(gather=partial(message, process.gather), reduce=partial(message, process.reduce))
        return process_step(watched, *own, weights.clone() if weights is not None else None, temperature)

    returned = together(len(sizes), program)
    return next((value for value in returned if value is None or value is ...), returned)


def _shared(sizes: Sequence[int], features: int, d: int, seed: int, temperature: float):
    x1 = _normal(seed, sum(sizes), features)
    x2 = x1 + 0.7 * _normal(seed + 1, sum(sizes), features)
    return Sizes(sizes), x1, x2, _normal(seed + 2, features, d), temperature


process_step = Exercise(
    "process_step",
    process_step_reference,
    cases=[
        _shared((4,), 5, 3, 0, 0.5),
        _shared((3, 3), 5, 3, 10, 0.5),
        _shared((2, 4), 4, 3, 20, 0.2),
        _shared((2, 1, 3), 6, 4, 30, 1.0),
        _shared((1, 5, 2), 4, 2, 40, 0.1),
    ],
    drive=in_processes,
    mistakes={
        "What other processes ask of this process's rows is missing: reduce the columns' gradient": partial(
            _process_step, asked=lambda process, gradient: gradient
        ),
        "What all ask of the rows is divided by K: the loss is divided by 2b already: add up, do not average": partial(
            _process_step, asked=lambda process, gradient: process.reduce(gradient) / process.size
        ),
        "The columns carry no gradient: an embedding is a negative and a positive of other rows too": partial(
            _process_step, asked=lambda process, gradient: None
        ),
        "The positives lie on the diagonal of process 0: begin after the samples of the processes before": partial(
            _process_step, start=lambda lengths, rank: 0
        ),
        "The processes hold different numbers of samples: begin after all samples of the processes before": partial(
            _process_step, start=lambda lengths, rank: rank * lengths[rank]
        ),
        "Each process's negatives are its own only: gather the embeddings": _alone,
        "A row is among its own negatives: leave out the score of the row itself": partial(_process_step, mask=False),
        "The positive is missing from the sum: NT-Xent counts it, DCL does not": partial(
            _process_step, positives=False
        ),
        "The embeddings need length 1: normalise x @ weights": partial(_process_step, length_one=False),
        "Processes with few samples weigh as much as those with many: take the mean over all 2b rows": partial(
            _process_step, over=lambda process, n, b: 2 * n * process.size
        ),
        "Each process returns its own part: reduce loss and gradient": partial(
            _process_step, summed=lambda process, value: value, read=lambda process, value: value
        ),
        "This is the gradient of this process alone: reduce it too": partial(
            _process_step, summed=lambda process, value: value
        ),
        "The loss is divided by 2b already: add up, do not average": partial(
            _process_step, summed=_averaged, read=_averaged
        ),
        "The loss is divided by 2b already: add up the gradients, do not average": partial(
            _process_step, summed=_averaged
        ),
        "The loss is divided by 2b already: add up the losses, do not average": partial(_process_step, read=_averaged),
        "This is the loss of this process's rows: reduce it too": partial(
            _process_step, read=lambda process, value: value
        ),
        **wrong_temperatures(_process_step),
    },
    runs="The rest of the chapter",
)
