"""Encoders: from images to embeddings of length 1."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18


class DigitEncoder(nn.Module):
    """A small convolutional network for 8 x 8 grey images, without norm layers: 93,000 weights at d = 32.

    `features` is what the evaluation reads, (k, 128); the call puts a linear projector behind it and normalises:
    (k, 1, 8, 8) images -> (k, dim) embeddings.

    Args:
        dim: d, the length of an embedding.
    """

    def __init__(self, dim: int = 32):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 128),
            nn.ReLU(),
        )
        self.projector = nn.Linear(128, dim)

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.projector(self.features(images)), dim=1)


class ResNetEncoder(nn.Module):
    """ResNet-18 without norm layers, features of 512 numbers, and a linear projector: the paper's encoder for STL-10.

    (k, 3, H, W) images -> (k, 512) embeddings of length 1.
    """

    def __init__(self):
        super().__init__()
        self.trunk = resnet18(norm_layer=lambda channels: nn.Identity())
        self.trunk.fc = nn.Identity()
        self.projector = nn.Linear(512, 512)

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.projector(self.features(images)), dim=1)
