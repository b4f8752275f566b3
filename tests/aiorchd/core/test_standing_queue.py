"""A burst that is turned away in one moment is no standing queue; a load that stays is one, for its own flow, until it ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.standing_queue import StandingQueue


def turned_away(queue: StandingQueue[str], flow: str, *times: float) -> None:
    for at in times:
        queue.turned_away(flow, at, 1.0)


def test_a_burst_is_no_sign() -> None:
    queue: StandingQueue[str] = StandingQueue()
    turned_away(queue, "a", *[5.0] * 1000)
    assert not queue.stands("a", 5.0, 1.0)
    assert not queue.stands("a", 5.9, 1.0)
    assert not queue.stands("a", 9.0, 1.0)  # the second look came after the pause that ends it


def test_who_is_turned_away_again_and_again_stands_until_there_is_a_pause() -> None:
    queue: StandingQueue[str] = StandingQueue()
    turned_away(queue, "a", 5.0, 5.6, 6.1)
    assert queue.stands("a", 6.1, 1.0)
    assert not queue.stands("b", 6.1, 1.0)
    assert queue.stands("a", 7.0, 1.0)
    assert not queue.stands("a", 7.2, 1.0)
    turned_away(queue, "a", 7.2)
    assert not queue.stands("a", 7.2, 1.0)


def test_an_empty_queue_does_not_stand() -> None:
    queue: StandingQueue[str] = StandingQueue()
    turned_away(queue, "a", 5.0, 5.6, 6.1)
    queue.empty()
    assert not queue.stands("a", 6.1, 1.0)


def test_flows_are_bounded() -> None:
    queue: StandingQueue[int] = StandingQueue()
    for flow in range(5000):
        queue.turned_away(flow, 1.0, 1.0)
    assert len(queue._runs) == 1000


@given(st.lists(st.floats(0.0, 3.0), max_size=50))
def test_it_stands_only_after_refusals_without_a_pause_for_longer_than_an_interval(steps: list[float]) -> None:
    queue: StandingQueue[str] = StandingQueue()
    times: list[float] = []
    now = 0.0
    for step in steps:
        now += step
        expected = False
        if times and now - times[-1] <= 1.0:
            first = len(times) - 1
            while first > 0 and times[first] - times[first - 1] <= 1.0:
                first -= 1
            expected = now - times[first] > 1.0
        assert queue.stands("a", now, 1.0) == expected
        queue.turned_away("a", now, 1.0)
        times.append(now)
