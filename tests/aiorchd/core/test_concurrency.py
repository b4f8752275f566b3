"""How many attempts may run at once: growth, cuts, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.concurrency import AdaptiveConcurrency, ConcurrencyBounds


def test_it_doubles_in_the_beginning_and_stops_at_the_top():
    it = AdaptiveConcurrency(ConcurrencyBounds(3, 1, 10))
    for _ in range(3):
        it.succeeded(1.0, 0.2, in_use=it.limit)
    assert it.limit == 6
    for _ in range(20):
        it.succeeded(1.0, 0.2, in_use=it.limit)
    assert it.limit == 10
    assert it.why == "it goes well"


def test_it_does_not_grow_when_it_is_not_what_bounds():
    it = AdaptiveConcurrency(ConcurrencyBounds(6, 1, 10))
    for _ in range(50):
        it.succeeded(1.0, 0.2, in_use=2)
    assert it.limit == 6


def test_a_refusal_cuts_at_once_and_only_once_for_what_ran_together():
    it = AdaptiveConcurrency(ConcurrencyBounds(10, 1, 10))
    it.refused(5.0, 4.9, "429")
    it.refused(5.1, 4.8, "429")
    it.refused(5.2, 5.0, "429")
    assert (it.limit, it.why, it.changed_at) == (7, "429", 5.0)
    it.refused(6.0, 5.5, "529")
    assert it.limit == 4


def test_after_a_cut_it_is_back_soon_and_then_grows_slowly():
    it = AdaptiveConcurrency(ConcurrencyBounds(10, 1, 100))
    it.refused(1.0, 0.5, "429")
    for _ in range(3):
        it.succeeded(2.0, 0.2, in_use=it.limit)
    assert it.limit == 10
    for _ in range(9):
        it.succeeded(2.0, 0.2, in_use=it.limit)
    assert it.limit == 10
    for _ in range(2):
        it.succeeded(2.0, 0.2, in_use=it.limit)
    assert it.limit == 11


def test_the_gradient_follows_latency():
    it = AdaptiveConcurrency(ConcurrencyBounds(10, 1, 200, "gradient"))
    for _ in range(100):
        it.succeeded(1.0, 0.2, in_use=it.limit)
    grown = it.limit
    assert grown > 50
    for _ in range(100):
        it.succeeded(2.0, 2.0, in_use=it.limit)
    assert it.limit < grown / 2
    assert it.why == "answers take longer"
    it.refused(3.0, 2.5, "429")
    assert it.why == "429"


def test_fixed_is_fixed():
    it = AdaptiveConcurrency(ConcurrencyBounds(3, 1, 10, "fixed"))
    it.refused(1.0, 0.5, "429")
    it.succeeded(1.0, 0.2, 1)
    assert it.limit == 10


def test_bounds_change_live():
    it = AdaptiveConcurrency(ConcurrencyBounds(3, 1, 10))
    it.reconfigure(1.0, ConcurrencyBounds(8, 1, 20))
    assert it.limit == 8
    it.reconfigure(2.0, ConcurrencyBounds(2, 1, 5))
    assert it.limit == 5
    it.reconfigure(2.0, ConcurrencyBounds(2, 1, 5, "fixed"))
    assert it.limit == 5
    with pytest.raises(ValueError, match="permits need"):
        ConcurrencyBounds(1, 0, 5)


@given(
    st.sampled_from(["aimd", "gradient", "fixed"]),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1e4), st.integers(0, 300)), max_size=200),
)
def test_it_stays_within_its_bounds(algorithm, steps):
    it = AdaptiveConcurrency(ConcurrencyBounds(5, 2, 50, algorithm))
    for now, (good, took_s, in_use) in enumerate(steps):
        if good:
            it.succeeded(float(now), took_s, in_use)
        else:
            it.refused(float(now), now - took_s, "429")
        assert 2 <= it.limit <= 50
