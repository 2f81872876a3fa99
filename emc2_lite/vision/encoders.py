"""Encoders: from images to embeddings of length 1."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50

from emc2_lite.checks import Width, checked_settings

RESNETS = {18: resnet18, 50: resnet50}
NORMS = {"none": nn.Identity, "group": partial(nn.GroupNorm, 32), "batch": nn.BatchNorm2d}


class Encoder(nn.Module):
    """A trunk and a projector: images -> projector(trunk(images)), divided by its length.

    `features` is what the evaluation reads, (k, f), the trunk's output. The call gives (k, dim) embeddings of length 1,
    float32 at least: under autocast the projector's half-precision output is widened first, so that lengths are exact.
    """

    def __init__(self, trunk: nn.Module, projector: nn.Module, dim: int):
        super().__init__()
        self.trunk = trunk
        self.projector = projector
        self.dim = dim

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        projected = self.projector(self.features(images))
        return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)


class DigitEncoder(Encoder):
    """A small convolutional network for 8 x 8 grey images, without norm layers: 93,000 weights at d = 32.

    (k, 1, 8, 8) images -> (k, 128) features -> (k, dim) embeddings of length 1, through a linear projector.

    Args:
        dim: d, the length of an embedding.

    Raises:
        ValueError: on a width outside 1 to 65,536.
    """

    @checked_settings
    def __init__(self, dim: Width = 32):
        trunk = nn.Sequential(
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
        super().__init__(trunk, nn.Linear(128, dim), dim)


class ResNetEncoder(Encoder):
    """torchvision's ResNet without its classifier, and a projector; the defaults are the paper's encoder for STL-10.

    (k, 3, H, W) images -> (k, 512) features, (k, 2048) at depth 50 -> (k, dim) embeddings of length 1.

    Weights start as torchvision's do (He et al. 2015), with any norm. At depth 18 without norm layers nothing learnt
    faster at the paper's rate, Adam's 1e-4: residual branches that start at zero (Fixup, Zhang, Dauphin and Ma 2019)
    held it up. At 1e-3 all embeddings ran into one point within 100 steps: watch their mean cosine at higher rates.

    Args:
        depth: 18 or 50.
        stem: "imagenet", a 7 x 7 convolution of stride 2 and a max pool; or "small", a 3 x 3 convolution of stride 1,
            for images of about 32 x 32 (Chen et al. 2020, SimCLR, appendix B.9).
        norm: "none"; "group", GroupNorm of 32 groups (Wu and He 2018); or "batch". With "batch" an embedding depends on
            its company in training: a view that is encoded again outside its batch, as EMC2 does, takes the statistics
            of the pass it happens to be in. The other two give each image an embedding of its own.
        hidden: the projector is Linear(f, hidden), ReLU, Linear(hidden, dim); without it, Linear(f, dim).
        dim: d, the length of an embedding.

    Raises:
        ValueError: on another depth, stem or norm, or a width outside 1 to 65,536.

    Source: He et al. 2016, Deep residual learning; Yau et al. 2024, the settings of its runs (ImageNet-100: depth 50,
    hidden 2048, dim 128).
    """

    @checked_settings
    def __init__(
        self,
        depth: int = 18,
        *,
        stem: Literal["imagenet", "small"] = "imagenet",
        norm: Literal["none", "group", "batch"] = "none",
        hidden: Width | None = None,
        dim: Width = 512,
    ):
        if depth not in RESNETS:
            raise ValueError(f"depth is {depth}: use {' or '.join(map(str, RESNETS))}.")
        trunk = RESNETS[depth](norm_layer=NORMS[norm])
        width = trunk.fc.in_features
        trunk.fc = nn.Identity()
        if stem == "small":
            trunk.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
            trunk.maxpool = nn.Identity()
        if hidden is None:
            projector = nn.Linear(width, dim)
        else:
            projector = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        super().__init__(trunk, projector, dim)
