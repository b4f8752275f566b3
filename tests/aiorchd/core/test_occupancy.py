"""Occupancy: two bounds, a count that always adds up, and a hint for those who are turned away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.occupancy import Occupancy


def test_the_house_and_each_caller_have_a_bound():
    occupancy = Occupancy(3, 2)
    assert occupancy.enter(1) is None
    assert occupancy.enter(1) is None
    refusal = occupancy.enter(1)
    assert (refusal.limit_of, refusal.limit) == ("caller", 2)
    assert occupancy.enter(2) is None
    refusal = occupancy.enter(3)
    assert (refusal.limit_of, refusal.limit) == ("house", 3)
    statistics = occupancy.statistics()
    assert statistics.inside_by_caller == {1: 2, 2: 1}
    assert (statistics.entered, statistics.refused_house, statistics.refused_caller) == (3, 1, 1)
    occupancy.leave(1, 1.0)
    assert occupancy.enter(1) is None


def test_no_bound_of_its_own():
    occupancy = Occupancy(5, 0)
    assert [occupancy.enter(1) for _ in range(5)] == [None] * 5


def test_limits_change_while_calls_are_inside():
    occupancy = Occupancy(2)
    occupancy.enter(1)
    occupancy.enter(1)
    occupancy.reconfigure(1)
    assert occupancy.enter(1) is not None
    occupancy.leave(1, 1.0)
    assert occupancy.enter(1) is not None  # one is still inside
    occupancy.reconfigure(10, 0)
    assert occupancy.enter(1) is None


@pytest.mark.parametrize(("stay_s", "hint_s"), [(0.001, 0.1), (5.0, 5.0), (500.0, 30.0)])
def test_the_hint_is_about_one_stay(stay_s, hint_s):
    occupancy = Occupancy(1)
    for _ in range(200):
        occupancy.enter(1)
        occupancy.leave(1, stay_s)
    occupancy.enter(1)
    assert occupancy.enter(1).retry_after_s == pytest.approx(hint_s, rel=0.01)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=80))
def test_the_count_adds_up(steps):
    occupancy = Occupancy(6, 3)
    inside = []
    for enters, uid in steps:
        if enters:
            room = len(inside) < 6 and inside.count(uid) < 3
            assert (occupancy.enter(uid) is None) == room
            if room:
                inside.append(uid)
        elif uid in inside:
            occupancy.leave(uid, 1.0)
            inside.remove(uid)
        statistics = occupancy.statistics()
        assert statistics.inside == len(inside)
        assert statistics.inside_by_caller == {each: inside.count(each) for each in set(inside)}
