"""A program that does not outlive the process that started it, whatever way that ends.

``python -m aiorchctl.demo.tether PARENT SIGNAL PROGRAM ARGUMENT...`` asks the kernel to send the signal when the parent
dies (``prctl(PR_SET_PDEATHSIG)``, which survives ``execve``) and then becomes the program.
"""

from __future__ import annotations

import os
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int, signal_number: int) -> None:
    """Ask for a signal at the parent's death; ends at once when the parent is gone already. Linux only, nothing elsewhere."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(os.EX_UNAVAILABLE)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 - that is the point
