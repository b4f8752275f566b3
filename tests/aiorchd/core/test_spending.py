"""The sum of what was spent and what is held never passes a limit, in whatever order attempts begin, end and crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiorchd.core.spending import MOST_NANO, NANO, Key, Limit, Reservation, Row, Shortage, Spending, to_nano, to_usd

ALL = Key("all", "2026-11-28")
MONTH = Key("all", "2026-11")
MINE = Key("caller 1000", "2026-11-28")


def reserved(spending: Spending, limits: list[Limit], amount: int) -> Reservation:
    found = spending.reserve(limits, amount)
    assert isinstance(found, Reservation)
    return found


def test_what_is_settled_takes_the_place_of_what_was_held() -> None:
    spending = Spending()
    limits = [Limit(ALL, 100), Limit(MINE, 50)]
    first = reserved(spending, limits, 30)
    assert spending.row(ALL) == Row(ALL, 0, 0, 30, 0, 0)
    spending.settle(first, 10)
    assert spending.row(ALL) == Row(ALL, 10, 0, 0, 1, 0)
    assert spending.row(MINE) == Row(MINE, 10, 0, 0, 1, 0)
    second = reserved(spending, limits, 40)
    spending.keep(second)
    assert spending.row(MINE) == Row(MINE, 50, 40, 0, 2, 1)
    assert isinstance(spending.reserve(limits, 1), Shortage)
    spending.settle(second, 1)  # a second time changes nothing
    spending.release(second)
    assert spending.row(MINE).spent == 50
    assert spending.totals().open == 0


def test_a_reservation_is_held_everywhere_or_nowhere() -> None:
    spending = Spending()
    shortage = spending.reserve([Limit(ALL, 100), Limit(MINE, 10)], 11)
    assert isinstance(shortage, Shortage)
    assert shortage.limit.key == MINE
    assert shortage.lasting
    assert spending.row(ALL).held == 0


def test_waiting_can_help_only_while_others_hold_it() -> None:
    spending = Spending()
    limits = [Limit(ALL, 100)]
    held = reserved(spending, limits, 80)
    shortage = spending.reserve(limits, 30)
    assert isinstance(shortage, Shortage)
    assert not shortage.lasting
    assert spending.room(limits) == 100
    spending.settle(held, 75)
    shortage = spending.reserve(limits, 30)
    assert isinstance(shortage, Shortage)
    assert shortage.lasting
    assert spending.room(limits) == 25
    assert spending.room([]) is None


def test_the_lasting_shortage_is_told_first() -> None:
    spending = Spending()
    spending.settle(reserved(spending, [Limit(MINE, 10)], 10), 10)
    reserved(spending, [Limit(ALL, 1000)], 900)
    shortage = spending.reserve([Limit(ALL, 1000), Limit(MINE, 10)], 200)
    assert isinstance(shortage, Shortage)
    assert shortage.limit.key == MINE


def test_what_a_dead_process_held_is_spent() -> None:
    spending = Spending()
    spending.load([Row(ALL, 10, 1, 5, 3, 1), Row(MONTH, 10, 1, 0, 3, 1)])
    assert spending.row(ALL) == Row(ALL, 15, 6, 0, 3, 1)
    assert [row.key for row in spending.take_changed()] == [ALL]


def test_what_cost_more_than_it_could_is_counted_as_it_was() -> None:
    spending = Spending()
    spending.settle(reserved(spending, [Limit(ALL, 100)], 10), 500)
    assert spending.row(ALL).spent == 500
    assert spending.totals().overruns == 1
    assert isinstance(spending.reserve([Limit(ALL, 100)], 0), Shortage)


def test_changes_are_taken_once_unless_they_are_given_back() -> None:
    spending = Spending()
    reserved(spending, [Limit(ALL, 100)], 10)
    rows = spending.take_changed()
    assert [row.held for row in rows] == [10]
    assert not spending.changed
    spending.give_back(rows)
    assert spending.take_changed() == rows


def test_old_accounts_are_forgotten_unless_somebody_holds_them() -> None:
    spending = Spending()
    old, older = Key("all", "2026-10-01"), Key("all", "2026-09")
    spending.settle(reserved(spending, [Limit(old, 10)], 1), 1)
    reserved(spending, [Limit(older, 10)], 1)
    spending.take_changed()
    spending.forget("2026-11")
    assert spending.row(old).spent == 0
    assert spending.row(older).held == 1


@given(st.floats(0, 1e12, allow_nan=False))
def test_rounding_never_makes_a_cost_smaller(usd: float) -> None:
    nano = to_nano(usd)
    assert nano <= MOST_NANO
    assert nano == MOST_NANO or to_usd(nano) >= usd * (1 - 1e-12) - 1e-15


@pytest.mark.parametrize(
    ("usd", "nano"), [(0, 0), (1, NANO), (0.1, 100_000_000), (20.0, 20 * NANO), (1e-12, 1), (1e300, MOST_NANO)]
)
def test_dollars(usd: float, nano: int) -> None:
    assert to_nano(usd) == nano


class Books(RuleBasedStateMachine):
    """Attempts begin and end in any order over two budgets; the process dies now and then with what the disk knows."""

    @initialize(day=st.integers(1, 500), mine=st.integers(1, 500))
    def begin(self, day: int, mine: int) -> None:
        self.limits = [Limit(ALL, day), Limit(MINE, mine)]
        self.spending = Spending()
        self.open: list[tuple[Reservation, int]] = []  # with what the provider will really bill
        self.disk: dict[Key, Row] = {}
        self.billed = {ALL: 0, MINE: 0}

    @rule(both=st.booleans(), most=st.integers(0, 200), share=st.floats(0, 1))
    def reserve(self, both: bool, most: int, share: float) -> None:
        found = self.spending.reserve(self.limits if both else self.limits[:1], most)
        if isinstance(found, Reservation):
            self.commit()  # nobody starts before
            self.open.append((found, int(most * share)))
            for key in found.keys:
                self.billed[key] += int(most * share)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000), how=st.sampled_from(["settle", "keep"]))
    def end(self, which: int, how: str) -> None:
        reservation, billed = self.open.pop(which % len(self.open))
        if how == "settle":
            self.spending.settle(reservation, billed)
        else:
            self.spending.keep(reservation)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1000))
    def refused(self, which: int) -> None:
        reservation, billed = self.open.pop(which % len(self.open))
        for key in reservation.keys:
            self.billed[key] -= billed
        self.spending.release(reservation)

    @rule()
    def commit(self) -> None:
        for row in self.spending.take_changed():
            self.disk[row.key] = row

    @rule()
    def crash(self) -> None:
        self.spending = Spending()
        self.spending.load(self.disk.values())
        self.open.clear()

    @invariant()
    def nothing_passes_a_limit(self) -> None:
        for limit in getattr(self, "limits", ()):
            row = self.spending.row(limit.key)
            assert row.spent + row.held <= limit.amount
            assert row.held >= 0
            assert self.billed[limit.key] <= row.spent + row.held
            assert row.estimated <= row.spent


TestBooks = Books.TestCase
