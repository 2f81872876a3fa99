"""Many proposals at once: a metropolised step to a state of the set, reversible if the set is symmetric."""

import itertools
import math
from functools import partial

import pytest
import reference
import torch
from trials import assert_multinomial

from emc2_lite.sampling import multiproposal, random_uniforms, total_variation

# A row's negatives: 4 other samples with 2 views each. State 2 j + u is view u of sample j.
SAMPLES = 4
RANDOM = 2 * torch.randn(2 * SAMPLES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ALIKE = RANDOM[::2].repeat_interleave(2) + 0.1 * RANDOM
some_scores = pytest.mark.parametrize("scores", [RANDOM, ALIKE], ids=["random", "views alike"])


def test_weights_are_the_probabilities_of_a_metropolised_step():
    """q(z') / (1 - min(q(z), q(z'))), q the softmax over state and proposals: once in full, once as propose, accept."""
    scores = torch.tensor([[0.3, -1.2, 2.0], [5.0, 5.0, -math.inf], [-800.0, 900.0, 0.0]], dtype=torch.float64)
    held = torch.tensor([1.1, 4.0, 899.0], dtype=torch.float64)
    result = multiproposal(scores, held, generator=torch.Generator().manual_seed(0))
    for row in range(3):
        everything = [held[row].item(), *scores[row].tolist()]
        raw = [math.exp(score - max(everything)) for score in everything]
        q, *others = [number / sum(raw) for number in raw]
        weights = [number / (1 - min(q, number)) for number in others]
        found = [result.held_weight[row].item(), *result.weights[row].tolist()]
        assert found == pytest.approx([1 - sum(weights), *weights], rel=1e-12, abs=1e-15)
        assert found == pytest.approx(reference.metropolised(torch.tensor(everything).double()).tolist(), abs=1e-6)
        assert result.log_score[row].item() == everything[1 + result.state[row]]
    assert result.state.dtype == torch.int64 and result.weights.dtype == torch.float64


def test_draws_follow_the_weights():
    """Null: the next states of 20,000 chains are multinomial with the weights; chi-square, false-alarm rate 1e-5."""
    scores, held = RANDOM.expand(20_000, -1), torch.full((20_000,), 4.0, dtype=torch.float64)
    result = multiproposal(scores, held, generator=torch.Generator().manual_seed(0))
    probabilities = torch.cat((result.held_weight[:1], result.weights[0]))
    assert_multinomial(result.state + 1, probabilities)
    expected = torch.cat((held[:1], RANDOM))[result.state + 1]
    assert torch.equal(result.log_score, expected)


def test_one_proposal_is_the_rule_of_metropolis():
    """The chain moves with probability min(1, exp(l(proposal) - l(state)))."""
    scores, held = torch.tensor([[0.4], [-3.0], [2.0]]).double(), torch.tensor([1.0, -1.0, 1.5]).double()
    found = multiproposal(scores, held).weights.squeeze(1)
    assert found.tolist() == pytest.approx([math.exp(-0.6), math.exp(-2.0), 1])


def test_a_new_chain_takes_a_proposal_and_a_chain_without_proposals_stays():
    none = torch.full((1, 3), -math.inf)
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        new = multiproposal(torch.tensor([[-math.inf, -700.0, -700.0]]), none[0, :1], generator=generator)
        assert new.state.item() in (1, 2) and new.held_weight.item() == 0 and new.log_score.item() == -700
        kept = multiproposal(none, torch.tensor([-700.0]), generator=generator)
        assert kept.state.item() == -1 and kept.held_weight.item() == 1 and kept.log_score.item() == -700


def test_uniforms_are_the_state_s_first():
    """Given or drawn, (rows, 1 + m); the largest of log P(z -> z') - log(-log U) is the next state."""
    scores, held = RANDOM.expand(40, -1), torch.full((40,), 4.0, dtype=torch.float64)
    uniforms = random_uniforms((40, 1 + 2 * SAMPLES), held.dtype, held.device, torch.Generator().manual_seed(3))
    given = multiproposal(scores, held, uniforms=uniforms)
    drawn = multiproposal(scores, held, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(given, drawn, strict=True))
    for row in range(40):
        law = [given.held_weight[row].item(), *given.weights[row].tolist()]
        perturbed = [math.log(p) - math.log(-math.log(u)) for p, u in zip(law, uniforms[row].tolist(), strict=True)]
        assert given.state[row].item() == perturbed.index(max(perturbed)) - 1
    assert (given.state == -1).any() and (given.state >= 0).any()


def test_inputs_do_not_change_and_results_have_no_gradient():
    scores, held = RANDOM.expand(3, -1).clone().requires_grad_(), torch.zeros(3, dtype=torch.float64)
    result = multiproposal(scores, held)
    assert torch.equal(scores.detach(), RANDOM.expand(3, -1)) and torch.equal(held, torch.zeros(3))
    assert not any(tensor.requires_grad for tensor in result)


# The kernel, exactly: its transition matrix by enumeration of the sets.


def distinct_states(m):
    """Uniform sets of m distinct states other than z."""
    return lambda z: itertools.combinations([k for k in range(2 * SAMPLES) if k != z], m)


one_view_a_sample = partial(reference.one_view_a_sample, SAMPLES)


def the_views_left_over(b):
    """The other view of each sample of `one_view_a_sample`."""
    return lambda z: ([k + 1 - 2 * (k % 2) for k in first] for first in one_view_a_sample(b)(z))


def one_view_with_the_state_s_sample(b):
    """As `one_view_a_sample`, but z's sample proposes its other view."""

    def sets(z):
        for batch in itertools.combinations(range(SAMPLES), b - 1):
            for views in itertools.product(range(2), repeat=b - 1):
                yield [2 * j + u for j, u in zip(batch, views, strict=True) if 2 * j + u != z]

    return sets


def both_views(b):
    """Both views of each of b - 1 random other samples, with z left out if it is among them."""
    batches = list(itertools.combinations(range(SAMPLES), b - 1))
    return lambda z: ([k for j in batch for k in (2 * j, 2 * j + 1) if k != z] for batch in batches)


SYMMETRIC = {f"{m} distinct states": distinct_states(m) for m in (1, 2, 3, 5, 7)}
SYMMETRIC |= {f"one view of each, b = {b}": one_view_a_sample(b) for b in (2, 3, 4, 5)}
SYMMETRIC |= {f"the views left over, b = {b}": the_views_left_over(b) for b in (2, 3, 4, 5)}


@some_scores
@pytest.mark.parametrize("step", [reference.metropolised, reference.heat_bath], ids=["metropolised", "heat bath"])
@pytest.mark.parametrize("sets", SYMMETRIC.values(), ids=SYMMETRIC.keys())
def test_with_symmetric_sets_the_kernel_is_reversible(sets, step, scores):
    """Detailed balance entry by entry, for any number of proposals; so p is stationary, and the weights' mean is p."""
    p, kernel = torch.softmax(scores, 0), reference.multiproposal_law(scores, sets, step)
    flow = p[:, None] * kernel
    torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(kernel.sum(dim=1), torch.ones_like(p), rtol=0, atol=1e-12)
    torch.testing.assert_close(p @ kernel, p, rtol=0, atol=1e-12)
    assert (flow - flow.diagonal().diag()).max() > 1e-3


@some_scores
@pytest.mark.parametrize(
    ("sets", "b"), [(both_views, 2), (both_views, 3), (both_views, 4), (one_view_with_the_state_s_sample, 3)]
)
def test_with_two_views_of_a_sample_in_the_set_it_is_not(sets, b, scores):
    """From a view of another sample, every set with z also has z's other view; or no set has both.

    Detailed balance is off by more than 5e-4, and what the chain tends to by more than 0.4 % (total variation).
    """
    p, kernel = torch.softmax(scores, 0), reference.multiproposal_law(scores, sets(b))
    flow = p[:, None] * kernel
    assert (flow - flow.T).abs().max() > 5e-4
    assert total_variation(reference.stationary_law(kernel), p) > 4e-3


@some_scores
@pytest.mark.parametrize("b", [2, 3, 4])
def test_the_average_of_both_sets_has_the_right_mean(b, scores):
    """For z from p: the average of the weights of a set and of its left-over views has mean p."""
    p = torch.softmax(scores, 0)
    first = reference.multiproposal_law(scores, one_view_a_sample(b))
    other = reference.multiproposal_law(scores, the_views_left_over(b))
    torch.testing.assert_close(p @ (first + other) / 2, p, rtol=0, atol=1e-12)


@some_scores
@pytest.mark.parametrize("sets", SYMMETRIC.values(), ids=SYMMETRIC.keys())
def test_the_chain_leaves_its_state_at_least_as_often_as_under_a_heat_bath(sets, scores):
    """Peskun's order, entry by entry; so the second eigenvalue is no larger."""
    p = torch.softmax(scores, 0)
    kernel, ancestor = (
        reference.multiproposal_law(scores, sets, step) for step in (reference.metropolised, reference.heat_bath)
    )
    off = ~torch.eye(len(p), dtype=torch.bool)
    assert (kernel - ancestor)[off].min() > -1e-14 and (kernel - ancestor)[off].max() > 1e-3
    assert reference.second_eigenvalue(kernel, p) <= reference.second_eigenvalue(ancestor, p) + 1e-12


@pytest.mark.parametrize("scale", [0.3, 1, 3])
@pytest.mark.parametrize(("n", "m"), [(2, 1), (2, 5), (3, 3), (4, 4), (5, 3), (8, 1), (8, 2)])
def test_the_rate_has_a_closed_form_bound(n, m, scale):
    """m independent uniform proposals from all n states: the second eigenvalue is at most 1 - m / (2 n p_max + m - 1).

    With one proposal a heat bath is Barker's rule, which Metropolis dominates.
    """
    scores = scale * torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    p = torch.softmax(scores, 0)
    bound = 1 - m / (2 * n * p.max().item() + m - 1)
    for step in (reference.metropolised, reference.heat_bath):
        kernel = reference.multiproposal_law(scores, lambda z: itertools.product(range(n), repeat=m), step)
        torch.testing.assert_close(p[:, None] * kernel, (p[:, None] * kernel).T, rtol=0, atol=1e-12)
        assert reference.second_eigenvalue(kernel, p) <= bound + 1e-12
