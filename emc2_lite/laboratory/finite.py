"""A finite set of views behind an encoder: all of its embeddings, and gradients sent back to the weights."""

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from emc2_lite.checks import Bounds, check_tensor, checked_settings
from emc2_lite.losses import global_contrastive_loss
from emc2_lite.vision.views import Views

ChunkSize = Annotated[int, Bounds(least=1, most=10**9)]
ViewCount = Annotated[int, Bounds(least=1, most=65_536)]


@checked_settings
def view_table(encoder: nn.Module, views: Views, num_views: ViewCount = 2, *, chunk_size: ChunkSize = 512) -> Tensor:
    """Embeddings of views 0 to V - 1 of every sample, without gradient: (N, V, d).

    Args:
        encoder: images -> (k, d) embeddings.
        views: views of N images, such as `DigitViews`.
        num_views: V; 2 are the stored views, more stand for endless ones.
        chunk_size: images to encode at a time.

    >>> from emc2_lite.vision import DigitEncoder, DigitViews, load_digits
    >>> view_table(DigitEncoder(8), DigitViews(load_digits("train").images[:5])).shape
    torch.Size([5, 2, 8])
    """
    row = torch.arange(num_views * len(views), device=next(encoder.parameters()).device)
    with torch.no_grad():
        parts = [encoder(views(part // num_views, part % num_views)) for part in row.split(chunk_size)]
    return torch.cat(parts).unflatten(0, (-1, num_views))


@checked_settings
def pull_back(encoder: nn.Module, views: Views, gradient: Tensor, *, chunk_size: ChunkSize = 512) -> Tensor:
    """The gradient in the encoder's weights of sum <gradient, embeddings>, flat: (N, V, d) -> (P,).

    The map is linear, so one call with the mean of many steps' gradients at a fixed encoder gives the mean in the
    weights. Rows that are zero are not encoded.

    >>> from emc2_lite.vision import DigitEncoder, DigitViews, load_digits
    >>> encoder, views = DigitEncoder(8), DigitViews(load_digits("train").images[:5])
    >>> len(pull_back(encoder, views, torch.ones(5, 2, 8))) == sum(p.numel() for p in encoder.parameters())
    True
    """
    check_tensor(gradient, "gradient")
    rows, num_views = gradient.flatten(0, 1), gradient.shape[1]
    touched = rows.abs().amax(dim=1).nonzero().squeeze(1)
    weights = trained_weights(encoder)
    total = torch.zeros(sum(p.numel() for p in weights), dtype=rows.dtype, device=rows.device)
    for part in touched.split(chunk_size) if len(touched) else ():
        embeddings = encoder(views(part // num_views, part % num_views))
        grads = torch.autograd.grad(embeddings, weights, rows[part].to(embeddings), allow_unused=True)
        total += flat(grads, weights)
    return total


def exact_gradient(table: Tensor, temperature: float) -> Tensor:
    """Gradient of the global contrastive loss in the embeddings, treated as free parameters: (N, V, d), float64.

    >>> exact_gradient(torch.eye(6).view(3, 2, 6), temperature=0.2).shape
    torch.Size([3, 2, 6])
    """
    check_tensor(table, "table")
    table = table.detach().double().requires_grad_()
    return torch.autograd.grad(global_contrastive_loss(table, temperature), table)[0]


def trained_weights(encoder: nn.Module) -> list[nn.Parameter]:
    return [p for p in encoder.parameters() if p.requires_grad]


def flat(gradients: Iterable[Tensor | None], weights: Sequence[Tensor]) -> Tensor:
    """The gradients in the weights as one vector, (P,); None counts as zero."""
    pieces = zip(gradients, weights, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pieces])
