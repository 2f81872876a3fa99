"""Exercises of chapter 07; in the mistakes: gradient or list of gradients g."""

import copy
import io
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from emc2_lite.course.exercise import Exercise
from emc2_lite.losses import EMC2Loss, SogCLRLoss
from emc2_lite.training import EpochSampler, TrainingStep, views_of_epoch, warmup_cosine
from emc2_lite.vision import DigitViews, view_uniforms
from emc2_lite.vision.encoders import Encoder

# 7.1: views


def _changed(images: Tensor, index: Tensor, uniforms: Tensor, light: Tensor | None = None) -> Tensor:
    """Mirror images and brightness from uniforms, (k, 2) or (1, 2); another `light` takes the second column's place."""
    mirror, own = uniforms[:, :, None, None, None].unbind(1)
    pixels = torch.where(mirror < 0.5, images[index].flip(-1), images[index])
    return ((0.5 + (own if light is None else light)) * pixels).clamp(0, 1)


def _own_draws(images, index, view):
    return _changed(images, index, view_uniforms(index, view, 2))


def _pictures(count, height, width, seed):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def _names(*pairs):
    return torch.tensor([index for index, _ in pairs]), torch.tensor([view for _, view in pairs])


plain_views = Exercise(
    "plain_views",
    _own_draws,
    cases=[
        (_pictures(4, 3, 5, 0), *_names((0, 0), (1, 0), (2, 1), (3, 1))),
        (_pictures(2, 4, 3, 1), *_names((1, 6), (0, 6), (1, 7), (0, 7))),
        (_pictures(5, 2, 4, 2), *_names((4, 3), (2, 3), (2, 8), (0, 9), (4, 8), (1, 3))),
        (_pictures(3, 3, 3, 3), *_names((2, 5))),
    ],
    mistakes={
        "The bug is still in it: one set of random numbers serves the whole batch": (
            lambda images, index, view: _changed(images, index, view_uniforms(index, view, 2)[:1])
        ),
        "The mirror image is drawn for each view, and the brightness still once for the batch": (
            lambda images, index, view: _changed(
                images, index, view_uniforms(index, view, 2), view_uniforms(index, view, 2)[0, 1]
            )
        ),
        "The brightness is drawn for each view, and the mirror image still once for the batch": (
            lambda images, index, view: _changed(
                images,
                index,
                view_uniforms(index, view, 2)[:1],
                view_uniforms(index, view, 2)[:, 1, None, None, None],
            )
        ),
        "All views of a sample are alike here: the numbers depend on the view number too": (
            lambda images, index, view: _changed(images, index, view_uniforms(index, 0 * view, 2))
        ),
        "All samples share the numbers of a view here: they depend on the sample's index too": (
            lambda images, index, view: _changed(images, index, view_uniforms(0 * index, view, 2))
        ),
    },
    runs="The next sheet",
)

# 7.2: the schedule


def _after_warmup(shape):
    """A rate that rises in the warm-up, then is `shape` of the share of the remaining steps, from 0 to 1."""
    return lambda step, warmup, total: (
        (step + 1) / warmup if step < warmup else shape((step - warmup) / (total - warmup))
    )


def _half_cosine(x):
    return (1 + math.cos(math.pi * x)) / 2


_rate_share = _after_warmup(_half_cosine)
rate_share = Exercise(
    "rate_share",
    _rate_share,
    cases=[
        *((step, 10, 100) for step in (0, 9, 10, 30, 55, 99)),
        *((step, 0, 50) for step in (0, 25, 40)),
        *[(3, 4, 9), (4, 10, 30), (7, 2, 9)],
    ],
    mistakes={
        "The warm-up starts at 0 here, so that the first step is lost: its share is (step + 1) / warmup": (
            lambda step, warmup, total: step / warmup if step < warmup else _rate_share(step, warmup, total)
        ),
        "The cosine must begin where the warm-up ends, not at step 0": (
            lambda step, warmup, total: (step + 1) / warmup if step < warmup else _half_cosine(step / total)
        ),
        "A full turn of the cosine comes back up: take half a turn, pi": _after_warmup(lambda x: _half_cosine(2 * x)),
        "This falls in a straight line: the share is (1 + cos) / 2": _after_warmup(lambda x: 1 - x),
        "The cosine itself runs from 1 to -1: add 1 and halve it": _after_warmup(lambda x: math.cos(math.pi * x)),
    },
    runs="The next figure",
)

# 7.3: the loop

PARTS = ("encoder", "criterion", "optimiser", "schedule", "sampler")  # of a run; each has a state dict


class TinyRun:
    """A training run of a millisecond a step, with the parts of chapter 07's runs, and `done` steps behind it.

    The parts are made when one is first asked for. A deep copy is the same run, made anew.

    >>> run = TinyRun(samples=12, batch_size=3, temperature=0.2, warmup=2, total=9)
    >>> sum(weights.numel() for weights in run.encoder.parameters())
    68
    """

    def __init__(self, *, done: int = 0, **settings: Any):
        self.settings = settings | {"done": done}

    def __deepcopy__(self, _) -> "TinyRun":
        return TinyRun(**self.settings)

    def other(self) -> "TinyRun":
        """A run with the same settings, other weights and random numbers, and no step behind it."""
        return TinyRun(**self.settings | {"seed": self.settings.get("seed", 0) + 1, "done": 0})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "encoder" in vars(self):
            raise AttributeError(f"a run has no {name!r}")
        self._make(**self.settings)
        return getattr(self, name)

    def _make(self, done, samples, batch_size, temperature, warmup, total, gamma=None, seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = Encoder(nn.Flatten(), nn.Linear(16, 4), 4).double()
            torch.manual_seed(0)  # the images are those of every run
            self.views = DigitViews(torch.rand(samples, 1, 4, 4, dtype=torch.float64))
        loss = EMC2Loss(samples, temperature) if gamma is None else SogCLRLoss(samples, temperature, gamma)
        self.criterion = loss.double()
        self.optimiser = torch.optim.Adam(self.encoder.parameters(), lr=0.05)
        self.schedule = warmup_cosine(self.optimiser, warmup_steps=warmup, total_steps=total)
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler = EpochSampler(samples, batch_size, self.generator)
        _train_steps(self, done)


def _train_steps(run, steps):
    update = TrainingStep(run.encoder, run.views, run.criterion, run.optimiser, run.generator)
    losses = []
    for epoch, index in islice(run.sampler, steps):
        update(index, views_of_epoch(epoch, index))
        run.schedule.step()
        losses.append(run.criterion.stats.loss.item())
    return losses


@cache
def _warm_up() -> None:
    """A few steps, once in a process: PyTorch's first optimiser imports modules for seconds."""
    for gamma in (None, 0.5):
        _train_steps(TinyRun(samples=6, batch_size=3, temperature=0.2, warmup=2, total=4, gamma=gamma), 3)


class RunExercise(Exercise):
    """An exercise whose clock begins after the warm-up."""

    def verdict(self, learner: Any) -> str:
        _warm_up()
        return super().verdict(learner)


def _weights(run: TinyRun) -> Tensor:
    return torch.cat([weights.detach().flatten() for weights in run.encoder.parameters()])


def _trained(train_steps: Callable, run: TinyRun, steps: int) -> Any:
    """The losses that the loop returns, and the weights that it leaves."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # PyTorch warns of a schedule that moves before its optimiser
        torch.manual_seed(0)
        losses = train_steps(run, steps)
    return losses if losses is None or losses is ... else (losses, _weights(run))


def _loop(
    numbers=lambda epoch: 2 * epoch,
    clear=True,
    move=lambda run, done: run.schedule.step(),
    own=True,
    readable=True,
    later=False,
    told=True,
    early=False,
):
    """The loop of `_train_steps` by hand, with the mistakes that the arguments name."""

    def train_steps(run, steps):
        def encode(index, view):
            return run.encoder(run.views(index, view))

        losses = []
        for done, (epoch, index) in enumerate(islice(run.sampler, steps), start=1):
            view = torch.stack((torch.full_like(index, numbers(epoch)), torch.full_like(index, numbers(epoch) + 1)))
            z1, z2 = encode(index.repeat(2), view.flatten()).chunk(2)
            loss = run.criterion(z1, z2, index, view if told else None, encode, run.generator if own else None)
            if later:
                run.optimiser.step()
            if clear:
                run.optimiser.zero_grad()
            loss.backward()
            if early:
                move(run, done)
            if not later:
                run.optimiser.step()
            if not early:
                move(run, done)
            losses.append(run.criterion.stats.loss.item() if readable else loss.item())
        return losses

    return train_steps


train_steps = RunExercise(
    "train_steps",
    _train_steps,
    cases=[
        (TinyRun(samples=12, batch_size=3, temperature=0.05, warmup=3, total=24), 23),
        (TinyRun(samples=11, batch_size=4, temperature=0.2, warmup=0, total=8, seed=2), 7),
        (TinyRun(samples=9, batch_size=4, temperature=0.3, warmup=2, total=6, gamma=0.5, seed=1), 5),
    ],
    mistakes={
        "The gradients of all steps add up: clear them before the backward pass": _loop(clear=False),
        "The learning rate never moves: call run.schedule.step() at the end of each step": (
            _loop(move=lambda run, done: None)
        ),
        "The schedule moves once per epoch: move it after each step": (
            _loop(move=lambda run, done: done % run.sampler.batches_per_epoch or run.schedule.step())
        ),
        "Every epoch shows the same two views: their numbers are 2 * epoch and 2 * epoch + 1": (
            _loop(numbers=lambda epoch: 0)
        ),
        "An epoch shows a view of the epoch before it again: the numbers are 2 * epoch and 2 * epoch + 1": (
            _loop(numbers=lambda epoch: epoch)
        ),
        "The loss draws from PyTorch's global generator: pass run.generator as its last argument": _loop(own=False),
        "What the loss returns only carries the gradient: the number to read is run.criterion.stats.loss": (
            _loop(readable=False)
        ),
        "The loss is not told which views it sees: pass view, for chains store their numbers": _loop(told=False),
        "The schedule moves before the optimiser: it sets the rate of the step to come": _loop(early=True),
        "The optimiser steps before the backward pass, with the gradient of the step before": _loop(later=True),
    },
    drive=_trained,
    runs="The next figure",
)

# 7.4 and 7.5: float16


def _exponent(size):
    return math.log2(65504 / size.item())


def _power_of_two(exponent):
    return 2**exponent if 0 <= exponent < 63 else 2.0**exponent  # a whole number is printed with all its digits


largest_scale = Exercise(
    "largest_scale",
    lambda gradient: _power_of_two(math.floor(_exponent(gradient.abs().max()))),
    cases=[
        *((torch.tensor(g),) for g in ([1e-6, -3e-5, 2e-9], [0.5, -0.7], [[1.0, 2.0], [-4.0, 0.0]], [-1e-3, 4e-7])),
        *((torch.tensor(g),) for g in ([0.9, 0.8, -0.9, 0.85], [0.3, 0.7, -0.2], [1.9995, 0.5], [-3.0, 1e6])),
        *((torch.tensor(g),) for g in ([0.1, -0.2, 0.05, 3.0], [2e-9])),
    ],
    mistakes={
        "Rounded to nearest, the scale may be too large: round down": lambda g: 2.0 ** round(_exponent(g.abs().max())),
        "A negative number can be the largest: take absolute values": lambda g: 2.0 ** math.floor(_exponent(g.max())),
        "This takes the tensor's length: take its largest number": lambda g: 2.0 ** math.floor(_exponent(g.norm())),
        "int rounds a negative exponent up: math.floor rounds down": lambda g: 2.0 ** int(_exponent(g.abs().max())),
        "This is not a power of two: any other factor rounds every number": lambda g: 65504 / g.abs().max().item(),
        "This is the exponent: the scale is 2 to that power": lambda g: float(math.floor(_exponent(g.abs().max()))),
    },
    runs="The next cell",
)


def _scaler(
    unscaled=lambda half, scale: half.float() / scale,
    skip=True,
    grow=2.0,
    anew_after_skip=True,
    anew_after_growth=True,
    before=False,
    late=False,
    rounded=Tensor.half,
    finite=lambda half: half.isfinite().all(),
):
    """The scaler step by step, with the mistakes that the arguments name."""

    def scaled_steps(gradients, scale, patience):
        updates, scales, good = [], [], 0
        for gradient in gradients:
            if before:
                scales.append(scale)
            half = rounded(scale * gradient)
            if finite(half):
                updates.append(unscaled(half, scale))
                good += 1
            else:
                part = torch.nan_to_num(half, 0.0, 0.0, 0.0)
                updates.append(torch.zeros_like(gradient) if skip else unscaled(part, scale))
                scale, good = scale / 2, 0 if anew_after_skip else good
            if good >= patience:
                if late:
                    updates[-1] = unscaled(half, scale * grow)
                scale, good = scale * grow, 0 if anew_after_growth else good
            if not before:
                scales.append(scale)
        return torch.stack(updates), scales

    return scaled_steps


def _sizes(seed, exponents):
    """A gradient of four numbers for each power of two in `exponents`: its largest number is about that size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [2.0**exponent * (2 * torch.rand(4, generator=generator) - 1).mul(0.9) for exponent in exponents]
    )


def _with(gradients, place, value):
    gradients[place] = value
    return gradients


scaled_steps = Exercise(
    "scaled_steps",
    _scaler(),
    cases=[
        (_sizes(0, [0, 1, 0, 2, 0, 0, -1, 0, 1, 0, 0, 3, 0, 0]), 2.0**17, 3),
        (_sizes(1, [-22, -20, -24, -21, -23, -22, -20, -21]), 2.0**4, 2),
        (_with(_sizes(2, [-3, -2, -4, -3, -2, -3, -3, -4, -3, -2]), (4, 1), math.nan), 2.0**12, 4),
        (_with(_sizes(3, [-6, -8, -7, -6, -9, -7]), (2, 3), -math.inf), 2.0**14, 1),
    ],
    tolerance=0.0,  # scales are powers of two, so that each step but the rounding to float16 is exact
    mistakes={
        "The optimiser gets the scaled gradient: divide it by the scale first": (
            _scaler(unscaled=lambda half, scale: half.float())
        ),
        "Divided in float16, small numbers are lost again: turn the gradient into float32 first": (
            _scaler(unscaled=lambda half, scale: half / scale)
        ),
        "Divide by the scale that the step was made with, before you change it": _scaler(late=True),
        "The scaled gradient is float16 here: nothing overflows in float32": _scaler(rounded=lambda scaled: scaled),
        "NaN is not finite either": _scaler(finite=lambda half: not half.isinf().any()),
        "A step with a number that is not finite is skipped whole, and the optimiser gets zeros": _scaler(skip=False),
        "The scale never grows: double it after `patience` good steps in a row": _scaler(grow=1.0),
        "Only good steps in a row count: begin the count anew after a step that is skipped": (
            _scaler(anew_after_skip=False)
        ),
        "After a doubling the count of good steps begins anew": _scaler(anew_after_growth=False),
        "These are the scales before each step: return those after it": _scaler(before=True),
    },
    runs="The next figure",
)

# 7.6: clipping


def _length(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


def _scaled(gradients, share):
    return [share * gradient for gradient in gradients]


def _gradients(scale, seed, shapes=((3, 2), (4,), (1,))):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


clipped = Exercise(
    "clipped",
    lambda gradients, most: _scaled(gradients, min(1.0, most / _length(gradients))),
    cases=[
        (_gradients(1.0, 0), 1.0),
        (_gradients(0.01, 1), 1.0),
        (_gradients(5.0, 2), 2.5),
        (_gradients(0.5, 3), 5.0),
        (_gradients(0.1, 4, ((2,), (3,), (2, 2), (1,), (5,))), 0.2),
        ([torch.tensor([3.0]), torch.tensor([4.0])], 4.5),
    ],
    mistakes={
        "Each tensor is shortened by itself, which changes the direction: take one length for all tensors": (
            lambda g, most: [part * min(1.0, most / _length([part])) for part in g]
        ),
        "A short gradient must not change: the share is at most 1": lambda g, most: _scaled(g, most / _length(g)),
        "A limit on every number changes the direction: multiply all numbers by one share": (
            lambda g, most: [part.clamp(-most, most) for part in g]
        ),
        "The lengths of the tensors do not add up to the length of the whole: their squares do": (
            lambda g, most: _scaled(g, min(1.0, most / sum(_length([part]) for part in g)))
        ),
    },
    runs="The next figure",
)

# 7.7: save and resume


def _state_of(run):
    return {name: getattr(run, name).state_dict() for name in PARTS} | {"generator": run.generator.get_state()}


def _without(name):
    return lambda run: {part: state for part, state in _state_of(run).items() if part != name}


def _restore(run: TinyRun, state: Mapping) -> None:
    """Put a state into a run; parts that are missing stay as they are."""
    for name in PARTS:
        if name in state:
            getattr(run, name).load_state_dict(state[name])
    if "generator" in state:
        run.generator.set_state(state["generator"])


def _resumed(state_of: Callable, run: TinyRun) -> Any:
    """The weights of a run that goes on from the state in a file, minus those of the run itself when it goes on.

    >>> run = TinyRun(samples=12, batch_size=3, temperature=0.2, warmup=2, total=9, done=5)
    >>> _resumed(_state_of, run).count_nonzero().item()
    0
    """
    state, names = state_of(run), {*PARTS, "generator"}
    if state is None or state is ...:
        return state
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__} instead of a dictionary"
    if names - state.keys() and (unknown := state.keys() - names):
        return f"the key {min(unknown, key=str)!r}, which names no part of the run"
    for name, value in state.items():
        if hasattr(value, "state_dict"):
            return f"`{name}` is the part itself: return its state_dict()"
        if isinstance(value, torch.Generator):
            return f"`{name}` is the part itself: return its get_state()"
    file, resumed = io.BytesIO(), run.other()
    try:
        torch.save(dict(state), file)
    except Exception:  # the pickler's errors are of several kinds
        return "an object that torch.save cannot write"
    file.seek(0)
    try:
        state = torch.load(file, weights_only=True)
    except Exception:  # the unpickler's errors are of several kinds
        return "an object that torch.load refuses with weights_only=True"
    try:
        _restore(resumed, state)
    except Exception:  # a part's errors are of several kinds
        return "a state that a part of the run cannot load"
    left = run.settings["total"] - run.settings["done"]
    for each in (run, resumed):
        _train_steps(each, left)
    return _weights(resumed) - _weights(run)


state_of = RunExercise(
    "state_of",
    _state_of,
    cases=[
        (TinyRun(samples=12, batch_size=3, temperature=0.05, warmup=3, total=14, done=6),),
        (TinyRun(samples=11, batch_size=4, temperature=0.2, warmup=2, total=9, done=5, seed=2),),
        (TinyRun(samples=9, batch_size=3, temperature=0.3, warmup=2, total=8, done=4, gamma=0.3, seed=4),),
    ],
    tolerance=0.0,  # bit for bit
    mistakes={
        "The encoder is missing: the run goes on with other weights": _without("encoder"),
        "The optimiser is missing: Adam forgets its running means of the gradient and of its square": (
            _without("optimiser")
        ),
        "The loss's state is missing: its chains or averages begin anew": _without("criterion"),
        "The schedule is missing: the run forgets its step, and warms up again": _without("schedule"),
        "The sampler is missing: the run forgets its place in the epoch, and shows samples again": _without("sampler"),
        "The generator is missing: the run goes on with other random numbers": _without("generator"),
        "This is the state of PyTorch's global generator: the run draws from run.generator": (
            lambda run: _state_of(run) | {"generator": torch.Generator().manual_seed(0).get_state()}
        ),
    },
    drive=_resumed,
    runs="The next figure",
)

# 7.8: a run that survives


def _survivor(new_run, steps, path, watch, numbered=lambda run: run.schedule.last_epoch):
    run, draft = new_run(), path.with_suffix(".draft")
    if path.exists():
        _restore(run, torch.load(path, weights_only=True))
    while numbered(run) < steps:
        _train_steps(run, 1)
        torch.save(_state_of(run), draft)
        draft.replace(path)
        watch(numbered(run))
    return _weights(run)


class Killed(BaseException):
    """The process of a run has ended. Not an Exception: an answer's own ``except Exception`` must not catch it."""


class Process:
    """What an answer meets: `watch`, and `torch.save` in `running()`. Each ends the process where `kills` says so.

    kills: 3 ends the process in watch(3), and 3.5 while the checkpoint of step 4 is written, of which half remains.
    """

    def __init__(self, kills: list[float]):
        self.kills = list(kills)
        self.watched: list[int] = []  # by this call
        self.last = 0  # the last step watched, in any call
        self.alive, self.half_written = True, False

    def watch(self, step: int) -> None:
        self._check()
        self.watched.append(int(step))
        self.last = int(step)
        if self.kills and self.kills[0] <= step:
            self._end()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.watched, self.alive, self.half_written = [], True, False
        copied = mock.patch.object(shutil, "copyfile", partial(_refuse, "a copy is not one act: rename"))
        bytes_ = "bytes are not written in one act: torch.save to a draft, then rename"
        written = mock.patch.object(Path, "write_bytes", partial(_refuse, bytes_))
        with mock.patch.object(torch, "save", partial(self._save, torch.save)), copied, written:
            yield

    def _save(self, save: Callable, state: Any, file: Any, *arguments: Any, **options: Any) -> None:
        self._check()
        if not self.kills or self.kills[0] != self.last + 0.5:
            return save(state, file, *arguments, **options)
        content = io.BytesIO()
        save(state, content)
        half = content.getvalue()[: content.tell() // 2]
        if hasattr(file, "write"):
            file.write(half)
            file.flush()
        else:
            with open(file, "wb") as part:
                part.write(half)
        self.half_written = True
        self._end()

    def _check(self) -> None:
        if not self.alive:  # a process that has ended neither writes nor trains
            raise Killed

    def _end(self) -> None:
        self.kills.pop(0)
        self.alive = False
        raise Killed


def _refuse(words: str, *_: Any, **__: Any) -> None:
    raise TypeError(words)


def _survived(survivor: Callable, run: TinyRun, steps: int, kills: list[float]) -> Any:
    """The steps of each call until one ends by itself and of one more, and the weights minus an undisturbed run's.

    >>> run = TinyRun(samples=12, batch_size=3, temperature=0.2, warmup=2, total=9)
    >>> calls, difference = _survived(_survivor, run, 6, [2, 3.5])
    >>> calls, difference.count_nonzero().item()
    ('calls that made the steps 1 to 2 | 3 | 4 to 6 | none', 0)
    """
    undisturbed = copy.deepcopy(run)
    _train_steps(undisturbed, steps)
    process, calls, weights = Process(kills), [], torch.empty(0)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(len(kills) + 2):
            after_half = process.half_written
            with process.running():
                try:
                    weights = survivor(partial(copy.deepcopy, run), steps, Path(folder) / "last.pt", process.watch)
                except Killed:
                    pass
                except Exception:
                    if not after_half:
                        raise
                    calls.append("an error where the file is read")
                    break
            if process.alive and (weights is None or weights is ...):
                return weights
            calls.append(_span(process.watched))
    made, expected = f"calls that made the steps {' | '.join(calls)}", _weights(undisturbed)
    try:
        weights = torch.as_tensor(weights, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        kind = type(weights).__name__
        return made, f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind} instead of one flat tensor of weights"
    return made, weights - expected if weights.shape == expected.shape else weights


def _span(steps: list[int]) -> str:
    """The steps of a call in a few words."""
    if len(steps) > 1 and steps == list(range(steps[0], steps[-1] + 1)):
        return f"{steps[0]} to {steps[-1]}"
    return ", ".join(map(str, steps)) or "none"


def _careless(
    save=None,
    load=None,
    order=("save", "watch"),
    more=False,
    number=lambda run, made: run.schedule.last_epoch,
):
    """A run with checkpoints, with the mistakes that the arguments name."""

    def survivor(new_run, steps, path, watch):
        run, draft = new_run(), path.with_suffix(".draft")

        def replaced():
            torch.save(_state_of(run), draft)
            draft.replace(path)

        if path.exists():
            (load or (lambda run, path: _restore(run, torch.load(path, weights_only=True))))(run, path)
        begin = run.schedule.last_epoch
        end = begin * more + steps
        while run.schedule.last_epoch < end:
            _train_steps(run, 1)
            for what in order:
                if what == "watch":
                    watch(number(run, run.schedule.last_epoch - begin))
                elif save:
                    save(run, path)
                else:
                    replaced()
        if "save" not in order:
            replaced()
        return _weights(run)

    return survivor


def _loaded_or_begun_anew(run, path):
    try:
        _restore(run, torch.load(path, weights_only=True))
    except Exception:
        path.unlink()


survivor = RunExercise(
    "survivor",
    _survivor,
    cases=[
        (TinyRun(samples=12, batch_size=3, temperature=0.05, warmup=3, total=9), 9, [1, 3.5, 6]),
        (TinyRun(samples=11, batch_size=4, temperature=0.2, warmup=2, total=6, seed=2), 6, [0.5, 2, 3, 5.5]),
        (TinyRun(samples=9, batch_size=3, temperature=0.3, warmup=2, total=7, gamma=0.3, seed=4), 5, [4, 5]),
    ],
    tolerance=1e-6,
    mistakes={
        "The half-written file has the checkpoint's own name: write under another name, then rename": (
            _careless(save=lambda run, path: torch.save(_state_of(run), path))
        ),
        "A damaged file costs all steps: write under another name, then rename, and the old file stays": (
            _careless(save=lambda run, path: torch.save(_state_of(run), path), load=_loaded_or_begun_anew)
        ),
        "Each call begins at step 1: load the checkpoint where there is one": _careless(load=lambda run, path: None),
        "The step that is watched is not saved yet: save first, then call watch": _careless(order=("watch", "save")),
        "The weights and the schedule are not the whole run: save all parts, as state_of does": (
            _careless(
                load=lambda run, path: _restore(
                    run,
                    {k: v for k, v in torch.load(path, weights_only=True).items() if k in ("encoder", "schedule")},
                )
            )
        ),
        "Each call makes `steps` steps more: stop when the run has made `steps` in all": _careless(more=True),
        "Every call makes all steps again: go on from the run's own count": (
            _careless(more=True, number=lambda run, made: made)
        ),
        "watch gets the number of steps made, from 1": (
            _careless(number=lambda run, made: run.schedule.last_epoch - 1)
        ),
        "A process that is killed runs no finally, and no end of the function: save after each step": (
            _careless(order=("watch",))
        ),
    },
    drive=_survived,
    runs="The last cell",
)
