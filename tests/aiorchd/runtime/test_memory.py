"""One heap for all threads."""

from __future__ import annotations

import platform
import subprocess
import sys

# Eight threads at once that each allocate what is too large for Python's own pools; glibc's malloc_info(3) counts the heaps.
PROGRAM = """
import ctypes, sys, threading
from aiorchd.runtime.memory import keep_one_heap
if sys.argv[1] == "one":
    assert keep_one_heap()
barrier = threading.Barrier(8)
def allocate():
    barrier.wait()
    kept = [bytes(4000) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


def heaps(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return done.stdout.count("<heap ")


if platform.libc_ver()[0] == "glibc":

    def test_threads_share_one_heap() -> None:
        assert heaps("one") == 1
        assert heaps("as it comes") > 1, "this test can tell"
