"""Work in several processes, which end when this process tells them to or is gone."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any


def attempts(work: Callable[[Any], Any], items: Mapping[int, Any], jobs: int) -> Iterator[tuple[int, Any, str | None]]:
    """Yield (number of the item, work(item), None) as items end, or (number, None, reason) where the work failed.

    With jobs=1 this process does the work. Otherwise `jobs` processes do, each an item at a time; `work`, the items and
    the results are pickled. A process that dies costs its item alone: a new process goes on with the others. When the
    iteration stops early, processes at work get SIGTERM, and all are waited for. They ignore the terminal's Ctrl-C and
    SIGHUP, so that each gets one signal; if this process is killed, they get SIGTERM too.
    """
    if jobs == 1:
        yield from ((number, *_attempt(work, item)) for number, item in items.items())
        return
    waiting = deque(items.items())
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, int] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                number, item = waiting.popleft()
                connection = next((idle for idle in workers if idle not in busy), None) or _started(workers)
                connection.send((work, item))
                busy[connection] = number
            ready = wait(list(busy))
            for connection in [one for one in busy if one in ready]:
                number = busy.pop(connection)
                try:
                    result, failure = connection.recv()
                except (EOFError, ConnectionResetError):
                    result, failure = None, _end_of(workers.pop(connection))
                yield number, result, failure
    finally:
        for connection, process in workers.items():
            if connection in busy:
                process.terminate()
            else:  # ended by a signal, it would leave its semaphores behind
                with suppress(OSError):
                    connection.send(None)
                process.join(10)
                process.terminate()
        for process in workers.values():
            process.join()


def _attempt(work: Callable[[Any], Any], item: Any) -> tuple[Any, str | None]:
    try:
        return work(item), None
    except Exception as problem:  # whatever it is, the other items go on
        return None, f"{type(problem).__name__}: {problem}"


def _started(workers: dict[Connection, BaseProcess]) -> Connection:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    workers[mine] = context.Process(target=_serve, args=(theirs,), daemon=True)
    workers[mine].start()
    theirs.close()
    return mine


def _end_of(process: BaseProcess) -> str:
    process.join()
    status = process.exitcode or 0
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"its process {how}"


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while (task := connection.recv()) is not None:
        connection.send(_attempt(*task))


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
