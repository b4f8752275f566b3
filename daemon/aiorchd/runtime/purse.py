"""What may be spent: reserves the most that each attempt can cost in every budget that it counts in, and settles after.

Outlives reloads, like the accounts themselves (``core/spending``): a configuration changes limits, never what was spent. A
budget counts from when it is configured, day by day and month by month in the time zone of ``[budget]``.

How an attempt is bounded: the bytes of its prompt and the length that its answer may have (``runtime/worst_case``). Where that
is more than what is left, and the call sets no ``max_tokens``, as many tokens as can be paid for are sent along, so that the
provider keeps to it. Where others hold what would be enough, the attempt waits for them to end: they nearly always cost far
less than the most they could.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import trio

from aiorch.errors import BudgetExceeded, StorageError
from aiorchd.calls.call import Attempt, Call
from aiorchd.calls.ports import SpendingStore, WallClock
from aiorchd.calls.reply import Usage
from aiorchd.config.schema import Config
from aiorchd.core.spending import Key, Limit, Reservation, Shortage, Spending, to_nano, to_usd
from aiorchd.runtime.calendar import Calendar, Periods
from aiorchd.runtime.worst_case import WorstCase, assumed_usd, worst_case

EVERYBODY: Final = "all"
_SURELY_ALLOWED_TOKENS: Final = 4096
"""Any model takes this as ``max_tokens``; more is sent only to one whose bound is known."""
_SHORTEST_ANSWER_TOKENS: Final = 256
"""An answer cut shorter is of no use to anybody: then the call is refused."""
_SOON_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget as configured: whose, and US dollars a day and a month, None where there is no such limit. ``scope`` names
    its accounts."""

    scope: str
    per_day_usd: float | None
    per_month_usd: float | None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One limit of a budget now: ``span`` is ``day`` or ``month``; ``estimated_usd`` of what was spent nobody reported,
    ``held_usd`` is what attempts under way hold. ``resets_at`` is wall time."""

    scope: str
    span: str
    period: str
    limit_usd: float
    spent_usd: float
    estimated_usd: float
    held_usd: float
    left_usd: float
    attempts: int
    estimates: int
    resets_at: float
    resets_in_s: float


@dataclass(frozen=True, slots=True)
class PurseStatistics:
    """Attempts that wait for others to end, for the disk, and that run holding money, now; since the start: reserved, refused
    for want of money (by a budget, by a call's own limit), sent with a shorter ``max_tokens``, refused by the disk, and those
    that cost more than the most they could."""

    waiting: int
    committing: int
    open: int
    reserved: int
    refused: int
    over_call_limit: int
    capped: int
    disk_refused: int
    overruns: int


class Purse:
    """Satisfies `aiorchd.calls.ports.Purse`. ``store`` keeps ``spending`` on the disk."""

    def __init__(
        self, config: Config, *, spending: Spending, store: SpendingStore | None, wall_clock: WallClock
    ) -> None:
        self._spending = spending
        self._store = store
        self._wall_clock = wall_clock
        self._changed = trio.Event()
        self._waiting = self._committing = 0
        self._reserved = self._refused = self._over_call_limit = self._capped = self._disk_refused = 0
        # Accounts that an attempt found used up, in their present period: with cache_only nothing more is sent for them.
        self._closed: set[Key] = set()
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Follow a configuration that came into force; whoever waits looks again."""
        budget = config.budget
        self._calendar = Calendar(budget.timezone)
        self._on_exhausted = budget.on_exhausted
        self._assumed = budget.assumed_usd_per_1m
        self._call_limit_usd = config.routing.cost_limit_usd
        self._all = _budget(EVERYBODY, budget.per_day_usd, budget.per_month_usd)
        self._by_uid: dict[int, list[Budget]] = {}
        self._by_unit: dict[str, list[Budget]] = {}
        for name, caller in config.callers.items():
            found = _budget(f"caller {name}", caller.per_day_usd, caller.per_month_usd)
            if found is None:
                continue
            uid = user_number(name)
            if uid is None:
                self._by_unit.setdefault(name, []).append(found)
            else:
                self._by_uid.setdefault(uid, []).append(found)
        self._by_operation: dict[str | None, Budget] = {}
        for name, operation in config.operations.items():
            found = _budget(f"operation {name}", operation.per_day_usd, operation.per_month_usd)
            if found is not None:
                self._by_operation[name] = found
        self._limited = bool(self._all or self._by_uid or self._by_unit or self._by_operation)
        self._closed.clear()
        self._wake()

    def refusal(self, attempt: Attempt) -> BudgetExceeded | None:
        """Say whether an attempt cannot be paid for, whatever others cost."""
        if not self._limited:
            own = self._own_wish(attempt)
            return None if isinstance(own, _Wish) else self._past_the_call(own)
        now = self._wall_clock()
        limits = self._limits(attempt.call, now)
        for limit in limits:
            if self._on_exhausted == "cache_only" and limit.key in self._closed:
                return self._exhausted(self._shortage(limit, 0), now)
        wish = self._wish(attempt, limits)
        if isinstance(wish, BudgetExceeded):
            return self._past_the_call(wish)
        return self._exhausted(wish, now) if isinstance(wish, Shortage) else None

    def reserve_at_once(self, attempt: Attempt) -> Held | None:
        """Hold the most that an attempt can cost where there is no budget. See the port."""
        if self._limited:
            return None
        own = self._own_wish(attempt)
        if isinstance(own, _Wish):
            return self._held(attempt, own, None)
        try:
            raise self._past_the_call(own)
        finally:
            del own  # its traceback refers to this frame: no cycle that would keep the prompt

    async def reserve(self, attempt: Attempt) -> Held:
        """Hold the most that an attempt can cost. See the port."""
        noted = False
        while True:
            now = self._wall_clock()
            limits = self._limits(attempt.call, now) if self._limited else []
            wish = self._wish(attempt, limits)
            if isinstance(wish, BudgetExceeded):
                try:
                    raise self._past_the_call(wish)
                finally:
                    del wish  # as above
            if isinstance(wish, Shortage):
                raise self._exhausted(wish, now)
            nano = to_nano(wish.usd)
            if not limits or nano == 0:
                return self._held(attempt, wish, None)
            reserved = self._spending.reserve(limits, nano)
            if isinstance(reserved, Reservation):
                break
            if not noted:
                noted = True
                self._note(attempt, f"waits: {_told(reserved)}; others hold what this attempt may cost")
            await self._wait_for_others(attempt, reserved)
        await self._commit(reserved)
        self._reserved += 1
        return self._held(attempt, wish, reserved)

    def budgets(self, uid: int | None = None) -> list[BudgetState]:
        """Tell every budget now, or those in which all attempts of one user count."""
        now = self._wall_clock()
        every = [self._all] if self._all is not None else []
        if uid is None:
            named = [each for found in (self._by_uid, self._by_unit) for some in found.values() for each in some]
            named += self._by_operation.values()
        else:
            named = self._by_uid.get(uid, [])
        periods = self._calendar.at(now)
        told = []
        for budget in [*every, *named]:
            for span, limit in _limits_of(budget, periods):
                row = self._spending.row(limit.key)
                ends = periods.day_ends if span == "day" else periods.month_ends
                told.append(
                    BudgetState(
                        scope=budget.scope,
                        span=span,
                        period=limit.key.period,
                        limit_usd=to_usd(limit.amount),
                        spent_usd=to_usd(row.spent),
                        estimated_usd=to_usd(row.estimated),
                        held_usd=to_usd(row.held),
                        left_usd=max(0.0, to_usd(limit.amount - row.spent - row.held)),
                        attempts=row.attempts,
                        estimates=row.estimates,
                        resets_at=ends,
                        resets_in_s=ends - now,
                    )
                )
        return told

    def settings(self) -> Mapping[str, Any]:
        """Tell what holds for all budgets."""
        return {
            "on_exhausted": self._on_exhausted,
            "timezone": self._calendar.timezone,
            "assumed_usd_per_1m": self._assumed,
            "cost_limit_usd": self._call_limit_usd,
        }

    def statistics(self) -> PurseStatistics:
        """Tell what is held and what was refused."""
        totals = self._spending.totals()
        return PurseStatistics(
            waiting=self._waiting,
            committing=self._committing,
            open=totals.open,
            reserved=self._reserved,
            refused=self._refused,
            over_call_limit=self._over_call_limit,
            capped=self._capped,
            disk_refused=self._disk_refused,
            overruns=totals.overruns,
        )

    # --- deciding --------------------------------------------------------------------------------------------------------

    def _of(self, call: Call) -> list[Budget]:
        caller = call.caller
        found = [*self._by_uid.get(caller.uid, ()), *self._by_unit.get(caller.unit, ())]
        if call.operation in self._by_operation:
            found.append(self._by_operation[call.operation])
        return found

    def _limits(self, call: Call, now: float) -> list[Limit]:
        """Find the limits that hold for a call's attempts now."""
        periods = self._calendar.at(now)
        budgets = self._of(call) if self._all is None else [self._all, *self._of(call)]
        return [limit for budget in budgets for _, limit in _limits_of(budget, periods)]

    def _wish(self, attempt: Attempt, limits: list[Limit]) -> _Wish | Shortage | BudgetExceeded:
        """Work out what an attempt has to hold, with a shorter answer if it must; or which limit it would pass for good."""
        own = self._own_wish(attempt)
        if not limits or not isinstance(own, _Wish):
            return own
        room = self._spending.room(limits)
        if room is None or to_nano(own.usd) <= room:
            return own
        case = own.case
        cap = _cap(case, to_usd(room))
        if cap is None:
            shortage = self._spending.shortage(limits, to_nano(own.usd))
            return own if shortage is None else shortage
        tokens = cap if own.max_tokens is None else min(own.max_tokens, cap)
        usd = case.usd(tokens)
        return _Wish(
            case, usd, None if tokens == case.answer_tokens else tokens, min(own.counted_usd, usd), own.left_usd
        )

    def _own_wish(self, attempt: Attempt) -> _Wish | BudgetExceeded:
        """Do the same by nothing but the call's own limit."""
        call = attempt.call
        limit_usd = call.cost_limit_usd
        left_usd = (self._call_limit_usd if limit_usd is None else limit_usd) - call.journal.committed_usd
        made: _Wish | None = attempt.notes.get("wish")
        if made is not None and made.left_usd == left_usd:  # as was found before it queued
            return made
        case = worst_case(call, attempt.target, self._assumed, attempt.messages_bound) if made is None else made.case
        tokens = case.answer_tokens
        usd = case.prompt_usd + case.token_usd * tokens
        counted_usd, cap = 0.0, None
        if case.priced or limit_usd is not None:
            # The limit that nobody asked for goes by what is known: it does not take every answer to fill the context.
            to_the_end = case.bounded or limit_usd is not None
            counted_usd = usd if to_the_end else case.prompt_usd
            if counted_usd > left_usd:
                cap = _cap(case, left_usd) if to_the_end and tokens else None
                if cap is None:
                    return self._over_the_call(attempt, counted_usd, left_usd)
                counted_usd = usd = case.usd(cap)
        wish = attempt.notes["wish"] = _Wish(case, usd, None if cap == tokens else cap, counted_usd, left_usd)
        return wish

    def _past_the_call(self, refusal: BudgetExceeded) -> BudgetExceeded:
        self._over_call_limit += 1
        return refusal

    def _shortage(self, limit: Limit, wanted: int) -> Shortage:
        row = self._spending.row(limit.key)
        return Shortage(limit, row.spent, row.held, wanted)

    # --- carrying out ----------------------------------------------------------------------------------------------------

    async def _wait_for_others(self, attempt: Attempt, shortage: Shortage) -> None:
        until = min(attempt.start_by, attempt.call.deadline)
        changed = self._changed
        self._waiting += 1
        try:
            with trio.move_on_at(until) as patience:
                await changed.wait()
        finally:
            self._waiting -= 1
        if patience.cancelled_caught:
            self._refused += 1
            raise BudgetExceeded(
                f"{_told(shortage)}; other calls hold the rest",
                retryable=True,
                retry_after_s=_SOON_S,
                stage="spend",
                details={**_details(shortage), "on_exhausted": self._on_exhausted},
            )

    async def _commit(self, reserved: Reservation) -> None:
        """Have it on the disk, or let go of it."""
        if self._store is None:
            return
        self._committing += 1
        kept = False
        try:
            await self._store.commit()
            kept = True
        except StorageError:
            self._disk_refused += 1
            raise
        finally:
            self._committing -= 1
            if not kept:
                self._spending.release(reserved)
                self._wake()

    def _held(self, attempt: Attempt, wish: _Wish, reserved: Reservation | None) -> Held:
        max_tokens = wish.max_tokens
        if max_tokens is not None:
            self._capped += 1
            self._note(attempt, f"max_tokens {max_tokens} is sent along: a longer answer could not be paid for")
        if reserved is not None:
            attempt.notes["reserved_usd"] = wish.usd
        attempt.call.journal.committed_usd += wish.counted_usd
        return Held(self, attempt, wish, reserved, max_tokens)

    def settled(self, held: Held, usd: float, *, estimated: bool, kept: bool = False) -> None:
        """Put what an attempt cost in the place of what it held, once (for `Held`). ``kept``: it is all of that, for want of
        better knowledge; then the limit of the call goes on counting what it counted."""
        if held.ended:
            return
        held.ended = True
        if not kept:
            held.attempt.call.journal.committed_usd += usd - held.wish.counted_usd
        if held.reserved is None:
            return
        held.attempt.notes["settled_usd"] = usd
        held.attempt.notes["settled_by_estimate"] = estimated
        self._spending.settle(held.reserved, to_nano(usd), estimated=estimated)
        self._ended()

    def released(self, held: Held) -> None:
        """Let go of what an attempt held, unless it has been settled (for `Held`)."""
        if held.ended:
            return
        held.ended = True
        held.attempt.call.journal.committed_usd -= held.wish.counted_usd
        if held.reserved is None:
            return
        held.attempt.notes["settled_usd"] = 0.0
        held.attempt.notes["settled_by_estimate"] = False
        self._spending.release(held.reserved)
        self._ended()

    @property
    def assumed_usd_per_1m(self) -> float:
        """What a million tokens of unknown price are taken to cost."""
        return self._assumed

    def _ended(self) -> None:
        if self._store is not None:
            self._store.write_soon()
        self._wake()

    def _wake(self) -> None:
        if self._waiting or not self._changed.is_set():
            self._changed.set()
            self._changed = trio.Event()

    # --- telling ---------------------------------------------------------------------------------------------------------

    def _note(self, attempt: Attempt, what: str) -> None:
        attempt.call.journal.note(trio.current_time(), "spend", f"{attempt.target.name}: {what}")

    def _exhausted(self, shortage: Shortage, now: float) -> BudgetExceeded:
        self._refused += 1
        key = shortage.limit.key
        self._closed.add(key)
        periods = self._calendar.at(now)
        resets_at = periods.day_ends if key.period == periods.day else periods.month_ends
        return BudgetExceeded(
            f"{_told(shortage)}, and this call may cost up to {_dollars(shortage.wanted)}"
            if shortage.wanted
            else _told(shortage),
            retry_after_s=max(_SOON_S, resets_at - now),
            stage="spend",
            details={**_details(shortage), "resets_at": resets_at, "on_exhausted": self._on_exhausted},
        )

    def _over_the_call(self, attempt: Attempt, needed_usd: float, left_usd: float) -> BudgetExceeded:
        call = attempt.call
        own = call.cost_limit_usd is not None
        limit_usd = self._call_limit_usd if call.cost_limit_usd is None else call.cost_limit_usd
        whose = "cost_limit of the call" if own else "[routing] cost_limit_usd"
        return BudgetExceeded(
            f"{attempt.target.name} may cost up to ${needed_usd:.6g} for this call, above what is left "
            f"(${max(0.0, left_usd):.6g}) of the {whose}, ${limit_usd:.6g}",
            stage="spend",
            details={
                "budget": "cost_limit",
                "limit_of": "call" if own else "configuration",
                "limit_usd": limit_usd,
                "spent_usd": call.journal.committed_usd,
                "needed_usd": needed_usd,
            },
        )


class _Wish(msgspec.Struct, frozen=True, gc=False):
    """What an attempt has to hold, the ``max_tokens`` that make it enough, and what of it counts against the limit of its
    call, of which ``left_usd`` was left."""

    case: WorstCase
    usd: float
    max_tokens: int | None
    counted_usd: float
    left_usd: float


class Held(msgspec.Struct, eq=False):
    """Satisfies `aiorchd.calls.ports.Hold`."""

    _purse: Purse
    attempt: Attempt
    wish: _Wish
    reserved: Reservation | None
    max_tokens: int | None
    """What to send along."""
    ended: bool = False

    def settle(self, usage: Usage | None, cost_usd: float | None) -> float:
        """Settle by what is known."""
        if cost_usd is None:
            if usage is None:
                return self.keep()
            assumed = assumed_usd(usage, self.attempt.target.price, self._purse.assumed_usd_per_1m)
            self._purse.settled(self, assumed, estimated=True)
            return assumed
        self._purse.settled(self, cost_usd, estimated=usage is not None and usage.estimated)
        return cost_usd

    def keep(self) -> float:
        """Take all of it as spent."""
        self._purse.settled(self, self.wish.usd, estimated=True, kept=True)
        return self.wish.usd

    def release(self) -> None:
        """Let go of it."""
        self._purse.released(self)


def user_number(name: str) -> int | None:
    """Find the user that a [callers.NAME] means: by number or by name; None when it is none of this host, but a unit."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _budget(scope: str, per_day_usd: float | None, per_month_usd: float | None) -> Budget | None:
    if per_day_usd is None and per_month_usd is None:
        return None
    return Budget(scope, per_day_usd, per_month_usd)


def _limits_of(budget: Budget, periods: Periods) -> list[tuple[str, Limit]]:
    found = []
    if budget.per_day_usd is not None:
        found.append(("day", Limit(Key(budget.scope, periods.day), int(to_nano(budget.per_day_usd)))))
    if budget.per_month_usd is not None:
        found.append(("month", Limit(Key(budget.scope, periods.month), int(to_nano(budget.per_month_usd)))))
    return found


def _cap(case: WorstCase, usd: float) -> int | None:
    """Shorten the answer so that all costs at most ``usd``; None when it cannot be, or would be of no use."""
    if not case.can_cap:
        return None
    tokens = min(case.tokens_for(usd), case.answer_tokens)
    if not case.bounded:
        tokens = min(tokens, _SURELY_ALLOWED_TOKENS)
    return tokens if tokens >= _SHORTEST_ANSWER_TOKENS else None


def _told(shortage: Shortage) -> str:
    key = shortage.limit.key
    whose = "everybody" if key.scope == EVERYBODY else key.scope
    span = "a day" if len(key.period) > len("2026-11") else "a month"
    held = f", {_dollars(shortage.held)} held" if shortage.held else ""
    return f"of the budget of {_dollars(shortage.limit.amount)} {span} for {whose} {_dollars(shortage.spent)} is spent{held}"


def _dollars(nano: int) -> str:
    return f"${to_usd(nano):.6g}"


def _details(shortage: Shortage) -> dict[str, Any]:
    key = shortage.limit.key
    return {
        "budget": key.scope,
        "span": "day" if len(key.period) > len("2026-11") else "month",
        "period": key.period,
        "limit_usd": to_usd(shortage.limit.amount),
        "spent_usd": to_usd(shortage.spent),
        "held_usd": to_usd(shortage.held),
        "needed_usd": to_usd(shortage.wanted),
    }
