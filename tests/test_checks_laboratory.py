"""The checks of chapter 06 reject wrong answers that they have no sentence for."""

import pytest
import torch

from emc2_lite.course.checks.laboratory import many_proposals, relative_price, squared_bias


@pytest.mark.parametrize(
    "wrong",
    [
        lambda first, second, exact: ((first - exact) @ (second - exact)).abs() / (exact @ exact),
        lambda first, second, exact: (first - exact) @ (second - exact) / (first @ second),
        lambda first, second, exact: (first - second) @ (first - second) / (exact @ exact),
        lambda first, second, exact: (first - exact) @ (second - exact) / (exact @ exact) / 2,
        lambda first, second, exact: ((first - exact) @ (second - exact) / (exact @ exact)).clamp_min(0).sqrt(),
        lambda first, second, exact: ((first - exact) @ (second - exact)).clamp_min(0) / (exact @ exact),
        lambda first, second, exact: (first - exact) @ (second - exact) / exact.sum() ** 2,
        lambda first, second, exact: ((first - exact) / exact) @ ((second - exact) / exact) / len(exact),
        lambda first, second, exact: (first @ second - exact @ exact) / (exact @ exact),
    ],
)
def test_a_wrong_bias_is_rejected(wrong):
    assert squared_bias.verdict(wrong).startswith("not yet")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda batch_size, encoded, with_gradient: (2 * batch_size + encoded) / (2 * batch_size),
        lambda batch_size, encoded, with_gradient: (6 * batch_size + encoded + with_gradient) / (6 * batch_size),
        lambda batch_size, encoded, with_gradient: (6 * batch_size + 3 * with_gradient) / (6 * batch_size),
        lambda batch_size, encoded, with_gradient: 6 * batch_size + encoded + 2 * with_gradient,
        lambda batch_size, encoded, with_gradient: (4 * batch_size + encoded + with_gradient) / (4 * batch_size),
        lambda batch_size, encoded, with_gradient: max(1, (encoded + 2 * with_gradient) / (6 * batch_size)),
        lambda batch_size, encoded, with_gradient: (6 * batch_size + encoded + 2 * with_gradient) // (6 * batch_size),
        lambda batch_size, encoded, with_gradient: 1 + (3 * encoded - with_gradient) / (6 * batch_size),
    ],
)
def test_a_wrong_price_is_rejected(wrong):
    assert relative_price.verdict(wrong).startswith("not yet")


def together(scores, held_score):
    return torch.cat((scores, held_score[None])).softmax(dim=0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda scores, held_score: (together(scores, held_score)[1:], together(scores, held_score)[0]),
        lambda scores, held_score: together(scores, held_score),
        lambda scores, held_score: (together(scores, -held_score)[:-1], together(scores, -held_score)[-1]),
        lambda scores, held_score: ((scores - held_score).sigmoid(), (held_score - scores).sigmoid().prod()),
        lambda scores, held_score: (scores.softmax(0) / 2, torch.tensor(0.5)),
        lambda scores, held_score: (together(scores, held_score)[:-1], 1 - together(scores, held_score)[-1]),
        lambda scores, held_score: together(scores, held_score).sort().values.tensor_split([len(scores)]),
        lambda scores, held_score: (together(scores, held_score)[:-1], held_score.sigmoid()),
    ],
)
def test_wrong_urns_are_rejected(wrong):
    assert many_proposals.verdict(wrong).startswith("not yet")
