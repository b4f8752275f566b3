"""Beginnings that come again within the time in which providers remember them."""

from __future__ import annotations

from aiorchd.core.recurrence import MOST, WITHIN_S, Recurrence


def test_the_first_is_not_yet_one_that_comes_again() -> None:
    seen = Recurrence()
    assert not seen.comes_again("a", 0.0)
    assert not seen.comes_again("b", 0.0)
    assert seen.comes_again("a", 1.0)


def test_the_time_counts_from_the_last() -> None:
    seen = Recurrence()
    assert not seen.comes_again("a\ud800", 0.0)
    assert seen.comes_again("a\ud800", WITHIN_S - 1.0)
    assert seen.comes_again("a\ud800", 2 * WITHIN_S - 2.0)
    assert not seen.comes_again("a\ud800", 3 * WITHIN_S)


def test_only_so_many_are_remembered_and_those_in_use_longest() -> None:
    seen = Recurrence()
    for number in range(MOST):
        seen.comes_again(str(number), 0.0)
    assert seen.comes_again("0", 1.0)
    seen.comes_again("new", 1.0)
    assert seen.comes_again("0", 2.0)
    assert not seen.comes_again("1", 2.0)
