"""Encoders to take along: a run's encoder in a small file of its own, and the one that comes with the library."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.records import data_file, write_whole
from emc2_lite.training import LAST, Config, contents_of, from_dict, load_checkpoint, make_encoder
from emc2_lite.training.checkpoints import sealed
from emc2_lite.vision.encoders import Encoder

SHIPPED = "cifar10_small"
PROGRAM = ".pt2"  # the ending of a file of torch.export
ROUNDING = 1e-3  # how far outside [0, 1] a resized image may be


class Pixels(nn.Module):
    """What comes before an exported encoder's trunk: uint8 from 0 to 255, or floating point in [0, 1], (k, C, H, W) ->
    floating point in [0, 1], (k, C, S, S); nothing is subtracted, or divided but by 255. Images of another size are
    resized as `emc2_lite.vision.ImageViews.originals` does.

    Raises: ValueError: on another dtype, shape or range.

    >>> Pixels(channels=1, size=2)(torch.tensor([[[[0, 255], [51, 0]]]], dtype=torch.uint8))
    tensor([[[[0.0000, 1.0000],
              [0.2000, 0.0000]]]])
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] != self.channels or not images.numel():
            words = f"The images have shape {tuple(images.shape)}: pass (k, {self.channels}, H, W), k >= 1, such as "
            raise ValueError(f"{words}(1, {self.channels}, {self.size}, {self.size}).")
        if images.dtype == torch.uint8:
            images = images / 255
        elif not images.is_floating_point():
            raise ValueError(f"The images are {images.dtype}: pass torch.uint8, or floating point in [0, 1].")
        elif not (images.min() >= -ROUNDING and images.max() <= 1 + ROUNDING):
            low, high = images.min().item(), images.max().item()
            words = f"The images have values from {low:.3g} to {high:.3g}: pass floating point in [0, 1], from which "
            raise ValueError(words + "nothing is subtracted, or torch.uint8.")
        size = (self.size, self.size)
        return images if images.shape[2:] == size else F.interpolate(images, size, mode="bilinear", antialias=True)


def export_encoder(run: Path, path: Path, *, checkpoint: str = LAST) -> None:
    """Write the encoder of a run's checkpoint to a file.

    A file that ends in .pt2 is a program of torch.export, in float32: it takes (k, C, S, S) float32 in [0, 1], any k,
    and gives the features (k, f); ``torch.export.load(path).module()`` runs it without this library. Any other file
    holds, with a digest, the weights in half precision, the run's configuration and ``input``, with the channels, the
    size and the range of the images' values; `exported_encoder` reads it.

    Raises: FileNotFoundError, ValueError: if the checkpoint is missing or damaged, or a weight has no half-precision
        value or is not finite, or if torch.export cannot follow the encoder; OSError: if the file cannot be written.
    """
    state, program = load_checkpoint(run / checkpoint), path.suffix == PROGRAM
    with contents_of(run / checkpoint):
        config, weights = from_dict(state["config"]), state["encoder"]
        exported = {"config": state["config"], "step": state["step"], "input": _input_of(config)}
        if program:
            encoder = make_encoder(config)
            encoder.load_state_dict(weights)
        else:
            weights = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
    if not all(w.isfinite().all() for w in weights.values()):
        raise ValueError(f"{run / checkpoint} has weights that are not finite in half precision: the run diverged.")
    content = _program(encoder.eval(), exported) if program else sealed(exported | {"encoder": weights})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def _input_of(config: Config) -> dict[str, Any]:
    """The images that a configuration's encoder takes: their channels, their size and the range of their values."""
    channels, size = (3, config.views.size) if config.views else (1, 8)
    return {"channels": channels, "size": size, "range": [0.0, 1.0]}


def _program(encoder: Encoder, exported: dict[str, Any]) -> bytes:
    """The trunk as a program of torch.export, with the configuration, the step and the input beside it, as JSON."""
    shape, content = exported["input"], io.BytesIO()
    images = torch.zeros(2, shape["channels"], shape["size"], shape["size"])
    batch = {0: torch.export.Dim("batch")}
    try:
        program = torch.export.export(encoder.trunk, (images,), dynamic_shapes=(batch,))
    except Exception as problem:  # torch raises a dozen kinds for what it cannot follow
        reason = (str(problem).strip().splitlines() or ["no message"])[0]
        words = f"torch.export cannot follow the encoder {exported['config']['encoder']['name']} "
        raise ValueError(f"{words}({type(problem).__name__}: {reason}): name a file that ends in .pt.") from None
    torch.export.save(program, content, extra_files={"emc2_lite.json": json.dumps(exported)})
    return content.getvalue()


def exported_encoder(path: Path | str) -> Encoder:
    """The encoder in a file of `export_encoder`, in float32 and in evaluation mode, on the CPU.

    ``encoder.features(images)``, (k, f), and ``encoder(images)``, (k, dim), take plain images, see `Pixels`.

    Raises: FileNotFoundError, ValueError: if the file is missing, or any byte has changed.
    """
    path = Path(path)
    if path.suffix == PROGRAM:
        raise ValueError(f"{path} is a program of torch.export: read it with torch.export.load.")
    state = load_checkpoint(path)
    with contents_of(path):
        config = from_dict(state["config"])
        encoder = make_encoder(config)
        encoder.load_state_dict(state["encoder"])
        shape = _input_of(config)
        pixels = Pixels(shape["channels"], shape["size"])
    return Encoder(nn.Sequential(pixels, encoder.trunk), encoder.projector, encoder.dim).eval()


def shipped_encoder() -> Encoder:
    """The encoder that comes with the library: a ResNet of 8 layers for 32 x 32 photographs, see data/README.md.

    Raises: FileNotFoundError: if the installation lacks the file; ValueError: if any of its bytes has changed.

    >>> shipped_encoder().features(torch.zeros(1, 3, 48, 48, dtype=torch.uint8)).shape
    torch.Size([1, 64])
    """
    if found := data_file("encoders", f"{SHIPPED}.pt"):
        return exported_encoder(found)
    raise FileNotFoundError(f"data/encoders/{SHIPPED}.pt is missing: install emc2-lite again.")
