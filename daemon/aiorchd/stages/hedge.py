"""A second try for a call that is late, at its next target or the same one: whoever answers first answers.

Late is what is slower than nearly all of what this target did lately (`core.hedge_pace`), counted from when the attempt was
really sent: a call that waits for its turn is not hurried by asking twice. There is one second try a call, it is one attempt
of the call's budget, it goes down its target's own stack and so pays like any other, and it is never begun once content
was streamed or the first try has failed (then there are retries and fallbacks). The loser is cancelled, and the call
returns only when it has unwound: nothing goes on that nobody accounts for.

What it costs where nothing is late. No nursery and no task for a call: a cancel scope and an entry in a heap of alarms,
which one task of the generation watches (`Alarms`). A second try runs in the generation's nursery.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from msgspec.structs import replace

from aiorch.errors import CallError, InternalError
from aiorchd.calls.call import Attempt, AttemptBudget
from aiorchd.calls.ports import DeltaSink, Service
from aiorchd.calls.reply import Reply
from aiorchd.core.hedge_pace import HedgePace
from aiorchd.core.overlap import doubled_s, shared_s, together


@dataclass(frozen=True, slots=True)
class HedgeStatistics:
    """Calls inside and second tries under way, now; since this stage was built: second tries begun, those that answered
    first, and those not begun because too many were of late. ``patience_s`` is after how long a call is late, whole answers
    and first tokens; None as long as too few are known."""

    inside: int
    racing: int
    started: int
    won: int
    over_share: int
    patience_s: float | None
    first_token_patience_s: float | None


class Log(Protocol):
    """As much of a log as this stage needs."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Tell of a defect, with its traceback."""
        ...


class Alarms:
    """One task that wakes whoever asked for a moment; made once for a generation."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Race]] = []
        self._numbers = itertools.count()
        self._pause: trio.CancelScope | None = None
        self._life = trio.CancelScope()

    def set(self, at: float, race: _Race) -> None:
        """Ring for ``race`` at that time (Trio's clock), if it is still open then."""
        heapq.heappush(self._heap, (at, next(self._numbers), race))
        if self._pause is not None and at < self._pause.deadline:
            self._pause.deadline = at

    async def run(self) -> None:
        """Watch until `close`."""
        with self._life:
            while True:
                with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._pause:
                    await trio.sleep_forever()
                now = trio.current_time()
                while self._heap and self._heap[0][0] <= now:
                    race = heapq.heappop(self._heap)[2]
                    if race.open:
                        race.ring(now)

    def close(self) -> None:
        """Let `run` end."""
        self._life.cancel()


class _Race:
    """One call that may get a second try."""

    __slots__ = (
        "attempt", "begun_s", "content_from", "error", "failures", "first", "notes", "open", "over", "reply", "second", "sink",
        "stage",
    )  # fmt: skip

    def __init__(self, stage: Hedge, attempt: Attempt) -> None:
        self.stage = stage
        self.attempt = attempt
        self.open = True
        """Whether a second try may still be begun."""
        self.first = trio.CancelScope()
        self.second: trio.CancelScope | None = None
        self.begun_s = 0.0
        """When the second try was begun, in seconds after the call."""
        self.notes: dict[str, Any] = {}
        """Those of the second try."""
        self.over = trio.Event()
        """The second try has unwound."""
        self.reply: Reply | None = None
        self.error: CallError | None = None
        """What came of the second try."""
        self.content_from: _Side | None = None
        self.failures = len(attempt.call.journal.attempts)
        self.sink = attempt.call.sink

    def ring(self, now: float) -> None:
        """The moment came for which an alarm was set."""
        self.stage.late(self, now)


class Hedge:
    """Ask ``inner``, and when it is late the stack of the attempt's alternative, out of ``stacks`` by name.

    ``pace`` is what is known of this target, over all generations. ``nursery`` holds second tries and must outlive the calls.
    """

    def __init__(
        self,
        inner: Service[Attempt],
        stacks: Mapping[str, Service[Attempt]],
        pace: HedgePace,
        alarms: Alarms,
        nursery: trio.Nursery,
        log: Log,
        *,
        elsewhere: bool = True,
    ) -> None:
        self._inner = inner
        self._stacks = stacks
        self._pace = pace
        self._alarms = alarms
        self._nursery = nursery
        self._log = log
        self._elsewhere = elsewhere
        self._inside = self._racing = 0
        self._started = self._won = self._over_share = 0

    async def __call__(self, attempt: Attempt) -> Reply:
        """Answer ``attempt``. Raises what its own stack raises, when the second try cannot answer either."""
        streamed = attempt.call.sink is not None
        race = _Race(self, attempt)
        self._pace.call(trio.current_time())
        patience_s = None if attempt.forced else self._pace.patience_s(streamed=streamed)
        if patience_s is not None:
            self._alarms.set(trio.current_time() + patience_s, race)
        self._inside += 1
        try:
            return await self._run(race)
        finally:
            race.open = False
            self._inside -= 1
            if race.second is not None:
                _count_once(race)

    def statistics(self) -> HedgeStatistics:
        """Tell who races."""
        return HedgeStatistics(
            inside=self._inside,
            racing=self._racing,
            started=self._started,
            won=self._won,
            over_share=self._over_share,
            patience_s=self._pace.patience_s(streamed=False),
            first_token_patience_s=self._pace.patience_s(streamed=True),
        )

    def late(self, race: _Race, now: float) -> None:
        """Begin a second try, or look again later."""
        attempt = race.attempt
        sent_at = attempt.notes.get("sent_at")
        patience_s = self._pace.patience_s(streamed=race.sink is not None) or 0.0
        if len(attempt.call.journal.attempts) > race.failures or attempt.budget.left < 1:
            return
        if sent_at is None:
            self._alarms.set(now + max(patience_s, 0.001), race)
        elif sent_at + patience_s > now:
            self._alarms.set(sent_at + patience_s, race)
        elif not self._pace.take(now):
            self._over_share += 1
        else:
            race.open = False
            race.second = trio.CancelScope()
            attempt.budget.take()
            self._racing += 1
            self._nursery.start_soon(self._second, race, now - sent_at, now + patience_s)

    async def _run(self, race: _Race) -> Reply:
        """Run the first try; then see who won."""
        error: CallError | None = None
        reply: Reply | None = None
        attempt = _addressed(race.attempt, race)
        try:
            with race.first:
                try:
                    reply = await self._inner(attempt)
                except CallError as raised:
                    error = raised
            race.open = False
            if reply is not None:
                self._learn_whole(race)
                await self._end_second(race)
                return reply
            if race.second is not None:
                await race.over.wait()
        except trio.Cancelled:
            if race.second is not None:
                race.second.cancel()
                with trio.CancelScope(shield=True):
                    await race.over.wait()
            raise
        if race.reply is not None:
            self._won += 1
            _mark(race, second_won=True)
            self._learn_at_least(race)
            self._note(race, "the second try answered first")
            return race.reply
        if error is None or race.content_from is not None:
            error = race.error or error
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    async def _end_second(self, race: _Race) -> None:
        if race.second is None:
            return
        race.second.cancel()
        await race.over.wait()
        _mark(race, second_won=False)
        self._note(race, "the first try answered; the second one was given up")

    async def _second(self, race: _Race, waited_s: float, start_by: float) -> None:
        """Run the second try; returns whatever comes."""
        attempt, scope = race.attempt, race.second
        assert scope is not None
        others = attempt.alternatives if self._elsewhere else ()
        target = others[0] if others else attempt.target
        self._started += 1
        journal = attempt.call.journal
        journal.hedges += 1
        journal.racing += 1
        race.begun_s = trio.current_time() - journal.started
        race.notes["hedge"] = True
        note = f"{attempt.target.name} is late after {waited_s:.3g} s: asking {target.name} as well"
        journal.note(trio.current_time(), "hedge", note)
        second = replace(
            _addressed(attempt, race),
            target=target,
            number=attempt.number + 1,
            start_by=min(start_by, attempt.call.deadline),
            budget=AttemptBudget(1),
            notes=race.notes,
        )
        try:
            with scope:
                race.reply = await self._stacks[target.name](second)
        except CallError as error:
            race.error = error.again()
        except Exception:  # barrier: a second try
            self._log.exception("second_try_failed", call=attempt.call.id)
            race.error = InternalError("a defect in the daemon; its log has the details", stage="hedge")
        finally:
            if not second.budget.used:  # refused by ourselves: nothing was sent
                attempt.budget.give_back()
                self._pace.give_back()
            self._racing -= 1
            journal.racing -= 1
            race.over.set()
            if race.reply is not None:
                race.first.cancel()

    def _learn_whole(self, race: _Race) -> None:
        """Keep how long the first try took, if it is the one that was sent and answered."""
        sent_at = race.attempt.notes.get("sent_at")
        if race.sink is None and sent_at is not None and len(race.attempt.call.journal.attempts) <= race.failures + 1:
            self._pace.learn(trio.current_time() - sent_at, streamed=False)

    def _learn_at_least(self, race: _Race) -> None:
        """The first try was cut short: what it took by then counts, or the slow ones would never be seen."""
        sent_at = race.attempt.notes.get("sent_at")
        if sent_at is not None:
            self._pace.learn(trio.current_time() - sent_at, streamed=race.sink is not None)

    def content(self, side: _Side, race: _Race, *, first: bool) -> bool:
        """The first piece of one of the two came; tell whether it is the one whose content goes to the caller."""
        if race.content_from is None:
            race.content_from, race.open = side, False
            sent_at = race.attempt.notes.get("sent_at")
            if first:
                if sent_at is not None and len(race.attempt.call.journal.attempts) <= race.failures:
                    self._pace.learn(trio.current_time() - sent_at, streamed=True)
                if race.second is not None:
                    race.second.cancel()
            else:
                race.first.cancel()
        return race.content_from is side

    def _note(self, race: _Race, what: str) -> None:
        race.attempt.call.journal.note(trio.current_time(), "hedge", what)


class _Side:
    """The sink of one of the two tries: content of the one that is first goes to the caller, the other is at its end."""

    def __init__(self, stage: Hedge, race: _Race, sink: DeltaSink, *, first: bool) -> None:
        self._stage = stage
        self._race = race
        self._sink = sink
        self._first = first

    @property
    def started(self) -> bool:
        """Whether content reached the caller, of whichever try."""
        return self._sink.started

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Pass a piece on, or wait for the cancellation that is on its way."""
        if not self._stage.content(self, self._race, first=self._first):
            await trio.sleep_forever()
        await self._sink.send(text=text, tool_calls=tool_calls)


def _mark(race: _Race, *, second_won: bool) -> None:
    """Write into the records of both tries which of them won."""
    attempts = race.attempt.call.journal.attempts
    for place in range(race.failures, len(attempts)):
        record = attempts[place]
        if record.hedge:
            attempts[place] = replace(record, race="won" if second_won else "lost")
        elif record.code in (None, "cancelled"):
            attempts[place] = replace(record, race="lost" if second_won else "won")


def _count_once(race: _Race) -> None:
    """Take from the times of the call what both tries took at the same moments: the call waited for them once."""
    journal = race.attempt.call.journal
    runs = [
        (began := record.began_s + record.queue_s, began + record.provider_s)
        for record in journal.attempts[race.failures :]
    ]
    waited_s = race.notes.get("queue_s", 0.0)
    waits_beside_s = shared_s((race.begun_s, race.begun_s + waited_s), together(runs))
    journal.provider_s = max(0.0, journal.provider_s - doubled_s(runs))
    journal.queue_s = max(0.0, journal.queue_s - waits_beside_s)


def _addressed(attempt: Attempt, race: _Race) -> Attempt:
    """Give a streamed attempt a sink of its own; the others need none."""
    if race.sink is None:
        return attempt
    first = race.second is None
    side = _Side(race.stage, race, race.sink, first=first)
    return replace(attempt, call=replace(attempt.call, sink=side))
