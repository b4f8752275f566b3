"""Identical calls in flight share one.

Idea (Go's singleflight, on structured concurrency): the first call with a key starts a flight, later ones with the same
key board it. The flight is a task of the stage's crew and not of whoever came first, so any passenger may leave,
the first one too, without harm to the others. When the last one leaves, the flight is cancelled, and that passenger
stays for the moment it takes to unwind, so that nothing is left running for a caller who is gone. The flight's deadline
is its latest passenger's, and moves on when one with more time boards: the deadline field of the flight's own call,
which nobody else holds, is moved with it, for the stages below to read.

Somebody has to pay. Exactly one passenger gets the reply as a ``miss`` with its cost, and the account of the attempts in
its journal: the first, or when it has left, the one that has been on board longest. All others get it as ``coalesced``,
at no cost.

Not shared: calls without a key, calls that ask for chance, and calls that bypass the cache (they ask for an answer of their
own); these pass straight through. A call that refreshes boards and starts flights like any other: what a flight brings
was not in the cache when it took off.

Streams. A flight that a streamed call started is streamed, to a relay; every streamed passenger listens to it from its
beginning, at its own pace, whenever it boards, and whoever is not streamed waits for the end. A streamed call that boards a
flight which is not gets the answer in pieces when it has landed. Content that was streamed cannot be taken back, so a stream may
break off, or turn out to be invalid, where a call that is not streamed would have been asked again; then its passengers that
are not streamed ask for themselves.

A flight that landed stays in the table until its first passenger has taken the reply: that passenger keeps it in the
cache without a pause, so whoever comes in between finds either the flight or the kept answer. A failed flight leaves
the table at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import msgspec
import trio
from msgspec.structs import force_setattr, replace

from aiorch.errors import CallError, DeadlineExceeded, GoingAway, InternalError
from aiorchd.calls.call import Call
from aiorchd.calls.journal import Journal
from aiorchd.calls.leash import Scope
from aiorchd.calls.ports import DeltaSink, Relay, Service
from aiorchd.calls.replay import replay
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


class _Seat(msgspec.Struct):
    """One passenger: its journal, and whether its task is parked until the landing (else it listens to the relay)."""

    journal: Journal
    parked: bool


class _Flight(msgspec.Struct, eq=False):
    """One call that several wait for."""

    call: Call
    relay: Relay | None
    """What its passengers listen to; None when it is not streamed."""
    scope: Scope | None = None
    """Around it; None until it has taken off."""
    passengers: dict[trio.lowlevel.Task, _Seat] = {}
    """In order of boarding; the first of them pays."""
    left: Callable[[], NoReturn] | None = None
    """Raises the cancellation of the last passenger, who waits for the flight to unwind."""
    landed: bool = False
    payer: trio.lowlevel.Task | None = None
    reply: Reply | None = None
    error: CallError | None = None


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class Crew(Protocol):
    """As much of a crew of tasks as this stage needs."""

    def begin(self, deadline: float, work: Callable[..., Awaitable[None]], /, *args: Any) -> Scope:
        """Carry out ``work(*args)`` in a task of its own, until it ends or this deadline has passed."""
        ...


class Coalesce:
    """Let identical calls share a flight. ``crew`` flies them and must outlive the calls;
    ``new_relay`` makes what the passengers of a stream listen to.

    Raises what the flight raised, a copy for each passenger. A defect below is logged once, with its traceback, and
    reaches every passenger as `InternalError`; passengers of a crew that is torn down get `GoingAway`.
    """

    def __init__(self, inner: Service[Call], crew: Crew, log: Log, new_relay: Callable[[], Relay]) -> None:
        self._inner = inner
        self._crew = crew
        self._log = log
        self._new_relay = new_relay
        self._now = trio.lowlevel.current_clock().current_time
        # This is all the mutable state: flights that may still be boarded, and counts.
        self._boarding: dict[bytes, _Flight] = {}
        self._flights = self._passengers = 0
        self._started = self._boarded = self._abandoned = 0

    async def __call__(self, call: Call) -> Reply:
        """Answer ``call``, together with those equal to it."""
        key = call.key
        if key is None or call.samples or call.cache == "bypass":
            return await self._inner(call)
        flight = self._boarding.get(key)
        if flight is None:
            flight = self._take_off(key, call)
            boarded_at = call.journal.started
        else:
            self._boarded += 1
            boarded_at = self._now()
            call.journal.note(
                boarded_at, "coalesce", f"joins the call {flight.call.id}, which asks {_how_equal(flight.call, call)}"
            )
            self._extend(flight, call.deadline)
        if call.sink is None:
            pays = await self._ride(key, flight, call)
        else:
            pays = await self._listen(key, flight, call, call.sink)
        if call.sink is None and _is_lost_to_streaming(flight):
            self._close(key, flight)
            call.journal.note(self._now(), "coalesce", "what was streamed is of no use here; asks for itself")
            return await self._inner(call)
        if flight.error is not None:
            raise flight.error.again()
        assert flight.reply is not None
        # Taken. Whoever comes after us finds it in the cache, for it is kept before anybody else runs.
        self._close(key, flight)
        if call.id == flight.call.id:
            return flight.reply
        return _shared(flight.reply, flight.call, self._now() - boarded_at, pays=pays)

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
        relay = None if call.sink is None else self._new_relay()
        flown = replace(call, journal=journal, sink=relay, leash=None)
        flight = _Flight(flown, relay)
        flight.scope = self._crew.begin(call.deadline, self._fly, key, flight)
        self._boarding[key] = flight
        self._started += 1
        self._flights += 1
        return flight

    @staticmethod
    def _extend(flight: _Flight, deadline: float) -> None:
        # Once it has landed, its task may do something else.
        if deadline > flight.call.deadline and not flight.landed:
            assert flight.scope is not None
            flight.scope.end_at(deadline)
            # Frozen for everybody else: this one belongs to the flight, and who reads its deadline reads it now.
            force_setattr(flight.call, "deadline", deadline)

    async def _fly(self, key: bytes, flight: _Flight) -> None:
        error: CallError | None = None
        try:
            flight.reply = await self._inner(flight.call)
        except CallError as raised:
            error = raised.again()  # without traceback and causes, which would hold the frames of the whole flight
        except Exception:  # barrier: shared flight
            error = self._defect(flight)
        except BaseExceptionGroup as group:  # cancelled, and what was wrong showed as it ended
            if not isinstance(group.split(trio.Cancelled)[1], Exception):
                raise
            error = self._defect(flight)
        finally:
            flight.error = error
            if flight.reply is None and error is None:
                flight.error = _ended(flight)
            self._land(key, flight)

    def _defect(self, flight: _Flight) -> CallError:
        """Log what was just raised, and make the error that its passengers get."""
        self._log.exception("shared_flight_failed", call=flight.call.id)
        return InternalError(
            "a defect in the daemon; its log has the details (journalctl -u aiorchd)", stage="coalesce"
        )

    def _land(self, key: bytes, flight: _Flight) -> None:
        """Wake the passengers; the first of them gets the account."""
        flight.landed = True
        self._flights -= 1
        if flight.error is not None:
            self._close(key, flight)
        for task, seat in flight.passengers.items():
            if flight.payer is None:
                flight.payer = task
                seat.journal.take_over(flight.call.journal)
            if seat.parked:
                trio.lowlevel.reschedule(task)
        if flight.relay is not None:
            flight.relay.close()
        self._passengers -= len(flight.passengers)
        flight.passengers.clear()

    async def _ride(self, key: bytes, flight: _Flight, call: Call) -> bool:
        """Wait for the landing; tell whether this passenger pays."""
        if flight.landed:
            return False
        me = trio.lowlevel.current_task()
        self._board(flight, me, _Seat(call.journal, parked=True))

        def leave(raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            if not self._is_last(key, flight, me):
                return trio.lowlevel.Abort.SUCCEEDED
            flight.left = raise_cancel
            return trio.lowlevel.Abort.FAILED  # the landing wakes us

        await trio.lowlevel.wait_task_rescheduled(leave)
        if flight.left is not None and flight.reply is None:
            flight.left()
        # An answer that came while leaving is paid for, so it is taken.
        return flight.payer is me

    async def _listen(self, key: bytes, flight: _Flight, call: Call, sink: DeltaSink) -> bool:
        """Ride, and pass on what the flight streams, or its answer once it has landed; tell whether this passenger pays."""
        heard = False
        try:
            if flight.relay is None:
                pays = await self._ride(key, flight, call)
                if flight.reply is not None:
                    await replay(flight.reply, sink)
                heard = True
                return pays
            me = trio.lowlevel.current_task()
            if not flight.landed:
                self._board(flight, me, _Seat(call.journal, parked=False))
            try:
                await flight.relay.play(sink)
            finally:
                if me in flight.passengers and self._is_last(key, flight, me):
                    flight.passengers[me].parked = True
                    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
            heard = True
            return flight.payer is me
        finally:
            if not heard and flight.landed:
                self._close(key, flight)  # who was to take and keep the answer is gone

    def _board(self, flight: _Flight, me: trio.lowlevel.Task, seat: _Seat) -> None:
        flight.passengers[me] = seat
        self._passengers += 1

    def _is_last(self, key: bytes, flight: _Flight, me: trio.lowlevel.Task) -> bool:
        """Let a passenger leave; unless it is the last: then the flight is called off, and it has to wait for that."""
        if len(flight.passengers) > 1:
            del flight.passengers[me]
            self._passengers -= 1
            return False
        self._abandoned += 1
        self._close(key, flight)
        assert flight.scope is not None
        flight.scope.cancel()
        return True

    def _close(self, key: bytes, flight: _Flight) -> None:
        """Let nobody board any more."""
        if self._boarding.get(key) is flight:
            del self._boarding[key]


def _ended(flight: _Flight) -> CallError:
    """Make the error for a flight that was cancelled: by its own scope, or with the crew."""
    if flight.scope is not None and flight.scope.cancel_called:
        return DeadlineExceeded("the call it shared with others ran out of time", stage="coalesce")
    return GoingAway(
        "the daemon is stopping; connect again to reach its successor", retry_after_s=1.0, stage="coalesce"
    )


def _is_lost_to_streaming(flight: _Flight) -> bool:
    """Whether a flight ended badly that would have been tried again, had nothing been streamed before."""
    if flight.relay is None or not flight.relay.started:
        return False
    if flight.reply is None:
        return not isinstance(flight.error, (DeadlineExceeded, GoingAway, InternalError))
    return flight.reply.validation is not None and flight.reply.validation.get("ok") is False


def _how_equal(one: Call, other: Call) -> str:
    return "the same" if one.exact_key == other.exact_key else "the same but for noise"


def _shared(reply: Reply, flown: Call, waited_s: float, *, pays: bool) -> Reply:
    """Address a flight's reply to a passenger who did not start it; its waiting began when it boarded."""
    source_id = flown.id
    reply = replace(reply, exact_key=flown.exact_key) if flown.exact_key is not None else reply
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
