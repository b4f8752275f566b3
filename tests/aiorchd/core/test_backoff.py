"""Backoff: the schedule, what follows it, the jitter, and the provider's hint as a floor."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.backoff import Backoff


def exact(schedule=(0.5, 1.0, 2.0), **options):
    return Backoff(schedule, uniform=lambda: 0.5, **options)


@pytest.mark.parametrize(
    ("failures", "wait_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (7, 30.0), (10_000, 30.0)]
)
def test_the_schedule_then_doubling_to_the_cap(failures, wait_s):
    assert exact().delay_s(failures) == wait_s


def test_the_cap_does_not_cut_the_schedule():
    backoff = exact((5.0, 60.0), cap_s=30.0)
    assert [backoff.base_s(failures) for failures in (1, 2, 3)] == [5.0, 60.0, 60.0]


def test_no_schedule_is_no_wait():
    assert exact(()).delay_s(3) == 0.0
    assert exact(()).delay_s(3, 2.5) == 2.5


def test_the_hint_is_a_floor():
    assert exact().delay_s(1, 7.0) == 7.0
    assert exact().delay_s(3, 0.1) == 2.0
    assert exact().delay_s(1, 0.0) == 0.5


@given(st.integers(1, 40), st.integers(0, 2**32), st.floats(0.0, 1.0), st.none() | st.floats(0.0, 100.0))
def test_jitter_stays_in_its_share_and_never_undercuts_the_hint(failures, seed, jitter, hint):
    backoff = Backoff(uniform=random.Random(seed).random, jitter=jitter)
    base_s = backoff.base_s(failures)
    delay_s = backoff.delay_s(failures, hint)
    assert delay_s >= (hint or 0.0)
    assert base_s * (1 - jitter) - 1e-9 <= delay_s <= max(base_s * (1 + jitter) + 1e-9, hint or 0.0)


def test_the_same_seed_waits_the_same():
    one, other = (Backoff(uniform=random.Random(7).random) for _ in range(2))
    waits = [one.delay_s(k) for k in range(1, 6)]
    assert waits == [other.delay_s(k) for k in range(1, 6)]
    assert waits != [0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("schedule", [(-1.0,), (float("inf"),), (float("nan"),)])
def test_nonsense_is_refused(schedule):
    with pytest.raises(ValueError, match="seconds"):
        exact(schedule)
    with pytest.raises(ValueError, match="jitter"):
        exact(jitter=1.5)
    with pytest.raises(ValueError, match="first failure"):
        exact().base_s(0)
