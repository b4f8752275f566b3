"""What a provider says is left, carried forward: in-flight requests, disorder, others' use."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.told_level import ToldLevel


def test_what_was_sent_after_the_answered_request_is_subtracted():
    it = ToldLevel(60.0)
    it.hear(1, 0.0, 0.2, 600, 50, 5.0)
    for number in (2, 3, 4):
        it.sent(number, 1.0)
    assert it.level(0.005) == 47.0
    assert it.level(1.005) == pytest.approx(57.0)
    it.hear(3, 0.5, 0.9, 600, 40, 6.0)  # counts 2 and 3 itself, not 4
    assert it.level(0.505) == 39.0


def test_an_older_answer_that_comes_later_says_nothing_new():
    it = ToldLevel(60.0)
    it.hear(5, 1.0, 1.2, 600, 10, 9.0)
    it.hear(2, 0.2, 1.9, 600, 90, 1.0)
    assert it.level(1.005) == 10.0


def test_corrections_hold_only_for_what_the_reading_did_not_count():
    it = ToldLevel(60.0)
    it.hear(1, 0.0, 0.1, 60_000, 5000, 5.0)
    it.sent(2, 1000.0)
    it.sent(3, 500.0)
    it.corrected(1, 10.0)
    it.corrected(2, 400.0)
    assert it.level(0.005) == 5000 - 400 - 500
    it.hear(2, 0.0, 0.2, 60_000, 4600, 5.0)
    it.corrected(2, 1.0)
    assert it.level(0.005) == 4100


def test_others_use_shows_when_it_falls_faster_than_we_spend():
    it = ToldLevel(60.0)
    remaining = 500.0
    for number in range(1, 300):
        now = number * 0.2
        it.sent(number, 1.0)
        remaining = min(600.0, remaining + 2.0 - 1.0 - 1.0)  # ten a second come back, we use five, others five
        it.hear(number, now, now, 600, math.floor(remaining), 1.0)
    assert it.outside_per_s == pytest.approx(5.0, rel=0.2)
    alone = ToldLevel(60.0)
    for number in range(1, 300):
        alone.sent(number, 1.0)
        alone.hear(number, number * 0.1, number * 0.1, 600, 50, 5.0)
    assert alone.outside_per_s == 0.0


def test_answers_without_headers_make_it_say_nothing_in_the_end():
    it = ToldLevel(60.0)
    it.hear(1, 0.0, 0.1, 60, 0, 60.0)
    assert it.delay_s(0.1, 1.0, 0.0) == pytest.approx(0.9 + 0.005)
    assert it.delay_s(121.0, 1.0, 0.0) == 0.0
    assert not it.known


def test_a_remaining_without_a_limit_holds_until_its_reset():
    it = ToldLevel(60.0)
    it.hear(1, 0.0, 0.0, None, 17, 9.0)  # Azure
    assert it.delay_s(1.0, 10.0, 0.0) == 0.0
    assert it.delay_s(1.0, 20.0, 0.0) == pytest.approx(8.0)
    assert it.delay_s(9.0, 20.0, 0.0) == 0.0


def test_how_much_goes_at_once_is_learned_from_the_resets():
    it = ToldLevel(60.0)
    it.hear(1, 0.0, 0.0, 600, 99, 0.1)
    assert it.capacity == 100
    it.hear(2, 1.0, 1.0, 600, 400, 80_000.0)  # a skewed clock
    assert it.capacity == 100
    it.hear(3, 1.0, 1.0, 600, 9000, 0.0)  # more than its own limit
    assert it.level(1.005) == 600


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.floats(0, 10),
            st.none() | st.floats(1, 1e9),
            st.none() | st.floats(0, 1e9),
            st.none() | st.floats(0, 1e5),
        ),
        max_size=40,
    )
)
def test_any_readings_leave_a_wait_that_ends(readings):
    it = ToldLevel(60.0)
    now = 0.0
    for number, (_, pause, limit, remaining, reset_s) in enumerate(readings):
        now += pause
        it.sent(number, 5.0)
        it.hear(readings[number][0], now - pause, now, limit, remaining, reset_s)
        delay_s = it.delay_s(now, 5.0, 1.0)
        assert 0.0 <= delay_s < 1e7
        assert not math.isnan(it.level(now))
