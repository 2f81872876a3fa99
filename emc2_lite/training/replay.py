"""CUDA graphs: work of a GPU that is recorded once and replayed, with one launch in the place of hundreds.

On small images the host takes longer to launch a step's small kernels than the GPU to compute them. A replay does the
same work in the same places in memory. A graph serves one number of rows: that of the batch, or a power of two, up to
which fewer rows are filled; no row has an effect on another.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST = 8  # rows of a graph


class Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    output: Tensor


class Replayed:
    """function(rows) without gradient, (k, ...) -> (k, ...), recorded for `exact` rows and for powers of two.

    Its results must not depend on other rows, or wait for the device.
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
        with torch.cuda.graph(graph, pool=self.pool):
            output = self.function(inputs)
        return Recorded(graph, inputs, output)


class ReplayedEncoder:
    """An encoder's passes over images, (k, C, S, S) -> (k, d): over the batch, and over views that are encoded again.

    The encoder itself and its buffers stay as they are. With batch norm, where rows have an effect on others, views are
    encoded again without a graph; so is a second call with gradient for one number of rows, whose graph would overwrite
    what the first one's backward pass needs. `new_step` ends that.

    Args:
        dtype: that of autocast, or None.
    """

    def __init__(self, encoder: nn.Module, dtype: torch.dtype | None):
        self.encoder, self.dtype = encoder, dtype
        self.apart = not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
        self.scores = Replayed(self._plain, 0)
        self.recorded: dict[tuple[str, int], Callable[[Tensor], Tensor]] = {}
        self.busy: set[int] = set()
        # Recording meets the weights on a stream of its own, which torch (from 2.11 on) would warn of.
        quiet = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", lambda warn: None)
        quiet(False)

    def new_step(self) -> None:
        self.busy.clear()

    def batch(self, images: Tensor) -> Tensor:
        return self._with_gradient("batch", images)

    def again(self, images: Tensor) -> Tensor:
        count, size = len(images), rounded_up(len(images))
        if self.apart and not torch.is_grad_enabled():
            return self.scores(images)
        if not self.apart or size in self.busy:
            return self._plain(images)
        self.busy.add(size)
        return self._with_gradient("again", filled_up(images, size))[:count]

    def _with_gradient(self, kind: str, images: Tensor) -> Tensor:
        key = (kind, len(images))
        if key not in self.recorded:
            before = [buffer.clone() for buffer in self.encoder.buffers()]
            with self._precision():
                # A module around the encoder, whose own forward stays.
                make: Any = torch.cuda.make_graphed_callables
                self.recorded[key] = make(nn.Sequential(self.encoder), (images.clone(),))
            for buffer, value in zip(self.encoder.buffers(), before, strict=True):
                buffer.copy_(value)
        return self.recorded[key](images)

    def _plain(self, images: Tensor) -> Tensor:
        with self._precision():
            return self.encoder(images)

    def _precision(self) -> AbstractContextManager:
        """Without a cache of converted weights, which a graph would not fill anew."""
        return nullcontext() if self.dtype is None else torch.autocast("cuda", self.dtype, cache_enabled=False)


def rounded_up(count: int) -> int:
    return max(LEAST, 1 << (count - 1).bit_length())


def filled_up(rows: Tensor, size: int) -> Tensor:
    """Zeros after the rows, up to `size`, in the same memory format."""
    return F.pad(rows, (0,) * (2 * rows.dim() - 1) + (size - len(rows),))
