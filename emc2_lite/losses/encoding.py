"""Views that are not in the batch and have to be encoded again, each distinct one once a call."""

import torch
from torch import Tensor

from emc2_lite.losses.checks import check_embeddings, check_tensor
from emc2_lite.losses.criterion import Encode
from emc2_lite.losses.two_view import TwoViewBlock


def encode_distinct(encode: Encode, index: Tensor, view: Tensor, like: Tensor) -> tuple[Tensor, int]:
    """An embedding for every pair (index, view) asked for, (k, d), and the number of encodings that it took.

    `like` is a tensor (..., d) of the dtype and device that the embeddings are to have.
    """
    pairs, place = torch.unique(torch.stack((index, view)), dim=1, return_inverse=True)
    count = pairs.shape[1]
    if count == 0:
        return like.new_zeros(0, like.shape[-1]), 0
    embeddings = encode(pairs[0], pairs[1])
    check_tensor(embeddings, "What encode returned")
    if embeddings.shape != (count, like.shape[-1]):
        raise ValueError(
            f"encode returned shape {tuple(embeddings.shape)} for {count} views: "
            f"it must return one embedding a view, {(count, like.shape[-1])}."
        )
    check_embeddings(embeddings, "What encode returned")
    return embeddings.to(like)[place], count


def scores_with_gradient(
    block: TwoViewBlock, rows: Tensor, index: Tensor, view: Tensor, encode: Encode, temperature: float
) -> tuple[Tensor, int]:
    """Scores of the batch's `rows` (k,) with views from outside it, (k,), through both embeddings; and the encodings.

    Raises:
        ValueError: if the batch has gradient and what `encode` returned has none.
    """
    embeddings, count = encode_distinct(encode, index, view, block.embeddings)
    if count and torch.is_grad_enabled() and block.embeddings.requires_grad and not embeddings.requires_grad:
        raise ValueError(
            "encode returned embeddings without gradient for views that count in the loss: "
            "call the encoder in it without torch.no_grad() and without detach()."
        )
    return (block.embeddings[rows] * embeddings).sum(dim=1) / temperature, count
