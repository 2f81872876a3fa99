"""The Triton kernel: bit for bit the other backends' paths, in its interpreter, and code for real GPUs without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_sampling import chain_inputs

from emc2_lite.sampling import metropolis_hastings

triton = pytest.importorskip("triton", reason="Triton is there for Linux only")


def test_interpreted_kernel_agrees_bit_for_bit():
    """In another process: Triton reads TRITON_INTERPRET at its import. A block has 512 steps: fewer, as many, more."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    script = Path(__file__).with_name("triton_interpreted.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["agrees"] * 16, done.stderr


@pytest.mark.parametrize("capability", [75, 80, 90], ids=["T4", "A100", "H100"])
@pytest.mark.parametrize("number", ["fp32", "fp64"])
def test_kernel_compiles_for_gpus(capability, number):
    """Without shared memory, and without a product fused with a sum, which would round once instead of twice."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from emc2_lite.sampling.metropolis_triton import _sweep

    types = dict.fromkeys(("log_scores", "log_uniforms", "last"), f"*{number}")
    types |= {"state": "*i64", "accepted": "*i1", "steps": "i32", "BLOCK": "constexpr"}
    source = ASTSource(fn=_sweep, signature=types, constexprs={"BLOCK": 512})
    options = {"num_warps": 1, "enable_fp_fusion": False}
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert kernel.asm["cubin"] and kernel.metadata.shared == 0 and "fma" not in kernel.asm["ptx"]


def test_scores_on_the_cpu_are_refused():
    with pytest.raises(ValueError, match='backend="triton" runs on CUDA, but the scores are on cpu: use "auto"'):
        metropolis_hastings(torch.zeros(1, 2), torch.zeros(1), backend="triton")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("shape", [(64, 62), (1024, 1022), (3, 5000)])
def test_on_a_gpu_the_kernel_is_chosen_and_agrees_bit_for_bit(shape):
    scores, initial, uniforms = (t.cuda() for t in chain_inputs(*shape, torch.float32))
    expected = metropolis_hastings(scores.cpu(), initial.cpu(), uniforms=uniforms.cpu())
    for backend in ("triton", "torch", "auto"):
        run = metropolis_hastings(scores, initial, uniforms=uniforms, backend=backend)
        assert all(torch.equal(a.cpu(), b) for a, b in zip(run, expected, strict=True))
