"""Real processes: one of its own for work that ends it, and groups with gloo for the tests of data parallelism."""

import io
import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing

PRELOAD = ["emc2_lite.runs", "emc2_lite.kernels", "sklearn.datasets", "torch._dynamo"]  # what takes seconds to import
SECONDS = 60  # after which a waiting process gives up


def started(*work: Callable[[], Any]) -> BaseProcess:
    """Call all of `work`, which is pickled, in a new process.

    It is no copy of this one, whose threads might hold a lock at that moment; a forked process would wait for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_all, args=(work,))
    process.start()
    return process


def _all(work: tuple[Callable[[], Any], ...]) -> None:
    with suppress(KeyboardInterrupt):
        for one in work:
            one()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _packed(value: Any) -> bytes:
    """As bytes: a tensor would be in memory that the processes share."""
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def _unpacked(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=False)


def _work(rank: int, size: int, port: int, work: Callable, arguments: bytes, results: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=SECONDS))
    try:
        results.put((rank, _packed(work(rank, size, *_unpacked(arguments))), None))
    except Exception:
        results.put((rank, None, traceback.format_exc()))
    finally:
        dist.destroy_process_group()


def in_processes(size: int, work: Callable, *arguments: Any) -> list[Any]:
    """work(rank, size, *arguments) in `size` processes of one group; what each returned, by rank."""
    context = multiprocessing.get_context("spawn")
    results, port = context.SimpleQueue(), free_port()
    processes = [
        context.Process(target=_work, args=(rank, size, port, work, _packed(arguments), results), daemon=True)
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    found = {}
    while len(found) < size:
        if results.empty() and any(process.exitcode for process in processes):
            raise AssertionError(f"A process died: {[process.exitcode for process in processes]}")
        if results.empty():
            time.sleep(0.05)
            continue
        rank, content, failure = results.get()
        found[rank] = content, failure
    for process in processes:
        process.join(SECONDS)
    failures = [failure for _, failure in found.values() if failure]
    first = [failure for failure in failures if "Connection closed" not in failure]  # the others lost their peer
    if failures:
        raise AssertionError("\n".join(first or failures))
    return [_unpacked(found[rank][0]) for rank in range(size)]
