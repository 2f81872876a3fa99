"""One process per folder or file: a lock file that names its process and unlocks when the process ends."""

import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Locked(ValueError):
    """Another process works on the same files; the message names the process."""


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold the lock file `path` while entered; its folder must exist.

    The file, deleted at the end, holds the number and the machine of the process; one that a killed process left locks
    nothing. `work` is the work under the lock, for the message, such as "the run in build/runs/digits".

    Raises: Locked: if another process holds the lock; OSError: if the file cannot be made.
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
            words = f"{owner} is at work on {work}: wait until it ends, or end it; "
            raise Locked(words + "two at once would damage the files.") from None
        except OSError as failure:
            if failure.errno not in _NO_LOCKS:
                os.close(file)
                raise
            warnings.warn(f"{path.parent} cannot be locked: let no second process write there", stacklevel=4)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                os.ftruncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
                return file
        os.close(file)  # the process before deleted the file after this one had opened it, and before it had locked it
