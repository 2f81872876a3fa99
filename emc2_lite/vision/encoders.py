"""Encoders: from images to embeddings of length 1."""

import difflib
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emc2_lite.checks import Unread, Width, checked_settings

SMALL_DEPTHS = (8, 14, 20)  # depths of the ResNets for small images
DEPTHS = (18, 34, 50, 101, 152)  # depths of torchvision's
RESNETS = tuple(f"resnet{depth}" for depth in (*SMALL_DEPTHS, *DEPTHS))
# Their training passes return more than the last layer's output, or their last layer is a convolution.
_OTHER_HEADS = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
Norm = Literal["none", "group", "batch"]
NormLayer = Callable[[int], nn.Module]


class Encoder(nn.Module):
    """A trunk and a projector: images -> (k, dim) embeddings, projector(trunk(images)) divided by its length, at least
    in float32, so that lengths are exact under autocast. `features` gives the trunk's output, (k, f)."""

    def __init__(self, trunk: nn.Module, projector: nn.Module, dim: int):
        super().__init__()
        self.trunk, self.projector, self.dim = trunk, projector, dim

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        projected = self.projector(self.features(images))
        return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=1)


class DigitEncoder(Encoder):
    """A convolutional network without norm layers, of 93,000 weights at dim 32: (k, 1, 8, 8) grey images -> (k, 128)
    features -> (k, dim) embeddings of length 1, through a linear projector.

    Raises: ValueError: on a dim outside 1 to 65,536.

    >>> DigitEncoder(dim=16)(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 16])
    """

    @checked_settings
    def __init__(self, dim: Width = 32):
        halving = partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
        layers = nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), halving(32, 64), nn.ReLU(), halving(64, 64), nn.ReLU()
        trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 128), nn.ReLU())
        super().__init__(trunk, nn.Linear(128, dim), dim)


class ResNetEncoder(Encoder):
    """A ResNet without its classifier, and a projector: (k, 3, H, W) images -> (k, f) features -> (k, dim) embeddings
    of length 1. The defaults are the paper's encoder for STL-10.

    Depths 18, 34 (f = 512), 50, 101 and 152 (f = 2048) are torchvision's. Depths 8, 14 and 20 are for images of 32 x 32
    on a CPU: a 3 x 3 convolution, then three stages of 1, 2 or 3 blocks with 16, 32 and f = 64 channels.

    Weights start as torchvision's do (He et al. 2015), with any norm. At depth 18 without norm layers no other start
    learnt faster at the paper's rate, Adam's 1e-4: residual branches that start at zero (Fixup, Zhang, Dauphin and Ma
    2019) were slower. At 1e-3 all embeddings collapsed to one point within 100 steps: watch their mean cosine.

    Args:
        depth: 8, 14, 18, 20, 34, 50, 101 or 152.
        stem: of torchvision's depths: "imagenet", a 7 x 7 convolution of stride 2 and a max pool; or "small", a 3 x 3
            convolution of stride 1, for images of about 32 x 32 (Chen et al. 2020, SimCLR, appendix B.9).
        norm: "none"; "group", GroupNorm of 32 groups, at the small depths 8 (Wu and He 2018); or "batch", where a
            training embedding depends on the other images of its batch: a view that EMC2 encodes again takes the
            statistics of another pass.
        hidden, dim: the projector is Linear(f, hidden), ReLU, Linear(hidden, dim); without hidden, Linear(f, dim).

    Raises: ValueError: on another depth, stem or norm, or a width outside 1 to 65,536.
    Source: He et al. 2016, Deep residual learning, the small ones section 4.2 (here with 1 x 1 convolutions in the two
    shortcuts that change the number of channels); Yau et al. 2024, the settings of its runs (ImageNet-100: depth 50,
    hidden 2048, dim 128).
    """

    @checked_settings
    def __init__(
        self,
        depth: int = 18,
        *,
        stem: Annotated[Literal["imagenet", "small"], Unread("depth", *SMALL_DEPTHS)] = "imagenet",
        norm: Norm = "none",
        hidden: Width | None = None,
        dim: Width = 512,
    ):
        if depth not in (*SMALL_DEPTHS, *DEPTHS):
            raise ValueError(f"depth is {depth}: use 8, 14, 18, 20, 34, 50, 101 or 152.")
        groups = partial(nn.GroupNorm, 8 if depth in SMALL_DEPTHS else 32)
        layers: dict[str, NormLayer] = {"none": nn.Identity, "group": groups, "batch": nn.BatchNorm2d}
        trunk, width = (_small_trunk if depth in SMALL_DEPTHS else partial(_trunk, stem=stem))(depth, layers[norm])
        super().__init__(trunk, _projector(width, hidden, dim), dim)


class BackboneEncoder(Encoder):
    """A classifier of torchvision.models without its last layer, and a projector: (k, 3, S, S) images -> (k, f)
    features -> (k, dim) embeddings of length 1.

    A view that EMC2 encodes again must get the embedding that it had, so nothing in the trunk is random: dropout and
    stochastic depth are switched off. Weights start as torchvision's do.

    Args:
        name: such as "convnext_tiny" or "vit_b_16"; see `backbones`.
        size: S, for which vision transformers and maxvit_t are made; other trunks take images of any size.
        norm: what stands where torchvision has batch norm: "group" (GroupNorm, of 32 groups, or of as many of these as
            divide the channels) or "batch", see `ResNetEncoder`; "none" for a model without batch norm, and only for
            one: without norm layers the features of many others are 0 within rounding.
        hidden, dim: of the projector, see `ResNetEncoder`.

    Raises: ValueError: on a name that is not one of `backbones`, with the nearest ones; on a norm that the model cannot
        have, a size that it cannot take, or a width outside 1 to 65,536.

    >>> BackboneEncoder("shufflenet_v2_x0_5", size=32, norm="group", dim=16)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 16])
    """

    @checked_settings
    def __init__(
        self, name: str, *, size: int = 224, norm: Norm = "none", hidden: Width | None = None, dim: Width = 128
    ):
        from torchvision import models

        check_backbone(name, "name")
        sizes: dict[str, Any] = {"vit": {"image_size": size}, "maxvit": {"input_size": (size, size)}}
        try:
            trunk = models.get_model(name, weights=None, **sizes.get(name.split("_")[0], {}))
        except (AssertionError, ValueError) as problem:
            raise ValueError(
                f"{name} cannot take views of {size} x {size} pixels: {str(problem).splitlines()[0]}"
            ) from None
        normed = any(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules())
        if normed != (norm != "none"):
            words = "is made to have norm layers: use group or batch" if normed else "has no batch norm: use none"
            raise ValueError(f"norm is {norm!r}, and {name} {words}.")
        for place, layer in list(trunk.named_modules()):
            if isinstance(layer, nn.Dropout) or type(layer).__name__ == "StochasticDepth":
                layer.p = 0.0
            elif isinstance(layer, nn.BatchNorm2d) and norm == "group":
                channels = layer.num_features
                trunk.set_submodule(place, nn.GroupNorm(math.gcd(32, channels), channels, eps=layer.eps))
        last = [place for place, layer in trunk.named_modules() if isinstance(layer, nn.Linear)][-1]
        width = trunk.get_submodule(last).in_features
        trunk.set_submodule(last, nn.Identity())
        super().__init__(trunk, _projector(width, hidden, dim), dim)


def backbones() -> list[str]:
    """The names of torchvision's image classifiers whose last layer is linear, which `BackboneEncoder` takes.

    >>> [name for name in backbones() if name.startswith("convnext")]
    ['convnext_base', 'convnext_large', 'convnext_small', 'convnext_tiny']
    """
    from torchvision import models

    return [name for name in models.list_models(module=models) if name not in _OTHER_HEADS]


def check_backbone(name: str, setting: str, *known: str) -> None:
    """Refuse a name that is not `known` nor one of torchvision's; `setting` begins the sentence.

    Raises: ValueError: with the nearest names.
    """
    if name in known or name in (found := backbones()):
        return
    near = difflib.get_close_matches(name, [*known, *found], n=3, cutoff=0.5) or ["resnet18", "convnext_tiny"]
    raise ValueError(
        f"{setting} is {name[:60]!r}: use {', '.join(known)}{', or ' * bool(known)}an image classifier of "
        f"torchvision.models with a linear last layer; near are {', '.join(near)}."
    )


def _projector(width: int, hidden: int | None, dim: int) -> nn.Module:
    first = nn.Linear(width, hidden or dim)
    return first if hidden is None else nn.Sequential(first, nn.ReLU(), nn.Linear(hidden, dim))


def _trunk(depth: int, norm_layer: NormLayer, stem: str) -> tuple[nn.Module, int]:
    """torchvision's ResNet of a depth without its classifier, and the number of its features."""
    from torchvision import models  # here, because torchvision takes seconds

    trunk = models.get_model(f"resnet{depth}", norm_layer=norm_layer)
    width, trunk.fc = trunk.fc.in_features, nn.Identity()
    if stem == "small":
        trunk.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        _start(trunk.conv1)
        trunk.maxpool = nn.Identity()
    return trunk, width


def _small_trunk(depth: int, norm_layer: NormLayer) -> tuple[nn.Module, int]:
    """The ResNet of depth 8, 14 or 20, and the number of its features."""
    from torchvision.models.resnet import BasicBlock

    width = 16
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), norm_layer(width), nn.ReLU(inplace=True)]
    for channels in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            shortcut = None
            if channels != width:
                shortcut = nn.Sequential(nn.Conv2d(width, channels, 1, stride=2, bias=False), norm_layer(channels))
            layers.append(BasicBlock(width, channels, 1 if shortcut is None else 2, shortcut, norm_layer=norm_layer))
            width = channels
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    trunk.apply(_start)
    return trunk, width


def _start(layer: nn.Module) -> None:
    """Give a convolution the weights that torchvision's ResNets start with."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
