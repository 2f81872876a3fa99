"""CUDA graphs: work of a GPU that is recorded once and replayed, with one launch in the place of hundreds.

On small images the host takes longer to launch a step's small kernels than the GPU to compute them. A replay computes
the same numbers from the same places in memory.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


class ReplayedViews:
    """make(index, view), each (k,) -> (k, C, S, S), recorded for the first call's k and, later, for powers of two."""

    def __init__(self, make: Callable[[Tensor, Tensor], Tensor]):
        self.make, self.pool = make, torch.cuda.graph_pool_handle()
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, index: Tensor, view: Tensor) -> Tensor:
        count = len(index)
        size = 1 << (count - 1).bit_length() if self.recorded and count not in self.recorded else count
        if size not in self.recorded:
            self.recorded[size] = self._record(size, index.device)
        graph, names, images = self.recorded[size]
        torch.stack((index, view), out=names[:, :count])
        graph.replay()
        return images[:count].clone()

    def _record(self, size: int, device: torch.device) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        names, graph = torch.zeros(2, size, dtype=torch.int64, device=device), torch.cuda.CUDAGraph()
        self.make(*names)  # constants are copied to the device in the first call, which cannot be recorded
        with torch.cuda.graph(graph, pool=self.pool):
            images = self.make(*names)
        return graph, names, images


def replayed_encoder(encoder: nn.Module, images: Tensor, dtype: torch.dtype | None) -> nn.Module:
    """The encoder's passes, forward and backward, over batches of this shape; `dtype` is that of autocast.

    The encoder stays as it is, and so do its buffers, which recording changes.
    """
    before = [buffer.clone() for buffer in encoder.buffers()]
    precision: AbstractContextManager = nullcontext()
    if dtype is not None:
        precision = torch.autocast("cuda", dtype, cache_enabled=False)
    with precision:
        recorded = torch.cuda.make_graphed_callables(nn.Sequential(encoder), (images.clone(),))
    for buffer, value in zip(encoder.buffers(), before, strict=True):
        buffer.copy_(value)
    return recorded
