"""Who goes next among priorities: the higher first, and for each lower one a trickle that nobody can take from it.

There is a fair queue (`core.fair_queue`) for each priority. While a lower priority waits, what starts before it is added up;
when that reaches ``1 / trickle`` times what its own next one costs, it is its turn. So a flood of interactive calls slows bulk
work down to that share, and never stops it.

The bound on who waits holds for all priorities together. When it is reached, the lowest priority loses somebody first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final, Generic, TypeVar

from aiorchd.core.fair_queue import Decision, Entry, FairQueue, Shed

ItemT = TypeVar("ItemT")

PRIORITIES: Final = ("interactive", "normal", "bulk")
"""From the highest to the lowest."""

TRICKLE: Final = 0.05


class PriorityQueue(Generic[ItemT]):
    """At most ``max_waiting`` items of any number of flows and of three priorities; 0 lets nobody wait."""

    def __init__(self, max_waiting: int, trickle: float = TRICKLE) -> None:
        # This is all the mutable state.
        self.max_waiting = max_waiting
        """May be changed live; who waits already stays."""
        self.trickle = trickle
        """May be changed live."""
        self._queues: tuple[FairQueue[ItemT], ...] = tuple(FairQueue(max_waiting) for _ in PRIORITIES)
        self._passed = [0.0 for _ in PRIORITIES]
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def backlog(self, key: Hashable, priority: str) -> int:
        """Tell how many items of a flow wait at that priority or a higher one."""
        return sum(queue.backlog(key) for queue in self._queues[: PRIORITIES.index(priority) + 1])

    def backlogs(self) -> Mapping[Hashable, int]:
        """Tell how many items wait, by flow; flows with none are left out."""
        found: dict[Hashable, int] = {}
        for queue in self._queues:
            for key, number in queue.backlogs().items():
                found[key] = found.get(key, 0) + number
        return found

    def items(self) -> Iterator[ItemT]:
        """Give everybody who waits, the higher priorities first."""
        for queue in self._queues:
            yield from queue.items()

    def put(
        self, key: Hashable, item: ItemT, *, priority: str, deadline: float, cost: float = 1.0, weight: float = 1.0
    ) -> tuple[Entry[ItemT] | None, ItemT | None]:
        """Queue an item; see `FairQueue.put`."""
        rank = PRIORITIES.index(priority)
        queue = self._queues[rank]
        turned_away: ItemT | None = None
        queue.max_waiting = self.max_waiting + 1
        if self._waiting >= self.max_waiting:
            lowest = max((each for each, other in enumerate(self._queues) if other), default=rank)
            if lowest > rank:
                turned_away = self._queues[lowest].drop_newest()
                self._waiting -= 1
            elif lowest < rank:
                return None, item
            else:
                queue.max_waiting = len(queue)
        entry, also_turned_away = queue.put(key, item, deadline=deadline, cost=cost, weight=weight)
        self._waiting += (entry is not None) - (also_turned_away is not None and entry is not None)
        return entry, turned_away if also_turned_away is None else also_turned_away

    def remove(self, entry: Entry[ItemT]) -> None:
        """Let an entry leave the queue before its turn; one that left already is ignored."""
        if entry.waiting:
            self._waiting -= 1
            for queue in self._queues:
                if queue.has(entry):
                    queue.remove(entry)
                    return

    def first(self) -> ItemT | None:
        """Tell whose turn is next, if anybody waits."""
        rank = self._whose_turn()
        return None if rank is None else self._queues[rank].first()

    def decide(self, now: float, grant: Callable[[ItemT, float], float | None]) -> Decision[ItemT]:
        """Start whoever can start now, in order, and shed who cannot make its deadline; see `FairQueue.decide`."""
        start: list[ItemT] = []
        shed: list[Shed[ItemT]] = []
        wake_in_s: float | None = None
        while (rank := self._whose_turn()) is not None:
            queue = self._queues[rank]
            cost = queue.first_cost()
            alone = len(queue) == self._waiting
            decision = queue.decide(now, grant, most=math.inf if alone else 1)
            self._waiting -= len(decision.start) + len(decision.shed)
            start += decision.start
            shed += decision.shed
            if decision.start:
                self._passed[rank] = 0.0
                for lower in range(rank + 1, len(PRIORITIES)):
                    if self._queues[lower]:
                        self._passed[lower] += cost
                if not alone:
                    continue
            elif not queue:
                continue  # all of it was shed
            wake_in_s = decision.wake_in_s
            if queue and wake_in_s is not None:
                for other in self._queues:
                    if other is not queue:
                        before = len(shed)
                        other.shed_before(now + wake_in_s, wake_in_s, shed)
                        self._waiting -= len(shed) - before
            break
        return Decision(start, shed, wake_in_s)

    def forget_history(self) -> None:
        """Make all flows equal again; see `FairQueue.forget_history`."""
        for queue in self._queues:
            queue.forget_history()
        self._passed = [0.0 for _ in PRIORITIES]

    def _whose_turn(self) -> int | None:
        """Find the priority that is served next: the lowest that was passed over long enough, else the highest."""
        if not self._waiting:
            return None
        for rank in range(len(PRIORITIES) - 1, 0, -1):
            queue = self._queues[rank]
            if not queue:
                self._passed[rank] = 0.0
            elif self._passed[rank] * self.trickle >= queue.first_cost():
                return rank
        return next(rank for rank, queue in enumerate(self._queues) if queue)
