"""Who has spent how much of what is allowed: accounts by scope and period, and reservations against their limits.

Every attempt reserves the most it can cost, in all accounts that it counts in, before it starts; when it ends, what it did
cost takes the place of the reservation. So the sum of what was spent and what is reserved never passes a limit, in whatever
order attempts begin and end::

    reserve    held += most             only if spent + held + most <= limit in every account that has one
    settle     held -= most, spent += actual      (or += most, marked as estimated, when nobody said what it cost)
    release    held -= most             when it certainly cost nothing

A dead process leaves reservations whose attempts may have been paid for: `load` takes them as spent, estimated. Amounts are
whole nano-dollars, so that sums are exact; 64 bits hold nine thousand million dollars of them. Only an attempt that cost more
than the most it could is let over a limit, because then it was paid already; it is counted (``overruns``).

Pure: the caller says which limits hold now. Accounts of past periods stay until `forget`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

NANO: Final = 1_000_000_000
"""Nano-dollars in a dollar."""
MOST_NANO: Final = 2**62
"""More than anybody is allowed; an absurd amount stays within what a column holds."""


class Key(NamedTuple):
    """An account: whose spending (``all``, ``caller 1000`` …) in which period (``2026-11-28``, ``2026-11``)."""

    scope: str
    period: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What one account may reach, in nano-dollars."""

    key: Key
    amount: int


@dataclass(frozen=True, slots=True)
class Row:
    """An account as it is kept: nano-dollars ``spent`` (``estimated`` of them nobody reported) and ``held`` by reservations;
    ``attempts`` that ended with a cost, ``estimates`` of them estimated."""

    key: Key
    spent: int
    estimated: int
    held: int
    attempts: int
    estimates: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit that a reservation would pass. ``spent`` and ``held`` are those of its account; when ``lasting``, it would pass
    it even if everything held turned out to cost nothing."""

    limit: Limit
    spent: int
    held: int
    wanted: int

    @property
    def lasting(self) -> bool:
        """Whether waiting for others to end cannot help."""
        return self.spent + self.wanted > self.limit.amount


@dataclass(slots=True, eq=False)
class Reservation:
    """What one attempt holds, until it is settled or released."""

    keys: tuple[Key, ...]
    amount: int
    open: bool = True


@dataclass(slots=True)
class _Account:
    spent: int = 0
    estimated: int = 0
    held: int = 0
    attempts: int = 0
    estimates: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """``open`` reservations holding nano-dollars ``held``, over all accounts of the present; ``overruns`` cost more than they
    had reserved."""

    accounts: int
    open: int
    overruns: int


Reserved: TypeAlias = Reservation | Shortage


class Spending:
    """All accounts. `take_changed` gives what must be written; who reserves starts nothing before that is on the disk."""

    def __init__(self) -> None:
        # This is all the mutable state.
        self._accounts: dict[Key, _Account] = {}
        self._changed: set[Key] = set()
        self._open = 0
        self._overruns = 0

    def load(self, rows: Iterable[Row]) -> None:
        """Take over what an earlier process left: what it held is spent, as far as anybody knows."""
        for row in rows:
            self._accounts[row.key] = _Account(
                row.spent + row.held, row.estimated + row.held, 0, row.attempts, row.estimates
            )
            if row.held:
                self._changed.add(row.key)

    def reserve(self, limits: Sequence[Limit], amount: int) -> Reserved:
        """Hold ``amount`` in the account of every limit, or in none and tell the limit that leaves least room."""
        shortage = self.shortage(limits, amount)
        if shortage is not None:
            return shortage
        reservation = Reservation(tuple(limit.key for limit in limits), amount)
        for key in reservation.keys:
            self._account(key).held += amount
        self._changed.update(reservation.keys)
        self._open += 1
        return reservation

    def shortage(self, limits: Iterable[Limit], amount: int) -> Shortage | None:
        """Find the limit that holding ``amount`` would pass by most; one for which waiting cannot help comes first."""
        found: list[Shortage] = []
        for limit in limits:
            account = self._accounts.get(limit.key)
            spent, held = (0, 0) if account is None else (account.spent, account.held)
            if spent + held + amount > limit.amount:
                found.append(Shortage(limit, spent, held, amount))
        return max(found, key=lambda each: (each.lasting, each.spent + each.held - each.limit.amount), default=None)

    def room(self, limits: Iterable[Limit]) -> int | None:
        """Tell how much an attempt could reserve once all others cost nothing; None without a limit."""
        return min(
            (
                limit.amount - account.spent if (account := self._accounts.get(limit.key)) else limit.amount
                for limit in limits
            ),
            default=None,
        )

    def settle(self, reservation: Reservation, amount: int, *, estimated: bool = False) -> None:
        """Put what it cost in the place of what it held."""
        if not self._close(reservation):
            return
        amount = max(0, min(amount, MOST_NANO))
        self._overruns += amount > reservation.amount
        for key in reservation.keys:
            account = self._account(key)
            account.spent += amount
            account.attempts += 1
            if estimated:
                account.estimated += amount
                account.estimates += 1

    def keep(self, reservation: Reservation) -> None:
        """Take the whole reservation as spent, as an estimate: nobody said what it cost."""
        self.settle(reservation, reservation.amount, estimated=True)

    def release(self, reservation: Reservation) -> None:
        """Let go of it: nothing was paid."""
        self._close(reservation)

    def row(self, key: Key) -> Row:
        """Tell how an account stands."""
        account = self._accounts.get(key) or _Account()
        return Row(key, account.spent, account.estimated, account.held, account.attempts, account.estimates)

    @property
    def changed(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._changed)

    def take_changed(self) -> list[Row]:
        """Give the accounts that changed since they were last taken."""
        rows = [self.row(key) for key in sorted(self._changed)]
        self._changed.clear()
        return rows

    def give_back(self, rows: Iterable[Row]) -> None:
        """Say that these could not be written: they are to be taken again, as they stand then."""
        self._changed.update(row.key for row in rows)

    def forget(self, before: str) -> None:
        """Drop accounts of periods before ``before`` that hold nothing and are written."""
        old = [
            key
            for key, account in self._accounts.items()
            if key.period < before and not account.held and key not in self._changed
        ]
        for key in old:
            del self._accounts[key]

    def totals(self) -> Totals:
        """Count."""
        return Totals(len(self._accounts), self._open, self._overruns)

    def _account(self, key: Key) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
        return account

    def _close(self, reservation: Reservation) -> bool:
        if not reservation.open:
            return False
        reservation.open = False
        self._open -= 1
        for key in reservation.keys:
            self._account(key).held -= reservation.amount
        self._changed.update(reservation.keys)
        return True


def to_nano(usd: float) -> int:
    """Turn dollars into nano-dollars, rounded up: a limit is never passed by rounding."""
    return min(MOST_NANO, math.ceil(usd * NANO - 1e-6)) if usd < MOST_NANO / NANO else MOST_NANO


def to_usd(nano: int) -> float:
    """Turn nano-dollars into dollars."""
    return nano / NANO
