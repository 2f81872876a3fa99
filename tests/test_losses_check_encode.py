"""An `encode` that does not reproduce the batch's own views is refused at the first call, in one sentence."""

import copy
import pickle

import pytest
import reference
import torch
from torch.nn import functional as F
from trials import EMC2, LOSSES, Encoder, call, make

from emc2_lite.losses import EMC2Loss, NegativeCacheLoss
from emc2_lite.training import train
from emc2_lite.vision import Augmentation, DigitEncoder, DigitViews, ImageViews, ResNetEncoder, load_digits

ENCODING = ["cache", *(name for name in EMC2 if name != "EMC2 dropped")]
TABLE, INDEX = reference.unit_vectors(8, 2, 5, dtype=torch.float32), torch.tensor([3, 6, 1])
VIEWS = DigitViews(load_digits("train").images[:64])
SENTENCE = "encode put one of the batch's own views .* from its embedding in the batch, and rounding explains 0.02"


def small_change(size):
    """An encode whose embeddings lie `size` away from the table's."""

    def encode(index, view):
        moved = TABLE[index, view] + size * F.normalize(TABLE[index, view].roll(1, dims=1), dim=1)
        return F.normalize(moved, dim=1)

    return encode


@pytest.mark.parametrize("name", ENCODING)
def test_an_encode_of_other_embeddings_is_refused_before_anything_is_stored(name):
    criterion = LOSSES[name](8, 5, 0.2)
    before = copy.deepcopy(criterion.state_dict())
    for _ in range(2):
        with pytest.raises(ValueError, match=SENTENCE) as refusal:
            call(criterion, TABLE, INDEX, None, small_change(0.1))
    for word in ("random transform", "batch norm", "dropout", "check_encode=False", "loss.check_encode"):
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value) and criterion.stats is None
    assert all(torch.equal(before[key], value) for key, value in criterion.state_dict().items())


@pytest.mark.parametrize("name", ENCODING)
def test_rounding_passes(name):
    call(LOSSES[name](8, 5, 0.2), TABLE, INDEX, None, small_change(0.008))
    call(LOSSES[name](8, 5, 0.2), TABLE, INDEX, None, lambda i, v: TABLE[i, v].bfloat16())


@pytest.mark.parametrize("name", ENCODING)
def test_the_check_encodes_two_views_once_without_gradient_and_counts_none(name):
    criterion, encoder, view = LOSSES[name](8, 5, 0.2), Encoder(TABLE), torch.tensor([[1, 0, 1], [0, 1, 0]])
    call(criterion, TABLE, INDEX, view, encoder)
    assert encoder.asked[0] == ([(1, 0), (3, 1)], False)
    again = [pairs for pairs, _ in encoder.asked[1:]]
    assert criterion.stats.views_encoded == sum(map(len, again))
    encoder.asked.clear()
    call(criterion, TABLE, INDEX, view, encoder)
    assert ([(1, 0), (3, 1)], False) not in encoder.asked


def test_the_check_can_be_left_out():
    for criterion in (EMC2Loss(8, 0.2, check_encode=False), NegativeCacheLoss(8, 5, 0.2, check_encode=False)):
        call(criterion, TABLE, INDEX, None, small_change(0.1))
        assert "check_encode=False" in repr(criterion)


def test_losses_that_encode_nothing_do_not_call_encode():
    encoder = Encoder(TABLE)
    for name in ("NT-Xent", "DCL", "SogCLR", "EMC2 dropped", "EMC2 remembered, reencode=0"):
        call(make(name)(8, 5, 0.2), TABLE, INDEX, None, encoder)
    call(LOSSES["EMC2"](8, 5, 0.2).eval(), TABLE, INDEX, None, encoder)
    assert not encoder.asked


def test_the_check_draws_nothing():
    """Dropout draws from torch's global state, which is restored; the criterion's generator draws nothing."""

    def encode(index, view):
        return F.normalize(F.dropout(TABLE[index, view], 0.5), dim=1)

    criterion, generator = EMC2Loss(8, 0.2), torch.Generator().manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=SENTENCE):
        call(criterion, TABLE, INDEX, None, encode, generator)
    assert torch.equal(torch.get_rng_state(), before)
    states = []
    for check in (True, False):
        generator = torch.Generator().manual_seed(0)
        call(EMC2Loss(8, 0.2, check_encode=check), TABLE, INDEX, None, None, generator)
        states.append(generator.get_state())
    assert torch.equal(*states)


def test_a_copied_or_pickled_loss_keeps_its_settings():
    for criterion in (EMC2Loss(8, 0.2, burn_in=0.3, check_encode=False), NegativeCacheLoss(8, 5, 0.2, 0.5)):
        for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
            assert repr(other) == repr(criterion)
            call(other, TABLE, INDEX)


def broken_view(views):
    """A transform that depends on how often it was called."""
    calls = iter(range(100))
    return lambda index, view: views(index, view + 1000 * next(calls))


class Dropping(DigitEncoder):
    def features(self, images):
        return F.dropout(super().features(images), 0.1)


FAULTS = {"a random transform": (DigitEncoder, broken_view), "dropout": (Dropping, lambda views: views)}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_untrained_encoder_with_a_fault_is_refused(fault):
    """At the start of a run all embeddings lie close together, and the check still tells other views apart."""
    make, views = FAULTS[fault]
    torch.manual_seed(0)
    encoder, view = make(32), views(VIEWS)
    index = torch.arange(16)

    def encode(index, number):
        return encoder(view(index, number))

    z1, z2 = (encode(index, torch.full_like(index, slot)) for slot in range(2))
    with pytest.raises(ValueError, match=SENTENCE):
        EMC2Loss(64, 0.2)(z1, z2, index, None, encode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sound_encoders_pass_in_every_precision(dtype):
    """A ResNet without norm layers and the digits' encoder; the check encodes two views a pass, the batch has 2b."""
    photographs = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colour = ImageViews(photographs, Augmentation(32))
    torch.manual_seed(0)
    for encoder, views in ((DigitEncoder(), VIEWS), (ResNetEncoder(18, stem="small", dim=32), colour)):

        def encode(index, view, encoder=encoder, views=views):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return encoder(views(index, view))

        index = torch.arange(8)
        with torch.no_grad():
            z = encode(index.repeat(2), torch.arange(2).repeat_interleave(8))
            EMC2Loss(len(views), 0.2)(*z.chunk(2), index, None, encode)


def test_batch_norm_is_refused_and_a_run_says_how_to_go_on():
    photographs = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = ImageViews(photographs, Augmentation(32))
    torch.manual_seed(0)
    encoder = ResNetEncoder(18, stem="small", norm="batch", dim=32)
    with pytest.raises(ValueError, match=r"batch norm .*loss\.check_encode in a configuration"):
        train(encoder, views, EMC2Loss(8, 0.2), steps=1, batch_size=4)
    train(encoder, views, EMC2Loss(8, 0.2, check_encode=False), steps=1, batch_size=4)
