"""The sampler follows its chain exactly, and the chain obeys the laws of the theory."""

import itertools
import math

import numpy as np
import pytest
import reference
import torch
from scipy.signal import lfilter
from trials import assert_multinomial

from emc2_lite.sampling import (
    effective_sample_size,
    gumbel_max,
    metropolis_hastings,
    random_uniforms,
    spectral_gap,
    total_variation,
    transition_matrix,
)

RANDOM = torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
COLD = (reference.unit_vectors(31, 16) @ reference.unit_vectors(31, 16)[0])[1:] / 0.07
SCORES = {"random": RANDOM, "wide": 6 * RANDOM, "temperature 0.07": COLD, "equal": torch.zeros(5, dtype=torch.float64)}
some_scores = pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())


def chain_inputs(rows, steps, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = (4 * torch.randn(rows, steps, generator=generator)).to(dtype)
    scores[torch.rand(rows, steps, generator=generator) < 0.05] = -torch.inf
    initial = (4 * torch.randn(rows, generator=generator) + 3).to(dtype)
    initial[::3] = -torch.inf
    uniforms = torch.rand(rows, steps, generator=generator, dtype=dtype)
    uniforms[torch.rand(rows, steps, generator=generator) < 0.02] = 0
    return scores, initial, uniforms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["auto", "numba", "torch"])
def test_sampler_equals_the_plain_loop(backend, dtype):
    scores, initial, uniforms = chain_inputs(60, 40, dtype)
    run = metropolis_hastings(scores, initial, uniforms=uniforms, backend=backend)
    for row in range(60):
        states, moves, last = reference.metropolis_hastings(
            scores[row].tolist(), initial[row].item(), uniforms[row].tolist()
        )
        assert run.state[row].tolist() == states
        assert run.accepted[row].tolist() == moves
        assert run.log_score[row].item() == last
    assert run.state.dtype == torch.int64 and run.accepted.dtype == torch.bool and run.log_score.dtype == dtype
    assert (run.state < 0).any() and run.accepted.any() and not run.accepted.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(700, 300), (1, 1), (5, 1), (1, 200), (0, 4)])
def test_backends_agree_bit_for_bit(shape, dtype):
    scores, initial, uniforms = chain_inputs(*shape, dtype, seed=1)
    numba, plain = (
        metropolis_hastings(scores, initial, uniforms=uniforms, backend=name) for name in ("numba", "torch")
    )
    assert all(torch.equal(a, b) for a, b in zip(numba, plain, strict=True))
    assert numba.state.shape == shape and numba.log_score.shape == shape[:1]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_minus_one_is_the_state_the_chain_came_with(backend):
    scores = torch.tensor([[-9.0, -9.0, 5.0, -9.0], [-9.0, -9.0, -9.0, -9.0]])
    run = metropolis_hastings(scores, torch.zeros(2), uniforms=torch.full((2, 4), 0.5), backend=backend)
    assert run.state.tolist() == [[-1, -1, 2, 2], [-1, -1, -1, -1]]
    assert run.accepted.tolist() == [[False, False, True, False], [False] * 4]
    assert run.log_score.tolist() == [5.0, 0.0]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_new_chain_moves_to_the_first_possible_proposal(backend):
    scores = torch.tensor([[-math.inf, -700.0, -math.inf]])
    run = metropolis_hastings(scores, torch.tensor([-math.inf]), uniforms=torch.full((1, 3), 0.999), backend=backend)
    assert run.state.tolist() == [[-1, 1, 1]] and run.log_score.item() == -700


def test_inputs_do_not_change_and_results_have_no_gradient():
    scores, initial, uniforms = chain_inputs(6, 5, torch.float64)
    copies = [tensor.clone() for tensor in (scores, initial, uniforms)]
    run = metropolis_hastings(scores.requires_grad_(), initial, uniforms=uniforms)
    assert all(torch.equal(a, b) for a, b in zip(copies, (scores, initial, uniforms), strict=True))
    assert not run.log_score.requires_grad


def test_a_generator_draws_the_uniforms_that_could_be_given():
    scores, initial, _ = chain_inputs(30, 20, torch.float32)
    drawn = metropolis_hastings(scores, initial, generator=torch.Generator().manual_seed(5))
    uniforms = random_uniforms((30, 20), scores.dtype, scores.device, torch.Generator().manual_seed(5))
    given = metropolis_hastings(scores, initial, uniforms=uniforms)
    assert all(torch.equal(a, b) for a, b in zip(drawn, given, strict=True))


@some_scores
def test_long_chains_follow_the_softmax(scores):
    """Null: last states of 10,000 independent chains of many mixing times are multinomial with the softmax.

    Chi-square with expected counts of 5 and less pooled; false-alarm rate 1e-5 for each set of scores.
    """
    chains = 10_000
    steps = math.ceil(12 / spectral_gap(scores).item())
    generator = torch.Generator().manual_seed(3)
    proposals = torch.randint(len(scores), (chains, steps), generator=generator)
    run = metropolis_hastings(scores[proposals], scores[:1].expand(chains), generator=generator)
    last = torch.where(run.state[:, -1] < 0, 0, proposals.gather(1, run.state[:, -1:].clamp_min(0)).squeeze(1))
    assert_multinomial(last, torch.softmax(scores, 0))


@some_scores
def test_transition_matrix_is_that_of_the_rule(scores):
    matrix = transition_matrix(scores)
    torch.testing.assert_close(matrix, reference.transition_matrix(scores.tolist()), rtol=0, atol=1e-14)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(len(scores), dtype=torch.float64), rtol=0, atol=1e-12)
    assert (matrix >= 0).all()
    assert torch.equal(transition_matrix(torch.stack((scores, -scores)))[0], matrix)


@some_scores
def test_chain_is_reversible(scores):
    p, matrix = torch.softmax(scores, 0), transition_matrix(scores)
    flow = p[:, None] * matrix
    torch.testing.assert_close(flow, flow.T, rtol=1e-10, atol=1e-300)
    torch.testing.assert_close(p @ matrix, p, rtol=0, atol=1e-12)


@some_scores
def test_second_eigenvalue_is_known_in_closed_form(scores):
    """lambda_2 = 1 - 1 / (m p_max), against the eigenvalues of the matrix made symmetric."""
    matrix = reference.transition_matrix(scores.tolist())
    symmetric = matrix * ((scores[:, None] - scores[None, :]) / 2).exp()
    eigenvalues = torch.linalg.eigvalsh((symmetric + symmetric.T) / 2)
    gap = spectral_gap(scores).item()
    assert eigenvalues[-1].item() == pytest.approx(1, abs=1e-10)
    assert eigenvalues[-2].item() == pytest.approx(1 - gap, abs=1e-10)
    assert gap == pytest.approx(1 / (len(scores) * torch.softmax(scores, 0).max().item()), rel=1e-12)


@some_scores
def test_every_start_is_forgotten_at_least_as_fast_as_the_gap_says(scores):
    p, matrix, gap = torch.softmax(scores, 0), transition_matrix(scores), spectral_gap(scores).item()
    law = torch.eye(len(scores), dtype=torch.float64)
    for step in range(1, 300):
        law = law @ matrix
        assert total_variation(law, p).max().item() <= (1 - gap) ** step + 1e-12


def test_total_variation_is_the_largest_difference_over_all_events():
    p, q = torch.softmax(3 * RANDOM[:6], 0), torch.softmax(3 * RANDOM[6:], 0)
    events = (torch.tensor(event) for event in itertools.product((0.0, 1.0), repeat=6))
    largest = max(abs(((p - q) * event).sum().item()) for event in events)
    assert total_variation(p, q).item() == pytest.approx(largest, abs=1e-14)
    assert total_variation(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).item() == 1
    assert total_variation(torch.stack((p, q)), p).tolist() == pytest.approx([0, largest])


@pytest.mark.parametrize("rho", [0.9, 0.5, 0.0, -0.5])
def test_effective_sample_size_of_a_known_process(rho):
    """An AR(1) series of n values is worth n (1 - rho) / (1 + rho) independent ones.

    Null: that, for the mean over 20 series of 50,000 values. Over 25 seeds its relative standard deviation was
    at most 1.1 % and its offset 0.8 %, at every rho here, so 8 % is 6 of them away: false-alarm rate under 1e-8.
    """
    noise = np.random.default_rng(0).standard_normal((20, 51_000))
    series = torch.from_numpy(lfilter([1.0], [1.0, -rho], noise)[:, 1_000:].copy())
    worth = effective_sample_size(series).mean().item() / 50_000
    assert worth == pytest.approx((1 - rho) / (1 + rho), rel=0.08)


def test_a_chain_that_never_moves_is_worth_one_draw():
    stuck = torch.full((2, 100), 0.1)
    stuck[1] = torch.randn(100, generator=torch.Generator().manual_seed(0))
    worth = effective_sample_size(stuck)
    assert worth[0] == 1 and worth[1] > 30


def test_gumbel_max_equals_the_plain_loop():
    scores, _, uniforms = chain_inputs(50, 9, torch.float64)
    uniforms.clamp_min_(1e-9)
    plain = [
        max(range(9), key=lambda k: scores[row, k].item() - math.log(-math.log(uniforms[row, k].item())))
        for row in range(50)
    ]
    assert gumbel_max(scores, uniforms=uniforms).tolist() == plain


@some_scores
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gumbel_max_draws_from_the_softmax(scores, dtype):
    """Null: 20,000 draws are multinomial with the softmax; chi-square, false-alarm rate 1e-5 for each set of scores."""
    generator = torch.Generator().manual_seed(4)
    draws = gumbel_max(scores.to(dtype).expand(20_000, -1), generator=generator)
    assert_multinomial(draws, torch.softmax(scores, 0))


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-40])
def test_gumbel_max_never_draws_a_state_of_probability_zero(extreme):
    scores = torch.tensor([[-math.inf, -200.0, -math.inf]])
    uniforms = torch.full((1, 3), 0.5, dtype=torch.float64)
    for place in range(3):
        at_an_end = uniforms.clone()
        at_an_end[0, place] = extreme
        assert gumbel_max(scores, uniforms=at_an_end).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_some_columns_of_uniforms_are_those_of_all(dtype):
    how = (3, 2, 11), dtype, torch.device("cpu")
    columns = torch.tensor([0, 4, 5, 10])
    some, whole = (random_uniforms(*how, torch.Generator().manual_seed(0), chosen) for chosen in (columns, None))
    assert torch.equal(some, whole[..., columns])
