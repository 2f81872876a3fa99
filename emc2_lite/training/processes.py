"""Runs of several processes that torchrun starts: joining them, agreeing with them, losing one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch import distributed as dist

from emc2_lite.losses.parallel import Parallel
from emc2_lite.training.config import Config
from emc2_lite.training.configuring import differences

PATIENCE = timedelta(hours=6)  # the longest that processes wait for the first one, which evaluates alone


class Processes:
    """One process of the K that share a run: which batch is whose, and what all must agree on.

    parallel: for the losses. leader: whether this process writes the run's folder. gpu: this process's own. Words go
    through a group of their own, of gloo, so that no GPU waits for them.

    Without `parallel` there is one process, the leader.
    """

    def __init__(self, parallel: Parallel | None = None, gpu: torch.device | None = None) -> None:
        self.parallel, self.gpu = parallel, gpu
        self.rank, self.size = (0, 1) if parallel is None else (parallel.rank, parallel.size)
        self.leader = self.rank == 0
        self.words: Any = dist.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None

    def mine(self, index: Tensor) -> Tensor:
        """This process's part of a batch."""
        return index if self.size == 1 else index.tensor_split(self.size)[self.rank]

    def largest(self, *numbers: int) -> list[int]:
        """The largest of each number over all processes."""
        if self.size == 1:
            return list(numbers)
        largest = torch.tensor(numbers)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.words)
        return largest.tolist()

    def everyones(self, value: Any) -> list[Any]:
        """The value of each process, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.words)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """While entered, an error in any process ends all: the first that has one raises it, and the others exit.

        The work must wait for no other process: one with an error would not come.

        Raises: SystemExit: in a process that is not the first one with an error.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as problem:
            failure = problem
        failed = [rank for rank, has_failed in enumerate(self.everyones(failure is not None)) if has_failed]
        if failure is not None and failed[0] == self.rank:
            raise failure
        if failed:
            self.follow()

    def follow(self) -> NoReturn:
        """End after the process that says why: torchrun stops all others as soon as one has ended."""
        with suppress(RuntimeError):
            self.everyones(None)  # until that process closes the connection
        raise SystemExit(1)

    def check_same(self, values: dict[str, Any]) -> None:
        """End all processes if a value, by its name in a sentence, differs between them.

        Raises: ValueError: in the leader, with what differs where; SystemExit: in the others.
        """
        everyones = self.everyones(values)
        for rank, others in enumerate(everyones):
            for name, value in others.items():
                if difference := _difference(everyones[0][name], value, rank):
                    if not self.leader:
                        self.follow()
                    raise ValueError(
                        f"{name} differs between the processes: {difference}; start all of them with the same command, "
                        "on the same files."
                    )


def _difference(first: Any, other: Any, rank: int) -> str:
    """How a value of process 0 differs from that of another one; empty where it does not."""
    if isinstance(first, Config):
        changes = "; ".join(differences(first, other))
        return changes and f"from process 0 to process {rank}, {changes}"
    return "" if first == other else f"it is {first} in process 0 and {other} in process {rank}"


@contextmanager
def processes(device: str, wanted: int | None = None) -> Iterator[Processes]:
    """Join the processes that torchrun started, and leave them at the end.

    `device` is "cpu", "cuda" or "auto", `wanted` the number of processes that the configuration asks for.

    Raises: ValueError: if torchrun's variables are incomplete, `wanted` differs, or there are more processes than GPUs;
        ProcessLost: if a process ends while others wait for it.
    """
    size, missing = _size()
    if wanted not in (None, size):
        started = "this is one process" if size == 1 else f"torchrun started {size}"
        raise ValueError(
            f"training.processes is {wanted}, and {started}: start with torchrun --nproc-per-node={wanted} -m "
            "emc2_lite train ..., or leave training.processes out."
        )
    if size == 1:
        yield Processes()
        return
    if missing:
        raise ValueError(f"WORLD_SIZE is {size}, and {', '.join(missing)} is not set: start with torchrun.")
    own, on_gpu = None, device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"Process {local} of this machine has no GPU of its own (GPUs: {torch.cuda.device_count()}): start at "
                "most one process a GPU, or say training.device cpu."
            )
        own = torch.device("cuda", local)
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(Parallel(), own)
    except RuntimeError as failure:
        if not _is_of_a_connection(failure):
            raise
        raise ProcessLost(dist.get_rank(), size, str(failure)) from failure
    dist.destroy_process_group()  # after an error, the end of the process does it, when its words are out


class ProcessLost(RuntimeError):
    """Another process of the run has ended."""

    def __init__(self, rank: int, size: int, reason: str):
        first = (reason.strip().splitlines() or ["no message"])[0]
        words = f"Process {rank} (of {size}, counted from 0) has lost another one, which may have said why ({first})"
        super().__init__(words)


def leads() -> bool:
    """Whether this process speaks for its run, from torchrun's variables: without them, yes."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


def _size() -> tuple[int, list[str]]:
    """The number of processes, and the variables of torchrun that are missing."""
    names = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return int(os.environ.get("WORLD_SIZE", "1")), [name for name in names if name not in os.environ]


def _is_of_a_connection(failure: RuntimeError) -> bool:
    words = ("gloo", "nccl", "connection", "broken pipe", "timed out")
    return isinstance(failure, dist.DistError) or any(word in str(failure).lower() for word in words)
