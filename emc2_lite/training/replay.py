"""CUDA graphs: work of a GPU that is recorded once and replayed, with one launch in the place of hundreds.

On small images the host takes longer to launch a step's small kernels than the GPU to compute them. A replay does the
same work in the same places in memory. A graph has a fixed number of rows, the batch's or a power of two; rows that are
missing are filled in, and what becomes of them is dropped.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

LEAST = 8  # rows of a graph


class Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    output: Tensor


class Replayed:
    """function(rows) without gradient, (k, ...) -> (k, ...), recorded for `exact` rows and for powers of two.

    The function must treat each row by itself, must not make the host wait, and must not change later.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], exact: int):
        self.function, self.exact, self.pool = function, exact, torch.cuda.graph_pool_handle()
        self.recorded: dict[int, Recorded] = {}

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        count = len(rows)
        size = count if count == self.exact else rounded_up(count)
        if size not in self.recorded:
            self.recorded[size] = self._record(filled_up(rows, size))
        graph, inputs, output = self.recorded[size]
        inputs[:count] = rows
        graph.replay()
        return output[:count].clone()

    def _record(self, inputs: Tensor) -> Recorded:
        self.function(inputs)  # constants are copied to the device in the first call, which cannot be recorded
        graph = torch.cuda.CUDAGraph()
        with recording(), torch.cuda.graph(graph, pool=self.pool):
            output = self.function(inputs)
        return Recorded(graph, inputs, output)


class ReplayedEncoder:
    """A training encoder's passes over images, (k, C, S, S) -> (k, d): over the batch, and over views encoded again.

    Its weights may change in place, and it may not have dropout. Recording leaves its buffers as they were. An encoder
    in evaluation mode is launched; so are views encoded again where batch norm lets rows act on each other, a second
    pass with gradient in a step, whose graph could overwrite what the first one's backward pass needs, and batches of
    another size than the first.

    Args:
        dtype: that of autocast, or None.
    """

    def __init__(self, encoder: nn.Module, dtype: torch.dtype | None):
        self.encoder, self.dtype = encoder, dtype
        self.apart = not any(isinstance(module, _BatchNorm) for module in encoder.modules())
        self.scores, self.pool = Replayed(self._plain, 0), torch.cuda.graph_pool_handle()
        self.whole: tuple[int, Callable[[Tensor], Tensor]] | None = None
        self.parts: dict[int, Callable[[Tensor], Tensor]] = {}
        self.busy = False

    def batch(self, images: Tensor) -> Tensor:
        """The pass over a step's batch, which comes first in the step."""
        self.busy = False
        if self.encoder.training and self.whole is None:
            self.whole = len(images), self._record(images)
        if not self.encoder.training or self.whole is None or len(images) != self.whole[0]:
            return self._plain(images)
        return self.whole[1](images)

    def again(self, images: Tensor) -> Tensor:
        """A pass over views that are encoded again, with gradient where torch records one."""
        count, size = len(images), rounded_up(len(images))
        if not self.apart or not self.encoder.training:
            return self._plain(images)
        if not torch.is_grad_enabled():
            return self.scores(images)
        if self.busy:
            return self._plain(images)
        self.busy = True
        filled = filled_up(images, size)
        if size not in self.parts:
            self.parts[size] = self._record(filled, pool=self.pool)
        return self.parts[size](filled)[:count]

    def _record(self, images: Tensor, **where: Any) -> Callable[[Tensor], Tensor]:
        before = [buffer.clone() for buffer in self.encoder.buffers()]
        make: Any = torch.cuda.make_graphed_callables
        # The weights' gradients will wait for the recording's stream; torch from 2.11 on would warn of that.
        getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", bool)(False)
        with recording(), self._precision():
            # A module around the encoder gets the new forward pass; the encoder keeps its own.
            recorded: Callable[[Tensor], Tensor] = make(nn.Sequential(self.encoder), (images.clone(),), **where)
        with torch.no_grad():
            for buffer, value in zip(self.encoder.buffers(), before, strict=True):
                buffer.copy_(value)
        return recorded

    def _plain(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.encoder(images)

    def _precision(self) -> AbstractContextManager:
        """Without a cache of converted weights, which a graph would not fill anew."""
        return nullcontext() if self.dtype is None else torch.autocast("cuda", self.dtype, cache_enabled=False)


@contextmanager
def recording() -> Iterator[None]:
    """Around the recording of a graph; nothing is collected meanwhile, for a graph that dies would break the other.

    Raises: RuntimeError: if torch refuses, with what to do.
    """
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    except RuntimeError as problem:
        raise RuntimeError(
            f"A step could not be recorded as a CUDA graph ({problem}). Set training.cuda_graphs to false; or keep no "
            "result of the encoder that still holds its autograd graph while the first steps are taken."
        ) from problem
    finally:
        if enabled:
            gc.enable()


def rounded_up(count: int) -> int:
    return max(LEAST, 1 << (count - 1).bit_length())


def filled_up(rows: Tensor, size: int) -> Tensor:
    """A copy with the first row repeated after the last, up to `size`, in the same memory format."""
    filled = F.pad(rows, (0,) * (2 * rows.dim() - 1) + (size - len(rows),))
    filled[len(rows) :] = rows[0]
    return filled
