"""Identical calls in flight share one.

Idea (Go's singleflight, on structured concurrency): the first call with a key starts a flight, later ones with the same
key board it. The flight is a task of the stage's nursery and not of whoever came first, so any passenger may leave,
the first one too, without harm to the others. When the last one leaves, the flight is cancelled, and that passenger
stays for the moment it takes to unwind, so that nothing is left running for a caller who is gone. The flight's deadline
is its latest passenger's, and moves on when one with more time boards: the deadline field of the flight's own call,
which nobody else holds, is moved with it, for the stages below to read.

Somebody has to pay. Exactly one passenger gets the reply as a ``miss`` with its cost, and the account of the attempts in
its journal: the first, or when it has left, the one that has been on board longest. All others get it as ``coalesced``,
at no cost.

Not shared: calls without a key (they ask for chance), calls that bypass the cache (they ask for an answer of their
own), and streamed calls, whose deltas go to one sink; these pass straight through. A call that refreshes boards and
starts flights like any other: what a flight brings was not in the cache when it took off.

A flight that landed stays in the table until its first passenger has taken the reply: that passenger keeps it in the
cache without a pause, so whoever comes in between finds either the flight or the kept answer. A failed flight leaves
the table at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

import trio

from aiorch.errors import CallError, DeadlineExceeded, GoingAway, InternalError
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.ports import Service
from aiorchd.calls.reply import Reply


@dataclass(frozen=True, slots=True)
class CoalesceStatistics:
    """Flights and passengers now; since this stage was built: flights started, calls that boarded one under way, and
    flights that were cancelled because everybody had left."""

    flights: int
    passengers: int
    started: int
    boarded: int
    abandoned: int


class _Flight:
    """One call that several wait for."""

    __slots__ = ("call", "error", "landed", "left", "passengers", "payer", "reply", "scope")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.scope = trio.CancelScope(deadline=call.deadline)
        self.passengers: dict[trio.lowlevel.Task, Journal] = {}
        """In order of boarding; the first of them pays."""
        self.left: Callable[[], NoReturn] | None = None
        """Raises the cancellation of the last passenger, who waits for the flight to unwind."""
        self.landed = False
        self.payer: trio.lowlevel.Task | None = None
        self.reply: Reply | None = None
        self.error: CallError | None = None


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class Coalesce:
    """Let identical calls share a flight. ``nursery`` holds the flights and must outlive the calls.

    Raises what the flight raised, a copy for each passenger. A defect below is logged once, with its traceback, and
    reaches every passenger as `InternalError`; passengers of a nursery that is torn down get `GoingAway`.
    """

    def __init__(self, inner: Service[Call], nursery: trio.Nursery, log: Log) -> None:
        self._inner = inner
        self._nursery = nursery
        self._log = log
        # This is all the mutable state: flights that may still be boarded, and counts.
        self._boarding: dict[bytes, _Flight] = {}
        self._flights = self._passengers = 0
        self._started = self._boarded = self._abandoned = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call``, together with those equal to it."""
        key = call.key
        if key is None or call.sink is not None or call.cache == "bypass":
            return await self._inner(call)
        boarded_at = trio.current_time()
        flight = self._boarding.get(key)
        if flight is None:
            flight = self._take_off(key, call)
        else:
            self._boarded += 1
            call.journal.note(boarded_at, "coalesce", f"joins the call {flight.call.id}, which asks the same")
            self._extend(flight, call.deadline)
        pays = await self._ride(key, flight, call)
        if flight.error is not None:
            raise flight.error.again()
        assert flight.reply is not None
        # Taken. Whoever comes after us finds it in the cache, for it is kept before anybody else runs.
        self._close(key, flight)
        if call.id == flight.call.id:
            return flight.reply
        return _shared(flight.reply, flight.call.id, trio.current_time() - boarded_at, pays=pays)

    def statistics(self) -> CoalesceStatistics:
        """Tell how many fly."""
        return CoalesceStatistics(
            flights=self._flights,
            passengers=self._passengers,
            started=self._started,
            boarded=self._boarded,
            abandoned=self._abandoned,
        )

    def _take_off(self, key: bytes, call: Call) -> _Flight:
        # Notes go to the first passenger at once, so that its deadline can say what it was doing; the account of the
        # attempts is handed over at the end, to whoever pays.
        journal = Journal(started=call.journal.started, at=call.journal.at, notes=call.journal.notes)
        flight = _Flight(replace(call, journal=journal))
        self._nursery.start_soon(self._fly, key, flight)
        self._boarding[key] = flight
        self._started += 1
        self._flights += 1
        return flight

    @staticmethod
    def _extend(flight: _Flight, deadline: float) -> None:
        if deadline > flight.call.deadline:
            flight.scope.deadline = deadline
            # Frozen for everybody else: this one belongs to the flight, and who reads its deadline reads it now.
            object.__setattr__(flight.call, "deadline", deadline)

    async def _fly(self, key: bytes, flight: _Flight) -> None:
        error: CallError | None = GoingAway(
            "the daemon is stopping; connect again to reach its successor", retry_after_s=1.0, stage="coalesce"
        )
        try:
            with flight.scope:
                flight.reply = await self._inner(flight.call)
                error = None
            if flight.scope.cancelled_caught:
                error = DeadlineExceeded("the call it shared with others ran out of time", stage="coalesce")
        except CallError as raised:
            error = raised.again()  # without traceback and causes, which would hold the frames of the whole flight
        except Exception:  # barrier: shared flight
            self._log.exception("shared_flight_failed", call=flight.call.id)
            error = InternalError(
                "a defect in the daemon; its log has the details (journalctl -u aiorchd)", stage="coalesce"
            )
        finally:
            flight.error = error
            self._land(key, flight)

    def _land(self, key: bytes, flight: _Flight) -> None:
        """Wake the passengers; the first of them gets the account."""
        flight.landed = True
        self._flights -= 1
        if flight.error is not None:
            self._close(key, flight)
        for task, journal in flight.passengers.items():
            if flight.payer is None:
                flight.payer = task
                _hand_over(flight.call.journal, journal)
            trio.lowlevel.reschedule(task)
        self._passengers -= len(flight.passengers)
        flight.passengers.clear()

    async def _ride(self, key: bytes, flight: _Flight, call: Call) -> bool:
        """Wait for the landing; tell whether this passenger pays."""
        if flight.landed:
            return False
        me = trio.lowlevel.current_task()
        flight.passengers[me] = call.journal
        self._passengers += 1

        def leave(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            if len(flight.passengers) > 1:
                del flight.passengers[me]
                self._passengers -= 1
                return trio.lowlevel.Abort.SUCCEEDED
            flight.left = raise_cancel
            self._abandoned += 1
            self._close(key, flight)
            flight.scope.cancel()
            return trio.lowlevel.Abort.FAILED  # the landing wakes us

        await trio.lowlevel.wait_task_rescheduled(leave)
        if flight.left is not None and flight.reply is None:
            flight.left()
        # An answer that came while leaving is paid for, so it is taken.
        return flight.payer is me

    def _close(self, key: bytes, flight: _Flight) -> None:
        """Let nobody board any more."""
        if self._boarding.get(key) is flight:
            del self._boarding[key]


def _shared(reply: Reply, source_id: str, waited_s: float, *, pays: bool) -> Reply:
    """Address a flight's reply to a passenger who did not start it; its waiting began when it boarded."""
    provider_s = min(reply.provider_s, waited_s)
    queue_s = min(reply.queue_s, waited_s - provider_s)
    if pays:
        return replace(reply, source_id=source_id, provider_s=provider_s, queue_s=queue_s)
    return replace(
        reply,
        cache="coalesced",
        saved_usd=reply.cost_usd,
        source_id=source_id,
        attempts=0,
        provider_s=provider_s,
        queue_s=queue_s,
    )


def _hand_over(flown: Journal, journal: Journal) -> None:
    """Enter a flight's account in the journal of the passenger who pays."""
    later_s = flown.started - journal.started
    if flown.notes is not journal.notes:
        journal.notes.extend((at_s + later_s, stage, what) for at_s, stage, what in flown.notes)
        journal.notes.sort(key=lambda note: note[0])
    journal.attempts.extend(replace(attempt, began_s=attempt.began_s + later_s) for attempt in flown.attempts)
    journal.queue_s += flown.queue_s
    journal.provider_s += flown.provider_s
    journal.throttled += flown.throttled
    journal.fallbacks += flown.fallbacks
    journal.context_fallbacks += flown.context_fallbacks
    journal.filter_fallbacks += flown.filter_fallbacks
    journal.hedges += flown.hedges
