"""One update: clipping, mixed precision, and the layout of the images."""

import pytest
import torch
from runs import new_run, weights

from emc2_lite.losses import NTXentLoss
from emc2_lite.training import TrainingStep, views_of_epoch
from emc2_lite.vision import DigitEncoder, DigitViews, load_digits

VIEWS = DigitViews(load_digits("train").images[:48])  # the tolerances of mixed precision hold for these images


def step_of(encoder, criterion, optimiser=None, **settings):
    optimiser = optimiser or torch.optim.SGD(encoder.parameters(), 0.1)
    return TrainingStep(encoder, VIEWS, criterion, optimiser, torch.Generator().manual_seed(0), **settings)


def gradient_of(**settings):
    torch.manual_seed(0)
    encoder = DigitEncoder(8)
    before = weights(encoder)
    index = torch.arange(8)
    norm = step_of(encoder, NTXentLoss(0.2), **settings)(index, views_of_epoch(0, index))
    return (before - weights(encoder)) / 0.1, norm


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    plain, no_norm = gradient_of()
    assert no_norm is None
    length = plain.norm().item()
    shortened, norm = gradient_of(clip=length / 4)
    assert norm.item() == pytest.approx(length, rel=1e-3)
    torch.testing.assert_close(shortened, plain / 4, rtol=1e-3, atol=1e-5)
    same_one, _ = gradient_of(clip=2 * length)
    torch.testing.assert_close(same_one, plain)


def test_the_gradient_is_unscaled_before_it_is_clipped():
    length = gradient_of(precision="float16")[0].norm().item()
    shortened, norm = gradient_of(precision="float16", clip=length / 4)
    assert norm.item() == pytest.approx(length, rel=0.01)
    assert shortened.norm().item() == pytest.approx(length / 4, rel=0.01)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_mixed_precision_gives_about_the_same_gradient(precision, tolerance):
    plain, mixed = gradient_of()[0], gradient_of(precision=precision)[0]
    assert 0 < (mixed - plain).norm() / plain.norm() < tolerance


def test_channels_last_is_the_same_computation():
    """Rounding aside, which Adam magnifies where a gradient is almost 0: the runs differ by a 1,000th of their way."""
    run, plain = new_run(training__channels_last=True), new_run()
    start = weights(plain.encoder)
    convolution = next(module for module in run.encoder.modules() if isinstance(module, torch.nn.Conv2d))
    seen = []
    convolution.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for _ in range(3):
        run.advance()
        plain.advance()
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images in seen)
    way, apart = weights(plain.encoder) - start, weights(run.encoder) - weights(plain.encoder)
    assert apart.norm() < 1e-3 * way.norm()


def test_the_encoder_gets_images_in_the_runs_layout():
    for channels_last, layout in ((True, torch.channels_last), (False, torch.contiguous_format)):
        step, seen = step_of(DigitEncoder(8), NTXentLoss(0.2), channels_last=channels_last), []
        step.encoder = seen.append
        step.embed(torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
        assert seen[0].is_contiguous(memory_format=layout)
