"""Those who were refused are read from together, a little later, and never so late that the line runs dry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.reading_pace import LONGEST_PAUSE_S, ReadingPace


def test_all_wait_for_the_end_of_the_first_ones_pause() -> None:
    pace = ReadingPace()
    pace.refused(3.0)
    pace.pause(10.0)
    pace.pause(10.0 + LONGEST_PAUSE_S / 2)
    assert not pace.due(10.0 + LONGEST_PAUSE_S * 0.99, crowded=True)
    assert pace.due(10.0 + LONGEST_PAUSE_S, crowded=True)
    pace.pause(11.0)
    assert not pace.due(11.0, crowded=True)


def test_nobody_waits_when_nobody_stands_in_line() -> None:
    pace = ReadingPace()
    pace.pause(10.0)
    assert pace.due(10.0, crowded=False)


def test_the_least_patient_is_what_counts_and_is_forgotten_with_the_pause() -> None:
    pace = ReadingPace()
    pace.refused(3.0)
    pace.refused(0.08)
    pace.refused(3.0)
    pace.pause(10.0)
    assert not pace.due(10.0099, crowded=True)
    assert pace.due(10.0101, crowded=True)
    pace.refused(3.0)
    pace.pause(20.0)
    assert not pace.due(20.0101, crowded=True)


@given(st.lists(st.tuples(st.floats(0.0, 0.03), st.floats(0.0, 10.0)), min_size=1, max_size=50))
def test_nobody_waits_longer_than_an_eighth_of_the_patience_of_who_was_refused(
    steps: list[tuple[float, float]],
) -> None:
    pace, now, until = ReadingPace(), 0.0, float("inf")
    for later_s, patience_s in steps:
        now += later_s
        due = pace.due(now, crowded=True)
        assert due or now < until
        if due:
            until = float("inf")
        pace.refused(patience_s)
        pace.pause(now)
        until = min(until, now + LONGEST_PAUSE_S, now + patience_s / 8)
