"""Work handed to several processes, which end when they are told to, and when their parent is gone."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any


def in_processes(work: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> Iterator[tuple[int, Any]]:
    """Yield (number of the item, work(item)) as they are done, `jobs` at a time; `work` and its results are pickled.

    An item whose process ended before it was done yields `Died`, and the others go on in a new one. When the iteration
    is left early, all processes get SIGTERM and are waited for. They do not hear the terminal's Ctrl-C or SIGHUP, so
    one signal reaches each of them; if the parent is killed they get SIGTERM too.
    """
    waiting = deque(enumerate(items))
    workers: dict[Connection, multiprocessing.Process] = {}
    doing: dict[Connection, int] = {}

    def begin(connection: Connection) -> None:
        number, item = waiting.popleft()
        connection.send((work, item))
        doing[connection] = number

    try:
        while waiting or doing:
            while waiting and len(doing) < jobs:
                idle = [connection for connection in workers if connection not in doing]
                begin(idle[0] if idle else _started(workers))
            for connection in wait(list(doing)):
                number = doing.pop(connection)
                try:
                    result = connection.recv()
                except EOFError:
                    process = workers.pop(connection)
                    process.join()
                    result = Died(process.exitcode)
                yield number, result
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join()


class Died:
    """The outcome of an item whose process ended with this status before it was done."""

    def __init__(self, status: int | None):
        self.status = status

    def __str__(self) -> str:
        if self.status is not None and self.status < 0:
            return f"its process was ended by {signal.Signals(-self.status).name}"
        return f"its process ended with status {self.status}"


def _started(workers: dict[Connection, multiprocessing.Process]) -> Connection:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    workers[mine] = process
    return mine


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        work, item = connection.recv()
        connection.send(work(item))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
