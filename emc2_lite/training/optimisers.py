"""Optimisers and the learning rate's schedule: the paper's settings, by name."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from emc2_lite.checks import Bounds, checked_settings

Kind = Literal["adam", "sgd", "lars"]
LearningRate = Annotated[float, Bounds(above=0)]
WeightDecay = Annotated[float, Bounds(least=0)]
Momentum = Annotated[float, Bounds(least=0, below=1)]


class LARS(Optimizer):
    """Layer-wise adaptive rates: the length of a layer's step depends on its weights' length, not on its gradient's.

    With g the gradient and w the weights of one parameter tensor,

        d = g + weight_decay * w,    r = trust_coefficient * |w| / |d|    (1 where |w| or |d| is 0)
        v <- momentum * v + r * d,   w <- w - lr * v

    Tensors of fewer than two dimensions (biases, the scales of norm layers) have no weight decay and r = 1.

    Args: lr: SimCLR's rate grows with the batch, lr = 0.3 x batch / 256.
    Raises: ValueError: on a setting outside its range.
    Source: You, Gitman and Ginsburg 2017, Large batch training of convolutional networks, in the form of SimCLR (Chen
    et al. 2020), where d, whose length is taken, includes the decay.

    >>> LARS(nn.Linear(3, 2).parameters(), lr=1.2).defaults["momentum"]
    0.9
    """

    @checked_settings
    def __init__(
        self,
        params: Iterable,
        lr: LearningRate,
        weight_decay: WeightDecay = 0.0,
        momentum: Momentum = 0.9,
        trust_coefficient: Annotated[float, Bounds(above=0)] = 0.001,
    ):
        rates = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**rates, "trust_coefficient": trust_coefficient})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; a closure, if given, computes the loss again, and its value is returned."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                if not (state := self.state[weight]):
                    state["momentum_buffer"] = torch.zeros_like(weight)
                step = _scaled(weight, weight.grad, group)
                weight.sub_(group["lr"] * state["momentum_buffer"].mul_(group["momentum"]).add_(step))
        return loss


def _scaled(weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """r * d, computed on the device without a wait."""
    if weight.dim() < 2:
        return gradient
    direction = gradient + group["weight_decay"] * weight
    lengths = weight.norm(), direction.norm()
    ratio = group["trust_coefficient"] * lengths[0] / lengths[1]
    return torch.where((lengths[0] > 0) & (lengths[1] > 0), ratio, 1.0) * direction


@checked_settings
def make_optimiser(
    name: Kind, encoder: nn.Module, *, learning_rate: LearningRate, weight_decay: WeightDecay, momentum: Momentum
) -> Optimizer:
    """The optimiser of all of the encoder's parameters.

    Args:
        name: "adam" (the paper's for STL-10), "sgd" (for its gradient-error experiment) or "lars" (for ImageNet-100).
        weight_decay: "adam" and "sgd" add weight_decay * w to every gradient (coupled decay).
        momentum: of "sgd" and "lars"; "adam" keeps its own two means, 0.9 and 0.999.

    Raises: ValueError: on another name, or a number outside its range.
    Source: Yau et al. 2024, appendix with the settings of each run.

    >>> type(make_optimiser("sgd", nn.Linear(3, 2), learning_rate=0.1, weight_decay=0, momentum=0.9)).__name__
    'SGD'
    """
    if name == "adam":
        fused = next(encoder.parameters()).is_cuda  # one kernel for all tensors
        return Adam(encoder.parameters(), learning_rate, weight_decay=weight_decay, fused=fused or None)
    kind = SGD if name == "sgd" else LARS
    return kind(encoder.parameters(), learning_rate, weight_decay=weight_decay, momentum=momentum)


def warmup_cosine(
    optimiser: Optimizer, *, warmup_steps: int, total_steps: int, position: Callable[[], float] | None = None
) -> LambdaLR:
    """A learning rate that rises linearly and falls along half a cosine; call `step` after each optimiser step.

    t is the number of calls of `step` so far, or what `position()` returns, which may be a fraction. The rate is the
    optimiser's times

        (t + 1) / warmup_steps, at most 1,                                           for t < warmup_steps,
        (1 + cos(pi * (t - warmup_steps) / (total_steps - warmup_steps))) / 2        up to total_steps, then 0.

    To resume, make optimiser and schedule as before, then load both state dicts, and restore what `position` reads.

    Raises: ValueError: unless 0 <= warmup_steps <= total_steps and total_steps >= 1.
    Source: Loshchilov and Hutter 2017, SGDR, without restarts; warm-up: Goyal et al. 2017.

    >>> warmup_cosine(SGD(nn.Linear(3, 2).parameters(), lr=2.0), warmup_steps=4, total_steps=10).get_last_lr()
    [0.5]
    """
    if not 0 <= warmup_steps <= total_steps or total_steps < 1:
        words = f"The warm-up has {warmup_steps} steps and the run {total_steps}: "
        raise ValueError(words + "a run has at least 1 step, and its warm-up from 0 to as many steps as the run.")

    def share(calls: int) -> float:
        t = calls if position is None else position()
        if t >= total_steps:
            return 0.0
        if t < warmup_steps:
            return min((t + 1) / warmup_steps, 1.0)
        return (1 + math.cos(math.pi * (t - warmup_steps) / (total_steps - warmup_steps))) / 2

    return LambdaLR(optimiser, share)
