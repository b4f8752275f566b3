"""How the C library keeps memory that was given back."""

from __future__ import annotations

import ctypes
from typing import Final

_ARENA_MAX: Final = -8  # M_ARENA_MAX of glibc's malloc.h


def keep_one_heap() -> bool:
    """Have all threads allocate from one heap, from now on; call it before there are threads. Tells whether it could be done.

    glibc gives each thread a heap of its own (mallopt(3), M_ARENA_MAX), and what is free in one is of no use to another. The
    threads here come and go (files, lookups, the watch), most of the time one at a time beside the GIL, and their heaps grew
    by several megabytes a minute under load although nothing was kept. Other C libraries have no such heaps.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 1))
    except (AttributeError, OSError, TypeError):
        return False
