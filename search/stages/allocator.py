"""Keep the memory that a step frees for the next step, instead of giving it back to the system and asking for it anew.

A step of a training allocates its activations and frees them. glibc returns freed memory that lies on top of its heap, and
every block above a threshold, to the system at once (mallopt(3)); the next step then gets the same memory page by page, each
zeroed by the kernel. `benchmarks/training_memory.py` measures what that costs. Elsewhere than on glibc nothing is changed.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3), from glibc's malloc.h."""
NEVER: Final = 2**31 - 1
LARGEST_THRESHOLD: Final = 32 * 2**20
"""Up to which glibc raises the threshold of blocks of their own by itself, on 64 bits; trimming begins at twice that."""
MOST_BLOCKS: Final = 65_536
"""glibc's default of M_MMAP_MAX."""


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep freed memory inside the block; behind it what is free goes back to the system.

    glibc moves its thresholds no more once one was set, so they are left where its own adapting ends.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(TRIM_THRESHOLD, NEVER)
    library.mallopt(MMAP_MAX, 0)
    try:
        yield
    finally:
        library.mallopt(MMAP_MAX, MOST_BLOCKS)
        library.mallopt(MMAP_THRESHOLD, LARGEST_THRESHOLD)
        library.mallopt(TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD)
        library.malloc_trim(0)
