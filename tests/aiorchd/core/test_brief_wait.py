"""What comes at once is waited for; what is late costs everybody one wait, and then less and less of the time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.brief_wait import FIRST_PAUSE_S, LIMIT_S, LONGEST_PAUSE_S, BriefWait


def test_what_comes_in_time_is_always_waited_for() -> None:
    wait = BriefWait()
    for number in range(100):
        assert wait.worth_it(number * 1e-6)
        wait.came()


def test_what_was_late_is_not_waited_for_again_for_a_while() -> None:
    wait = BriefWait()
    wait.was_late(10.0)
    assert not wait.worth_it(10.0 + FIRST_PAUSE_S * 0.99)
    assert wait.worth_it(10.0 + FIRST_PAUSE_S * 1.01)
    wait.was_late(11.0)
    assert not wait.worth_it(11.0 + FIRST_PAUSE_S * 1.99)
    assert wait.worth_it(11.0 + FIRST_PAUSE_S * 2.01)
    wait.came()
    wait.was_late(12.0)
    assert wait.worth_it(12.0 + FIRST_PAUSE_S * 1.01)


@given(st.lists(st.floats(0.0, 0.1), max_size=3000))
def test_a_disk_that_is_always_late_costs_hardly_any_time(asked_apart: list[float]) -> None:
    wait, now, waits, last = BriefWait(), 0.0, 0, -FIRST_PAUSE_S
    for apart in asked_apart:
        now += apart
        if wait.worth_it(now):
            assert now - last >= FIRST_PAUSE_S * 0.99
            waits, last = waits + 1, now
            now += LIMIT_S
            wait.was_late(now)
    assert waits <= 12 + now / LONGEST_PAUSE_S
