"""Views that are not in the batch and have to be encoded again, each distinct one once a pass."""

import torch
from torch import Tensor

from emc2_lite.losses.checks import check_embeddings, check_tensor
from emc2_lite.losses.criterion import Encode, Others
from emc2_lite.losses.two_view import TwoViewBlock


def distinct_views(index: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
    """Of the pairs index, view: (n,), the distinct ones, (2, k), and the place of each pair among them, (n,)."""
    return torch.unique(torch.stack((index, view)), dim=1, return_inverse=True)


def encode_views(encode: Encode, views: Tensor, like: Tensor) -> Tensor:
    """Embeddings of the pairs `views` (2, k): (k, d) in the dtype of `like`, a tensor (..., d); checked."""
    count = views.shape[1]
    if count == 0:
        return like.new_zeros(0, like.shape[-1])
    embeddings = encode(views[0], views[1])
    check_tensor(embeddings, "What encode returned")
    if embeddings.shape != (count, like.shape[-1]):
        raise ValueError(
            f"encode returned shape {tuple(embeddings.shape)} for {count} views: "
            f"it must return one embedding a view, {(count, like.shape[-1])}."
        )
    check_embeddings(embeddings, "What encode returned")
    return embeddings.to(like)


def encode_others(
    block: TwoViewBlock, rows: Tensor, views: Tensor, place: Tensor, weight: Tensor, encode: Encode
) -> Others:
    """Negatives from outside the batch, encoded with gradient if any row counts them.

    rows: (n,) int64, rows of the batch; place: (n,), which of the pairs `views` (2, k) each of them meets;
    weight: (n,), how much that counts, 0 or more.

    Raises:
        ValueError: if the batch has gradient and what `encode` returned has none.
    """
    counting = weight.nonzero().squeeze(1)
    used, place = torch.unique(place[counting], return_inverse=True)
    if not len(used):
        return Others()
    embeddings = encode_views(encode, views[:, used], block.embeddings)
    if block.with_gradient and not embeddings.requires_grad:
        raise ValueError(
            "encode returned embeddings without gradient for views that count in the loss: "
            "call the encoder in it without torch.no_grad() and without detach()."
        )
    weights = weight.new_zeros(len(block.embeddings), len(used))
    weights.index_put_((rows[counting], place), weight[counting], accumulate=True)
    return Others(embeddings, weights)
