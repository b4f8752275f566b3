"""Gives up what takes too long: one task for all requests, instead of a cancel scope around each.

A `trio.CancelScope` takes a twentieth of all the steps of a call. Most requests wait for one thing, on a connection that is
theirs alone, and nothing is lost by closing that when the time is over: who waits for it is woken by that. Those that may
take equally long stand in one row in the order of their ends, so that to add one, to take one out and to see who is next takes
no longer however many there are; and how long they may take is the same for nearly all.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Protocol

import trio


class Watched(Protocol):
    """What may take only so long."""

    def expire(self) -> None:
        """Its time is over: give it up. Never waits or raises."""
        ...


class Watch:
    """Knows until when each may take; `run` is to run as long as there is anything."""

    def __init__(self) -> None:
        self._now = trio.lowlevel.current_clock().current_time
        # This is all the mutable state: by seconds allowed, each with its end, the next one first.
        self._rows: dict[float, OrderedDict[Watched, float]] = {}
        self._looks_at = math.inf
        self._nearer = trio.lowlevel.ParkingLot()

    def begin(self, one: Watched, seconds: float) -> None:
        """Have one given up in so many seconds, unless it has come to its `end`. It stands in one row at a time."""
        row = self._rows.get(seconds)
        if row is None:
            row = self._rows[seconds] = OrderedDict()
        row[one] = at = self._now() + seconds
        if at < self._looks_at:
            self._looks_at = at
            self._nearer.unpark()

    def end(self, one: Watched, seconds: float) -> None:
        """Let one be that was begun with so many seconds; harmless when it was given up."""
        row = self._rows.get(seconds)
        if row is not None:
            row.pop(one, None)

    async def run(self) -> None:
        """Give up what takes too long, for ever."""
        while True:
            self._looks_at = self._expire(self._now())
            with trio.CancelScope(deadline=self._looks_at):
                await self._nearer.park()

    def _expire(self, now: float) -> float:
        """Give up whose time is over; tell when the next one's is."""
        next_at = math.inf
        for seconds, row in list(self._rows.items()):
            while row:
                one, at = next(iter(row.items()))
                if at > now:
                    next_at = min(next_at, at)
                    break
                del row[one]
                one.expire()
            if not row:
                del self._rows[seconds]
        return next_at
