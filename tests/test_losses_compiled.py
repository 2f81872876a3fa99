"""torch.compile of a whole training step: the graph ends at the loss, and the numbers do not change.

The compiler traces, cuts and guards as usual, but runs its graphs without making kernels, which would take most of the
time. The traced lines are noted: none may be the library's, whose compiled loops cannot be traced, except in a backward
pass, which has none.
"""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F
from trials import LOSSES

from emc2_lite.sampling import gumbel_max, metropolis_hastings, multiproposal

IMAGES = torch.randn(12, 2, 6, generator=torch.Generator().manual_seed(0))
BATCHES = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(s))[:4] for s in range(5)])


@pytest.fixture
def compiler():
    """torch.compile with a backend that notes the source lines of its graphs."""
    torch.compiler.reset()
    traced = []

    def noting(graph, _):
        traced.extend(node.stack_trace or "" for node in graph.graph.nodes)
        return graph.forward

    yield lambda function: torch.compile(function, backend=noting)
    assert traced and not any("emc2_lite" in lines and "in backward" not in lines for lines in traced)


def losses_and_weights(name, compiler=lambda function: function):
    """Five steps of SGD: encoder, loss, backward and update in one function."""
    torch.manual_seed(0)
    encoder, criterion = torch.nn.Linear(6, 5), LOSSES[name](12, 5, 0.2)
    optimiser, generator = torch.optim.SGD(encoder.parameters(), 0.1), torch.Generator().manual_seed(0)

    def encode(index, view):
        return F.normalize(encoder(IMAGES[index, view]), dim=1)

    def step(index):
        z1, z2 = encode(index, torch.zeros_like(index)), encode(index, torch.ones_like(index))
        loss = criterion(z1, z2, index, None, encode, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    run = compiler(step)
    return [run(index).item() for index in BATCHES], encoder.weight.detach(), criterion.state_dict()


@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_step_is_the_step(name, compiler):
    losses, weights, state = losses_and_weights(name)
    compiled_losses, compiled_weights, compiled_state = losses_and_weights(name, compiler)
    assert compiled_losses == pytest.approx(losses, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(compiled_weights, weights, rtol=1e-5, atol=1e-6)
    for key, tensor in state.items():
        torch.testing.assert_close(compiled_state[key], tensor, rtol=1e-5, atol=1e-6)


def test_compiled_samplers_are_the_samplers(compiler):
    scores, initial = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)), torch.zeros(4)

    def sampled(generator):
        twice = 2 * scores
        run = metropolis_hastings(twice, initial, generator=generator)
        many = multiproposal(twice, initial, generator=generator)
        return run.state, run.log_score, many.weights, many.state, gumbel_max(twice, generator=generator) + 1

    plain, compiled = (function(torch.Generator().manual_seed(3)) for function in (sampled, compiler(sampled)))
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, other)


def test_the_losses_do_not_import_the_compiler():
    script = "import sys, emc2_lite.losses, emc2_lite.sampling; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
