"""A monitor that warns when all embeddings run into one point or one line."""

import torch
from torch import Tensor

LEAST_RANK, LARGEST_SIMILARITY = 1.25, 0.99
PATIENCE = 200  # steps


@torch.no_grad()
def collapse_numbers(embeddings: Tensor) -> dict[str, float]:
    """How far the embeddings of a batch are from one another: (2b, d), all of z1, then all of z2.

    effective_rank: exp of the entropy of the singular values s_k / sum s, from 1 (all on one line) to min(2b, d).
    negative_similarity: the mean of <z_r, z_k> over all pairs of rows of different samples, from -1 to 1.

    Source: Roy and Vetterli 2007, The effective rank; Garrido et al. 2023, RankMe.
    """
    z = embeddings.float()
    rows, b = len(z), len(z) // 2
    singular = torch.linalg.svdvals(z)
    shares = singular / singular.sum().clamp_min(torch.finfo(z.dtype).tiny)
    rank = torch.special.entr(shares).sum().exp()
    positives = 2 * (z[:b] * z[b:]).sum()
    similarity = (z.sum(dim=0).square().sum() - z.square().sum() - positives) / (rows * (rows - 2))
    return dict(zip(("effective_rank", "negative_similarity"), torch.stack((rank, similarity)).tolist(), strict=True))


class CollapseMonitor:
    """Fires once, when the rows of metrics show a collapse for `PATIENCE` steps on end; ask it after the warm-up.

    A shorter collapse says nothing: new networks begin with similarities near 1, and good runs may pass through them.
    """

    def __init__(self) -> None:
        self.since: int | None = None
        self.fired = False

    def fires(self, step: int, row: dict[str, float]) -> bool:
        collapsed = row["negative_similarity"] > LARGEST_SIMILARITY and row["effective_rank"] < LEAST_RANK
        if self.fired or not collapsed:
            self.since = None
            return False
        self.since = step if self.since is None else self.since
        self.fired = step - self.since >= PATIENCE
        return self.fired
