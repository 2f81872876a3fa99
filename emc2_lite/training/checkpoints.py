"""Checkpoints: written whole or not at all, read with weights_only, and refused if a byte has changed."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

FORMAT = 4
SEAL = b"emc2-lite sha256 "  # before the digest of all earlier bytes; torch ignores bytes behind its archive
SEALED = len(SEAL) + 64


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state and its digest under a temporary name, flush the file to the disk, then rename it.

    A kill at any moment leaves either the old file or the new one.

    Raises: OSError: if the disk is full or cannot be written to; the old file stays.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        content = sealed(state)
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as failure:
        words = f"cannot write the checkpoint {path} ({failure.strerror}): the one before it is untouched; "
        raise OSError(failure.errno, words + "make room, then continue with --resume") from None
    finally:
        draft.unlink(missing_ok=True)


def sealed(state: dict[str, Any]) -> bytes:
    """The bytes of a file that `load_checkpoint` reads."""
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    content.write(SEAL + hashlib.sha256(content.getbuffer()).hexdigest().encode())
    return content.getvalue()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, on the CPU.

    Raises: FileNotFoundError, PermissionError: if the file does not exist or may not be read; ValueError: if the file
        is no checkpoint, or any byte has changed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: start the run first, or name its folder.")
    try:
        content = path.read_bytes()
    except OSError as failure:
        words = f"cannot read the checkpoint {path} ({failure.strerror}): it may be a good one; "
        raise type(failure)(failure.errno, words + "give yourself the right to read it, or check the disk") from None
    body, seal = content[:-SEALED], content[-SEALED:]
    if seal.startswith(SEAL) and seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise _damaged(path, "its bytes have changed")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises half a dozen kinds for damaged files
        raise _damaged(path, type(problem).__name__) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this library's format {FORMAT}: name a run's last.pt or best.pt."
        )
    if not seal.startswith(SEAL):
        raise _damaged(path, "its digest is missing")
    return state


def _damaged(path: Path, reason: str) -> ValueError:
    words = f"{path} is cut short, damaged or no checkpoint ({reason}): put a good copy in its place, such as best.pt, "
    return ValueError(words + "or delete it and start again.")


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """Turn errors about a loaded state into one sentence that names the checkpoint.

    Raises: ValueError: in place of the errors of missing keys, wrong shapes and wrong types.
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
