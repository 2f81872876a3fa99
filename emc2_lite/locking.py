"""One folder or file, one process: a lock that names its owner and dies with it."""

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Locked(ValueError):
    """Another process is at work there; the message says which."""


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold the lock file `path` while entered; its folder must be there.

    The operating system drops the lock when the process ends, however it ends; a file left behind by a killed process
    locks nothing. The file holds the number and the machine of the process.

    Args:
        path: the lock file, which is made, and taken away at the end.
        work: what the other process would be doing, for the message, such as "a run in build/runs/digits".

    Raises:
        Locked: if another process holds it.
        OSError: if the file cannot be made.
    """
    file = _taken(path, work)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _taken(path: Path, work: str) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise Locked(
                f"{owner} is at work on {work}: wait until it ends, or end it; two at once would spoil "
                "each other's files."
            ) from None
        except OSError as failure:
            if failure.errno not in _NO_LOCKS:
                os.close(file)
                raise
            warnings.warn(
                f"{path.parent} cannot be locked: see to it that no second process writes there", stacklevel=4
            )
        if _still_named(file, path):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
            return file
        os.close(file)  # its owner took it away between our opening and our locking it


def _still_named(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(file)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
