"""What a step frees, the next step gets back without the system's help."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from normlab.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else True
step = lambda: [torch.ones(n * 2**18) for n in (48, 3, 12, 48)]  # MiB of float32
for _ in range(12):  # until the heap has a place for each
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc's allocator alone is told")
def test_a_step_s_memory_is_not_given_back():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        kept, count = done.stdout.split()
        assert kept == "True"
        return int(count)

    assert faults("kept") < 100 < faults("given back")
