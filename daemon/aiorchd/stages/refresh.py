"""Stale answers asked for anew, in the background, while they are still being served (RFC 5861, stale-while-revalidate).

One refresh a key at a time, a bounded number in all; one more than that is left to the next caller who is served the stale
answer. It goes down the pipeline as a call of its own, by the caller who was served, at the lowest priority, joins and is
joined like any other, and is recorded. After a failure its key rests for a while: a provider that is down is not asked once
for each hit. Refreshes end with their generation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, DeadlineExceeded
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.ports import Service, WallClock
from aiorchd.calls.reply import Reply

MAX_RUNNING: Final = 32
REST_S: Final = 10.0
"""How long a key rests after its refresh has failed."""
_MAX_RESTING: Final = 4096


@dataclass(frozen=True, slots=True)
class RefreshStatistics:
    """Refreshes under way; and since this stage was built: begun, answered, failed, and put off because too many ran or the
    last one had just failed."""

    running: int
    begun: int
    answered: int
    failed: int
    put_off: int


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class TellEnd(Protocol):
    """Records a call that no caller waits for."""

    def __call__(self, call: Call, reply: Reply | None, error: CallError | None, /, *, cancelled: bool = False) -> None:
        """Record how it ended."""
        ...


class Refresh:
    """Ask again in the background. ``nursery`` outlives the calls; `close` ends what runs. ``timeout_s`` bounds each."""

    def __init__(
        self,
        inner: Service[Call],
        nursery: trio.Nursery,
        *,
        timeout_s: float,
        new_id: Callable[[], str],
        wall_clock: WallClock,
        tell_end: TellEnd,
        log: Log,
    ) -> None:
        self._inner = inner
        self._nursery = nursery
        self._timeout_s = timeout_s
        self._new_id = new_id
        self._wall_clock = wall_clock
        self._tell_end = tell_end
        self._log = log
        # This is all the mutable state: what runs and what rests until when, by key, and counts.
        self._running: dict[bytes, trio.CancelScope] = {}
        self._resting: dict[bytes, float] = {}
        self._closed = False
        self._begun = self._answered = self._failed = self._put_off = 0

    def begin(self, call: Call, key: bytes, keep: Callable[[Call, bytes, Reply], None]) -> bool:
        """Ask anew what ``call`` asked, unless that is being done; ``keep`` is given the answer. Tells whether it is being
        done. Never waits."""
        if key in self._running:
            return True
        now = trio.current_time()
        if self._closed or len(self._running) >= MAX_RUNNING or now < self._resting.get(key, now):
            if not self._closed:
                self._put_off += 1
            return False
        self._resting.pop(key, None)
        anew = replace(
            call,
            id=self._new_id(),
            deadline=now + self._timeout_s,
            journal=Journal(started=now, at=self._wall_clock()),
            key=key,
            repeat_key=None,
            repeat_question=b"",
            sink=None,
            priority="bulk",
            cache="refresh",
        )
        anew.journal.note(now, "refresh", f"refreshes the stale answer that the call {call.id} was given")
        self._running[key] = trio.CancelScope(deadline=anew.deadline)
        self._begun += 1
        self._nursery.start_soon(self._run, anew, key, keep)
        return True

    def close(self) -> None:
        """End what runs and begin nothing more."""
        self._closed = True
        for scope in self._running.values():
            scope.cancel()

    def statistics(self) -> RefreshStatistics:
        """Tell what runs."""
        return RefreshStatistics(
            running=len(self._running),
            begun=self._begun,
            answered=self._answered,
            failed=self._failed,
            put_off=self._put_off,
        )

    async def _run(self, call: Call, key: bytes, keep: Callable[[Call, bytes, Reply], None]) -> None:
        reply: Reply | None = None
        error: CallError | None = None
        defect = False
        try:
            with self._running[key]:
                reply = await self._inner(call)
                keep(call, key, reply)
        except CallError as raised:
            error = raised.again()
        except Exception:  # barrier: a refresh nobody waits for
            self._log.exception("refresh_failed", call=call.id)
            defect = True
        finally:
            del self._running[key]
            if reply is None and error is None and not defect and trio.current_time() >= call.deadline:
                error = DeadlineExceeded("the refresh ran out of time", stage="refresh")
            cancelled = reply is None and error is None and not defect
            self._answered += reply is not None
            if error is not None or defect:
                self._failed += 1
                self._rest(key)
            self._tell_end(call, reply, error, cancelled=cancelled)

    def _rest(self, key: bytes) -> None:
        while len(self._resting) >= _MAX_RESTING:
            del self._resting[next(iter(self._resting))]
        self._resting[key] = trio.current_time() + REST_S
