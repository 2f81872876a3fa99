"""Encoders: embeddings of length 1, the paper's networks, and what a norm layer does to a view."""

import math
import re

import pytest
import torch
from image_files import image_folder
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet18, resnet50

from emc2_lite.runs import train_run
from emc2_lite.training import changed, from_dict, make_encoder
from emc2_lite.vision.encoders import BackboneEncoder, DigitEncoder, ResNetEncoder, backbones

NORM_LAYERS = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm
IMAGES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def encoder(*args, seed=0, **settings):
    torch.manual_seed(seed)
    return ResNetEncoder(*args, **settings)


def number_of_weights(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("depth", "width"), [(18, 512), (50, 2048)])
@pytest.mark.parametrize("stem", ["imagenet", "small"])
@torch.no_grad()
def test_features_and_embeddings_have_the_announced_shapes(depth, width, stem):
    net = encoder(depth, stem=stem, dim=128)
    assert net.features(IMAGES[:2]).shape == (2, width)
    assert net(IMAGES[:2]).shape == (2, 128)
    assert net.dim == 128


def test_the_default_is_the_papers_encoder_for_stl10():
    net = encoder()
    assert not any(isinstance(module, NORM_LAYERS) for module in net.modules())
    assert (type(net.projector), net.projector.in_features, net.projector.out_features) == (nn.Linear, 512, 512)
    assert net.dim == 512
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == 20  # 17 and three shortcuts


def test_the_papers_projector_for_imagenet100_has_a_hidden_layer():
    first, between, last = encoder(hidden=2048, dim=128).projector
    assert (first.in_features, first.out_features, type(between)) == (512, 2048, nn.ReLU)
    assert (last.in_features, last.out_features) == (2048, 128)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_the_number_of_weights_is_that_of_the_convolutions(depth):
    """Published sizes of the ResNets, 11,689,512 and 25,557,032, less the classifier, less scales and shifts."""
    published, width, channels = {
        18: (11_689_512, 512, 4_800),
        34: (21_797_672, 512, 8_512),
        50: (25_557_032, 2_048, 26_560),
        101: (44_549_160, 2_048, 52_672),
    }[depth]
    trunk = published - 1000 * (width + 1)
    assert number_of_weights(encoder(depth, norm="batch").trunk) == trunk
    assert number_of_weights(encoder(depth, norm="group").trunk) == trunk
    assert number_of_weights(encoder(depth).trunk) == trunk - 2 * channels


@pytest.mark.parametrize(("depth", "weights"), [(8, 77_392), (14, 174_608), (20, 271_824)])
@torch.no_grad()
def test_a_small_resnet_has_its_depth_in_convolutions_and_a_quarter_of_the_side_at_the_end(depth, weights):
    """Depth counts the classifier, and not the two shortcuts. He et al. 2016 give 0.27 million weights for 20."""
    net = encoder(depth, norm="batch", dim=16)
    assert net.features(IMAGES).shape == (6, 64) and net(IMAGES).shape == (6, 16)
    assert sum(isinstance(module, nn.Conv2d) for module in net.trunk.modules()) == depth - 1 + 2
    assert number_of_weights(net.trunk) == weights
    assert number_of_weights(encoder(depth, norm="group").trunk) == weights
    before_the_mean = net.trunk[:-2]
    assert before_the_mean(IMAGES).shape == (6, 64, 8, 8)


def sizes(net):
    """Height of what goes into each stage, from the stem's output on."""
    seen = []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        getattr(net.trunk, name).register_forward_hook(lambda _, given, __: seen.append(given[0].shape[-1]))
    with torch.no_grad():
        net(IMAGES[:1])
    return seen


def test_the_small_stem_keeps_small_images_large():
    assert sizes(encoder(stem="imagenet")) == [8, 8, 4, 2]
    assert sizes(encoder(stem="small")) == [32, 32, 16, 8]


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_the_stem_starts_with_he_initialisation(stem):
    """He initialisation, fan out: a standard deviation of sqrt(2 / (64 * k * k))."""
    weight = encoder(stem=stem).trunk.conv1.weight
    expected = (2 / (64 * weight.shape[2] * weight.shape[3])) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [DigitEncoder, ResNetEncoder])
@torch.no_grad()
def test_embeddings_have_length_one_under_autocast(make, dtype):
    torch.manual_seed(0)
    net = make()
    images = IMAGES[:2] if make is ResNetEncoder else IMAGES[:2, :1, :8, :8]
    with torch.autocast("cpu", dtype=dtype):
        assert net.projector(net.features(images)).dtype == dtype
        embeddings = net(images)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(embeddings, net(images), rtol=0, atol=2e-2)


@pytest.mark.parametrize("make", [DigitEncoder, ResNetEncoder])
@torch.no_grad()
def test_the_call_is_the_projected_features_over_their_length(make):
    net = make().double()
    images = IMAGES.double() if make is ResNetEncoder else IMAGES[:, :1, :8, :8].double()
    projected = net.projector(net.features(images))
    embeddings = net(images)
    assert embeddings.dtype == torch.float64
    torch.testing.assert_close(embeddings * projected.norm(dim=1, keepdim=True), projected)


def test_the_digit_encoder_starts_as_recorded():
    """Records depend on the weights that a seed gives."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3), nn.Linear(256, 128), nn.Linear(128, 32)]
    torch.manual_seed(0)
    net = DigitEncoder()
    assert net.dim == 32
    for given, expected in zip(net.parameters(), nn.ModuleList(layers).parameters(), strict=True):
        assert torch.equal(given, expected)
    assert list(net.state_dict())[-2:] == ["projector.weight", "projector.bias"]


@torch.no_grad()
def test_the_digit_encoder_is_three_convolutions_and_a_layer():
    net = DigitEncoder()
    images = IMAGES[:, :1, :8, :8]
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = zip(*[net.trunk.parameters()] * 2, strict=True)
    by_hand = F.conv2d(images, w1, b1, padding=1).relu()
    by_hand = F.conv2d(by_hand, w2, b2, stride=2, padding=1).relu()
    by_hand = F.conv2d(by_hand, w3, b3, stride=2, padding=1).relu()
    by_hand = F.linear(by_hand.flatten(1), w4, b4).relu()
    torch.testing.assert_close(net.features(images), by_hand)


def pull(embeddings):
    """A loss with a gradient in every direction: embeddings to a fixed set of points."""
    targets = F.normalize(torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(5)), dim=1)
    return (embeddings - targets).square().sum()


def without_gradient(net):
    """Names of the parameters that the loss's gradient does not reach."""
    net.zero_grad()
    pull(net(IMAGES[:4])).backward()
    return [name for name, parameter in net.named_parameters() if not parameter.grad.abs().max() > 0]


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
@pytest.mark.parametrize("depth", [18, 50])
def test_the_first_gradient_reaches_every_parameter(depth, norm):
    assert without_gradient(encoder(depth, norm=norm)) == []


@pytest.mark.parametrize(("depth", "make"), [(18, resnet18), (50, resnet50)])
def test_weights_start_as_torchvisions_do(depth, make):
    """Records of ResNet runs depend on the weights that a seed gives."""
    torch.manual_seed(0)
    trunk = make(norm_layer=nn.Identity)
    projector = nn.Linear(trunk.fc.in_features, 512)
    trunk.fc = nn.Identity()
    expected = nn.ModuleDict({"trunk": trunk, "projector": projector}).state_dict()
    given = encoder(depth).state_dict()
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in given)


def test_group_norm_has_32_groups():
    assert {m.num_groups for m in encoder(norm="group").modules() if isinstance(m, nn.GroupNorm)} == {32}


def difference_in_a_larger_batch(net):
    """How far the features of two images move when other images come into the batch."""
    with torch.no_grad():
        alone = net.features(IMAGES[:2])
        return ((net.features(IMAGES)[:2] - alone).norm() / alone.norm()).item()


@pytest.mark.parametrize("norm", ["none", "group"])
def test_an_image_has_an_embedding_of_its_own(norm):
    net = encoder(norm=norm)
    assert difference_in_a_larger_batch(net) < 1e-4
    with torch.no_grad():
        assert torch.equal(net(IMAGES), net(IMAGES))


def test_under_batch_norm_an_embedding_depends_on_its_batch():
    net = encoder(norm="batch")
    assert difference_in_a_larger_batch(net) > 0.1
    assert difference_in_a_larger_batch(net.eval()) < 1e-4


@pytest.mark.parametrize(
    "settings", [{}, {"norm": "batch", "stem": "small", "hidden": 16, "dim": 8}, {"norm": "group"}]
)
@torch.no_grad()
def test_a_state_dict_gives_the_same_encoder_again(settings):
    first = encoder(**settings)
    first(IMAGES)  # running statistics move
    second = encoder(seed=1, **settings)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.eval()(IMAGES), first.eval()(IMAGES))


def test_a_seed_fixes_the_start():
    first, again, other = encoder(), encoder(), encoder(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.trunk.conv1.weight, other.trunk.conv1.weight)


WIDTHS = "it must be a whole number from 1 to 65,536."
REFUSALS = {
    "depth is 33: use 8, 14, 18, 20, 34, 50, 101 or 152.": {"depth": 33},
    "depth is '18': it must be a whole number.": {"depth": "18"},
    "stem is 'cifar': use one of imagenet, small.": {"stem": "cifar"},
    "norm is 'layer': use one of none, group, batch.": {"norm": "layer"},
    "norm is None: use one of none, group, batch.": {"norm": None},
    f"dim is 0: {WIDTHS}": {"dim": 0},
    f"dim is 1000000000000: {WIDTHS}": {"dim": 10**12},
    f"dim is None: {WIDTHS}": {"dim": None},
    f"hidden is 0: {WIDTHS}": {"hidden": 0},
    f"hidden is 2.5: {WIDTHS}": {"hidden": 2.5},
}


@pytest.mark.parametrize(("sentence", "settings"), REFUSALS.items(), ids=REFUSALS)
def test_bad_settings_are_refused_in_one_sentence(sentence, settings):
    with pytest.raises(ValueError) as refusal:
        ResNetEncoder(**settings)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("dim", [0, 10**12, "32", 2.5, True, None])
def test_widths_of_the_digit_encoder_are_refused_in_one_sentence(dim):
    with pytest.raises(ValueError, match=re.escape(f"dim is {dim!r}: {WIDTHS}")):
        DigitEncoder(dim)


# One of each family of torchvision's: the number of features, and a norm that the family can have.
FAMILIES = {
    "alexnet": (4096, "none"),
    "convnext_tiny": (768, "none"),
    "densenet121": (1024, "group"),
    "efficientnet_b0": (1280, "group"),
    "mnasnet0_5": (1280, "group"),
    "mobilenet_v2": (1280, "group"),
    "mobilenet_v3_small": (1024, "group"),
    "regnet_y_400mf": (440, "group"),
    "resnext50_32x4d": (2048, "group"),
    "shufflenet_v2_x0_5": (1024, "group"),
    "swin_t": (768, "none"),
    "vit_b_32": (768, "none"),
}
LARGER = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_backbone_in_training_gives_an_image_one_embedding_in_any_company(name):
    """What EMC2 needs to encode a view again; dropout, stochastic depth and batch norm would break it."""
    width, norm = FAMILIES[name]
    torch.manual_seed(0)
    net = BackboneEncoder(name, size=64, norm=norm, dim=8)
    features, embeddings = net.features(LARGER), net(LARGER)
    assert net.training and features.shape == (3, width) and embeddings.shape == (3, 8)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    assert torch.equal(net(LARGER), embeddings)
    torch.testing.assert_close(net.features(LARGER[:1]), features[:1], rtol=1e-3, atol=1e-4 * features.abs().max())
    assert features.std(dim=0).max() > 1e-3 * features.abs().max()  # images differ


def test_backbones_are_all_classifiers_of_torchvision_with_a_linear_last_layer():
    from torchvision import models

    left_out = set(models.list_models(module=models)) - set(backbones())
    assert left_out == {"googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1"}
    assert not {name.split("_")[0].rstrip("0123456789") for name in backbones()} - {
        *("alexnet", "convnext", "densenet", "efficientnet", "maxvit", "mnasnet", "mobilenet", "regnet", "resnet"),
        *("resnext", "shufflenet", "swin", "vgg", "vit", "wide"),
    }


def test_a_backbones_trunk_is_torchvisions_without_its_last_layer():
    from torchvision import models

    torch.manual_seed(0)
    expected = models.get_model("regnet_y_400mf")
    torch.manual_seed(0)
    net = BackboneEncoder("regnet_y_400mf", norm="batch", dim=8).eval()
    expected.eval().fc = nn.Identity()
    assert torch.equal(net.features(LARGER), expected(LARGER))


BACKBONE_REFUSALS = {
    "name is 'resnet33': use an image classifier of torchvision.models with a linear last layer; near are resnet34, ": {
        "name": "resnet33"
    },
    "near are convnext_tiny,": {"name": "convnet_tiny"},
    "name is 'squeezenet1_0': use an image classifier of torchvision.models with a linear last layer": {
        "name": "squeezenet1_0"
    },
    "norm is 'none', and mobilenet_v2 is made to have norm layers: use group or batch.": {"name": "mobilenet_v2"},
    "norm is 'group', and swin_t has no batch norm: use none.": {"name": "swin_t", "norm": "group"},
    "vit_b_32 cannot take views of 40 x 40 pixels: ": {"name": "vit_b_32", "size": 40},
    "maxvit_t cannot take views of 100 x 100 pixels: ": {"name": "maxvit_t", "size": 100},
}


@pytest.mark.parametrize(("sentence", "settings"), BACKBONE_REFUSALS.items(), ids=BACKBONE_REFUSALS)
def test_bad_backbones_are_refused_in_one_sentence(sentence, settings):
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        BackboneEncoder(**settings)
    assert "\n" not in str(refusal.value)


COLOURS = {"data": {"name": "folder"}, "views": {"size": 32}}


def test_a_configuration_names_any_of_them():
    torch.manual_seed(0)
    config = from_dict(COLOURS | {"encoder": {"name": "vit_b_32", "dim": 16}})
    assert make_encoder(config)(IMAGES).shape == (6, 16)
    assert make_encoder(from_dict(COLOURS | {"encoder": {"name": "resnet34"}})).projector.in_features == 512
    small = from_dict(COLOURS | {"encoder": {"name": "resnet18", "stem": "small"}})
    assert changed(small, **{"encoder.name": "convnext_tiny"}).encoder.stem == "imagenet"
    for named, sentence in {
        ("encoder.name", "resnet5"): "encoder.name is 'resnet5': use digits, resnet8, resnet14,",
        ("encoder.name", "covnext_tiny"): "near are convnext_tiny",
        ("encoder.name", 5): "encoder.name is 5: it must be a text.",
    }.items():
        with pytest.raises(ValueError, match=re.escape(sentence)):
            changed(small, **dict([named]))
    sentence = "encoder.stem is 'small', and nothing reads it where encoder.name is 'swin_t': leave it out."
    with pytest.raises(ValueError, match=re.escape(sentence)):
        changed(small, **{"encoder.name": "swin_t", "encoder.stem": "small"})


def test_a_run_trains_a_backbone_on_a_folder(tmp_path):
    image_folder(tmp_path / "images", {"cats": 6, "dogs": 6}, side=32)
    chosen = {"encoder.name": "shufflenet_v2_x0_5", "encoder.norm": "group", "data.folder": str(tmp_path / "images")}
    training = {"training.epochs": 2, "training.batch_size": 4, "training.log_steps": 1, "training.device": "cpu"}
    config = changed(from_dict(COLOURS | {"encoder": {"name": "resnet8"}}), **chosen, **training)
    record = train_run(config, tmp_path / "run", progress=False)
    losses = [row["loss"] for row in record["metrics"] if "loss" in row]
    assert len(losses) == record["final"][0]["step"] and all(map(math.isfinite, losses))
