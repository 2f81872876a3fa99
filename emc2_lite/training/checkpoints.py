"""Checkpoints: written whole or not at all, read with weights_only, refused in a sentence if a byte has changed."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 2
SEAL = b"emc2-lite sha256 "  # before the digest of all bytes before it; torch's archive may have bytes behind it
SEALED = len(SEAL) + 64


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state under a temporary name, seal it with its digest, flush it to the disk, then rename.

    A kill at any moment leaves the file that was there, or the new one.

    Raises:
        OSError: if the disk is full or cannot be written to; the old file stays.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("w+b") as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as failure:  # torch's zip writer hides the system's error
                raise (failure.__context__ if isinstance(failure.__context__, OSError) else failure) from None
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(SEAL + digest.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as failure:
        raise OSError(
            failure.errno,
            f"cannot write the checkpoint {path} ({failure.strerror}): the one before it is untouched; "
            "make room, then continue with --resume",
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU.

    Raises:
        FileNotFoundError: if there is none.
        PermissionError: if it may not be read.
        ValueError: if a byte of the file is not as it was written, or it is something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: start the run first, or name its folder.")
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise type(failure)(
            failure.errno,
            f"cannot read the checkpoint {path} ({failure.strerror}): it may be a good one; give yourself the right to "
            "read it, or see to the disk",
        ) from None
    body, seal = content[:-SEALED], content[-SEALED:]
    sealed = seal.startswith(SEAL)
    if sealed and seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise _damaged(path, "its bytes are not those that were written")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises half a dozen kinds for damaged files
        raise _damaged(path, type(problem).__name__) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this library's format {FORMAT}: name a run's last.pt or best.pt."
        )
    if not sealed:
        raise _damaged(path, "its end is not as it was written")
    return state


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is cut short, damaged or no checkpoint ({reason}): "
        "put a good copy in its place, such as best.pt, or delete it and start again."
    )


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """While entered, what goes wrong is said of the checkpoint: it was read, and does not hold what is looked for.

    Raises:
        ValueError: in the place of the errors of missing keys, other shapes and other kinds.
    """
    try:
        yield
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    except (LookupError, TypeError, AttributeError, RuntimeError) as problem:
        first = (str(problem).strip().splitlines() or ["no message"])[0]
        raise ValueError(
            f"{path} is whole, but does not hold the state of such a run ({type(problem).__name__}: {first}): put "
            "another checkpoint of the run in its place, such as best.pt, or start another run."
        ) from None


def random_states() -> dict[str, Tensor]:
    """The states of torch's global generators."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
