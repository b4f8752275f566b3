"""Lets others run every half millisecond while something long is done in a worker thread.

A thread that computes is put aside by the kernel only after some milliseconds, and for as long the event loop waits on a host
that gives it one CPU, whether it waits for that or for Python's lock. So whoever works long in a thread stops for a moment now
and then: a real one, for whoever only gives the lock away and asks again at once gets it before the other has woken up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

TURN_S: Final = 0.0005
STEPS_A_LOOK: Final = 5_000
"""So many steps SQLite does between two looks at the clock, some tenths of a millisecond."""

_PAUSE_S: Final = 1e-6


class ShortTurns:
    """Call it often: it pauses when a turn is over. Satisfies `sqlite3.Connection.set_progress_handler`."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN_S

    def __call__(self) -> int:
        """Pause if it is time; 0 lets SQLite go on."""
        if time.monotonic() >= self._until:
            time.sleep(_PAUSE_S)
            self._until = time.monotonic() + TURN_S
        return 0


def in_short_turns(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """Give the items on, and pause between them when it is time."""
    turns = ShortTurns()
    for item in items:
        turns()
        yield item
