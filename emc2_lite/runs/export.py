"""Encoders to take along: a run's encoder in a small file of its own, and the one that comes with the library."""

from pathlib import Path

from emc2_lite.records import data_file, write_whole
from emc2_lite.training import LAST, contents_of, from_dict, load_checkpoint, make_encoder
from emc2_lite.training.checkpoints import sealed
from emc2_lite.vision.encoders import Encoder

SHIPPED = "cifar10_small"


def export_encoder(run: Path, path: Path, *, checkpoint: str = LAST) -> None:
    """Write the encoder of a run's checkpoint to a file: its weights in half precision, the run's configuration, and
    a digest. The encoder takes images with values from 0 to 1; nothing else is subtracted or divided.

    Raises: FileNotFoundError, ValueError: if the checkpoint is missing or damaged, or a weight has no half-precision
        value; OSError: if the file cannot be written.
    """
    state = load_checkpoint(run / checkpoint)
    with contents_of(run / checkpoint):
        weights = {name: w.half() if w.is_floating_point() else w for name, w in state["encoder"].items()}
        exported = {"config": state["config"], "step": state["step"], "encoder": weights}
    if not all(w.isfinite().all() for w in weights.values()):
        raise ValueError(f"{run / checkpoint} has weights that are not finite in half precision: the run diverged.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, sealed(exported))


def exported_encoder(path: Path) -> Encoder:
    """The encoder in a file of `export_encoder`, in float32 and in evaluation mode, on the CPU.

    Raises: FileNotFoundError, ValueError: if the file is missing, or any byte has changed.
    """
    state = load_checkpoint(path)
    with contents_of(path):
        encoder = make_encoder(from_dict(state["config"]).encoder)
        encoder.load_state_dict(state["encoder"])
    return encoder.eval()


def shipped_encoder() -> Encoder:
    """The encoder that comes with the library: a ResNet of 8 layers for 32 x 32 photographs, see data/README.md.

    Raises: FileNotFoundError: if the installation lacks the file; ValueError: if any of its bytes has changed.

    >>> import torch
    >>> shipped_encoder().features(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 64])
    """
    if found := data_file("encoders", f"{SHIPPED}.pt"):
        return exported_encoder(found)
    raise FileNotFoundError(f"data/encoders/{SHIPPED}.pt is missing: install emc2-lite again.")
