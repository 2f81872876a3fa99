"""A finite set of views behind an encoder: all of its embeddings, and gradients sent back to the weights."""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor, nn

from emc2_lite.checks import Bounds, check_tensor, checked_settings
from emc2_lite.losses import global_contrastive_loss

Views = Callable[[Tensor, Tensor], Tensor]
ChunkSize = Annotated[int, Bounds(least=1, most=10**9)]


@checked_settings
def view_table(encoder: nn.Module, views: Views, *, chunk_size: ChunkSize = 512) -> Tensor:
    """Embeddings of views 0 and 1 of every sample, without gradient: (N, 2, d).

    Args:
        encoder: images -> (k, d) embeddings.
        views: (index, view) -> images, with a length, such as `DigitViews`.
        chunk_size: images that are encoded at once.
    """
    row = torch.arange(2 * len(views), device=next(encoder.parameters()).device)
    with torch.no_grad():
        parts = [encoder(views(part // 2, part % 2)) for part in row.split(chunk_size)]
    return torch.cat(parts).unflatten(0, (-1, 2))


@checked_settings
def pull_back(encoder: nn.Module, views: Views, gradient: Tensor, *, chunk_size: ChunkSize = 512) -> Tensor:
    """The gradient in the encoder's weights of sum <gradient, embeddings>, flat: (N, 2, d) -> (P,).

    A mean of gradients in the embeddings is sent back by the same linear map as each of them, so that a mean over many
    steps at a fixed encoder costs one call. Rows that are zero are not encoded.
    """
    check_tensor(gradient, "gradient")
    rows = gradient.flatten(0, 1)
    touched = rows.abs().amax(dim=1).nonzero().squeeze(1)
    weights = [p for p in encoder.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in weights), dtype=rows.dtype, device=rows.device)
    for part in touched.split(chunk_size):
        embeddings = encoder(views(part // 2, part % 2))
        grads = torch.autograd.grad(embeddings, weights, rows[part].to(embeddings), allow_unused=True)
        pieces = zip(grads, weights, strict=True)
        total += torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pieces])
    return total


def exact_gradient(table: Tensor, temperature: float) -> Tensor:
    """Gradient of the global contrastive loss in the embeddings, treated as free parameters: (N, V, d), float64."""
    check_tensor(table, "table")
    table = table.detach().double().requires_grad_()
    return torch.autograd.grad(global_contrastive_loss(table, temperature), table)[0]
