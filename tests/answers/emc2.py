"""Right and wrong answers to the exercises of chapter 05.

Letters: burn-in b, weight w of the held state, probability rho of the coin, its number u.
"""

import math

import torch
from torch.nn import functional as F

from emc2_lite.course.checks import emc2

RIGHT = [
    (
        emc2.kept_weights,
        lambda states, m, b: torch.bincount(states[int(b * m) :] % (m + 1), minlength=m + 1) / (m - int(b * m)),
    ),
    (emc2.stored_state, lambda last, candidates, held: [*candidates, held][last]),
    (emc2.dropped_variant, lambda weights, held: (weights / weights.sum()).nan_to_num()),
    (emc2.dropped_variant, lambda weights, held: F.normalize(weights, p=1, dim=0)),
    (emc2.coin_weights, lambda w, rho, u: (0, w) if u >= w * rho else [1 / rho, (w * rho - 1) / rho]),
    (
        emc2.coin_weights,
        lambda w, rho, u: torch.tensor([1.0, -1.0]) * (u < rho * w) / (rho or 1) + torch.tensor([0, w]),
    ),
]


def kept_shares(kept, m):
    return torch.bincount(kept % (m + 1), minlength=m + 1) / len(kept)


def kept(states, m, b):
    return states[math.floor(b * m) :]


WRONG = [
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[math.ceil(b * m) :], m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m) * len(kept(states, m, b))),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b).unique(), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states, m, b), m)[:-1]),
    (emc2.kept_weights, lambda states, m, b: kept_shares(kept(states.sort().values, m, b), m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[: m - math.floor(b * m)], m)),
    (emc2.kept_weights, lambda states, m, b: kept_shares(states[m // 2 :], m)),
    (emc2.stored_state, lambda last, candidates, held: candidates[max(last, 0)]),
    (emc2.stored_state, lambda last, candidates, held: last),
    (emc2.stored_state, lambda last, candidates, held: (*candidates, held)[last][::-1]),
    (emc2.stored_state, lambda last, candidates, held: held if last <= 0 else candidates[last]),
    (
        emc2.stored_state,
        lambda last, candidates, held: candidates[last] if 0 <= last < len(candidates) - 1 else held,
    ),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else candidates[min(last, 2)]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else sorted(candidates)[last]),
    (emc2.stored_state, lambda last, candidates, held: held if last == -1 else (candidates[last][0], held[1])),
    (emc2.dropped_variant, lambda weights, held: weights * (1 - held)),
    (
        emc2.dropped_variant,
        lambda weights, held: weights / (1 - held) if held < 1 else torch.ones_like(weights) / len(weights),
    ),
    (emc2.dropped_variant, lambda weights, held: torch.softmax(weights, 0)),
    (emc2.dropped_variant, lambda weights, held: weights + held / len(weights)),
    (emc2.dropped_variant, lambda weights, held: weights * (1 + held)),
    (emc2.dropped_variant, lambda weights, held: (weights > 0) / (weights > 0).sum().clamp_min(1)),
    (emc2.dropped_variant, lambda weights, held: weights / (1 - held + 1e-3)),
    (emc2.coin_weights, lambda w, rho, u: (rho, w - rho) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if u < w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / (rho * w), w - 1 / (rho * w)) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if 1 - u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (rho * w, w - rho * w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, 1 - 1 / rho) if u < rho * w else (0.0, 1.0)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, 1 / rho - w) if u < rho * w else (0.0, w)),
    (emc2.coin_weights, lambda w, rho, u: (1 / rho, w - 1 / rho) if u < rho * w else (0.0, 0.0)),
]
