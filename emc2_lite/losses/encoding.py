"""Views that are not in the batch and have to be encoded again, each distinct one once a pass."""

import torch
from torch import Tensor

from emc2_lite.checks import check_tensor
from emc2_lite.losses.checks import normalised, not_normalised, tolerance
from emc2_lite.losses.criterion import Criterion, Encode, Others
from emc2_lite.losses.transfer import read
from emc2_lite.losses.two_view import TwoViewBlock

# The length of the difference of two embeddings of one view that still counts as rounding. On ResNet-18 and the digits'
# encoder another batch size moved an embedding by up to 6e-7 (float32) and 6e-4 (bfloat16), and bfloat16 itself by up
# to 8e-3; another view of the sample lay 0.03 and more away, dropout of 0.1 moved one by 0.05 and batch norm by 0.19.
ROUNDING = 0.02


class Encodings:
    """Embeddings of views that were encoded again, not checked yet: the flag waits for the next reading.

    embeddings: (k, d), as `encode` returned them; fit: a 0-dimensional bool, whether they are finite and normalised.
    """

    def __init__(self, encode: Encode, index: Tensor, view: Tensor, like: Tensor):
        embeddings = encode(index, view)
        check_tensor(embeddings, "What encode returned")
        if embeddings.shape != (len(index), like.shape[-1]):
            raise ValueError(
                f"encode returned shape {tuple(embeddings.shape)} for {len(index)} views: "
                f"it must return one embedding a view, {(len(index), like.shape[-1])}."
            )
        if not embeddings.is_floating_point() or embeddings.device != like.device:
            raise ValueError(
                f"What encode returned is {embeddings.dtype} on {embeddings.device}: "
                f"pass floating-point embeddings on {like.device}."
            )
        self.embeddings = embeddings
        self.fit = normalised(embeddings, tolerance(embeddings.dtype))

    def check(self, fit: int) -> None:
        """`fit` is the flag, read.

        Raises:
            ValueError: if it does not hold.
        """
        if not fit:
            raise not_normalised(self.embeddings, "What encode returned")


def check_encode_once(criterion: Criterion, block: TwoViewBlock, encode: Encode) -> None:
    """In a criterion's first call in training, encode two of the batch's own views again and compare.

    The two encodings are not counted. Torch's random states are afterwards what they were.

    Raises:
        ValueError: if `encode` does not reproduce them.
    """
    if criterion.encode_checked or not (criterion.check_encode and criterion.training):
        return
    device = block.index.device
    ends = torch.stack((block.index[0], block.index[-1])), torch.stack((block.view[0], block.view[-1]))
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        again = Encodings(encode, *ends, block.embeddings)
    rows = torch.stack((block.embeddings[0], block.embeddings[-1]))
    distance = torch.linalg.vector_norm(again.embeddings.to(rows) - rows, dim=1).amax()
    ((fit, same),) = read(torch.stack((again.fit, distance <= ROUNDING)))
    again.check(fit)
    if not same:
        raise ValueError(
            f"encode put one of the batch's own views {distance.item():.2g} from its embedding in the batch, and "
            f"rounding explains {ROUNDING}: look for a random transform (the same index and view must give the same "
            "pixels), batch norm (an embedding depends on its company: use group norm or none) or dropout; or go on "
            "all the same with check_encode=False, loss.check_encode in a configuration."
        )
    criterion.encode_checked = True


def encode_others(
    block: TwoViewBlock,
    index: Tensor,
    view: Tensor,
    rows: Tensor,
    place: Tensor,
    weight: Tensor,
    encode: Encode,
) -> Others:
    """Negatives from outside the batch that count, encoded with gradient.

    index, view: (k,), distinct views; rows: (n,), rows of the batch; place: (n,), which of the k views each of them
    meets; weight: (2b,), how much each meeting of a row counts.

    Raises:
        ValueError: if the batch has gradient and what `encode` returned has none, or is not normalised.
    """
    if not len(index):
        return Others()
    again = Encodings(encode, index, view, block.embeddings)
    if block.with_gradient and not again.embeddings.requires_grad:
        raise ValueError(
            "encode returned embeddings without gradient for views that count in the loss: "
            "call the encoder in it without torch.no_grad() and without detach()."
        )
    again.check(read(again.fit)[0][0])
    weights = weight.new_zeros(len(block.embeddings), len(index))
    weights.index_put_((rows, place), weight.index_select(0, rows), accumulate=True)
    return Others(again.embeddings.to(block.embeddings), weights)
