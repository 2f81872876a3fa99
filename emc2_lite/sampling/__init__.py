"""Sampling from a softmax over finitely many scores: Metropolis-Hastings, Gumbel-max and chain diagnostics.

Scores are unnormalised log-probabilities: the target is p(k) = exp(log_scores[k]) / sum_j exp(log_scores[j]).
"""

from emc2_lite.sampling.diagnostics import effective_sample_size, spectral_gap, total_variation, transition_matrix
from emc2_lite.sampling.gumbel import gumbel_max
from emc2_lite.sampling.metropolis import ChainRun, metropolis_hastings

__all__ = [
    "ChainRun",
    "effective_sample_size",
    "gumbel_max",
    "metropolis_hastings",
    "spectral_gap",
    "total_variation",
    "transition_matrix",
]
