"""The fair queue: order, bounds, shedding, and a slow model that it must agree with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiorchd.core.fair_queue import FairQueue, Shed

NEVER = math.inf


def take(number):
    """A grant that lets so many through and then knows nothing."""
    left = [number]

    def grant(item, now):
        if left[0]:
            left[0] -= 1
            return 0.0
        return None

    return grant


def waits(seconds):
    return lambda item, now: seconds


def drain(queue, number=10_000):
    return queue.decide(0.0, take(number)).start


def put(queue, key, *items, **options):
    options.setdefault("deadline", NEVER)
    return [queue.put(key, item, **options) for item in items]


def test_first_come_first_served_within_a_flow():
    queue = FairQueue(10)
    put(queue, "a", 1, 2, 3)
    assert queue.first() == 1
    assert drain(queue, 2) == [1, 2]
    assert len(queue) == 1
    assert drain(queue) == [3]
    assert queue.first() is None


def test_one_of_each_flow_in_turn():
    queue = FairQueue(100)
    put(queue, "flood", *(f"f{k}" for k in range(50)))
    assert drain(queue, 3) == ["f0", "f1", "f2"]
    put(queue, "late", "l0", "l1")
    put(queue, "later", "x0")
    # The newcomers do not wait behind 47 others.
    assert drain(queue, 4) == ["l0", "x0", "f3", "l1"]
    assert drain(queue, 2) == ["f4", "f5"]


def test_weights_share_accordingly():
    queue = FairQueue(1000)
    put(queue, "heavy", *["h"] * 100, weight=3.0)
    put(queue, "light", *["l"] * 100, weight=1.0)
    first = drain(queue, 80)
    assert first.count("h") == pytest.approx(60, abs=1)


def test_costs_share_accordingly():
    queue = FairQueue(1000)
    put(queue, "large", *["L"] * 100, cost=5.0)
    put(queue, "small", *["s"] * 100, cost=1.0)
    first = drain(queue, 60)
    assert first.count("L") == pytest.approx(10, abs=1)


def test_a_flow_that_was_away_has_saved_up_nothing():
    queue = FairQueue(1000)
    put(queue, "b", *["b"] * 100)
    drain(queue, 50)
    put(queue, "a", *["a"] * 20)
    assert drain(queue, 20).count("a") == pytest.approx(10, abs=1)


def test_a_flow_that_was_served_long_ago_has_saved_up_nothing():
    queue = FairQueue(1000)
    put(queue, "a", "a")
    put(queue, "b", *["b"] * 100)
    drain(queue, 50)
    put(queue, "a", *["a"] * 20)
    assert drain(queue, 20).count("a") == pytest.approx(10, abs=1)


def test_a_flow_does_not_gain_by_leaving_and_coming_back():
    queue = FairQueue(1000)
    put(queue, "b", *["b"] * 100)
    served = []
    for _ in range(20):  # "a" always has just one in the queue, put back as soon as it was served
        put(queue, "a", "a")
        served += drain(queue, 2)
    assert served.count("a") == pytest.approx(20, abs=1)
    assert served.count("b") == pytest.approx(20, abs=1)


def test_leaving_costs_a_flow_nothing():
    queue = FairQueue(1000)
    entries = put(queue, "a", *range(10), cost=100.0)
    put(queue, "b", "b0", "b1")
    for entry, _ in entries[:9]:
        queue.remove(entry)
    assert set(drain(queue, 2)) == {"b0", 9}


def test_leaving_twice_is_harmless():
    queue = FairQueue(10)
    ((entry, _),) = put(queue, "a", 1)
    queue.remove(entry)
    queue.remove(entry)
    assert (len(queue), queue.backlog("a"), dict(queue.backlogs())) == (0, 0, {})


def test_full_turns_away_the_newest_of_the_longest():
    queue = FairQueue(3)
    put(queue, "flood", 1, 2, 3)
    assert put(queue, "flood", 4) == [(None, 4)]
    ((entry, turned_away),) = put(queue, "modest", "m")
    assert entry is not None
    assert turned_away == 3
    assert queue.backlogs() == {"flood": 2, "modest": 1}
    # As long as any: the newcomer itself.
    assert put(queue, "modest", "n") == [(None, "n")]
    assert put(queue, "third", "t")[0][1] == 2


def test_no_room_at_all():
    assert put(FairQueue(0), "a", 1) == [(None, 1)]


def test_room_changes_live():
    queue = FairQueue(2)
    put(queue, "a", 1, 2)
    queue.max_waiting = 1
    assert drain(queue, 0) == []
    assert len(queue) == 2  # who waits already stays
    assert put(queue, "a", 3) == [(None, 3)]
    queue.max_waiting = 3
    assert put(queue, "a", 4)[0][1] is None


def test_who_cannot_make_it_is_told_at_once():
    queue = FairQueue(10)
    put(queue, "a", "patient", deadline=100.0)
    put(queue, "a", "hasty", deadline=4.0)
    put(queue, "b", "hurried", deadline=4.9)
    put(queue, "b", "calm", deadline=5.1)
    decision = queue.decide(0.0, waits(5.0))
    assert decision.start == []
    assert {shed.item for shed in decision.shed} == {"hasty", "hurried"}
    assert all(shed.delay_s == 5.0 for shed in decision.shed)
    assert decision.wake_in_s == 5.0
    assert queue.backlogs() == {"a": 1, "b": 1}


def test_the_first_ones_hopeless_wait_dooms_only_itself():
    queue = FairQueue(10)
    put(queue, "a", "large", deadline=4.0)
    put(queue, "a", "small", deadline=4.0)
    decision = queue.decide(0.0, lambda item, now: 5.0 if item == "large" else 0.0)
    assert decision.shed == [Shed("large", 5.0)]
    assert decision.start == ["small"]
    assert decision.wake_in_s is None


def test_nobody_overtakes():
    queue = FairQueue(10)
    put(queue, "a", "large")
    put(queue, "b", "small")
    decision = queue.decide(0.0, lambda item, now: 5.0 if item == "large" else 0.0)
    assert (decision.start, decision.wake_in_s) == ([], 5.0)


def test_an_unknown_wait_sheds_only_whose_time_is_up():
    queue = FairQueue(10)
    put(queue, "a", "gone", deadline=9.0)
    put(queue, "a", "waiting", deadline=11.0)
    decision = queue.decide(10.0, waits(None))
    assert [shed.item for shed in decision.shed] == ["gone"]
    assert decision.wake_in_s is None


def test_forgetting_history_makes_all_equal():
    queue = FairQueue(100)
    put(queue, "a", *["a"] * 20, cost=1000.0)
    put(queue, "b", *["b"] * 20)
    drain(queue, 10)
    queue.forget_history()
    put(queue, "c", "c")
    assert set(drain(queue, 3)) == {"a", "b", "c"}


@pytest.mark.parametrize("options", [{"cost": 0.0}, {"weight": 0.0}, {"cost": -1.0}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError, match="above 0"):
        put(FairQueue(10), "a", 1, **options)


def test_what_is_past_takes_no_room():
    queue = FairQueue(10)
    put(queue, "stays", "stays")
    for k in range(5000):
        ((entry, _),) = put(queue, f"caller {k}", k, deadline=1e9)
        if k % 2:
            queue.remove(entry)
        else:
            drain(queue, 1)
    assert len(queue._deadlines) <= 200
    assert len(queue._turns) <= 400
    assert len(queue._flows) <= 200


# --- fairness as a figure ----------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=6, max_size=6),
    st.integers(1, 100),
)
def test_flows_that_all_wait_get_equal_service_within_two_items(lengths, costs, starts):
    """SFQ's fairness bound: the difference of service over weight is at most the sum of the two largest costs."""
    queue = FairQueue(1000)
    for flow, length in enumerate(lengths):
        put(queue, flow, *[flow] * length, cost=costs[flow])
    served = [0.0] * len(lengths)
    for _ in range(starts):
        if any(queue.backlog(flow) == 0 for flow in range(len(lengths))):
            return
        (flow,) = queue.decide(0.0, take(1)).start
        served[flow] += costs[flow]
        for one in range(len(lengths)):
            for other in range(one):
                assert abs(served[one] - served[other]) <= costs[one] + costs[other] + 1e-9


class SlowQueue(RuleBasedStateMachine):
    """The same rules over plain lists: tags computed by searching, everything by counting."""

    LIMIT = 12

    def __init__(self):
        super().__init__()
        self.queue = FairQueue(self.LIMIT)
        self.waiting = []  # [flow, item, deadline, cost, entry], in order of arrival
        self.free_at = {}
        self.first_start = {}
        self.virtual_time = 0.0
        self.number = 0

    def flow_of(self, key):
        return [row for row in self.waiting if row[0] == key]

    def settle_starts(self):
        """A flow whose first entry is new takes its place now."""
        for key in {row[0] for row in self.waiting}:
            first = self.flow_of(key)[0][1]
            if self.first_start.get(key, (None,))[0] != first:
                self.first_start[key] = (first, max(self.virtual_time, self.free_at.get(key, 0.0)))

    def idle(self):
        if not self.waiting:
            self.free_at.clear()
            self.first_start.clear()
            self.virtual_time = 0.0

    @rule(key=st.sampled_from("abcd"), deadline=st.integers(1, 40), cost=st.sampled_from([1.0, 2.0, 7.0]))
    def put(self, key, deadline, cost):
        self.number += 1
        item = self.number
        entry, turned_away = self.queue.put(key, item, deadline=float(deadline), cost=cost)
        row = [key, item, float(deadline), cost, entry]
        if len(self.waiting) < self.LIMIT:
            assert turned_away is None
            self.waiting.append(row)
        else:
            lengths = {each: len(self.flow_of(each)) for each in {row[0] for row in self.waiting}}
            if lengths.get(key, 0) + 1 >= max(lengths.values()):
                assert (entry, turned_away) == (None, item)
            else:
                victims = {self.flow_of(each)[-1][1] for each, n in lengths.items() if n == max(lengths.values())}
                assert turned_away in victims
                self.waiting = [row for row in self.waiting if row[1] != turned_away]
                self.waiting.append(row)
        self.settle_starts()

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, 1000))
    def leave(self, index):
        row = self.waiting.pop(index % len(self.waiting))
        self.queue.remove(row[4])
        self.idle()
        self.settle_starts()

    @rule(now=st.integers(0, 30), number=st.integers(0, 4), delay=st.sampled_from([None, 0.5, 6.0, 20.0]))
    def decide(self, now, number, delay):
        granted = take(number)
        decision = self.queue.decide(float(now), lambda item, at: delay if granted(item, at) is None else 0.0)
        for item in decision.start:
            row = next(row for row in self.waiting if row[1] == item)
            assert row is self.flow_of(row[0])[0], "not the first of its flow"
            start = self.first_start[row[0]][1]
            assert start == min(self.first_start[each][1] for each in {row[0] for row in self.waiting})
            self.virtual_time = start
            self.free_at[row[0]] = start + row[3]
            self.waiting.remove(row)
            self.settle_starts()
        earliest = now + (delay or 0.0)
        hopeless = {row[1] for row in self.waiting if row[2] < earliest}
        assert {shed.item for shed in decision.shed} == hopeless
        self.waiting = [row for row in self.waiting if row[1] not in hopeless]
        assert decision.wake_in_s == (delay if self.waiting else None)
        self.idle()
        self.settle_starts()

    @invariant()
    def agrees(self):
        assert len(self.queue) == len(self.waiting)
        assert sum(self.queue.backlogs().values()) == len(self.waiting)
        for key in "abcd":
            assert self.queue.backlog(key) == len(self.flow_of(key))


SlowQueue.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestAgainstTheSlowQueue = SlowQueue.TestCase
