"""Tells a queue that only stands from one that carries a burst, by those who are turned away.

A queue is there to carry a burst over: what came at once is worked off in time. Under a load that stays, a queue as long as its
callers' patience serves nobody: as much is answered as with a short one, everything takes as long as anybody is willing to
wait, and when the load ends, those who come then wait behind all of it (Nichols & Jacobson, "Controlling Queue Delay", ACM
Queue 10(5), 2012; the same remedy as in Maurer, "Fail at Scale", ACM Queue 13(8), 2015: the longer the queue has not been
short, the less one may wait in it). Here the sign is that somebody of a flow was turned away as too late, again and again for
longer than an interval, with no pause as long as that. A burst is turned away in one moment, and is no such sign.

Limits: what is within an interval after the load begins still fills the queue.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

FlowT = TypeVar("FlowT", bound=Hashable)

_MOST_FLOWS: Final = 1000


@dataclass(slots=True)
class _Run:
    began: float
    last: float


class StandingQueue(Generic[FlowT]):
    """For each flow since when somebody is turned away; seconds by any one clock."""

    def __init__(self) -> None:
        # This is all the mutable state.
        self._runs: dict[FlowT, _Run] = {}

    def turned_away(self, flow: FlowT, now: float, interval_s: float) -> None:
        """Note that one of a flow was told that its turn would come too late."""
        run = self._runs.get(flow)
        if run is not None and now - run.last <= interval_s:
            run.last = now
            return
        if run is None and len(self._runs) >= _MOST_FLOWS:
            del self._runs[next(iter(self._runs))]
        self._runs[flow] = _Run(now, now)

    def stands(self, flow: FlowT, now: float, interval_s: float) -> bool:
        """Tell whether they are turned away for longer than an interval now, and still are."""
        run = self._runs.get(flow)
        return run is not None and now - run.last <= interval_s < now - run.began

    def empty(self) -> None:
        """Note that nobody waits any more."""
        self._runs.clear()
