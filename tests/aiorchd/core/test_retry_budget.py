"""The retry budget: a share of the calls, from a finite bucket, and its bound whatever is done with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.retry_budget import RetryBudget


def test_what_is_saved_up_may_be_taken_and_then_nothing():
    budget = RetryBudget(0.2, 3)
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]


def test_a_share_of_the_calls_comes_back():
    budget = RetryBudget(0.25, 3)
    while budget.take(0.0):
        pass
    for _ in range(4):
        assert not budget.take(0.0)
        budget.call(0.0)
    assert budget.take(0.0)
    assert not budget.take(0.0)


def test_who_calls_seldom_has_a_whole_bucket_a_minute():
    budget = RetryBudget(0.0, 6)
    while budget.take(100.0):
        pass
    assert not budget.take(109.0)
    assert budget.take(110.5)
    assert budget.left(1000.0) == 6


def test_what_came_to_nothing_is_given_back_and_no_more_than_the_bucket_holds():
    budget = RetryBudget(0.2, 1)
    assert budget.take(0.0)
    budget.give_back()
    budget.give_back()
    assert budget.left(0.0) == 1


def test_new_bounds_hold_at_once():
    budget = RetryBudget(0.2, 10)
    budget.reconfigure(0.2, 2)
    assert budget.left(0.0) == 2
    budget.reconfigure(0.2, 5)  # it was full, so it is full
    assert budget.left(0.0) == 5
    budget.reconfigure(0.0, 0)
    assert not budget.take(1e9)


@pytest.mark.parametrize(("share", "most"), [(-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, -1), (0.5, float("nan"))])
def test_nonsense_is_refused(share, most):
    with pytest.raises(ValueError, match="between 0 and 1|0 or more"):
        RetryBudget(share, most)


@given(
    st.floats(0, 1),
    st.integers(0, 30),
    st.lists(st.tuples(st.sampled_from(["call", "take", "pass"]), st.floats(0, 20)), max_size=200),
)
def test_the_formula_is_a_bound(share, most, steps):
    budget = RetryBudget(share, most)
    now = calls = extras = 0.0
    for step, wait_s in steps:
        now += wait_s
        if step == "call":
            budget.call(now)
            calls += 1
        elif step == "take":
            extras += budget.take(now)
    assert extras <= most + share * calls + most * now / 60 + 1e-6
