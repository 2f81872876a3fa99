"""The exact global loss of a large set fits in memory."""

import subprocess
import sys


def test_forty_thousand_views_fit_in_two_gigabytes():
    """Their scores alone would take 6.4 GB. Peak memory of a whole process, torch included, forward and backward.

    On Linux, ru_maxrss starts at the parent's peak, and the parent has run other tests: VmHWM is the process's own.
    """
    program = """
import re, resource, sys, torch
from pathlib import Path
from emc2_lite.losses import global_contrastive_loss
table = torch.nn.functional.normalize(torch.randn(20_000, 2, 128), dim=-1).requires_grad_()
global_contrastive_loss(table, 0.07).backward()
assert torch.isfinite(table.grad).all()
if sys.platform == "linux":
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 2e9
