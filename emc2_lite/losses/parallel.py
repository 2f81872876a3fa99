"""Processes that share one batch and one dataset: who estimates which rows, and who keeps which chains."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


class Parallel:
    """A loss's place among K processes, each with a part of the batch; made in every process of a group.

    The embeddings of all parts are gathered, with gradient, and each process estimates some of the 2b rows:

    * share_rows=True: the rows of its own samples, those with index mod K = rank, against all columns. Work and state
      are shared: chains, averages and caches of a sample live in its process alone.
    * share_rows=False: all rows, in every process, and all the state; for losses that encode nothing again. The
      messages are the same, but no process waits for the chains of another.

    Random numbers belong to rows: no two rows share any, and the estimate is that of a single process, whatever K is.
    That takes generators in the same state in all processes. On a CPU a process makes the numbers of its own rows; on
    other devices it makes those of all rows and picks its own.

    Raises: ValueError: without a process group.

    Chapter 09 builds it.

    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> Parallel().kept(num_samples=10)  # of one process: all of them
    10
    >>> dist.destroy_process_group()
    """

    def __init__(self, *, share_rows: bool = True, group: dist.ProcessGroup | None = None):
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("There is no process group: start with torchrun, and call init_process_group first.")
        self.share_rows, self.group = share_rows, group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def __repr__(self) -> str:
        return f"Parallel(rank {self.rank} of {self.size}, share_rows={self.share_rows})"

    @property
    def parts(self) -> int:
        """Into how many parts the rows and the state are cut."""
        return self.size if self.share_rows else 1

    @property
    def part(self) -> int:
        return self.rank if self.share_rows else 0

    def kept(self, num_samples: int) -> int:
        """The number of samples whose state this process keeps."""
        return len(range(self.part, num_samples, self.parts))

    def own(self, index: Tensor) -> Tensor:
        """The places of this process's samples in the batch: (n,) int64."""
        return torch.nonzero(index % self.parts == self.part).squeeze(1)

    def gather(self, *tensors: Tensor) -> list[Tensor]:
        """The tensors of all processes, one behind the other along the first dimension; the gradient of a part is the
        sum of what all processes make of it. The tensors of one process have one length, which may differ from that of
        another."""
        counts = self._all(tensors[0].new_tensor([len(tensors[0])], dtype=torch.int64))
        lengths = torch.cat(counts).tolist()
        return [_Gather.apply(tensor, lengths, self) for tensor in tensors]

    def _all(self, tensor: Tensor) -> list[Tensor]:
        """The tensors, of one shape, of all processes."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous(), group=self.group)
        return parts

    def mean_over_rows(self, loss: Tensor, stats: Any, share: float) -> tuple[Tensor, Any]:
        """A loss and readable numbers of the whole batch: means over all processes' rows, and sums of counts.

        loss and stats are those of this process's rows, which are a `share` of all; they mean nothing for a share of 0.
        """
        values = [loss, *stats]
        sums = torch.stack([self._part(value, loss, share) for value in values])
        dist.all_reduce(sums, group=self.group)
        counts = sums.tolist() if any(isinstance(value, int) for value in values) else values  # one wait, or none
        whole = [
            total.to(value) if isinstance(value, Tensor) else round(count)
            for value, total, count in zip(values, sums.unbind(), counts, strict=True)
        ]
        return sums[0].to(loss), type(stats)(*whole[1:])

    @staticmethod
    def _part(value: Tensor | int, like: Tensor, share: float) -> Tensor:
        """What a mean over rows, or a count, adds to that of the whole batch, in float64."""
        if isinstance(value, Tensor):
            return (value * share if share else torch.zeros_like(value)).double()
        return like.new_tensor(value, dtype=torch.float64)

    def whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of all samples on the CPU, from the parts that all processes keep; empty but in the first process.

        All processes must call it at once. One part at a time passes through the first process's device, so that the
        whole need not fit there.
        """
        first, whole = self.rank == 0, {}
        for name, own in state.items():
            shared = self.parts > 1 and own.dim() > 0
            parts = self._parts(own) if shared else [own.cpu()]
            if first:
                full = own.new_empty(sum(map(len, parts)), *own.shape[1:], device="cpu") if shared else parts[0]
                for rank, part in enumerate(parts if shared else ()):
                    full[rank :: self.parts] = part
                whole[name] = full
        return whole

    def _parts(self, own: Tensor) -> list[Tensor]:
        """The tensors of all processes on the CPU, in the first process; in the others none."""
        lengths = torch.cat(self._all(torch.tensor([len(own)], device=own.device))).tolist()
        if self.rank > 0:
            dist.send(own.contiguous(), group=self.group, group_dst=0)
            return []
        parts = [own.cpu()]
        for rank, length in enumerate(lengths[1:], start=1):
            part = own.new_empty(length, *own.shape[1:])
            dist.recv(part, group=self.group, group_src=rank)
            parts.append(part.cpu())
        return parts

    def share(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of the state of all samples."""
        return {name: whole[self.part :: self.parts] if whole.dim() else whole for name, whole in state.items()}


class _Gather(torch.autograd.Function):
    """Concatenate all processes' tensors of these lengths; backward, sum all processes' gradients and cut one's own."""

    @staticmethod
    def forward(ctx, tensor: Tensor, lengths: list[int], parallel: Parallel) -> Tensor:
        ctx.lengths, ctx.parallel = lengths, parallel
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = zip(parallel._all(padded), lengths, strict=True)
        return torch.cat([part[:length] for part, length in parts])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=ctx.parallel.group)
        return gradient.split(ctx.lengths)[ctx.parallel.rank], None, None
