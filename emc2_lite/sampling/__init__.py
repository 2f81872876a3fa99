"""Sampling from a softmax over finitely many scores: Metropolis-Hastings, many proposals, Gumbel-max, diagnostics.

Scores are unnormalised log-probabilities: the target is p(k) = exp(log_scores[k]) / sum_j exp(log_scores[j]).
"""

from emc2_lite.sampling.diagnostics import effective_sample_size, spectral_gap, total_variation, transition_matrix
from emc2_lite.sampling.draws import random_uniforms
from emc2_lite.sampling.gumbel import gumbel_max
from emc2_lite.sampling.metropolis import ChainRun, metropolis_hastings
from emc2_lite.sampling.multiproposal import ManyProposals, multiproposal
from emc2_lite.sampling.visit import Proposals, Visit, metropolis_visit

__all__ = ["ChainRun", "ManyProposals", "Proposals", "Visit", "effective_sample_size", "gumbel_max"]
__all__ += ["metropolis_hastings", "metropolis_visit", "multiproposal", "random_uniforms", "spectral_gap"]
__all__ += ["total_variation", "transition_matrix"]
