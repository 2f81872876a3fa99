"""What the five estimators share: the call, its checks, the state and the gradient."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn

from emc2_lite.checks import Bounds
from emc2_lite.losses.checks import check_call, check_names, normalised, not_normalised, refuse_second_derivatives
from emc2_lite.losses.encoding import Encode, Encodings, Name, Others, read, read_checked
from emc2_lite.losses.parallel import Parallel
from emc2_lite.losses.two_view import TwoViewBlock, full_precision, put_positive, two_view_block
from emc2_lite.tracing import untraced

Samples = Annotated[int, Bounds(least=2, most=2**31 - 1)]  # the chains' buffers name samples by 32 bits
# The distance between two embeddings of one view that still counts as rounding. On ResNet-18 and the digits' encoder
# another batch size moved an embedding by up to 6e-7 (float32) and 6e-4 (bfloat16), and bfloat16 itself by up to 8e-3;
# another view of the sample lay 0.03 and more away, dropout of 0.1 moved an embedding by 0.05 and batch norm by 0.19.
ROUNDING = 0.02


class LossStats(NamedTuple):
    """loss: the last call's value in nats, a 0-dimensional tensor without gradient."""

    loss: Tensor


class Estimate(NamedTuple):
    """What an estimator makes of a batch."""

    weights: Tensor  # (R, 2b), the repulsive weight w(r, k) of each negative, 0 at the row's own sample; detached
    stats: Any  # the numbers to read
    pull: Tensor | None = None  # (R,), the weight of each row's positive; 1 if not given
    others: Others | None = None  # negatives from outside the batch
    constant: Tensor | None = None  # (R, d), of each row the weighted sum of negatives that get no gradient
    loss: Tensor | None = None  # the value to return; by default the mean over rows of the weighted scores
    store: Callable[[], object] = lambda: None  # writes the new state, in training mode, when nothing is refused


class Criterion(nn.Module):
    """A scalar whose gradient estimates that of the global contrastive loss, from a batch of two views a sample.

    Each estimator's gradient is a weighting of scores, with weights w and pulls a held constant:

        mean over rows r of  -a(r) grad l(r, pos) + sum_k w(r, k) grad l(r, k).

    Call ``criterion(z1, z2, index=None, view=None, encode=None, generator=None)`` with

    * z1, z2: (b, d) normalised embeddings of two views of b >= 2 samples;
    * index: (b,) int64 dataset indices, each once, in [0, num_samples) where the loss keeps state; NT-Xent and DCL
      keep none and need no index, if the batch has each sample once;
    * view: (2, b) int64 view numbers of z1 and z2, >= 0; 0 and 1 when not given;
    * encode: (k,) indices, (k,) views -> (k, d) normalised embeddings under today's weights, with gradient; a pair
      must have the same embedding as in the batch, which the first call in training checks (`check_encode`);
    * generator: the source of the loss's own random numbers; torch's default when not given.

    All means are over the 2b rows and nothing is rescaled, so all estimators' gradients compare with the exact one.
    ``stats`` holds the last call's readable numbers. State is in buffers with one place for each (sample, view slot),
    z1 in slot 0 and z2 in slot 1. A refused call or state dict leaves the state unchanged, and so does a call after
    ``criterion.eval()``, which otherwise gives the value and the numbers of a training call.

    With ``two_towers``, z1 and z2 are of two encoders, such as images and captions. A row's negatives are then the
    m = b - 1 other samples of the batch in the other slot, and NT-Xent is the loss of CLIP (Radford et al. 2021).
    `encode` must tell the encoders apart by the view's number: give z1 even numbers and z2 odd ones, as by default.

    With ``parallel``, several processes make the call together, each with its part of the batch, of one sample or more;
    the generators must be in the same state in all. Value and ``stats`` are then those of the whole batch in each
    process, and the mean over processes of the encoder's gradients, which DistributedDataParallel takes, is that of the
    whole batch; a view that rows of several processes need is encoded, and counted, in each. `encode` is called with
    other numbers in each process, and in some not at all, so the encoder in it must not wait for other processes: pass
    ``model.module``, not the DistributedDataParallel ``model``. The state dict has this process's part of the state:
    ``parallel.whole`` makes the state of all samples of it, and ``parallel.share`` the part of a process.

    Raises: ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, on an `encode` that does not
        reproduce the batch, and on a state that is damaged or was saved with other settings; RuntimeError: on a
        backward pass with create_graph=True.
    """

    __call__: Callable[..., Tensor]
    state_name: ClassVar[str] = "state"
    check_encode: bool = False

    def __init__(
        self,
        temperature: float,
        num_samples: int | None = None,
        two_towers: bool = False,
        parallel: Parallel | None = None,
    ):
        super().__init__()
        self.temperature, self.num_samples = temperature, num_samples
        self.two_towers, self.parallel = two_towers, parallel
        self.stats: Any = None
        self.encode_checked = False
        self.register_load_state_dict_pre_hook(_check_saved_state)

    def extra_repr(self) -> str:
        shown = [name for name in inspect.signature(type(self)).parameters if name not in ("two_towers", "parallel")]
        shown += [name for name in ("two_towers", "parallel") if getattr(self, name)]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)

    @untraced
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        index: Tensor | None = None,
        view: Tensor | None = None,
        encode: Encode | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        together = self.parallel
        if index is None and self.num_samples is not None:
            raise ValueError(
                f"{type(self).__name__} was called without index, and keeps state for each sample: pass the places of "
                "the batch's samples in the dataset, (b,) torch.int64."
            )
        check_call(z1, z2, index, view, encode, generator, least=2 if together is None else 1)
        if index is None:
            rank, size = (0, 1) if together is None else (together.rank, together.size)
            index = torch.arange(rank, rank + size * len(z1), size, device=z1.device)
        for buffer in self.buffers():
            if buffer.device != z1.device:
                raise ValueError(
                    f"The {self.state_name} are on {buffer.device} and z1 on {z1.device}: "
                    "move the loss, loss.to(z1.device)."
                )
        samples = None
        if together is not None:
            view = torch.stack((torch.zeros_like(index), torch.ones_like(index))) if view is None else view
            z1, z2, index, view = together.gather(z1, z2, index, view.T)
            view = view.T
            check_call(z1, z2, index, view, encode, generator)
            samples = together.own(index) if together.parts > 1 else None
        block = two_view_block(z1, z2, index, view, self.temperature, samples, self.two_towers)
        weights, stats, pull, others, constant, loss, store = self.estimate(block, encode, generator)
        put_positive(weights, samples, weights.new_full((len(weights),), -1) if pull is None else -pull)
        embeddings, others_weights, _ = others or (None, None, None)
        columns, parts = len(block.embeddings), 1 if together is None else together.parts
        with full_precision(z1):
            if loss is None:
                loss = _mean_score(block, weights, others, constant)
            if together is not None and parts > 1:
                loss, stats = together.mean_over_rows(loss, stats, len(weights) / columns)
            if self.training:
                store()
            self.stats = stats
            scale = parts / (columns * block.temperature)
            return _Weighting.apply(z1, z2, embeddings, others_weights, constant, block, weights, loss, scale)

    @property
    def kept_samples(self) -> int:
        """The number of samples whose state is kept here: N, or this process's share."""
        samples = self.num_samples or 0
        return samples if self.parallel is None else self.parallel.kept(samples)

    def places(self, block: TwoViewBlock) -> Tensor:
        """The place of each row's (sample, view slot) in the state laid out as (2 kept_samples, ...): (R,) int64."""
        return block.chains(1 if self.parallel is None else self.parallel.parts)

    def estimate(self, block: TwoViewBlock, encode: Encode | None, generator: Generator | None) -> Estimate:
        """The estimate; each estimator calls `admit` before it relies on the batch, and writes no state itself."""
        raise NotImplementedError

    def admit(self, block: TwoViewBlock, *questions: Tensor) -> list[list[int]]:
        """Check the numbers of a batch, and read other integer tensors, `questions`, in the same wait for the device.

        Returns the samples and the views of the 2b rows, and the numbers of each question, a flat list each. ValueError
        on embeddings that are not normalised, and on bad or repeated indices and views.
        """
        fit = (block.lengths - 1).abs_().amax() <= block.tolerance  # False on NaN
        (fits,), indices, views, *answers = read(fit, block.index, block.view, *questions)
        if not fits:
            for z, name in zip(block.embeddings.chunk(2), ("z1", "z2"), strict=True):
                if not normalised(z, block.tolerance):
                    raise not_normalised(z, name)
        b = len(indices) // 2
        check_names(indices[:b], views, self.num_samples)
        if self.two_towers and (any(v % 2 for v in views[:b]) or not all(v % 2 for v in views[b:])):
            raise ValueError(
                "two_towers is true, and view does not tell the towers apart: give z1 even numbers and z2 odd ones."
            )
        return [indices, views, *answers]

    def check_encode_once(self, block: TwoViewBlock, names: list[Name], encode: Encode) -> None:
        """In the first call in training, encode the batch's first and last view again: ValueError if they differ.

        The two encodings are not counted, and torch's random states are restored.
        """
        if self.encode_checked or not (self.check_encode and self.training):
            return
        device, ends = block.index.device, [0, -1]
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            again = Encodings(encode, [names[row] for row in ends], block.embeddings)
        rows = torch.stack([block.embeddings[row] for row in ends])
        distance = torch.linalg.vector_norm(again.embeddings[again.place] - rows, dim=1).amax()
        ((same,),) = read_checked(again, distance <= ROUNDING)
        if not same:
            raise ValueError(
                f"encode put one of the batch's own views {distance.item():.2g} from its embedding in the batch, and "
                f"rounding explains {ROUNDING}: look for a random transform (the same index and view must give the "
                "same pixels), batch norm (an embedding depends on its company: use group norm or none) or dropout; or "
                "go on all the same with check_encode=False, loss.check_encode in a configuration."
            )
        self.encode_checked = True

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        """Raise ValueError if the saved buffers, whose shapes are right, hold what no run can have left."""


@torch.no_grad()
def _mean_score(block: TwoViewBlock, weights: Tensor, others: Others | None, constant: Tensor | None) -> Tensor:
    """The mean over rows of the weighted scores, with those of the views outside the batch."""
    rows = block.anchors
    count = max(len(rows), 1)  # a process may have no row in a batch
    scale = 1 / (count * block.temperature)
    loss = torch.dot(weights.view(-1), block.logits.view(-1)) / count
    if others is not None:
        loss = loss + scale * torch.dot((rows @ others.embeddings.T).view(-1), others.weights.view(-1))
    return loss if constant is None else loss + scale * torch.dot(rows.view(-1), constant.view(-1))


class _Weighting(torch.autograd.Function):
    """The value given, with the gradient of F = (1 / 2b) sum over r, k of w(r, k) l(r, k) + the same over other views.

    With w constant and l(r, k) = <z_r, z_k> / T, row r counts as an anchor and as everyone's negative:

        dF / dz_r = sum over k of [w(r, k) + w(k, r)] z_k / (2b T) + sum over other views o of w(r, o) e_o / (2b T),
        dF / de_o = sum over r of w(r, o) z_r / (2b T).

    Row r of `constant` is the sum over further views of w(r, o) e_o; these e_o get no gradient. `scale` is 1 / (2b T),
    times the number of processes that share the rows.
    """

    @staticmethod
    def forward(ctx, z1, z2, others, others_weights, constant, block, weights, value, scale):
        ctx.scale, ctx.dtypes, ctx.samples = scale, (z1.dtype, z2.dtype), block.samples
        ctx.save_for_backward(block.embeddings, block.anchors, weights, others, others_weights, constant)
        return value.clone()  # a tensor of its own: in-place changes must not reach the readable numbers

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivatives()
        columns, rows, weights, others, others_weights, constant = ctx.saved_tensors
        scale, others_gradient = grad * ctx.scale, None
        with full_precision(rows):
            if ctx.samples is None:
                gradient = of_rows = (weights + weights.T) @ columns
            else:
                gradient, of_rows = weights.T @ rows, weights @ columns
            if others is not None:
                of_rows += others_weights @ others
                others_gradient = (others_weights.T @ rows).mul_(scale)
            if constant is not None:
                of_rows += constant
            if ctx.samples is not None:
                gradient.unflatten(0, (2, -1)).index_add_(1, ctx.samples, of_rows.unflatten(0, (2, -1)))
        first, second = gradient.mul_(scale).chunk(2)
        return first.to(ctx.dtypes[0]), second.to(ctx.dtypes[1]), others_gradient, *[None] * 6


def _check_saved_state(criterion: Criterion, state_dict: dict, prefix: str, _, strict: bool, *__) -> None:
    """Before torch copies anything: torch would copy what fits, and complain of the rest afterwards."""
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
