"""The line of those who may begin: a few a turn, by turns, never idle, and a forecast that comes true."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.start_line import StartLine


class Flows:
    """What waits, as the sessions keep it."""

    def __init__(self, line: StartLine[str]) -> None:
        self.line = line
        self.waiting: dict[str, deque[int]] = {}

    def come(self, flow: str, number: int = 1) -> None:
        for _ in range(number):
            mine = self.waiting.setdefault(flow, deque())
            mine.append(len(mine))
            self.line.stand(flow, len(mine))

    def go_round(self, now: float) -> list[str]:
        begun = []
        for flow in self.line.round(now):
            self.waiting[flow].popleft()
            self.line.stand(flow, len(self.waiting[flow]))
            begun.append(flow)
        return begun


def test_a_few_begin_in_a_turn_without_standing_in_line() -> None:
    line: StartLine[str] = StartLine(at_once=2)
    assert [line.begin() for _ in range(3)] == [True, True, False]
    assert line.wants_round
    assert list(line.round(1.0)) == []
    assert not line.wants_round
    assert line.begin()


def test_nobody_goes_before_those_who_stand() -> None:
    line: StartLine[str] = StartLine(at_once=2)
    line.stand("a", 1)
    assert not line.begin()
    assert line.wants_round


def test_flows_take_turns() -> None:
    flows = Flows(StartLine(at_once=3))
    flows.come("many", 5)
    flows.come("few", 2)
    assert flows.go_round(0.0) == ["many", "few", "many"]
    flows.come("late")
    assert flows.go_round(0.1) == ["few", "many", "late"]
    assert flows.go_round(0.2) == ["many", "many"]
    assert len(flows.line) == 0


def test_who_cannot_begin_anything_now_is_nobody_elses_burden() -> None:
    flows = Flows(StartLine(at_once=1))
    flows.come("full", 100)
    flows.line.stand("full", 0)
    assert flows.line.wait_s(0) == 0.0
    assert not flows.line.wants_round
    flows.line.stand("full", 100)
    assert flows.line.wait_s(0) > 0.0


def test_a_pause_is_not_taken_for_slowness() -> None:
    flows = Flows(StartLine(at_once=2))
    flows.come("a", 2)
    flows.go_round(0.0)
    before = flows.line.each_s
    flows.come("a", 2)
    flows.go_round(100.0)
    assert flows.line.each_s == before


def test_fewer_begin_in_a_turn_where_each_takes_long_and_as_many_as_ever_where_it_does_not() -> None:
    flows, now = Flows(StartLine(at_once=4)), 0.0
    assert flows.line.room == 4
    for each_s, room in ((0.002, 4), (0.006, 2), (0.05, 1), (0.0, 4)):
        flows.come("flood", 300)
        for _ in range(100):
            now += each_s * len(flows.go_round(now))
            flows.come("flood", 4)
        assert flows.line.room == room
        assert len(flows.go_round(now)) == room


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("each_s", [0.0001, 0.001, 0.02])
def test_the_forecast_comes_true(at_once: int, each_s: float) -> None:
    flows = Flows(StartLine(at_once))
    flows.come("flood", 400)
    now = 0.0
    while len(flows.line) > 200:
        now += each_s * len(flows.go_round(now))
    ahead = len(flows.waiting["flood"])
    foretold = flows.line.wait_s(ahead)
    newcomer = flows.line.wait_s(0)
    began = now
    while flows.waiting["flood"]:
        now += each_s * len(flows.go_round(now))
    assert foretold == pytest.approx(now - began, rel=0.06)
    assert newcomer <= 2 * each_s


@given(
    st.integers(1, 5),
    st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.sampled_from("abc"), st.integers(1, 9)),
            st.tuples(st.just("begin"), st.just(""), st.just(0)),
            st.tuples(st.just("leave"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("round"), st.just(""), st.just(0)),
        ),
        max_size=60,
    ),
)
def test_counts_add_up_and_no_turn_is_wasted(at_once: int, steps: list[tuple[str, str, int]]) -> None:
    flows = Flows(StartLine(at_once))
    now, begun_alone = 0.0, 0
    for what, flow, number in steps:
        waiting = sum(map(len, flows.waiting.values()))
        assert len(flows.line) == waiting
        room = flows.line.room
        assert 1 <= room <= at_once
        assert all(flows.line.wait_s(ahead) <= flows.line.wait_s(ahead + 1) for ahead in range(5))
        assert flows.line.wait_s(10**6) == pytest.approx(waiting * flows.line.each_s)
        if what == "come":
            flows.come(flow, number)
        elif what == "leave":
            flows.waiting.pop(flow, None)
            flows.line.stand(flow, 0)
        elif what == "begin":
            begins = flows.line.begin()
            begun_alone += begins
            assert begins <= (waiting == 0 and begun_alone <= room)
        else:
            now += 0.01
            begun = flows.go_round(now)
            begun_alone = len(begun)
            room = flows.line.room
            assert len(begun) == min(waiting, room)  # never idle, never more than a turn may begin
            assert flows.line.wants_round == (waiting >= room)
        assert 0.0 < flows.line.each_s < 1.0
