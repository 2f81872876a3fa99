"""Checkpoints: written whole or not at all, read with weights_only, refused in a sentence."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state under a temporary name, flush it to the disk, then rename: a kill at any moment leaves the file
    that was there, or the new one.

    Raises:
        OSError: if the disk is full or cannot be written to; the old file stays.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as failure:  # torch's zip writer hides the system's error
                raise (failure.__context__ if isinstance(failure.__context__, OSError) else failure) from None
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
        ValueError: if the file is cut short, damaged or something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}: start the run first, or name its folder.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises half a dozen kinds for damaged files
        raise ValueError(
            f"{path} is cut short, damaged or no checkpoint ({type(problem).__name__}): "
            "put a good copy in its place, such as best.pt, or delete it and start again."
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this library's format {FORMAT}: name a run's last.pt or best.pt."
        )
    return state


def random_states() -> dict[str, Tensor]:
    """The states of torch's global generators."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
