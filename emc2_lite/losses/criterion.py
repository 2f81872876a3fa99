"""What the five estimators have in common: how they are called, what they check, what they keep, and the gradient."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from emc2_lite.checks import Bounds
from emc2_lite.losses.checks import check_call, check_names, normalised, not_normalised, refuse_second_derivatives
from emc2_lite.losses.transfer import read
from emc2_lite.losses.two_view import TwoViewBlock, full_precision, own_entries, two_view_block
from emc2_lite.tracing import untraced

Encode = Callable[[Tensor, Tensor], Tensor]
Samples = Annotated[int, Bounds(least=2)]


class Others(NamedTuple):
    """Views from outside the batch: their embeddings (k, d), with gradient, and their weights (2b, k); or none."""

    embeddings: Tensor | None = None
    weights: Tensor | None = None

    @property
    def encodings(self) -> int:
        """k, how many views that was."""
        return 0 if self.embeddings is None else len(self.embeddings)


class Estimate(NamedTuple):
    """What an estimator makes of a batch.

    weights: (2b, 2b), the repulsive weight w(r, k) of each negative, 0 at the views of the row's own sample; detached.
    stats: the numbers to read.
    pull: (2b,), the weight of each row's positive; 1 if not given.
    others: negatives from outside the batch, if there are any.
    loss: a 0-dimensional tensor, the value to return; if not given, the mean over rows of the weighted scores.
    store: writes the state that the call leaves; called in training mode alone, once nothing can be refused any more.
    """

    weights: Tensor
    stats: Any
    pull: Tensor | None = None
    others: Others = Others()
    loss: Tensor | None = None
    store: Callable[[], object] = lambda: None


class Criterion(nn.Module):
    """A scalar whose gradient estimates that of the global contrastive loss, from a batch of two views a sample.

    Whatever the estimator, that gradient is a weighting of scores, with weights w and pulls a held constant:

        mean over rows r of  -a(r) grad l(r, pos) + sum_k w(r, k) grad l(r, k).

    Call ``criterion(z1, z2, index, view=None, encode=None, generator=None)`` with

    * z1, z2: (b, d) normalised embeddings of two views of b >= 2 samples;
    * index: (b,) int64 dataset indices, each once, in [0, num_samples) where the loss keeps state;
    * view: (2, b) int64 view numbers of z1 and z2, >= 0; 0 and 1 when not given;
    * encode: (k,) indices, (k,) views -> (k, d) normalised embeddings under today's weights, with gradient; the same
      pair must have the same embedding as in the batch, which is checked once (`check_encode`);
    * generator: the source of the loss's own random numbers; torch's default when not given.

    All means are over the 2b rows and nothing is rescaled, so the gradients of all estimators compare with the exact
    one as they are. The scalar can be differentiated once. ``stats`` holds the last call's readable numbers. State is
    in buffers with one place for each (sample, view slot), z1 in slot 0 and z2 in slot 1; a refused call or a refused
    state dict leaves it as it was.

    After ``criterion.eval()`` a call computes what it would in training, the value and the numbers, from the state as
    it stands, and leaves that state as it was: a validation batch does not disturb the training run. Each loss says
    what its state then stands for; NT-Xent and DCL keep none.

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, on an `encode` that does not
            reproduce the batch, and on a damaged state or one that was saved with other settings.
        RuntimeError: on a backward pass with create_graph=True.
    """

    state_name: ClassVar[str] = "state"

    def __init__(self, temperature: float, num_samples: int | None = None):
        super().__init__()
        self.temperature = temperature
        self.num_samples = num_samples
        self.stats: Any = None
        self.encode_checked = False
        self.register_load_state_dict_pre_hook(_check_saved_state)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters)

    @untraced
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        index: Tensor,
        view: Tensor | None = None,
        encode: Encode | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_call(z1, z2, index, view, encode, generator)
        for buffer in self.buffers():
            if buffer.device != z1.device:
                raise ValueError(
                    f"The {self.state_name} are on {buffer.device} and z1 on {z1.device}: "
                    "move the loss, loss.to(z1.device)."
                )
        block = two_view_block(z1, z2, index, view, self.temperature)
        weights, stats, pull, (others, of_others), loss, store = self.estimate(block, encode, generator)
        if self.training:
            store()
        self.stats = stats
        own = own_entries(weights)
        own[0, 1], own[1, 0] = (-1, -1) if pull is None else pull.neg().chunk(2)
        with full_precision(z1):
            return _Weighting.apply(z1, z2, others, block, weights, of_others, loss)

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None) -> Estimate:
        """The weights of the batch's negatives, the numbers to read, and what to store.

        Every estimator calls `admit` before it relies on the batch, and writes no state itself.
        """
        raise NotImplementedError

    def admit(self, block: TwoViewBlock, *questions: Tensor) -> list[list[int]]:
        """Check the numbers of a batch, and read those of other integer tensors with them: one wait for the device.

        Returns the samples (b,) and the views (2b,) of the batch, and the numbers of each question, as flat lists.

        Raises:
            ValueError: on embeddings that are not normalised, and on bad or repeated indices and views.
        """
        fit = (block.lengths - 1).abs_().amax() <= block.tolerance  # not so if it is NaN
        (fits,), indices, views, *answers = read(fit, block.index, block.view, *questions)
        indices = indices[: len(indices) // 2]
        if not fits:
            for z, name in zip(block.embeddings.chunk(2), ("z1", "z2"), strict=True):
                if not normalised(z, block.tolerance):
                    raise not_normalised(z, name)
        check_names(indices, views, self.num_samples)
        return [indices, views, *answers]

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        """Raise ValueError if the saved buffers, whose shapes are right, hold what no run can have left."""


class _Weighting(torch.autograd.Function):
    """F = (1 / 2b) sum over r, k of w(r, k) l(r, k) + the same over the other views, or the value given instead.

    With w constant and l(r, k) = <z_r, z_k> / T, row r counts as an anchor and as everyone's negative:

        dF / dz_r = sum over k of [w(r, k) + w(k, r)] z_k / (2b T) + sum over other views o of w(r, o) e_o / (2b T),
        dF / de_o = sum over r of w(r, o) z_r / (2b T).
    """

    @staticmethod
    def forward(ctx, z1, z2, others, block, weights, of_others, loss):
        rows = block.embeddings
        ctx.scale = 1 / (len(rows) * block.temperature)
        ctx.dtypes = z1.dtype, z2.dtype
        ctx.save_for_backward(rows, weights, others, of_others)
        if loss is not None:
            return loss.clone()  # a tensor of its own: what is done to it in place is not done to the readable numbers
        loss = torch.dot(weights.view(-1), block.logits.view(-1)) / len(rows)
        return loss if others is None else loss + ctx.scale * torch.dot((rows @ others.T).view(-1), of_others.view(-1))

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives()
        rows, weights, others, of_others = ctx.saved_tensors
        scale = grad * ctx.scale
        with full_precision(rows):
            of_rows = (weights + weights.T) @ rows
            if others is not None:
                of_rows += of_others @ others
                of_others = (of_others.T @ rows).mul_(scale)
        of_z1, of_z2 = of_rows.mul_(scale).chunk(2)
        return of_z1.to(ctx.dtypes[0]), of_z2.to(ctx.dtypes[1]), of_others, None, None, None, None


def _check_saved_state(criterion: Criterion, state_dict: dict, prefix: str, _, strict: bool, *__) -> None:
    """Before torch copies anything: it would copy what fits, and complain of the rest afterwards."""
    buffers = dict(criterion.named_buffers())
    given = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)}
    if strict and given != buffers.keys():
        raise ValueError(
            f"The saved state holds {', '.join(sorted(given)) or 'nothing'}, but {type(criterion).__name__} keeps "
            f"{', '.join(buffers) or 'nothing'}: load the state of the same loss, whole."
        )
    saved = {name: state_dict[prefix + name] for name in buffers if name in given}
    for name, tensor in saved.items():
        if tensor.shape != buffers[name].shape:
            raise ValueError(
                f"The saved {criterion.state_name} have shape {tuple(tensor.shape)}, but this loss was made for "
                f"{criterion.num_samples} samples and keeps {tuple(buffers[name].shape)}: make it with the settings of "
                "the run that the state was saved in."
            )
    criterion.check_saved(saved)
