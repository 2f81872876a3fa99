"""Exact quantities of the Metropolis-Hastings chain on a finite set, and measures of a simulated one.

The chain has m states, target p = softmax(log_scores) and proposals that are uniform over all m states.
"""

import torch
from torch import Tensor

from emc2_lite.checks import check_tensor
from emc2_lite.sampling.draws import checked_scores


def transition_matrix(log_scores: Tensor) -> Tensor:
    """Exact transition matrix P of the chain: (..., m) scores -> (..., m, m), rows sum to 1.

    P(k, j) = min(1, p(j) / p(k)) / m for j != k, and P(k, k) is the rest. Detailed balance,
    p(k) P(k, j) = p(j) P(j, k), holds entry by entry: both sides are min(p(k), p(j)) / m.

    Raises: ValueError: on NaN or infinite scores, or a dtype other than float32 and float64.
    Source: Hastings 1970; Yau et al. 2024, section 3.

    Chapter 04 builds it.

    >>> transition_matrix(torch.tensor([0.5, 0.25, 0.25]).log())
    tensor([[0.6667, 0.1667, 0.1667],
            [0.3333, 0.3333, 0.3333],
            [0.3333, 0.3333, 0.3333]])
    """
    log_scores = _finite(log_scores)
    log_ratio = log_scores.unsqueeze(-2) - log_scores.unsqueeze(-1)
    matrix = log_ratio.clamp(max=0).exp() / log_scores.shape[-1]
    matrix.diagonal(dim1=-2, dim2=-1).zero_()
    matrix.diagonal(dim1=-2, dim2=-1).copy_(1 - matrix.sum(dim=-1))
    return matrix


def spectral_gap(log_scores: Tensor) -> Tensor:
    """1 - lambda_2 = 1 / (m p_max), in closed form: (..., m) scores -> (...), dimensionless, in (0, 1].

    lambda_2 is the second largest eigenvalue of `transition_matrix(log_scores)`. From any start the total variation
    distance to p after t steps is at most (1 - gap)^t: about 1 / gap steps forget the start.

    Raises: ValueError: on NaN or infinite scores, or a dtype other than float32 and float64.
    Source: Liu 1996, Metropolized independent sampling, with uniform proposals.

    Chapter 04 builds it.

    >>> spectral_gap(torch.tensor([0.5, 0.25, 0.25]).log())  # 1 / (3 x 0.5)
    tensor(0.6667)
    """
    log_scores = _finite(log_scores)
    return (log_scores.logsumexp(dim=-1) - log_scores.amax(dim=-1)).exp() / log_scores.shape[-1]


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Half the sum of |p(k) - q(k)| over the last dimension, in [0, 1]; the leading dimensions broadcast.

    No event has probabilities under p and q that differ by more.

    Raises: ValueError: if the last dimensions differ, or p or q is not a probability vector (to 1e-3).

    Chapter 04 builds it.

    >>> total_variation(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.25, 0.25]))
    tensor(0.2500)
    """
    check_tensor(p, "p")
    check_tensor(q, "q")
    if p.shape[-1:] != q.shape[-1:]:
        raise ValueError(f"p has shape {tuple(p.shape)} and q {tuple(q.shape)}: their last dimensions must agree.")
    for name, vector in (("p", p), ("q", q)):
        if not ((vector.sum(dim=-1) - 1).abs() < 1e-3).all() or (vector < 0).any():
            raise ValueError(f"{name} is not a probability vector: pass entries >= 0 that sum to 1 in each row.")
    return 0.5 * (p - q).abs().sum(dim=-1)


def effective_sample_size(chain: Tensor) -> Tensor:
    """How many independent draws estimate the mean as well as this chain does: (..., steps) values -> (...).

    ESS = n / (1 + 2 sum_t alpha_t) with the autocorrelations alpha_t summed over Geyer's initial positive sequence:
    pairs alpha_{2s} + alpha_{2s+1} for as long as they are positive and, made monotone, never grow. The mean of the
    values must have a meaning: pass scores, or an indicator of one state, not labels. A chain that never moves gets 1.

    Raises: ValueError: on fewer than 4 steps, or values that are not finite.
    Source: Geyer 1992, Practical Markov chain Monte Carlo.

    Chapter 04 builds it.

    >>> draws = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    >>> effective_sample_size(draws.repeat_interleave(5)).round(decimals=-2)  # each value five times: worth a fifth
    tensor(1000., dtype=torch.float64)
    """
    check_tensor(chain, "chain")
    steps = chain.shape[-1] if chain.dim() else 0
    if steps < 4:
        raise ValueError(f"The chain has {steps} steps: pass at least 4 in the last dimension.")
    values = chain.to(torch.float64)
    if not torch.isfinite(values).all():
        raise ValueError(
            "The chain holds NaN or infinite values: pass finite numbers, such as the score of each state."
        )
    spectrum = torch.fft.rfft(values - values.mean(dim=-1, keepdim=True), n=2 * steps)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * steps)[..., :steps] / steps
    variance = covariance[..., :1]
    correlation = covariance / variance.clamp_min(torch.finfo(torch.float64).tiny)
    pairs = correlation[..., : steps - steps % 2].unflatten(-1, (-1, 2)).sum(dim=-1)
    initial = pairs.cummin(dim=-1).values * (pairs > 0).cumprod(dim=-1)  # monotone, as long as it is positive
    inverse_efficiency = (2 * initial.sum(dim=-1) - 1).clamp_min(1 / steps)
    constant = variance.squeeze(-1) <= 1e-24 * values.square().mean(dim=-1)
    return torch.where(constant, 1.0, steps / inverse_efficiency)


def _finite(log_scores: Tensor) -> Tensor:
    log_scores = checked_scores(log_scores)
    if torch.isneginf(log_scores).any():
        raise ValueError("log_scores holds -inf: leave states of probability 0 out of the set.")
    return log_scores
