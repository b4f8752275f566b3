"""The running quantile, against sorting, and what becomes late by it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.hedge_pace import SAVED_UP, HedgePace, HedgePolicy
from aiorchd.core.running_quantile import RunningQuantile


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=100), st.integers(1, 40), st.floats(0.01, 1))
def test_it_is_the_quantile_of_the_latest(values, size, share):
    running = RunningQuantile(size)
    for value in values:
        running.add(value)
    latest = sorted(values[-size:])
    assert len(running) == len(latest)
    found = running.quantile(share)
    assert found in latest
    assert sum(value <= found for value in latest) >= share * len(latest) - 1e-9
    assert sum(value < found for value in latest) < share * len(latest)


def test_of_nothing_there_is_none_and_nonsense_is_passed_over():
    running = RunningQuantile()
    assert running.quantile(0.5) is None
    running.add(math.nan)
    running.add(math.inf)
    assert len(running) == 0
    with pytest.raises(ValueError, match="at least one value"):
        RunningQuantile(0)


def test_late_is_not_known_before_there_are_enough_and_each_kind_has_its_own():
    pace = HedgePace(HedgePolicy(0.9, 10, 0.1))
    for number in range(9):
        pace.learn(number, streamed=False)
    assert pace.patience_s(streamed=False) is None
    pace.learn(9, streamed=False)
    assert pace.patience_s(streamed=False) == 8
    assert pace.patience_s(streamed=True) is None
    assert pace.samples == 10
    pace.reconfigure(HedgePolicy(0.5, 20, 0.1))
    assert pace.patience_s(streamed=False) is None


def test_second_tries_are_a_share_of_the_calls_however_long_it_takes():
    pace = HedgePace(HedgePolicy(max_share=0.1))
    taken = 0
    for number in range(1000):
        pace.call(number * 100.0)
        taken += pace.take(number * 100.0)
    assert SAVED_UP <= taken <= SAVED_UP + 100
    pace.give_back()
    assert pace.take(1e6)
