"""Lets what the sessions have read begin, as fast as the event loop gets it done; turns away what would begin too late.

The pure parts are `core.start_line` and `core.reading_pace`; here is the one task that goes round once in each turn of the
event loop while somebody stands in line, and sleeps otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from aiorch.errors import Overloaded
from aiorch.protocol import pack
from aiorchd.core.reading_pace import ReadingPace
from aiorchd.core.start_line import StartLine

_SHORTEST_RETRY_S: Final = 0.1
_LONGEST_RETRY_S: Final = 30.0
_SHARE_BEHIND_OWN: Final = 0.5
_MOST_PACKED: Final = 100


class Starter(Protocol):
    """Whoever keeps what waits: a session."""

    def begin_next(self) -> None:
        """Begin the first that waits and say by `Starting.stand` how many are left; never waits or raises."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls may wait to begin: ``share`` of the time they have, and ``most_s``. ``usual_s`` is the time of a call that
    does not say, ``longest_s`` what no call may exceed."""

    most_s: float = 30.0
    share: float = 0.25
    usual_s: float = 60.0
    longest_s: float = 3600.0

    def of(self, timeout_s: Any) -> float:
        """Tell how long a call may wait to begin that gave this timeout, right or wrong."""
        return min(self.most_s, self.share * self._time(timeout_s))

    def behind_own(self, timeout_s: Any) -> float:
        """Tell how long it may wait for others of its own connection: it was its caller who sent so many at once."""
        return _SHARE_BEHIND_OWN * self._time(timeout_s)

    def _time(self, timeout_s: Any) -> float:
        named = isinstance(timeout_s, (int, float)) and timeout_s > 0
        return min(timeout_s if named else self.usual_s, self.longest_s)


@dataclass(frozen=True, slots=True)
class StartingStatistics:
    """Calls that wait to begin now, and how long one takes to begin while others wait. Since the start: how many had to
    wait, and how many were turned away because they would have begun too late."""

    waiting: int
    each_s: float
    waited: int
    turned_away: int


class Starting:
    """Shared by the sessions of one door. ``patience`` gives what holds now."""

    def __init__(self, patience: Callable[[], Patience] = Patience) -> None:
        self._patience = patience
        self._line: StartLine[Starter] = StartLine()
        self._pace = ReadingPace()
        self._pausing = trio.lowlevel.ParkingLot()
        self._task: trio.lowlevel.Task | None = None
        self._parked = False
        self._waited = self._turned_away = 0
        self._packed: dict[tuple[float, bool], bytes] = {}

    def begin(self) -> bool:
        """Tell whether a call may begin at once; it counts as begun then."""
        if not self._line.begin():
            return False
        if self._line.wants_round:
            self._wake()
        return True

    def late_s(self, timeout_s: Any, ahead: int, own_s: float) -> float | None:
        """Tell after how many seconds one may come again who would begin too late now; None for one who may wait.

        ``ahead`` of its own connection go before it, which takes ``own_s`` at least whatever the others do.
        """
        patience, wait_s = self._patience(), self._line.wait_s(ahead)
        may_wait_s = patience.of(timeout_s)
        if wait_s <= may_wait_s and own_s <= patience.behind_own(timeout_s):
            return None
        self._pace.refused(may_wait_s)
        wait_s = max(wait_s, own_s)
        self._turned_away += 1
        return round(min(max(wait_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S), 1)

    def packed_refusal(self, late_s: float, *, as_map: bool) -> bytes:
        """Give the error for one who would begin too late, as it goes over the wire; most who come together get the same."""
        packed = self._packed.get((late_s, as_map))
        if packed is None:
            error = Overloaded(
                f"the daemon has more to do than it gets done; this call would have begun in {late_s:g} s, which is too late "
                "for it (queue.max_start_wait_share, queue.max_start_wait_s)",
                retry_after_s=late_s,
                stage="door",
                details={"reason": "late"},
            )
            packed = pack(error.to_wire()) if as_map else pack([0, str(error)])
            if len(self._packed) >= _MOST_PACKED:
                self._packed.clear()
            self._packed[late_s, as_map] = packed
        return packed

    async def pause_reading(self) -> None:
        """Wait until those who were refused are read from again; for a reader, after a refusal."""
        self._pace.pause(trio.current_time())
        self._wake()
        await self._pausing.park()

    @property
    def crowded(self) -> bool:
        """Whether anybody stands in line."""
        return len(self._line) > 0

    def stand(self, starter: Starter, number: int, *, comes: bool = False) -> None:
        """Say how many of a connection wait that could begin; ``comes`` when one of them is new."""
        self._waited += comes
        self._line.stand(starter, number)
        if number:
            self._wake()

    async def run(self) -> None:
        """Go round, once in each turn of the event loop while somebody waits."""
        self._task = trio.lowlevel.current_task()
        while True:
            if self._line.wants_round or self._pausing:
                await trio.lowlevel.checkpoint()
            else:
                self._parked = True
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            now = trio.current_time()
            for starter in self._line.round(now):
                starter.begin_next()
            if self._pausing and self._pace.due(now, crowded=self.crowded):
                self._pausing.unpark_all()

    def statistics(self) -> StartingStatistics:
        """Tell who waits."""
        return StartingStatistics(len(self._line), self._line.each_s, self._waited, self._turned_away)

    def _wake(self) -> None:
        if self._parked and self._task is not None:
            self._parked = False
            trio.lowlevel.reschedule(self._task)

    def _abort(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._parked = False
        return trio.lowlevel.Abort.SUCCEEDED
