"""Views that are not in the batch and have to be encoded again, each distinct one once a call."""

import torch
from torch import Tensor

from emc2_lite.losses.checks import check_embeddings, check_tensor
from emc2_lite.losses.criterion import Encode, Others
from emc2_lite.losses.two_view import TwoViewBlock


def encode_distinct(encode: Encode, index: Tensor, view: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings of the distinct ones of the pairs (index, view), and the place of each pair among them.

    index, view: (n,) int64 -> (k, d) in the dtype of `like`, a tensor (..., d), and (n,) int64.
    """
    pairs, place = torch.unique(torch.stack((index, view)), dim=1, return_inverse=True)
    count = pairs.shape[1]
    if count == 0:
        return like.new_zeros(0, like.shape[-1]), place
    embeddings = encode(pairs[0], pairs[1])
    check_tensor(embeddings, "What encode returned")
    if embeddings.shape != (count, like.shape[-1]):
        raise ValueError(
            f"encode returned shape {tuple(embeddings.shape)} for {count} views: "
            f"it must return one embedding a view, {(count, like.shape[-1])}."
        )
    check_embeddings(embeddings, "What encode returned")
    return embeddings.to(like), place


def encode_others(
    block: TwoViewBlock, rows: Tensor, index: Tensor, view: Tensor, weight: Tensor, encode: Encode
) -> tuple[Others, Tensor]:
    """Views from outside the batch as negatives of its rows, with gradient; and their scores, detached, (n,).

    rows, index, view: (n,) int64, a row of the batch and the view that counts in it; weight: (n,), how much.

    Raises:
        ValueError: if the batch has gradient and what `encode` returned has none.
    """
    embeddings, place = encode_distinct(encode, index, view, block.embeddings)
    if not len(embeddings):
        return Others(), weight
    if block.with_gradient and not embeddings.requires_grad:
        raise ValueError(
            "encode returned embeddings without gradient for views that count in the loss: "
            "call the encoder in it without torch.no_grad() and without detach()."
        )
    weights = weight.new_zeros(len(block.embeddings), len(embeddings))
    weights.index_put_((rows, place), weight, accumulate=True)
    scores = (block.embeddings[rows] * embeddings.detach()[place]).sum(dim=1) / block.temperature
    return Others(embeddings, weights), scores
