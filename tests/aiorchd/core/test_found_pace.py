"""A pace found from refusals, against a bucket that does not tell."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.found_pace import FoundPace


class Silent:
    """A token bucket that only lets in or refuses."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.level, self.at = rate, burst, burst, 0.0

    def admits(self, now):
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


def saturated(pace, provider, since, seconds, *, faster=50.0):
    """Want more than there is; how many were let in and refused."""
    now, answered, refused = since, 0, 0
    while now < since + seconds:
        now += max(pace.delay_s(now, 1.0), 1.0 / faster)
        before = pace.take(now, 1.0)
        if provider.admits(now):
            answered += 1
        else:
            refused += 1
            pace.refused(now, now, before, 1.0)
    return answered, refused


@pytest.mark.parametrize(("rate", "burst"), [(1.0, 10.0), (10.0, 10.0), (10.0, 100.0), (40.0, 40.0), (10.0, 600.0)])
def test_it_uses_nearly_all_and_is_hardly_refused(rate, burst):
    pace, provider = FoundPace(), Silent(rate, burst)
    saturated(pace, provider, 0.0, 90.0)
    answered, refused = saturated(pace, provider, 90.0, 180.0)
    assert answered >= 0.95 * rate * 180.0
    # The bar without any hint is 5 %; a mark a minute is what one request a second takes to be known.
    assert refused <= (0.02 if rate > 1.0 else 0.05) * (answered + refused)


def test_nothing_is_bounded_before_the_first_refusal():
    pace = FoundPace()
    for number in range(1000):
        assert pace.delay_s(number * 0.001, 1.0) == 0.0
        pace.take(number * 0.001, 1.0)
    assert (pace.found, pace.rate_per_s, pace.level(1.0)) == (False, math.inf, math.inf)


def test_it_follows_a_limit_that_falls_and_one_that_rises():
    pace, provider = FoundPace(), Silent(10.0, 100.0)
    saturated(pace, provider, 0.0, 120.0)
    provider.rate, provider.burst = 5.0, 50.0
    _, refused = saturated(pace, provider, 120.0, 100.0)
    assert refused <= 20
    assert pace.rate_per_s == pytest.approx(5.0, rel=0.1)
    provider.rate, provider.burst = 10.0, 100.0
    saturated(pace, provider, 220.0, 90.0)
    answered, _ = saturated(pace, provider, 310.0, 60.0)
    assert answered >= 540


def test_it_does_not_grow_while_less_is_wanted_and_is_remembered():
    pace, provider = FoundPace(), Silent(10.0, 20.0)
    saturated(pace, provider, 0.0, 120.0)
    found = pace.rate_per_s
    for number in range(600):
        now = 125.0 + number * 1.0
        assert pace.delay_s(now, 1.0) == 0.0
        pace.take(now, 1.0)
        provider.admits(now)
    assert pace.rate_per_s == pytest.approx(found, rel=0.05)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 5000), st.booleans(), st.floats(0, 5)), max_size=80))
def test_whatever_is_refused_it_stays_a_pace(steps):
    pace, now = FoundPace(), 0.0
    for pause, amount, refused, late_s in steps:
        now += pause
        before = pace.take(now, amount)
        if refused:
            pace.refused(now + late_s, now, before, amount)
        else:
            pace.correct(amount, amount / 2)
        if pace.found:
            assert 0.0 < pace.rate_per_s < math.inf
            assert 0.0 <= pace.delay_s(now, amount) < math.inf


@pytest.mark.parametrize("every_s", [20.0, 60.0, 900.0])
def test_whoever_asks_seldom_and_is_refused_now_and_then_is_not_made_to_ask_seldom(every_s):
    pace, now = FoundPace(), 0.0
    for number in range(200):
        now += every_s
        assert pace.delay_s(now, 1.0) == 0.0, "nobody else asked for long"
        before = pace.take(now, 1.0)
        if number % 5 == 4:
            pace.refused(now + 0.05, now, before, 1.0)
            now += 1.0 + pace.delay_s(now + 1.0, 1.0)
            pace.take(now, 1.0)  # asked again, and answered
    assert pace.delay_s(now, 1.0) < 2.0
