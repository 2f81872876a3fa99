"""Checks of what enters a loss: one sentence that says what came, what was expected and what to do."""

import math
import numbers

import torch
from torch import Tensor

LONGEST = 1.01  # the length of an embedding that passes as normalised in half precision


def check_temperature(temperature: float) -> None:
    if not (isinstance(temperature, numbers.Real) and math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature!r}: it must be a positive, finite number, such as 0.07.")


def refuse_second_derivatives() -> None:
    """To be called in a hand-written backward pass: gradients are on in it if a graph of it is wanted, and not else."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "This loss can be differentiated once, and create_graph=True asks for a second time: leave it out."
        )


def check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: pass a torch.Tensor.")


def check_embeddings(embeddings: Tensor, name: str) -> None:
    """Floating point, finite, and of length 1 along the last dimension (to 1e-3; 1e-2 in half precision)."""
    if not embeddings.is_floating_point():
        raise ValueError(f"{name} is {embeddings.dtype}: pass floating-point embeddings.")
    half = embeddings.dtype in (torch.float16, torch.bfloat16)
    lengths = torch.linalg.vector_norm(embeddings.detach().float(), dim=-1)
    if (lengths - 1).abs_().max().item() <= (LONGEST - 1 if half else 1e-3):  # not so if it is NaN
        return
    if not torch.isfinite(embeddings).all():
        raise ValueError(f"{name} holds NaN or infinite values: look for a diverged encoder or a broken image.")
    raise ValueError(
        f"{name} is not normalised (lengths from {lengths.min().item():.3g} to {lengths.max().item():.3g}): "
        "pass vectors of length 1, for instance through torch.nn.functional.normalize."
    )


def check_batch(z1: Tensor, z2: Tensor, index: Tensor, view: Tensor | None, num_samples: int | None) -> None:
    """The arguments that every criterion takes; `num_samples` bounds the indices for losses that keep state."""
    for value, name in ((z1, "z1"), (z2, "z2"), (index, "index")):
        check_tensor(value, name)
    if z1.device != z2.device:
        raise ValueError(f"z1 is on {z1.device} and z2 on {z2.device}: both must be on one device.")
    if z1.dim() != 2 or z1.shape != z2.shape:
        raise ValueError(f"z1 has shape {tuple(z1.shape)} and z2 {tuple(z2.shape)}: both must be the same (b, d).")
    b = z1.shape[0]
    if b < 2:
        raise ValueError(f"The batch holds {b} sample: at least 2 are needed, or no row has a negative.")
    check_embeddings(z1, "z1")
    check_embeddings(z2, "z2")
    _check_integers(index, "index", (b,), z1.device)
    indices = index.tolist()
    if view is not None:
        check_tensor(view, "view")
        _check_integers(view, "view", (2, b), z1.device)
        first, second = view.tolist()
        if (low := min(*first, *second)) < 0:
            raise ValueError(f"view holds {low}: view numbers start at 0.")
        for sample, one, other in zip(indices, first, second, strict=True):
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


def _check_integers(tensor: Tensor, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    if tensor.dtype != torch.int64 or tuple(tensor.shape) != shape or tensor.device != device:
        raise ValueError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}: "
            f"pass torch.int64 of shape {shape} on {device}."
        )
