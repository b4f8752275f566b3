"""The turnstile of one target: the one place where attempts wait.

An attempt gets its permit, its request and its expected tokens together, at the moment it starts, or it waits in a fair
queue (`core.priority_queue`) and holds nothing. How many permits there are follows from how it goes (`core.concurrency`), and
how fast requests and tokens go from what is configured, told or found (`core.quota_account`). The turnstile outlives
reloads: a new generation reconfigures it, and who waits or runs goes on.

How it waits. All deciding is synchronous (`_decide`); what was decided is acted on by rescheduling the tasks concerned.
A waiting task is parked on `trio.lowlevel.wait_task_rescheduled`, so there is no event, no lock and no nursery, and one that
is let through at once does not even yield. When the first in the queue waits for a bucket or a closed door, the moment
is known: its own cancel scope gets that deadline, and when it expires the task decides again and parks again. So there is one
timer at a time, held by whoever is first, and no task of the turnstile's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import trio

from aiorch.errors import Overloaded
from aiorchd.calls.call import Attempt
from aiorchd.calls.caller import Caller
from aiorchd.calls.rate_limits import LimitsTold
from aiorchd.core.concurrency import AdaptiveConcurrency, ConcurrencyBounds
from aiorchd.core.fair_queue import Entry
from aiorchd.core.paced_quota import Kind
from aiorchd.core.priority_queue import TRICKLE, PriorityQueue
from aiorchd.core.quota_account import Grant, Need, QuotaAccount
from aiorchd.core.standing_queue import StandingQueue

_HOLD_SMOOTHING: Final = 0.1
_FIRST_GUESS_HOLD_S: Final = 1.0
_SHORTEST_RETRY_S: Final = 0.1
_LONGEST_GUESS_S: Final = 60.0
_SHORTEST_STANDING_S: Final = 1.0
_STANDING_HOLDS: Final = 2.0
_MOST_REASONS: Final = 6
_MOST_SIZES: Final = 1000
_LARGER: Final = 1.1
_MOST_SHOWN: Final = 200

ShareOf: TypeAlias = Callable[[Caller], tuple[Hashable, float]]
"""Gives a caller's flow and weight."""


def by_uid(caller: Caller) -> tuple[Hashable, float]:
    """One flow for each user, all of equal weight."""
    return caller.uid, 1.0


@dataclass(frozen=True, slots=True)
class TurnstileStatistics:
    """Idle when ``in_use`` and ``waiting`` are 0. ``requests_left`` and ``tokens_left`` are None without a limit and
    negative in debt; ``closed_s`` tells how long the provider still wants to be left alone. The rest counts since the start.
    """

    name: str
    permits: int
    """How many may be held now; it moves between the bounds of the configuration."""
    in_use: int
    waiting: int
    max_waiting: int
    waiting_by_caller: Mapping[str, int]
    """By the names of their flows: a number is a uid, anything else a unit or what `[callers]` names."""
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
    throttled: int
    """How often the provider refused because of a rate or an overload."""


class Turn(msgspec.Struct, eq=False):
    """One attempt's way through: satisfies the port `Passage`. Used once."""

    _turnstile: TargetTurnstile
    attempt: Attempt
    need: Need
    asked_at: float
    """When it began to wait."""
    granted: bool = False
    """Set by the turnstile."""
    entry: Entry[Turn] | None = None
    """Its place while it waits."""
    grants: tuple[tuple[QuotaAccount, Grant], ...] | None = None
    """What it was given of each account; set by the turnstile."""
    reason: str = ""
    """What it waits for just now; set by the turnstile when it is its turn."""
    reasons: list[str] = []
    went_well: bool = False
    granted_at: float = 0.0
    refusal: Overloaded | None = None
    """Why it is not let through; set by the turnstile."""
    _used: Need | None = None
    _task: trio.lowlevel.Task | None = None
    _parked: bool = False
    _scope: trio.CancelScope | None = None
    _alarm_at: float = math.inf

    @property
    def waited_for(self) -> Sequence[str]:
        """What it had to wait for; only others, when it could go as soon as it was its turn."""
        return self.reasons or ("others before it",)

    def wait_for(self, reason: str) -> None:
        """Note what keeps it waiting now that it is its turn."""
        if reason != self.reason:
            self.reason = reason
            if reason not in self.reasons and len(self.reasons) < _MOST_REASONS:
                self.reasons.append(reason)

    def heard(self, told: LimitsTold) -> None:
        """Learn what the answer says of the provider's limits."""
        self._turnstile.heard(self, told)

    def answered(self, input_tokens: int | None, output_tokens: int) -> None:
        """An answer came, which used so much; takes effect on leaving."""
        self.went_well = True
        if input_tokens is not None:
            self._used = Need(input_tokens, output_tokens)

    def refused(self, *, about: str | None, overloaded: bool) -> None:
        """The provider would not take it now (see `Passage.refused`)."""
        self._turnstile.refused(self, trio.current_time(), about, overloaded=overloaded)

    def leave(self, now: float) -> None:
        """Give the permit back and settle the tokens."""
        self._turnstile.leave(self, now, self._used)

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

    async def wait(self) -> None:
        """Park until granted or refused; decide again whenever the alarm goes off. See the port."""
        self._task = trio.lowlevel.current_task()
        through = False
        try:
            while not self.granted and self.refusal is None:
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
        """Cancelled, or the alarm: `wait` finds out which. Until the task runs, nobody may reschedule it again."""
        self._parked = False
        return trio.lowlevel.Abort.SUCCEEDED


class _Forecast(NamedTuple):
    """How long a call waits at the very least, how much of its time must be left then, and what says so."""

    earliest_s: float
    spare_s: float
    by_permits: bool


class TargetTurnstile:
    """Permits, quotas and the queue of one target; satisfies the port `Turnstile`.

    ``accounts`` are those it draws on: first the model's own, then that of the provider's key and the throttle over all models,
    which others draw on as well.
    ``max_waiting`` attempts wait (0: none ever waits), those of the lowest priority get at least the share ``trickle``.
    ``share_of`` gives a caller's flow, in which first come is first served, and its weight against others.
    """

    def __init__(
        self,
        name: str,
        *,
        bounds: ConcurrencyBounds,
        accounts: Sequence[QuotaAccount],
        max_waiting: int = 1000,
        trickle: float = TRICKLE,
        share_of: ShareOf = by_uid,
    ) -> None:
        self._name = name
        # This is all the mutable state, and the accounts.
        self._accounts = tuple(accounts)
        self._queue: PriorityQueue[Turn] = PriorityQueue(max_waiting, trickle)
        self._standing: StandingQueue[Hashable] = StandingQueue()
        self._concurrency = AdaptiveConcurrency(bounds)
        self._share_of = share_of
        self._sizes: dict[str, float] = {}  # by call
        self._neighbours: tuple[TargetTurnstile, ...] = ()
        self._in_use = 0
        self._alarm_holder: Turn | None = None
        self._mean_hold_s = _FIRST_GUESS_HOLD_S
        self._granted = self._waited = self._refused_full = self._refused_late = self._closures = self._throttled = 0

    @property
    def accounts(self) -> tuple[QuotaAccount, ...]:
        """Those it draws on."""
        return self._accounts

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nobody holds a permit."""
        return not self._in_use and not self._queue

    def ask(self, attempt: Attempt, now: float) -> Turn:
        """Ask for a turn, which is granted at once, or later, or refused: when too many wait, or when it is known that it would
        come after the call's deadline (or the attempt's ``start_by``).
        """
        output = attempt.estimated_output_tokens
        turn = Turn(self, attempt, Need(attempt.estimated_tokens - output, output), now)
        call = attempt.call
        if self._sizes and call.id in self._sizes:
            turn.need = Need(max(0.0, self._sizes.pop(call.id) - output), output)
        if self._queue or self._try_grant(turn, now) != 0.0:
            self._queue_up(turn, now)
        return turn

    def cool_down(self, now: float, seconds: float) -> None:
        """Grant nothing for ``seconds`` (at most an hour): the provider said not now.

        The later of two ends holds. Who waits and has less time than that is refused at once, so that it may be asked elsewhere.
        """
        self._closures += self._accounts[self._owner("requests")].close(now, seconds)
        self.decide(now)

    def wait_s(self, now: float, tokens: int) -> float:
        """Guess how long an attempt of so many tokens would wait if it came now; 0 when it could start."""
        waiting, permits = len(self._queue), self._concurrency.limit
        if waiting:
            by_quota_s = max([account.earliest_s(now, waiting + 1) for account in self._accounts])
        else:
            by_quota_s = max([account.delay_s(now, Need(tokens)) for account in self._accounts])
            if self._in_use < permits:
                return by_quota_s
        return max(by_quota_s, (waiting + 1) * self._mean_hold_s / permits)

    def reconfigure(
        self,
        now: float,
        *,
        bounds: ConcurrencyBounds,
        accounts: Sequence[QuotaAccount],
        max_waiting: int,
        trickle: float = TRICKLE,
    ) -> None:
        """Change the limits live. More room wakes who waits; with less, who holds a permit or a place keeps it to the end."""
        self._concurrency.reconfigure(now, bounds)
        self._queue.max_waiting = max_waiting
        self._queue.trickle = trickle
        self._accounts = tuple(accounts)
        self._queue.forget_history()  # shares are counted in seconds of the quota, which may have changed
        self.decide(now)

    def beside(self, neighbours: Iterable[TargetTurnstile]) -> None:
        """Name the turnstiles that draw on one of this one's accounts: what comes back here may let them go on."""
        self._neighbours = tuple(each for each in neighbours if each is not self)

    def statistics(self) -> TurnstileStatistics:
        """Tell the present state."""
        now = trio.current_time()
        return TurnstileStatistics(
            name=self._name,
            permits=self._concurrency.limit,
            in_use=self._in_use,
            waiting=len(self._queue),
            max_waiting=self._queue.max_waiting,
            waiting_by_caller={str(flow): number for flow, number in self._queue.backlogs().items()},
            requests_left=self._level(now, "requests"),
            tokens_left=self._level(now, "tokens"),
            closed_s=max(account.closed_s(now) for account in self._accounts),
            mean_hold_s=self._mean_hold_s,
            granted=self._granted,
            waited=self._waited,
            refused_full=self._refused_full,
            refused_late=self._refused_late,
            closures=self._closures,
            throttled=self._throttled,
        )

    def limits(self, *, uid: int | None = None) -> dict[str, Any]:
        """Tell everything of permits, quotas and who waits, as plain data; with ``uid``, of the waiting only that user's."""
        now = trio.current_time()
        concurrency = self._concurrency
        first = self._queue.first()
        shown = [turn for turn in self._queue.items() if uid is None or turn.attempt.call.caller.uid == uid]
        return {
            "permits": {
                "limit": concurrency.limit,
                "in_use": self._in_use,
                "algorithm": concurrency.bounds.algorithm,
                "min": concurrency.bounds.least,
                "max": concurrency.bounds.most,
                "changed_by": concurrency.why,
                "changed_s_ago": None if concurrency.changed_at == -math.inf else now - concurrency.changed_at,
            },
            "accounts": [account.to_plain(now) for account in self._accounts],
            "waiting": len(self._queue) if uid is None else len(shown),
            "max_waiting": self._queue.max_waiting,
            "low_priority_share": self._queue.trickle,
            "mean_hold_s": self._mean_hold_s,
            "throttled": self._throttled,
            "who_waits": [_waiting_plain(turn, now, first=turn is first) for turn in shown[:_MOST_SHOWN]],
        }

    def _level(self, now: float, kind: Kind) -> float | None:
        levels = [level for account in self._accounts if (level := account.level(now, kind)) is not None]
        return min(levels, default=None)

    # --- what a Turn calls --------------------------------------------------------------------------------------------

    def _queue_up(self, turn: Turn, now: float) -> None:
        """Queue the turn, or refuse it; it may be granted in that very moment."""
        call = turn.attempt.call
        flow, weight = self._share_of(call.caller)
        start_by = min(turn.attempt.start_by, call.deadline)
        if not self._queue:
            self._standing.empty()
        interval_s = max(_SHORTEST_STANDING_S, _STANDING_HOLDS * self._mean_hold_s)
        standing = self._standing.stands((flow, call.priority), now, interval_s)
        backlog = self._queue.backlog(flow, call.priority)
        forecast = self._forecast(now, backlog, start_by - now, standing=standing)
        if start_by < now + forecast.earliest_s + forecast.spare_s:
            if forecast.by_permits:
                self._standing.turned_away((flow, call.priority), now, interval_s)
            self._refuse_late(turn, forecast.earliest_s)
            return
        cost = max([account.share_s(turn.need) for account in self._accounts]) or 1.0
        turn.entry, turned_away = self._queue.put(
            flow, turn, priority=call.priority, deadline=start_by, cost=cost, weight=weight
        )
        if turned_away is not None:
            self._refuse_full(turned_away, now)
        self.decide(now)

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
        elif self._alarm_holder is None:
            return
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
        if turn.grants is not None:  # cancelled in the moment it was granted
            self._in_use -= 1
            for account, grant in turn.grants:
                account.cancel(grant, now)
            turn.grants, turn.granted = None, False
        self.decide(now)

    def heard(self, turn: Turn, told: LimitsTold) -> None:
        """Hand what an answer says to who owns the quota: the key where the configuration gives the key such limits, else the
        model."""
        if turn.grants is None:
            return
        for each in told.quotas:
            owner = self._owner(each.quota)
            if owner < len(turn.grants):
                account, grant = turn.grants[owner]
                account.hear(grant, told.at, each.quota, each.limit, each.remaining, each.reset_s, each.window_s)

    def refused(self, turn: Turn, now: float, about: str | None, *, overloaded: bool) -> None:
        """Let the permits shrink; when it is for a rate, let its owner find the pace."""
        self._throttled += 1
        self._concurrency.refused(now, turn.granted_at, "the provider is overloaded" if overloaded else "429")
        if not overloaded and turn.grants is not None:
            kind: Kind | None = "tokens" if about == "tokens" else "requests" if about == "requests" else None
            owner = self._owner(kind or "requests")
            if owner < len(turn.grants):
                account, grant = turn.grants[owner]
                tokens = account.refused(grant, now, kind)
                if tokens > turn.need.input_tokens + turn.need.output_tokens:
                    self._remember_size(turn, tokens)

    def _remember_size(self, turn: Turn, tokens: float) -> None:
        """A call turned out to be larger than was thought: when it comes again, more is taken for it."""
        self._sizes.pop(turn.attempt.call.id, None)
        if len(self._sizes) >= _MOST_SIZES:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[turn.attempt.call.id] = _LARGER * tokens

    def leave(self, turn: Turn, now: float, used: Need | None) -> None:
        """Take back a permit and settle the tokens; None leaves the estimate standing."""
        held_s = now - turn.granted_at
        if turn.went_well:
            self._concurrency.succeeded(now, held_s, self._in_use)
        self._in_use -= 1
        self._mean_hold_s += _HOLD_SMOOTHING * (held_s - self._mean_hold_s)
        if used is not None and turn.grants is not None:
            for account, grant in turn.grants:
                account.settle(grant, used, now)
        if self._queue:
            self.decide(now)
        for neighbour in self._neighbours:
            neighbour.decide(now)

    def _owner(self, kind: Kind) -> int:
        """Find the account that a quota of this kind belongs to."""
        if len(self._accounts) > 1:
            key = self._accounts[1]
            if key.learns and key.configures(kind) and not self._accounts[0].configures(kind):
                return 1
        return 0

    def _forecast(self, now: float, before: int, left_s: float, *, standing: bool) -> _Forecast:
        """Foretell how long a call waits at the very least with so many of its own before it, by the quotas and by permits; and
        how much of its time must be left then.

        One that gets its turn in the last moment uses a permit and a quota for an answer that comes too late; a queue that is
        full of them serves nobody else. So something has to be left: by quotas, whose time is exact, two usual answers, and a
        quarter of its time at most; by permits, whose time is a guess, that quarter. While there may be more permits yet, they
        are thought to be as many as may be, held half as long as usual, and nothing has to be left.

        In a queue for permits that only stands (`core.standing_queue`) nobody waits for more than a quarter of its time, and the
        permits are thought to be as many as there are.
        """
        usual_s, concurrency = self._mean_hold_s, self._concurrency
        most = concurrency.limit if standing else concurrency.bounds.most
        by_quota_s = max([account.earliest_s(now, before + 1) for account in self._accounts])
        by_permits_s = (before + 1 - most) * usual_s / most
        if concurrency.limit < most:
            by_permits_s /= 2.0
        if by_quota_s >= by_permits_s:
            return _Forecast(
                by_quota_s, min(2.0 * usual_s, left_s / 4.0) if by_quota_s > 0.0 else 0.0, by_permits=False
            )
        if by_permits_s <= 0.0 or concurrency.limit < most:
            return _Forecast(by_permits_s, 0.0, by_permits=True)
        return _Forecast(by_permits_s, left_s * (0.75 if standing else 0.25), by_permits=True)

    def _try_grant(self, turn: Turn, now: float) -> float | None:
        """Give the turn all it needs and 0, or nothing and the seconds until it might be had (None: not known)."""
        need, accounts = turn.need, self._accounts
        delay_s = 0.0
        for account in accounts:
            by_this_s = account.delay_s(now, need)
            if by_this_s > delay_s:
                delay_s = by_this_s
        if self._in_use >= self._concurrency.limit:
            turn.wait_for("a permit")
            return delay_s or None
        if delay_s > 0.0:
            blocked = [each for account in self._accounts if (each := account.blocked(now, need)) is not None]
            if blocked:
                turn.wait_for(max(blocked, key=lambda each: each.delay_s).by)
            return delay_s
        self._in_use += 1
        self._granted += 1
        turn.grants = tuple([(account, account.take(now, need)) for account in accounts])
        turn.granted, turn.granted_at = True, now
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
        by_permits_s = min(waiting * self._mean_hold_s / self._concurrency.limit, _LONGEST_GUESS_S)
        by_quota_s = max([account.earliest_s(now, waiting + 1) for account in self._accounts])
        self._refuse(turn, message, max(by_permits_s, by_quota_s), {"reason": "full", "waiting": waiting})

    def _refuse(self, turn: Turn, message: str, retry_after_s: float, details: dict[str, Any]) -> None:
        details["model"] = self._name
        retry_after_s = max(retry_after_s, _SHORTEST_RETRY_S)
        turn.refusal = Overloaded(message, retry_after_s=retry_after_s, stage="gate", details=details)
        turn.wake()


def _waiting_plain(turn: Turn, now: float, *, first: bool) -> dict[str, Any]:
    call = turn.attempt.call
    return {
        "call": call.id,
        "uid": call.caller.uid,
        "unit": call.caller.unit,
        "priority": call.priority,
        "waits_s": now - turn.asked_at,
        "waits_for": turn.reason if first and turn.reason else "others before it",
        "tokens": turn.attempt.estimated_tokens,
        "left_s": call.deadline - now,
    }
