"""The token bucket: tables of (time, amount, outcome), and what must hold whatever happens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchd.core.token_bucket import Reservation, TokenBucket

RATE = 10.0
BURST = 20.0


@pytest.mark.parametrize(
    ("steps",),
    [
        # (time, amount, delay told)
        ([(0.0, 20, 0.0), (0.0, 1, 0.1), (0.05, 1, 0.05), (0.1, 1, 0.0)],),
        ([(5.0, 15, 0.0), (5.0, 6, 0.1), (5.0, 5, 0.0), (6.0, 10, 0.0), (6.0, 10, 1.0)],),
        ([(0.0, 20, 0.0), (100.0, 20, 0.0), (100.0, 1, 0.1)],),  # never more than the burst is saved up
        ([(0.0, 0, 0.0), (0.0, 20, 0.0), (0.0, 0, 0.0)],),
        ([(1.0, 20, 0.0), (0.5, 1, 0.1), (1.1, 1, 0.0)],),  # a time before the last counts as the last
    ],
)
def test_grants_and_delays(steps):
    bucket = TokenBucket(RATE, BURST)
    for now, amount, delay_s in steps:
        assert bucket.delay_s(now, amount) == pytest.approx(delay_s)
        reservation = bucket.reserve(now, amount)
        assert reservation.granted == (delay_s == 0.0)
        assert reservation.delay_s == pytest.approx(delay_s)


def test_a_refusal_changes_nothing():
    bucket = TokenBucket(RATE, BURST)
    bucket.reserve(0.0, 18)
    assert not bucket.reserve(0.0, 5).granted
    assert bucket.level(0.0) == 2.0
    assert bucket.reserve(0.0, 2).granted


def test_the_told_delay_is_enough_in_spite_of_rounding():
    bucket = TokenBucket(1 / 7, 1.0)
    now = 123_456.789
    assert bucket.reserve(now, 1).granted
    for _ in range(1000):
        now += bucket.delay_s(now, 1)
        assert bucket.reserve(now, 1).granted


def test_an_oversize_request_waits_for_a_full_bucket_and_leaves_it_in_debt():
    bucket = TokenBucket(RATE, BURST)
    bucket.reserve(0.0, 5)
    assert bucket.reserve(0.0, 50).delay_s == pytest.approx(0.5)
    assert bucket.reserve(0.5, 50).granted
    assert bucket.level(0.5) == pytest.approx(-30.0)
    assert bucket.reserve(0.5, 1).delay_s == pytest.approx(3.1)  # the others wait it out


def test_a_cancelled_reservation_comes_back():
    bucket = TokenBucket(RATE, BURST)
    reservation = bucket.reserve(0.0, 15)
    bucket.cancel(reservation, 0.0)
    assert bucket.level(0.0) == BURST


def test_what_a_full_bucket_would_have_lost_does_not_come_back():
    bucket = TokenBucket(RATE, BURST)
    unsent = bucket.reserve(0.0, 10)
    assert bucket.reserve(1.0, 20).granted  # without the first one it would have been full anyway
    bucket.cancel(unsent, 1.0)
    assert bucket.level(1.0) == pytest.approx(0.0)


def test_more_than_reserved_is_charged():
    bucket = TokenBucket(RATE, BURST)
    reservation = bucket.reserve(0.0, 5)
    bucket.settle(reservation, 30, 0.0)
    assert bucket.level(0.0) == pytest.approx(-10.0)


def test_a_refused_reservation_settles_to_nothing():
    bucket = TokenBucket(RATE, BURST)
    bucket.reserve(0.0, 20)
    refused = bucket.reserve(0.0, 20)
    bucket.cancel(refused, 0.0)
    bucket.settle(refused, 3, 0.0)
    assert bucket.level(0.0) == 0.0


def test_limits_change_and_the_level_stays():
    bucket = TokenBucket(RATE, BURST)
    reservation = bucket.reserve(0.0, 12)
    bucket.reconfigure(0.0, 1.0, 100.0)
    assert bucket.level(0.0) == 8.0  # more room, no more tokens
    assert bucket.level(2.0) == 10.0
    bucket.settle(reservation, 2, 2.0)
    assert bucket.level(2.0) == 20.0
    bucket.reconfigure(2.0, 1.0, 5.0)
    assert bucket.level(2.0) == 5.0  # less room cuts it
    assert (bucket.rate_per_s, bucket.burst) == (1.0, 5.0)


def test_a_change_of_limits_keeps_a_debt():
    bucket = TokenBucket(RATE, BURST)
    bucket.reserve(0.0, 50)
    bucket.reconfigure(0.0, 100.0, 1000.0)
    assert bucket.level(0.0) == -30.0
    assert bucket.level(0.3) == pytest.approx(0.0)


def test_draining_empties_but_forgives_no_debt():
    bucket = TokenBucket(RATE, BURST)
    early = bucket.reserve(0.0, 5)
    bucket.drain(0.0)
    assert bucket.level(0.0) == 0.0
    bucket.settle(early, 0, 0.0)
    assert bucket.level(0.0) == 0.0  # the provider's "nothing left" knew what was used
    later = bucket.reserve(1.0, 10)
    bucket.settle(later, 4, 1.0)
    assert bucket.level(1.0) == pytest.approx(6.0)
    debtor = TokenBucket(RATE, BURST)
    debtor.reserve(0.0, 50)
    debtor.drain(0.0)
    assert debtor.level(0.0) == -30.0


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1), (math.inf, 1), (1, math.inf), (math.nan, 1)])
def test_nonsense_limits_are_refused(rate, burst):
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate, burst)
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(1, 1).reconfigure(0.0, rate, burst)


def test_negative_amounts_are_refused():
    bucket = TokenBucket(RATE, BURST)
    reservation = bucket.reserve(0.0, 1)
    with pytest.raises(ValueError, match="reserve"):
        bucket.reserve(0.0, -1)
    with pytest.raises(ValueError, match="settle"):
        bucket.settle(reservation, -1, 0.0)


# --- what must hold whatever happens ---------------------------------------------------------------------------------

pauses = st.one_of(st.just(0.0), st.floats(0.0, 5.0), st.floats(0.0, 0.01))
amounts = st.one_of(st.integers(0, 25).map(float), st.floats(0.0, 60.0))


@given(st.lists(st.tuples(pauses, amounts), max_size=60))
def test_no_window_gets_more_than_rate_and_burst(steps):
    bucket = TokenBucket(RATE, BURST)
    now = 1000.0
    grants = []
    for pause, amount in steps:
        now += pause
        if bucket.reserve(now, amount).granted:
            grants.append((now, amount))
    for first, (start, _) in enumerate(grants):
        total = 0.0
        largest = 0.0
        for end, amount in grants[first:]:
            total += amount
            largest = max(largest, amount)
            assert total <= RATE * (end - start) + max(BURST, largest) + 1e-3


@given(st.lists(st.tuples(pauses, amounts), max_size=60))
def test_whoever_waits_the_told_delay_gets_it(steps):
    bucket = TokenBucket(RATE, BURST)
    now = 1000.0
    for pause, amount in steps:
        now += pause
        refused = bucket.reserve(now, amount)
        if not refused.granted:
            assert refused.delay_s > 0.0
            now += refused.delay_s
            assert bucket.reserve(now, amount).granted


class Ledger:
    """The truth, slowly: every charge at its moment, replayed from the beginning."""

    def __init__(self):
        self.charges = []  # [time, amount], in order of time

    def level(self, now):
        level, at = BURST, -math.inf
        for time, amount in self.charges:
            level = min(BURST, level + (time - at) * RATE) if time > at else level
            level, at = level - amount, time
        return min(BURST, level + (now - at) * RATE) if now > at else level


shares = st.one_of(st.just(0.0), st.just(1.0), st.floats(0.0, 1.0), st.floats(1.0, 2.0))
events = st.one_of(
    st.tuples(st.just("reserve"), pauses, amounts),
    st.tuples(st.just("settle"), pauses, st.tuples(st.integers(0, 1000), shares)),
    st.tuples(st.just("look"), pauses, st.none()),
)


@settings(max_examples=300)
@given(st.lists(events, max_size=80))
def test_settling_amounts_to_having_charged_that_in_the_first_place(steps):
    bucket, ledger = TokenBucket(RATE, BURST), Ledger()
    open_reservations: list[tuple[Reservation, list[float]]] = []
    now = 1000.0
    for what, pause, argument in steps:
        now += pause
        if what == "reserve":
            reservation = bucket.reserve(now, argument)
            if reservation.granted:
                charge = [now, argument]
                ledger.charges.append(charge)
                open_reservations.append((reservation, charge))
        elif what == "settle" and open_reservations:
            index, share = argument
            reservation, charge = open_reservations.pop(index % len(open_reservations))
            actual = reservation.amount * share
            bucket.settle(reservation, actual, now)
            if actual <= reservation.amount:
                charge[1] = actual
            else:
                ledger.charges.append([now, actual - reservation.amount])
        assert bucket.level(now) <= BURST
        assert bucket.level(now) == pytest.approx(ledger.level(now), abs=BURST / 256 + 1e-6)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.02]), st.floats(0.01, 0.5)), min_size=150, max_size=250),
    st.randoms(),
)
def test_with_very_many_under_way_it_errs_on_the_careful_side(steps, chance):
    bucket, ledger = TokenBucket(RATE, BURST), Ledger()
    now = 1000.0
    under_way = []
    for pause, amount in steps:
        now += pause
        reservation = bucket.reserve(now, amount)
        if reservation.granted:
            charge = [now, amount]
            ledger.charges.append(charge)
            under_way.append((reservation, charge))
    chance.shuffle(under_way)
    for reservation, charge in under_way:
        charge[1] = reservation.amount * chance.random()
        bucket.settle(reservation, charge[1], now)
    assert len(bucket._peaks) <= 48
    assert bucket.level(now) <= ledger.level(now) + BURST / 256 + 1e-6
    assert bucket.level(now) >= 0.8 * ledger.level(now) - 0.5
