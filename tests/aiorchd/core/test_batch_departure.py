"""When a batch leaves: it waits for who is to be expected, and for nobody else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.batch_departure import EDGES_S, Pauses, departure, latest_of


def after(*pauses_s: float) -> tuple[Pauses, float]:
    pauses, now = Pauses(), 0.0
    pauses.came(now)
    for pause in pauses_s:
        now += pause
        pauses.came(now)
    return pauses, now


def wait_s(pauses: Pauses, now: float, left_s: float = 0.3, usual_s: float = 0.0) -> float:
    return pauses.expected_until(now, now + left_s, usual_s) - now


def test_the_first_of_all_waits_for_a_moment() -> None:
    pauses, now = after()
    assert 0 < wait_s(pauses, now) <= 0.005


def test_a_lone_question_goes_at_once() -> None:
    assert wait_s(*after(*[10.0] * 5)) == 0


def test_a_steady_stream_is_waited_for() -> None:
    assert 0.1 <= wait_s(*after(*[0.1] * 20)) <= 0.12


def test_a_burst_is_over_some_milliseconds_after_its_end() -> None:
    pauses, now = after(*([0.001] * 20 + [5.0]) * 3, *[0.001] * 20)
    assert 0 < wait_s(pauses, now) < 0.02
    # Silence has lasted: nothing is expected any more.
    assert pauses.expected_until(now + 0.02, now + 0.3, 1.0) == now + 0.02


def test_a_small_chance_is_waited_for_briefly_where_a_call_takes_long() -> None:
    """In one burst of three there is a pause of 6 ms."""
    pauses, now = after(*([0.001] * 9 + [5.0] + [0.001] * 5 + [0.006] + [0.001] * 5 + [5.0] + [0.001] * 9 + [5.0]) * 9)
    pauses.came(now := now + 0.001)
    assert wait_s(pauses, now) == pytest.approx(EDGES_S[0]), "for nothing but company that is likely"
    assert wait_s(pauses, now, usual_s=0.02) == pytest.approx(EDGES_S[0])
    assert wait_s(pauses, now, usual_s=1.0) == pytest.approx(EDGES_S[1])
    assert wait_s(pauses, now, left_s=0.005, usual_s=1.0) == pytest.approx(EDGES_S[0]), "there is no time for it"


def test_a_long_burst_makes_nobody_forget_the_silences_of_small_ones() -> None:
    small = ([0.001] * 2 + [0.006] + [0.001] * 2 + [5.0]) * 20
    pauses, now = after(*small, *[0.001] * 1000)
    assert wait_s(pauses, now, usual_s=1.0) == pytest.approx(EDGES_S[1])


def test_what_came_long_ago_counts_less() -> None:
    assert wait_s(*after(*[0.05] * 300, *[10.0] * 200)) == 0


@given(st.lists(st.floats(0, 30), max_size=200), st.floats(0, 5), st.floats(0.001, 2), st.floats(0, 100))
def test_chances_are_chances_and_moments_lie_ahead(
    lengths: list[float], silence_s: float, left_s: float, usual_s: float
) -> None:
    pauses, now = after(*lengths)
    assert -1e-9 <= pauses.chance(silence_s, left_s) <= 1.0 + 1e-9
    at = now + silence_s
    until = pauses.expected_until(at, at + left_s, usual_s)
    assert at <= until <= at + left_s
    # A moment to look again that has come says that nothing is expected, so that nobody looks again and again.
    looks = 0
    while (
        look_at := pauses.expected_until(at, now + silence_s + left_s, usual_s)
    ) > at and at < now + silence_s + left_s:
        at, looks = look_at, looks + 1
    assert looks <= len(EDGES_S) + 1


def decide(**fields: object) -> tuple[str | None, float]:
    pauses, now = after(*[0.1] * 20)
    given: dict[str, object] = {
        "opened_at": now, "items": 1, "allowed": 8, "latest": math.inf, "pauses": pauses, "max_wait_s": 0.3, "usual_s": 1.0,
        "free": True,
    }  # fmt: skip
    found = departure(now + float(fields.pop("later", 0.0)), **{**given, **fields})  # type: ignore[arg-type]
    return found.why, found.look_at - now


def test_reasons_to_leave() -> None:
    assert decide(items=8)[0] == "it is full"
    assert decide(later=0.3)[0] == "its wait is over"
    assert decide(latest=0.0)[0] == "a question in it has no time to wait"
    why, look_at_s = decide()
    assert why is None
    assert 0.1 <= look_at_s <= 0.12
    assert decide(later=0.13)[0] == "nothing else is expected"
    # Where it could not begin anyway it waits as long as it may.
    assert decide(later=0.13, free=False) == (None, 0.3) or math.isclose(decide(later=0.13, free=False)[1], 0.3)


def test_the_time_of_a_question() -> None:
    assert latest_of(0.0, 60.0, 1.0) == 12.0
    assert latest_of(0.0, 2.0, 1.0) == 0.4
    assert latest_of(0.0, 1.2, 1.0) < 0
