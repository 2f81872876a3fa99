"""Price: what training costs in encodings, whatever machine it runs on.

One encoding is one view's forward pass through the encoder. Forward and backward together are 3 encodings, as backward
makes two products of a forward pass's size: the gradient in each layer's inputs and the gradient in its weights.
"""

from typing import Any


def step_price(stats: Any, batch_size: int) -> int:
    """Encodings of a training step: 6b + views encoded again + 2 (views encoded again with gradient).

    The batch's 2b views are encoded with gradient. `stats` are the criterion's after the step; a loss whose stats do
    not count views encoded again encodes none.

    >>> step_price(None, batch_size=4)
    24
    """
    encoded = getattr(stats, "views_encoded", 0)  # with gradient or without
    return 6 * batch_size + encoded + 2 * getattr(stats, "views_encoded_with_gradient", 0)


def visit_price(samples: int) -> int:
    """Encodings of one visit to each of the samples by a loss that encodes no view again: 6 N.

    >>> visit_price(100)
    600
    """
    return 6 * samples
