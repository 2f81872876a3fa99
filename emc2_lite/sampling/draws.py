"""What the samplers share: checks of the scores, and uniform random numbers."""

import torch
from torch import Generator, Tensor

from emc2_lite import kernels
from emc2_lite.checks import check_generator, check_tensor


def random_uniforms(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    generator: Generator | None,
    columns: Tensor | None = None,
) -> Tensor:
    """Uniform(0, 1) numbers, float32 or float64. On the CPU they are hashes and never 0; elsewhere torch.rand draws.

    Hashing is faster beyond a few thousand numbers. With `columns`, (n,) int64, only these places of the last dimension
    are returned: a place has the same number in either case, and on the CPU the others are not made.

    Raises: ValueError: on another dtype.

    >>> uniforms = random_uniforms((2, 3), torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0))
    >>> ((0 < uniforms) & (uniforms < 1)).all()
    tensor(True)
    """
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}: uniforms are float32 or float64, half precision is too coarse.")
    if not kernels.compiles_for(device):
        uniforms = torch.rand(shape, generator=generator, dtype=dtype, device=device)
        return uniforms if columns is None else uniforms[..., columns]
    key, bits = kernels.random_key(generator), kernels.uniform_bits(dtype)
    if columns is None:
        uniforms = torch.empty(shape, dtype=dtype, device=device)
        kernels.fill_uniforms(uniforms.view(-1).numpy(), key, 0, bits)
    else:
        uniforms = torch.empty(*shape[:-1], len(columns), dtype=dtype, device=device)
        kernels.fill_columns(uniforms.view(-1, len(columns)).numpy(), columns.numpy(), shape[-1], key, bits)
    return uniforms


def checked_scores(log_scores: Tensor, dims: int | None = None) -> Tensor:
    """Return the scores detached, or raise ValueError in one sentence; `dims` fixes the number of dimensions."""
    check_tensor(log_scores, "log_scores")
    shape = tuple(log_scores.shape)
    if dims is not None and len(shape) != dims:
        raise ValueError(f"log_scores has shape {shape}: pass {dims} dimensions, (rows, steps).")
    if not shape or shape[-1] == 0:
        raise ValueError(f"log_scores has shape {shape}: its last dimension must hold at least one score.")
    if log_scores.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"log_scores is {log_scores.dtype}: pass float32 or float64, half precision is too coarse.")
    if not (log_scores < torch.inf).all():
        raise ValueError("log_scores holds NaN or +inf: pass finite scores, or -inf for a state of probability 0.")
    return log_scores.detach()


def checked_initial(initial_log_score: Tensor, log_scores: Tensor) -> Tensor:
    """The scores (rows,) of the chains' first states, detached and in the dtype of `log_scores`, or ValueError."""
    check_tensor(initial_log_score, "initial_log_score")
    rows = len(log_scores)
    if initial_log_score.shape != (rows,):
        raise ValueError(
            f"initial_log_score has shape {tuple(initial_log_score.shape)}, but log_scores has {rows} rows: "
            f"pass one score a row, shape ({rows},), -inf for a new chain."
        )
    initial = initial_log_score.detach().to(log_scores)
    if not (initial < torch.inf).all():
        raise ValueError(
            "initial_log_score holds NaN or +inf: pass the score of each chain's state, -inf for a new chain."
        )
    return initial


def given_or_drawn(uniforms: Tensor | None, log_scores: Tensor, generator: Generator | None) -> Tensor:
    """One Uniform[0, 1) a score, in the scores' shape, dtype and device: `uniforms` if given, else from `generator`."""
    check_generator(generator, log_scores.device)
    if uniforms is None:
        return random_uniforms(log_scores.shape, log_scores.dtype, log_scores.device, generator)
    if generator is not None:
        raise ValueError("Both uniforms and generator were given: pass one of them.")
    check_tensor(uniforms, "uniforms")
    if uniforms.shape != log_scores.shape:
        raise ValueError(
            f"uniforms has shape {tuple(uniforms.shape)}, but log_scores {tuple(log_scores.shape)}: pass one a score."
        )
    if not ((uniforms >= 0) & (uniforms < 1)).all():
        raise ValueError("uniforms holds numbers outside [0, 1) or NaN: pass draws such as those of torch.rand.")
    return uniforms.to(log_scores)
