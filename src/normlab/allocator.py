"""Memory that a step gives back stays with the process, for the next step to take.

glibc returns a large tensor's memory to the system when it is freed, and the same tensor of the next step is given
pages that the system has to clear first (docs/performance.md). Numbers are not touched. It serves the main thread,
which is where runs train: the heaps of others are small, and a large block is mapped anew all the same.
"""

from __future__ import annotations

import ctypes
from typing import Any

# mallopt(3): the constants of <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_GROW = 2**26  # bytes that the heap grows by at least


def keep_freed_memory() -> bool:
    """For the rest of this process, or until ``give_back_memory``. False where the C library is not glibc."""
    mallopt = _of_libc("mallopt")
    # No mapping of its own for a large block; never shrink the heap.
    asked = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _GROW))
    return mallopt is not None and all(mallopt(name, value) for name, value in asked)


def give_back_memory() -> None:
    """What is free now goes back to the system: between two runs of one process."""
    if trim := _of_libc("malloc_trim"):
        trim(0)


def _of_libc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
