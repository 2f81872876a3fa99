"""Optimisers and the learning rate's schedule: the paper's settings, by name."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from emc2_lite.checks import Bounds, checked_settings

LearningRate = Annotated[float, Bounds(above=0)]
WeightDecay = Annotated[float, Bounds(least=0)]
Momentum = Annotated[float, Bounds(least=0, below=1)]


class LARS(Optimizer):
    """Layer-wise adaptive rates: how far a layer moves depends on its weights' length, not on its gradient's.

    With g the gradient and w the weights of one parameter tensor,

        d = g + weight_decay * w,    r = trust_coefficient * |w| / |d|    (1 where |w| or |d| is 0)
        v <- momentum * v + r * d,   w <- w - lr * v

    Tensors of fewer than two dimensions (biases, the scales of norm layers) have no weight decay and r = 1.

    Args:
        params: parameters or parameter groups, as for torch's own optimisers.
        lr: the rate, above 0; SimCLR's grows with the batch, 0.3 x batch / 256.
        weight_decay: 0 or more.
        momentum: from 0 up to, not including, 1.
        trust_coefficient: above 0.

    Raises:
        ValueError: on a number outside these ranges.

    Source: You, Gitman and Ginsburg 2017, Large batch training of convolutional networks, in the form of SimCLR (Chen
    et al. 2020), where the decay is part of the vector whose length is taken.
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
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """One update; a closure, if given, computes the loss again and its value is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                velocity = state["momentum_buffer"]
                velocity.mul_(group["momentum"]).add_(_scaled_gradient(weight, group))
                weight.sub_(group["lr"] * velocity)
        return loss


def _scaled_gradient(weight: Tensor, group: dict) -> Tensor:
    """r * d; decided on the device, so that no step waits for it."""
    if weight.dim() < 2:
        return weight.grad
    direction = weight.grad + group["weight_decay"] * weight
    lengths = weight.norm(), direction.norm()
    ratio = group["trust_coefficient"] * lengths[0] / lengths[1]
    return torch.where((lengths[0] > 0) & (lengths[1] > 0), ratio, 1.0) * direction


@checked_settings
def make_optimiser(
    name: Literal["adam", "sgd", "lars"],
    encoder: nn.Module,
    *,
    learning_rate: LearningRate,
    weight_decay: WeightDecay,
    momentum: Momentum,
) -> Optimizer:
    """The optimiser of all of the encoder's parameters.

    Args:
        name: "adam" (the paper's for STL-10), "sgd" (for its gradient-error experiment) or "lars" (for ImageNet-100).
        learning_rate: above 0.
        weight_decay: 0 or more; in "adam" and "sgd" coupled, that is added to every gradient as weight_decay * w.
        momentum: of "sgd" and "lars", from 0 up to, not including, 1; "adam" keeps its own two means, 0.9 and 0.999.

    Raises:
        ValueError: on another name, or a number outside these ranges.

    Source: Yau et al. 2024, appendix with the settings of each run.
    """
    parameters = encoder.parameters()
    if name == "adam":
        return Adam(parameters, learning_rate, weight_decay=weight_decay)
    if name == "sgd":
        return SGD(parameters, learning_rate, weight_decay=weight_decay, momentum=momentum)
    return LARS(parameters, learning_rate, weight_decay=weight_decay, momentum=momentum)


def warmup_cosine(optimiser: Optimizer, *, warmup_steps: int, total_steps: int) -> LambdaLR:
    """A learning rate that rises in a line and falls along half a cosine; call `step` after each optimiser step.

    Step t = 0, 1, ... takes the optimiser's rate times

        (t + 1) / warmup_steps                                                       for t < warmup_steps,
        (1 + cos(pi * (t - warmup_steps) / (total_steps - warmup_steps))) / 2        up to total_steps, 0 from there on.

    To go on from a checkpoint, make optimiser and schedule as before, then load both state dicts.

    Args:
        warmup_steps: from 0 to total_steps.
        total_steps: 1 or more.

    Raises:
        ValueError: on step numbers outside these ranges.

    Source: Loshchilov and Hutter 2017, SGDR, without restarts; the warm-up is that of Goyal et al. 2017.
    """
    if not 0 <= warmup_steps <= total_steps or total_steps < 1:
        raise ValueError(
            f"The warm-up has {warmup_steps} steps and the run {total_steps}: a run has at least 1 step, "
            "and its warm-up from 0 to as many as the run."
        )

    def share(step: int) -> float:
        if step >= total_steps:
            return 0.0
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))) / 2

    return LambdaLR(optimiser, share)
