"""Who goes next: fair between flows (callers), first come first served within one, bounded, and never in vain.

Order: start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", IEEE/ACM Trans. Networking 5(5), 1997).

    S(k) = max(v, F(k-1)),   F(k) = S(k) + cost(k) / weight,   v = S of what started last

The smallest S starts; it is fair whatever the speed of the server, which suits a provider whose answers take a second or
a minute, and it costs O(log flows). S is computed when an entry becomes the first of its flow: for a flow that
always has entries waiting that is the same number, and an entry that leaves the queue early costs its flow nothing.
Nobody overtakes the one whose turn it is, even if a smaller one would fit: else large requests would wait for ever.

Bound: at most ``max_waiting`` entries. When one more comes, the newest entry of the longest flow is turned away
(longest queue drop: Suter, Lakshman, Stiliadis, Choudhury, INFOCOM 1998; the same choice as FQ-CoDel, RFC 8290), which is
the new one itself if its flow is as long as any. So who floods the queue loses, and not who came late.

Shedding: when the one whose turn it is has to wait for a known time, whoever's deadline comes before that cannot make it, and is
told at once instead of at its deadline.

All entries have one priority here; `core.priority_queue` has one of these for each.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

ItemT = TypeVar("ItemT")

_SLACK: Final = 64
"""How much that is out of date may lie about before it is swept."""


@dataclass(frozen=True, slots=True)
class Shed(Generic[ItemT]):
    """An item that is turned away, because nobody in the queue starts for at least ``delay_s``."""

    item: ItemT
    delay_s: float


@dataclass(frozen=True, slots=True)
class Decision(Generic[ItemT]):
    """What to do now. ``wake_in_s``: decide again then even if nothing happens; None: only when something does."""

    start: list[ItemT]
    shed: list[Shed[ItemT]]
    wake_in_s: float | None


class Entry(Generic[ItemT]):
    """A place in the queue; keep it to be able to leave."""

    __slots__ = ("cost", "deadline", "flow", "item", "waiting", "weight")

    def __init__(self, item: ItemT, flow: _Flow[ItemT], deadline: float, cost: float, weight: float) -> None:
        self.item = item
        self.flow = flow
        self.deadline = deadline
        self.cost = cost
        self.weight = weight
        self.waiting = True


@dataclass(slots=True, eq=False)
class _Flow(Generic[ItemT]):
    key: Hashable
    free_at: float
    """F of what started last, in virtual time."""
    start: float = 0.0
    """S of the first entry; only meaningful while there is one."""
    turn: int = 0
    """Which of this flow's places in the heap of turns is the valid one."""
    entries: OrderedDict[Entry[ItemT], None] = field(default_factory=OrderedDict)


class FairQueue(Generic[ItemT]):
    """At most ``max_waiting`` items of any number of flows; 0 lets nobody wait."""

    def __init__(self, max_waiting: int) -> None:
        # This is all the mutable state.
        self.max_waiting = max_waiting
        """May be changed live; who waits already stays."""
        self._virtual_time = 0.0
        self._flows: dict[Hashable, _Flow[ItemT]] = {}
        self._waiting = 0
        self._sequence = 0
        self._turns: list[tuple[float, int, _Flow[ItemT]]] = []  # heap by S of the first entry; stale ones are skipped
        self._deadlines: list[tuple[float, int, Entry[ItemT]]] = []  # heap; entries that left are skipped
        self._lengths: dict[int, dict[_Flow[ItemT], None]] = {}  # flows by their length, to find the longest at once
        self._longest = 0
        self._active = 0  # flows in which somebody waits

    def __len__(self) -> int:
        return self._waiting

    def backlog(self, key: Hashable) -> int:
        """Tell how many items of a flow wait."""
        flow = self._flows.get(key)
        return 0 if flow is None else len(flow.entries)

    def backlogs(self) -> Mapping[Hashable, int]:
        """Tell how many items wait, by flow; flows with none are left out."""
        return {key: len(flow.entries) for key, flow in self._flows.items() if flow.entries}

    def put(
        self, key: Hashable, item: ItemT, *, deadline: float, cost: float = 1.0, weight: float = 1.0
    ) -> tuple[Entry[ItemT] | None, ItemT | None]:
        """Queue an item of the flow ``key``. Gives its entry, and an item that had to be turned away to make room.

        The entry is None when the new item itself was turned away (then it is the second value). ``cost`` is what it
        takes of what is scarce, in any unit that all items share; ``weight`` is its flow's share against others.
        """
        if cost <= 0.0 or weight <= 0.0:
            raise ValueError(f"cost and weight must be above 0, got {cost} and {weight}")
        turned_away: ItemT | None = None
        if self._waiting >= self.max_waiting:
            if self.backlog(key) + 1 >= self._longest:
                return None, item
            turned_away = self.drop_newest()
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(key, self._virtual_time)
        entry = Entry(item, flow, deadline, cost, weight)
        flow.entries[entry] = None
        self._waiting += 1
        self._sequence += 1
        self._recount(flow, len(flow.entries) - 1)
        heapq.heappush(self._deadlines, (deadline, self._sequence, entry))
        if len(flow.entries) == 1:
            self._take_place(flow)
        return entry, turned_away

    def remove(self, entry: Entry[ItemT]) -> None:
        """Let an entry leave the queue before its turn; one that left already is ignored.

        Its flow keeps its place: the S of the next entry would be the same.
        """
        if entry.waiting:
            self._drop(entry)
            self._sweep()

    def drop_newest(self) -> ItemT | None:
        """Turn away the newest entry of the longest flow; gives it, None when nobody waits."""
        if not self._waiting:
            return None
        newest = next(reversed(next(iter(self._lengths[self._longest])).entries))
        item = newest.item
        self.remove(newest)
        return item

    def has(self, entry: Entry[ItemT]) -> bool:
        """Whether an entry waits in this queue."""
        return entry.waiting and self._flows.get(entry.flow.key) is entry.flow

    def first(self) -> ItemT | None:
        """Tell whose turn is next, if anybody waits."""
        flow = self._next_flow()
        return None if flow is None else next(iter(flow.entries)).item

    def first_cost(self) -> float:
        """Tell the cost of whose turn is next; 0 when nobody waits."""
        flow = self._next_flow()
        return 0.0 if flow is None else next(iter(flow.entries)).cost

    def items(self) -> Iterator[ItemT]:
        """Give everybody who waits, flow by flow, in order within each."""
        for flow in self._flows.values():
            for entry in flow.entries:
                yield entry.item

    def decide(
        self, now: float, grant: Callable[[ItemT, float], float | None], *, most: float = math.inf
    ) -> Decision[ItemT]:
        """Start whoever can start now, in order, ``most`` of them, and shed who cannot make its deadline.

        ``grant(item, now)`` is asked for the item whose turn it is. It either takes what the item needs and gives 0.0, or
        takes nothing and gives the seconds until it might be possible, or None when only an event will tell.
        """
        start: list[ItemT] = []
        shed: list[Shed[ItemT]] = []
        wake_in_s: float | None = None
        while len(start) < most and (flow := self._next_flow()) is not None:
            entry = next(iter(flow.entries))
            delay_s = grant(entry.item, now)
            if delay_s == 0.0:
                self._virtual_time = flow.start
                flow.free_at = flow.start + entry.cost / entry.weight
                start.append(entry.item)
                self._drop(entry)
                if flow.entries:
                    self._take_place(flow)
                continue
            known_s = 0.0 if delay_s is None else delay_s
            if entry.deadline < now + known_s:
                shed.append(Shed(entry.item, known_s))
                self.remove(entry)
                continue  # what the next one needs may be had sooner
            self.shed_before(now + known_s, known_s, shed)
            wake_in_s = delay_s
            break
        self._sweep()
        return Decision(start, shed, wake_in_s)

    def forget_history(self) -> None:
        """Make all flows equal again, as if each came just now: for when costs are counted in another unit from here on."""
        self._turns.clear()
        for key in [key for key, flow in self._flows.items() if not flow.entries]:
            del self._flows[key]
        for flow in self._flows.values():
            flow.free_at = self._virtual_time
            self._take_place(flow)

    def shed_before(self, earliest: float, delay_s: float, shed: list[Shed[ItemT]]) -> None:
        """Nobody starts before ``earliest``: turn away whose deadline is sooner."""
        while self._deadlines and (self._deadlines[0][0] < earliest or not self._deadlines[0][2].waiting):
            _, _, entry = heapq.heappop(self._deadlines)
            if entry.waiting:
                shed.append(Shed(entry.item, delay_s))
                self.remove(entry)

    def _next_flow(self) -> _Flow[ItemT] | None:
        """Find the flow with the smallest S, forgetting places that are no longer valid."""
        while self._turns:
            _, turn, flow = self._turns[0]
            if flow.entries and flow.turn == turn:
                return flow
            heapq.heappop(self._turns)
        return None

    def _take_place(self, flow: _Flow[ItemT]) -> None:
        """Line up a flow by its (new) first entry."""
        self._sequence += 1
        flow.start = max(self._virtual_time, flow.free_at)
        flow.turn = self._sequence
        heapq.heappush(self._turns, (flow.start, flow.turn, flow))

    def _drop(self, entry: Entry[ItemT]) -> None:
        """Take an entry out of its flow and of all counts."""
        flow = entry.flow
        entry.waiting = False
        del entry.item  # the heap of deadlines may hold the entry for a while, and must not hold a prompt
        del flow.entries[entry]
        self._waiting -= 1
        self._recount(flow, len(flow.entries) + 1)

    def _recount(self, flow: _Flow[ItemT], before: int) -> None:
        """Move a flow between the groups of flows of equal length. Lengths change by one, so the longest does too."""
        length = len(flow.entries)
        if before:
            group = self._lengths[before]
            del group[flow]
            if not group:
                del self._lengths[before]
        else:
            self._active += 1
        if length:
            self._lengths.setdefault(length, {})[flow] = None
        else:
            self._active -= 1
        if length > self._longest or (before == self._longest and before not in self._lengths):
            self._longest = length

    def _sweep(self) -> None:
        """Forget what is out of date, when it outweighs what is not: O(1) for each entry that ever came."""
        if not self._waiting:
            # The end of a busy period: nobody is ahead of anybody (SFQ sets v to the largest F, which is the same).
            self._virtual_time = 0.0
            self._flows.clear()
            self._turns.clear()
            self._deadlines.clear()
            return
        if len(self._deadlines) > 2 * self._waiting + _SLACK:
            self._deadlines = [place for place in self._deadlines if place[2].waiting]
            heapq.heapify(self._deadlines)
        if len(self._turns) > 2 * len(self._flows) + _SLACK:
            self._turns = [place for place in self._turns if place[2].entries and place[2].turn == place[1]]
            heapq.heapify(self._turns)
        if len(self._flows) > 2 * self._active + _SLACK:
            # An idle flow that is forgotten may start one item early when it comes back: a price for being bounded.
            for key in [key for key, flow in self._flows.items() if not flow.entries]:
                del self._flows[key]
