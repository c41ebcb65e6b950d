"""Memory that a step gives back stays with the process, for the next step to take.

glibc returns a large tensor's memory to the system when it is freed, and the same tensor of the next step is given
pages that the system has to clear first: on a CPU a fifth of a step (docs/performance.md). Numbers are not touched.
"""

from __future__ import annotations

import ctypes

# mallopt(3): the constants of <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_GROW = 2**26  # bytes that the heap grows by at least


def keep_freed_memory() -> bool:
    """For the rest of this process; false where the allocator is another one than glibc's, which is left alone."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    # No mapping of its own for a large block; never shrink the heap.
    return all(mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _GROW)))
