"""Run with TRITON_INTERPRET=1: compares the Triton kernel with the torch loop, and says "agrees" for each case."""

import torch
from test_sampling import chain_inputs

from emc2_lite.sampling import metropolis_hastings

for dtype in (torch.float32, torch.float64):
    for shape in ((40, 30), (1, 1), (5, 1), (1, 200), (0, 4), (3, 512), (2, 513), (3, 1100)):
        scores, initial, uniforms = chain_inputs(*shape, dtype, seed=2)
        expected, run = (
            metropolis_hastings(scores, initial, uniforms=uniforms, backend=name) for name in ("torch", "triton")
        )
        assert all(torch.equal(a, b) for a, b in zip(run, expected, strict=True)), (dtype, shape)
        print("agrees")
