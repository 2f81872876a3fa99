"""Checks of what enters a loss: one sentence that says what came, what was expected and what to do."""

from collections.abc import Callable

import torch
from torch import Tensor

from emc2_lite.checks import check_generator, check_tensor

LONGEST = 1.01  # the length of an embedding that passes as normalised in half precision
CALMER = "lower the learning rate, warm up for longer or clip the gradient"


def refuse_second_derivatives() -> None:
    """For gradients that are constants: grad mode is on in a backward pass only under create_graph=True."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "This loss can be differentiated once, and create_graph=True asks for a second time: leave it out."
        )


def tolerance(dtype: torch.dtype) -> float:
    """How far from 1 the length of a normalised embedding may be: 1e-3, in half precision 1e-2."""
    return LONGEST - 1 if dtype in (torch.float16, torch.bfloat16) else 1e-3


def normalised(embeddings: Tensor, tolerance: float) -> Tensor:
    """Whether all are finite and of length 1 along the last dimension: a 0-dimensional bool on their device."""
    return (_lengths(embeddings) - 1).abs_().amax() <= tolerance  # False on NaN


def _lengths(embeddings: Tensor) -> Tensor:
    return torch.linalg.vector_norm(embeddings.detach().float(), dim=-1)


def not_normalised(embeddings: Tensor, name: str) -> ValueError:
    """The refusal of embeddings that are not `normalised`."""
    lengths = _lengths(embeddings)
    if not torch.isfinite(embeddings).all():
        return ValueError(
            f"{name} holds NaN or infinite values: an image is broken, or the encoder has diverged; if so, go back to "
            f"an earlier state of it and {CALMER}."
        )
    if zeros := int((lengths == 0).sum()):
        return ValueError(
            f"{name} holds vectors of length 0 ({zeros} of {lengths.numel()}): the encoder's output there is all "
            f"zeros, as when it has died or collapsed; go back to an earlier state of it and {CALMER}."
        )
    return ValueError(
        f"{name} is not normalised (lengths from {lengths.min().item():.3g} to {lengths.max().item():.3g}): "
        "pass vectors of length 1, for instance through torch.nn.functional.normalize."
    )


def check_call(
    z1: Tensor,
    z2: Tensor,
    index: Tensor | None,
    view: Tensor | None,
    encode: Callable | None,
    generator: object,
    least: int = 2,
) -> None:
    """Check the kinds, shapes, dtypes and devices of a criterion's arguments; a batch has `least` samples or more. No
    number is read."""
    check_tensor(z1, "z1")
    check_tensor(z2, "z2")
    if z1.device != z2.device:
        raise ValueError(f"z1 is on {z1.device} and z2 on {z2.device}: both must be on one device.")
    if z1.dim() != 2 or z1.shape != z2.shape:
        raise ValueError(f"z1 has shape {tuple(z1.shape)} and z2 {tuple(z2.shape)}: both must be the same (b, d).")
    b = len(z1)
    if b < least:
        reason = "or no row has a negative" if least > 1 else "in each process"
        raise ValueError(f"The batch holds {b} sample{'' if b else 's'}: at least {least} are needed, {reason}.")
    for value, name in ((z1, "z1"), (z2, "z2")):
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}: pass floating-point embeddings.")
    for numbers, name, shape in ((index, "index", (b,)), (view, "view", (2, b))):
        if numbers is None:
            continue
        check_tensor(numbers, name)
        if numbers.dtype != torch.int64 or tuple(numbers.shape) != shape or numbers.device != z1.device:
            raise ValueError(
                f"{name} is {numbers.dtype} of shape {tuple(numbers.shape)} on {numbers.device}: "
                f"pass torch.int64 of shape {shape} on {z1.device}."
            )
    if encode is not None and not callable(encode):
        raise ValueError(f"encode is a {type(encode).__name__}: pass a function, encode(index, view) -> (k, d).")
    check_generator(generator, z1.device)


def check_names(indices: list[int], views: list[int], num_samples: int | None) -> None:
    """Check the numbers of a batch's samples (b,) and views (2b,); `num_samples` bounds losses that keep state."""
    b = len(indices)
    if (low := min(views)) < 0:
        raise ValueError(f"view holds {low}: view numbers start at 0.")
    for sample, one, other in zip(indices, views[:b], views[b:], strict=True):
        if one == other:
            raise ValueError(
                f"view holds {one} twice for sample {sample}: the two views of a sample must differ, or each is "
                "its own positive; draw two different view numbers."
            )
    low, high = min(indices), max(indices)
    if low < 0 or (num_samples is not None and high >= num_samples):
        bounds = "0 or more" if num_samples is None else f"from 0 to {num_samples - 1} (num_samples = {num_samples})"
        raise ValueError(f"index holds {low if low < 0 else high}: dataset indices must be {bounds}.")
    if len(set(indices)) < b:
        repeated = next(i for i in indices if indices.count(i) > 1)
        raise ValueError(
            f"index holds {repeated} more than once: each sample may come once a batch, "
            "or it would be its own negative; sample the batch without replacement."
        )
