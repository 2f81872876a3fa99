"""The global loss is exact in value and gradient, at any temperature, in little memory."""

import math

import pytest
import reference
import torch

from emc2_lite.losses import global_contrastive_loss

SHAPES = [(2, 2, 3), (7, 2, 5), (5, 3, 4), (11, 2, 16), (4, 4, 2)]


def value_and_gradient(loss, table, *args, **kwargs):
    table = table.clone().requires_grad_()
    value = loss(table, *args, **kwargs)
    return value.detach(), torch.autograd.grad(value, table)[0]


@pytest.mark.parametrize("include_positive", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_are_those_of_the_formula(shape, temperature, include_positive):
    table = reference.unit_vectors(*shape)
    value, gradient = value_and_gradient(
        global_contrastive_loss, table, temperature, chunk_size=3, include_positive=include_positive
    )
    plain, plain_gradient = value_and_gradient(reference.global_loss, table, temperature, include_positive)
    torch.testing.assert_close(value, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, plain_gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_minus_positives_plus_softmax_expectation(shape, temperature):
    """Beta enters once, not squared: the textbook form holds at temperatures 0.07 and 1."""
    table = reference.unit_vectors(*shape, seed=1)
    gradient = value_and_gradient(global_contrastive_loss, table, temperature)[1]
    torch.testing.assert_close(gradient, reference.global_gradient(table, temperature), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.1, 0.002])
@pytest.mark.parametrize("chunk_size", [1, 2, 5, 7, 21, 22, 10_000])
def test_chunks_change_nothing(chunk_size, temperature):
    table = reference.unit_vectors(11, 2, 6)
    whole = value_and_gradient(global_contrastive_loss, table, temperature)
    parts = value_and_gradient(global_contrastive_loss, table, temperature, chunk_size=chunk_size)
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=1e-14 / temperature)


def test_positive_is_not_in_the_sum():
    """Orthogonal samples: log of the number of negatives; with the positive in, log(negatives + e^(1/T))."""
    table = torch.eye(6, dtype=torch.float64)[:, None].expand(6, 2, 6)
    assert global_contrastive_loss(table, 0.5).item() == pytest.approx(math.log(10) - 2, rel=1e-12)
    with_it = global_contrastive_loss(table, 0.5, include_positive=True).item()
    assert with_it == pytest.approx(math.log(10 + math.exp(2)) - 2, rel=1e-12)


def test_a_score_of_zero_is_still_a_negative():
    """All 8 views orthogonal: every score is 0, own views' scores too, and each row has 6 negatives."""
    table = torch.eye(8, dtype=torch.float64).view(4, 2, 8)
    assert global_contrastive_loss(table, 0.07).item() == pytest.approx(math.log(6), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("temperature", [0.01, 0.002])
def test_low_precision_stays_finite_at_low_temperature(dtype, temperature):
    """exp(1 / 0.01) overflows float32, and float16 long before."""
    table = reference.unit_vectors(40, 2, 3, dtype=dtype)
    value, gradient = value_and_gradient(global_contrastive_loss, table, temperature)
    exact = global_contrastive_loss(table.double() / table.double().norm(dim=-1, keepdim=True), temperature)
    assert torch.isfinite(gradient).all() and gradient.dtype == dtype and gradient.abs().max() > 0
    assert value.item() == pytest.approx(exact.item(), rel=1e-2 if dtype != torch.float32 else 1e-5)


EXTREMES = {
    "all alike": lambda z: z[:1].expand_as(z),
    "one sample opposite": lambda z: torch.cat((-z[:1], z[:1].expand_as(z[1:]))),
    "one view opposite": lambda z: torch.cat((z[:1] * torch.tensor([[1], [-1]]), z[:1, :1].expand_as(z[1:]))),
    "two opposite halves": lambda z: torch.cat((z[:1].expand_as(z[:3]), -z[:1].expand_as(z[3:]))),
    "random": lambda z: z,
}


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
@pytest.mark.parametrize(
    "dtype, temperature",
    [(torch.float32, t) for t in (0.07, 0.0345, 0.0343, 0.015, 0.002)]
    + [(torch.float64, t) for t in (0.07, 0.00425, 0.00423, 0.0015, 0.0005)],
)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_exponents_stay_in_range(extreme, dtype, temperature, scale):
    """Scores from -1/T to 1/T, rows whose sums are 2/T nats apart, small and large incoming gradients.

    One exp serves down to T = 0.0344 (float32) and 0.00424 (float64); tiles of 4 rows here, so rows meet later ones.
    """
    table = EXTREMES[extreme](reference.unit_vectors(6, 2, 3)).to(dtype)
    value, gradient = value_and_gradient(
        lambda z: scale * global_contrastive_loss(z, temperature, chunk_size=4, include_positive=True), table
    )
    plain, plain_gradient = value_and_gradient(reference.global_loss, table.double(), temperature, True)
    rounding = 4 * torch.finfo(dtype).eps / temperature
    torch.testing.assert_close(value.double() / scale, plain, rtol=1e-6, atol=rounding)
    torch.testing.assert_close(gradient.double() / scale, plain_gradient, rtol=0, atol=rounding / temperature)


def test_a_backward_pass_inside_autocast_is_in_full_precision():
    """Coordinates and the positives' gradients are exact in bfloat16 here; scores and the softmax are not."""
    table = reference.unit_vectors(32, 2, 64, dtype=torch.bfloat16).float()
    gradient = value_and_gradient(global_contrastive_loss, table, 0.125)[1]
    with torch.autocast("cpu", torch.bfloat16):
        inside = value_and_gradient(global_contrastive_loss, table, 0.125)[1]
    torch.testing.assert_close(inside, gradient, rtol=1e-6, atol=1e-8)


def test_autocast_does_not_change_the_loss():
    table = reference.unit_vectors(20, 2, 8, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = global_contrastive_loss(table, 0.07)
    assert torch.equal(inside, global_contrastive_loss(table, 0.07))


def test_a_second_derivative_is_refused():
    """The second derivative would be that of the positives alone."""
    table = reference.unit_vectors(5, 2, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(global_contrastive_loss(table, 0.2), table, create_graph=True)
