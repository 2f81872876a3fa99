"""What the five estimators have in common: how they are called, what they check, what they keep."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from emc2_lite.losses.checks import check_batch, check_temperature
from emc2_lite.losses.two_view import TwoViewBlock, two_view_block

Encode = Callable[[Tensor, Tensor], Tensor]


class Criterion(nn.Module):
    """A scalar whose gradient estimates that of the global contrastive loss, from a batch of two views a sample.

    Call ``criterion(z1, z2, index, view=None, encode=None, generator=None)`` with

    * z1, z2: (b, d) normalised embeddings of two views of b >= 2 samples;
    * index: (b,) int64 dataset indices, each once, in [0, num_samples) where the loss keeps state;
    * view: (2, b) int64 view numbers of z1 and z2, >= 0; 0 and 1 when not given;
    * encode: (k,) indices, (k,) views -> (k, d) normalised embeddings under today's weights, with gradient;
    * generator: the source of the loss's own random numbers; torch's default when not given.

    All means are over the 2b rows and nothing is rescaled, so the gradients of all estimators compare with the exact
    one as they are. ``stats`` holds the last call's readable numbers. State is in buffers with one place for each
    (sample, view slot), z1 in slot 0 and z2 in slot 1; a refused call or a refused state dict leaves it as it was.

    Raises:
        ValueError: on bad settings, shapes, dtypes, devices, embeddings or indices, and on a damaged state or one that
            was saved with other settings.
    """

    state_name: ClassVar[str] = "state"

    def __init__(self, temperature: float, num_samples: int | None = None):
        super().__init__()
        check_temperature(temperature)
        if num_samples is not None and num_samples < 2:
            raise ValueError(f"num_samples is {num_samples}: at least 2 samples are needed for a negative.")
        self.temperature = temperature
        self.num_samples = num_samples
        self.stats: Any = None
        self.register_load_state_dict_pre_hook(_check_saved_state)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in inspect.signature(type(self)).parameters)

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        index: Tensor,
        view: Tensor | None = None,
        encode: Encode | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        check_batch(z1, z2, index, view, self.num_samples)
        for buffer in self.buffers():
            if buffer.device != z1.device:
                raise ValueError(
                    f"The {self.state_name} are on {buffer.device} and z1 on {z1.device}: "
                    "move the loss, loss.to(z1.device)."
                )
        block = two_view_block(z1, z2, index, view, self.temperature)
        loss, self.stats = self.estimate(block, encode, generator)
        return loss

    def estimate(
        self, block: TwoViewBlock, encode: Encode | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Any]:
        """The scalar with the estimate as its gradient, and the numbers to read; writes the state as its last act."""
        raise NotImplementedError

    def check_saved(self, saved: dict[str, Tensor]) -> None:
        """Raise ValueError if the saved buffers, whose shapes are right, hold what no run can have left."""


def _check_saved_state(criterion: Criterion, state_dict: dict, prefix: str, _, strict: bool, *__) -> None:
    """Before torch copies anything: it would copy what fits, and complain of the rest afterwards."""
    buffers = dict(criterion.named_buffers())
    given = {key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)}
    if strict and given != buffers.keys():
        raise ValueError(
            f"The saved state holds {', '.join(sorted(given)) or 'nothing'}, but {type(criterion).__name__} keeps "
            f"{', '.join(buffers) or 'nothing'}: load the state of the same loss, whole."
        )
    saved = {name: state_dict[prefix + name] for name in buffers if name in given}
    for name, tensor in saved.items():
        if tensor.shape != buffers[name].shape:
            raise ValueError(
                f"The saved {criterion.state_name} have shape {tuple(tensor.shape)}, but this loss was made for "
                f"{criterion.num_samples} samples and keeps {tuple(buffers[name].shape)}: make it with the settings of "
                "the run that the state was saved in."
            )
    criterion.check_saved(saved)
