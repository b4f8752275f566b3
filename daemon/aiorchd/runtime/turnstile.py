"""The turnstile of one target: the one place where attempts wait.

An attempt gets its permit, its request and its expected tokens together, at the moment it starts, or it waits in a fair
queue (`core.fair_queue`) and holds nothing. The turnstile outlives reloads: a new generation reconfigures it, and who
waits or runs goes on.

How it waits. All deciding is synchronous (`_decide`); what was decided is acted on by rescheduling the tasks concerned.
A waiting task is parked on `trio.lowlevel.wait_task_rescheduled`, so there is no event, no lock and no nursery, and one that
is let through at once does not even yield. When the first in the queue waits for a bucket or a closed door, the moment
is known: its own cancel scope gets that deadline, and when it expires the task decides again and parks again. So there is one
timer at a time, held by whoever is first, and no task of the turnstile's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import trio

from aiorch.errors import Overloaded
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import Ticket
from aiorchd.core.fair_queue import Entry, FairQueue
from aiorchd.core.quota_account import BURST_S, Grant, QuotaAccount

_HOLD_SMOOTHING: Final = 0.1
_FIRST_GUESS_HOLD_S: Final = 1.0
_SHORTEST_RETRY_S: Final = 0.1
_LONGEST_GUESS_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class TurnstileStatistics:
    """Idle when ``in_use`` and ``waiting`` are 0. ``requests_left`` and ``tokens_left`` are None without a limit and
    negative in debt; ``closed_s`` tells how long the provider still wants to be left alone. The rest counts since the start.
    """

    name: str
    permits: int
    in_use: int
    waiting: int
    max_waiting: int
    waiting_by_caller: Mapping[int, int]
    """By uid."""
    requests_left: float | None
    tokens_left: float | None
    closed_s: float
    mean_hold_s: float
    """How long a permit is held, smoothed."""
    granted: int
    waited: int
    """Of those granted, how many had to wait."""
    refused_full: int
    refused_late: int
    """Refused because their turn would have come after their deadline."""
    closures: int
    """How often the provider's word moved the time until which nothing is granted."""


class Turn:
    """One attempt's way through: an async context manager and, inside, the `Passage`. Used once."""

    __slots__ = (
        "_actual_tokens",
        "_alarm_at",
        "_asked_at",
        "_parked",
        "_scope",
        "_task",
        "_turnstile",
        "attempt",
        "entry",
        "grant",
        "granted_at",
        "refusal",
    )

    def __init__(self, turnstile: TargetTurnstile, attempt: Attempt) -> None:
        self._turnstile = turnstile
        self.attempt = attempt
        self.entry: Entry[Turn] | None = None
        """Its place while it waits."""
        self.grant: Grant | None = None
        """What it was given; set by the turnstile."""
        self.granted_at = 0.0
        self.refusal: Overloaded | None = None
        """Why it is not let through; set by the turnstile."""
        self._asked_at = 0.0
        self._actual_tokens: int | None = None
        self._task: trio.lowlevel.Task | None = None
        self._parked = False
        self._scope: trio.CancelScope | None = None
        self._alarm_at = math.inf

    @property
    def ticket(self) -> Ticket:
        """What was granted and when."""
        return Ticket(self._asked_at, self.granted_at, self.attempt.estimated_tokens)

    def settle(self, actual_tokens: int) -> None:
        """Correct the reserved tokens to what was used; takes effect on leaving."""
        self._actual_tokens = actual_tokens

    async def __aenter__(self) -> Self:
        """Wait for the turn. Raises `Overloaded`; a cancellation leaves the queue as if it had never been entered."""
        now = self._asked_at = trio.current_time()
        if not self._turnstile.admit(self, now):
            await self._wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the permit back and settle the tokens. Never waits."""
        self._turnstile.leave(self, trio.current_time(), self._actual_tokens)

    def set_alarm(self, at: float) -> None:
        """Have the turnstile decide again at that time; infinity takes the alarm back."""
        self._alarm_at = at
        if self._scope is not None:
            self._scope.deadline = at

    def wake(self) -> None:
        """Let the task go on: it was granted its turn or refused. Harmless when it is not parked (yet, or any more)."""
        if self._parked:
            self._parked = False
            assert self._task is not None
            trio.lowlevel.reschedule(self._task)

    async def _wait(self) -> None:
        """Park until granted or refused; decide again whenever the alarm goes off."""
        self._task = trio.lowlevel.current_task()
        through = False
        try:
            while self.grant is None and self.refusal is None:
                with trio.CancelScope(deadline=self._alarm_at) as self._scope:
                    self._parked = True
                    await trio.lowlevel.wait_task_rescheduled(self._abort)
                if self._scope.cancelled_caught:
                    self._turnstile.decide(trio.current_time())
            if self.refusal is not None:
                raise self.refusal
            through = True
        finally:
            # No reference cycles: the refusal's traceback refers to this frame.
            self._scope = self._task = self.refusal = None
            if not through:
                self._turnstile.withdraw(self, trio.current_time())

    def _abort(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        """Cancelled, or the alarm: `_wait` finds out which. Until the task runs, nobody may reschedule it again."""
        self._parked = False
        return trio.lowlevel.Abort.SUCCEEDED


class TargetTurnstile:
    """Permits, quotas and the queue of one target; satisfies the port `Turnstile`.

    ``permits`` attempts run at once, ``max_waiting`` wait (0: none ever waits); ``requests_per_minute`` and ``tokens_per_minute``
    pace them, None does not; ``burst_s`` seconds' worth of these may go at once after a pause.
    """

    def __init__(
        self,
        name: str,
        *,
        permits: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_waiting: int = 1000,
        burst_s: float = BURST_S,
    ) -> None:
        if permits < 1:
            raise ValueError(f"{name}: at least one permit is needed, got {permits}")
        self._name = name
        # This is all the mutable state. The account is this target's own for now; targets whose key is counted together
        # will be handed one account, and nothing else changes.
        self._account = QuotaAccount(requests_per_minute, tokens_per_minute, burst_s)
        self._queue: FairQueue[Turn] = FairQueue(max_waiting)
        self._permits = permits
        self._in_use = 0
        self._alarm_holder: Turn | None = None
        self._mean_hold_s = _FIRST_GUESS_HOLD_S
        self._granted = self._waited = self._refused_full = self._refused_late = self._closures = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nobody holds a permit."""
        return not self._in_use and not self._queue

    def pass_through(self, attempt: Attempt) -> Turn:
        """Wait for a turn; hold it for the length of the block.

        Does not yield when it is granted at once. Raises `Overloaded` with ``retry_after_s`` when too many wait, or when it is
        known that the turn would come after the call's deadline (or the attempt's ``start_by``).
        """
        return Turn(self, attempt)

    def cool_down(self, now: float, seconds: float) -> None:
        """Grant nothing for ``seconds`` (at most an hour): the provider said not now.

        The later of two ends holds. Who waits and has less time than that is refused at once, so that it may be asked elsewhere.
        """
        self._closures += self._account.close(now, seconds)
        self.decide(now)

    def wait_s(self, now: float, tokens: int) -> float:
        """Guess how long an attempt of so many tokens would wait if it came now; 0 when it could start."""
        waiting = len(self._queue)
        by_quota_s = self._account.earliest_s(now, waiting + 1) if waiting else self._account.delay_s(now, tokens)
        if not waiting and self._in_use < self._permits:
            return by_quota_s
        return max(by_quota_s, (waiting + 1) * self._mean_hold_s / self._permits)

    def reconfigure(
        self,
        now: float,
        *,
        permits: int,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        max_waiting: int,
        burst_s: float = BURST_S,
    ) -> None:
        """Change the limits live. More room wakes who waits; with less, who holds a permit or a place keeps it to the end."""
        if permits < 1:
            raise ValueError(f"{self._name}: at least one permit is needed, got {permits}")
        self._permits = permits
        self._queue.max_waiting = max_waiting
        self._account.reconfigure(now, requests_per_minute, tokens_per_minute, burst_s)
        self._queue.forget_history()  # shares are counted in seconds of the quota, which may have changed
        self.decide(now)

    def statistics(self) -> TurnstileStatistics:
        """Tell the present state."""
        levels = self._account.levels(trio.current_time())
        return TurnstileStatistics(
            name=self._name,
            permits=self._permits,
            in_use=self._in_use,
            waiting=len(self._queue),
            max_waiting=self._queue.max_waiting,
            waiting_by_caller={uid: number for uid, number in self._queue.backlogs().items() if isinstance(uid, int)},
            requests_left=levels.requests,
            tokens_left=levels.tokens,
            closed_s=levels.closed_s,
            mean_hold_s=self._mean_hold_s,
            granted=self._granted,
            waited=self._waited,
            refused_full=self._refused_full,
            refused_late=self._refused_late,
            closures=self._closures,
        )

    # --- what a Turn calls --------------------------------------------------------------------------------------------

    def admit(self, turn: Turn, now: float) -> bool:
        """Grant the turn at once, or queue it and say False; then it is granted or refused later (perhaps already)."""
        if not self._queue and self._try_grant(turn, now) == 0.0:
            return True
        call = turn.attempt.call
        uid = call.caller.uid
        start_by = min(turn.attempt.start_by, call.deadline)
        earliest_s = self._account.earliest_s(now, self._queue.backlog(uid) + 1)
        if start_by < now + earliest_s:
            self._refuse_late(turn, earliest_s)
            return False
        cost = self._account.share_s(turn.attempt.estimated_tokens)
        turn.entry, turned_away = self._queue.put(uid, turn, deadline=start_by, cost=cost)
        if turned_away is not None:
            self._refuse_full(turned_away, now)
        self.decide(now)
        return False

    def decide(self, now: float) -> None:
        """Let through whoever's turn it is, refuse who cannot make it, and set the alarm for the next known moment."""
        if self._queue:
            decision = self._queue.decide(now, self._try_grant)
            for turn in decision.start:
                self._waited += 1
                turn.wake()
            for shed in decision.shed:
                self._refuse_late(shed.item, shed.delay_s)
            alarm_at = math.inf if decision.wake_in_s is None else now + decision.wake_in_s
        else:
            alarm_at = math.inf
        holder = self._queue.first() if alarm_at < math.inf else None
        if self._alarm_holder is not None and self._alarm_holder is not holder:
            self._alarm_holder.set_alarm(math.inf)
        self._alarm_holder = holder
        if holder is not None:
            holder.set_alarm(alarm_at)

    def withdraw(self, turn: Turn, now: float) -> None:
        """Undo everything for a turn that is not taken: it was refused, or its call went away while it waited."""
        if turn.entry is not None:
            self._queue.remove(turn.entry)
        if turn.grant is not None:  # cancelled in the moment it was granted
            self._in_use -= 1
            self._account.cancel(turn.grant, now)
            turn.grant = None
        self.decide(now)

    def leave(self, turn: Turn, now: float, actual_tokens: int | None) -> None:
        """Take back a permit and settle the tokens; None leaves the estimate standing."""
        self._in_use -= 1
        self._mean_hold_s += _HOLD_SMOOTHING * (now - turn.granted_at - self._mean_hold_s)
        if actual_tokens is not None and turn.grant is not None:
            self._account.settle(turn.grant, actual_tokens, now)
        if self._queue:
            self.decide(now)

    def _try_grant(self, turn: Turn, now: float) -> float | None:
        """Give the turn all it needs and 0, or nothing and the seconds until it might be had (None: not known)."""
        tokens = turn.attempt.estimated_tokens
        delay_s = self._account.delay_s(now, tokens)
        if self._in_use >= self._permits:
            return delay_s or None
        if delay_s > 0.0:
            return delay_s
        self._in_use += 1
        self._granted += 1
        turn.grant = self._account.take(now, tokens)
        turn.granted_at = now
        return 0.0

    def _refuse_late(self, turn: Turn, delay_s: float) -> None:
        self._refused_late += 1
        message = f"{self._name}: no turn for {delay_s:.3g} s, which is longer than this call can wait here"
        self._refuse(turn, message, delay_s, {"reason": "deadline"})

    def _refuse_full(self, turn: Turn, now: float) -> None:
        self._refused_full += 1
        waiting, most = len(self._queue), self._queue.max_waiting
        message = f"{self._name}: {waiting} calls wait already, at most {most} may"
        # A guess at when there will be room: what waits now has to go through the permits and the quota.
        by_permits_s = min(waiting * self._mean_hold_s / self._permits, _LONGEST_GUESS_S)
        by_quota_s = self._account.earliest_s(now, waiting + 1)
        self._refuse(turn, message, max(by_permits_s, by_quota_s), {"reason": "full", "waiting": waiting})

    def _refuse(self, turn: Turn, message: str, retry_after_s: float, details: dict[str, Any]) -> None:
        details["model"] = self._name
        retry_after_s = max(retry_after_s, _SHORTEST_RETRY_S)
        turn.refusal = Overloaded(message, retry_after_s=retry_after_s, stage="gate", details=details)
        turn.wake()
