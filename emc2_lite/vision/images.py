"""What the readers of data sets return."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images in memory, and their classes; ``images, labels = load_digits("train")`` takes the two tensors.

    images: (N, C, H, W), float32 in [0, 1] for digits, uint8 for colour images.
    labels: (N,) int64, -1 where there is none.
    classes: names of the labels 0, 1, ...; none where they are unknown.
    identity: a text that differs where the images do, as far as can be told without reading them; `load_images` fills
    it.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    identity: str = ""

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels))

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.images)

    def subset(self, chosen: Tensor) -> "LabelledImages":
        """The images of these indices, (k,) int64; the classes stay."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])
