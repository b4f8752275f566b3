"""A limit on what one synchronous block may cost in CPU.

Callers send JSON Schemas, and a schema may hold a regular expression that takes for ever on an answer ("(a+)+$"), or
references that fan out without end. Python's matcher holds the interpreter for as long as it runs, in any thread, so one
caller's schema would stop the daemon for all. But it does look for signals every few thousand steps; so a timer on the
process's own CPU time (``ITIMER_VIRTUAL``: no wall clock, no suspended laptops) sends one, and its handler raises.

Works in the main thread only, where Trio runs; elsewhere blocks run without limit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class CpuLimit:
    """Makes blocks that end with `TimeoutError` after ``limit_s`` seconds of this process's CPU time. They do not nest."""

    def __init__(self, limit_s: float) -> None:
        if not limit_s > 0:
            raise ValueError(f"limit_s must be more than 0, got {limit_s}")
        self.limit_s = limit_s
        self._armed = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run the block under the limit. Raises `TimeoutError` out of wherever the block is."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGVTALRM, self._end)
        self._armed = True
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, self.limit_s)
            yield
        finally:
            # From here on a signal that is already on its way finds nobody to stop.
            self._armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(signal.SIGVTALRM, previous)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  what handlers are given
        if self._armed:
            self._armed = False
            raise TimeoutError(f"more than {self.limit_s:g} s of CPU")
