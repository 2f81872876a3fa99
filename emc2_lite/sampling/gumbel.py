"""Exact sampling from a softmax by the Gumbel-max trick."""

import torch
from torch import Generator, Tensor

from emc2_lite.sampling.draws import checked_scores, given_or_drawn
from emc2_lite.tracing import untraced


@untraced
def gumbel_max(log_scores: Tensor, *, uniforms: Tensor | None = None, generator: Generator | None = None) -> Tensor:
    """Draw one index per row from softmax(log_scores), exactly and without normalising.

    argmax_k [log_scores[k] + G_k] with independent G_k = -log(-log U_k) has probability softmax(log_scores)[k].
    Each of the m states takes a score and a random number.

    Args:
        log_scores: (..., m) float32 or float64 scores in nats; -inf marks a state of probability 0.
        uniforms: (..., m) the U_k in [0, 1); drawn from `generator` when not given.
        generator: source of the uniforms; torch's default when not given.

    Returns (...) int64 indices. For several independent draws a row, expand the scores first.

    Raises: ValueError: on a wrong shape or dtype, on scores that are NaN, +inf, or -inf for a whole row, and on
        uniforms outside [0, 1) or given together with a generator.
    Source: Gumbel 1954; Yellott 1977; used over a cache of embeddings by Lindgren et al. 2021.

    Chapter 03 builds it.

    >>> scores = torch.tensor([0.0, 1.0, -torch.inf]).expand(100_000, 3)
    >>> draws = gumbel_max(scores, generator=torch.Generator().manual_seed(0))
    >>> (draws.bincount(minlength=3) / 100_000).round(decimals=2), scores[0].softmax(0).round(decimals=2)
    (tensor([0.2700, 0.7300, 0.0000]), tensor([0.2700, 0.7300, 0.0000]))
    """
    log_scores = checked_scores(log_scores)
    if torch.isneginf(log_scores.amax(dim=-1)).any():
        raise ValueError("A row of log_scores is -inf throughout: it has no state to draw; give it a finite score.")
    return perturbed_argmax(log_scores, given_or_drawn(uniforms, log_scores, generator))


def perturbed_argmax(log_scores: Tensor, uniforms: Tensor) -> Tensor:
    """`gumbel_max` after its checks, from given uniforms."""
    return perturbed(log_scores, uniforms).argmax(dim=-1)


def perturbed(log_scores: Tensor, uniforms: Tensor) -> Tensor:
    """log_scores[k] + G_k, whose largest one is the draw."""
    # U = 0 would give G = -inf, and a U that rounds to 1 in float32 G = +inf: take the nearest numbers inside (0, 1).
    numbers = torch.finfo(log_scores.dtype)
    gumbels = uniforms.clamp(numbers.tiny, 1 - numbers.eps / 2).log_().neg_().log_().neg_()
    return gumbels.add_(log_scores)
