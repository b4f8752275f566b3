"""Priorities: the higher first, a trickle for the lower, one bound for all."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.priority_queue import PRIORITIES, PriorityQueue


def put(queue, flow, item, priority="normal", deadline=1e9, weight=1.0):
    return queue.put(flow, item, priority=priority, deadline=deadline, weight=weight)


def started(queue, number):
    """Start so many, one at a time."""
    order = []
    for _ in range(number):
        left = [1]
        decision = queue.decide(0.0, lambda _item, _now, left=left: 0.0 if left and left.pop() else None)
        order += decision.start
    return order


def test_the_higher_first():
    queue = PriorityQueue(10)
    for priority in reversed(PRIORITIES):
        put(queue, 1, priority, priority)
    assert queue.decide(0.0, lambda item, now: 0.0).start == list(PRIORITIES)
    assert len(queue) == 0


def test_a_flood_leaves_the_lowest_its_trickle():
    queue = PriorityQueue(1000, trickle=0.1)
    for number in range(300):
        put(queue, 1, "interactive", "interactive")
        put(queue, 1, "bulk", "bulk")
        put(queue, number % 3, "normal", "normal")
    counts = Counter(started(queue, 220))
    assert 18 <= counts["bulk"] <= 22
    assert 18 <= counts["normal"] <= 22


def test_weights_hold_within_a_priority():
    queue = PriorityQueue(1000)
    for _ in range(200):
        put(queue, "heavy", "heavy", weight=3.0)
        put(queue, "light", "light")
    counts = Counter(started(queue, 100))
    assert 74 <= counts["heavy"] <= 76


def test_when_it_is_full_the_lowest_loses():
    queue = PriorityQueue(2)
    put(queue, 1, "b1", "bulk")
    put(queue, 1, "b2", "bulk")
    entry, turned_away = put(queue, 2, "i1", "interactive")
    assert (entry is not None, turned_away) == (True, "b2")
    assert put(queue, 2, "i2", "interactive")[1] == "b1"
    assert put(queue, 3, "b3", "bulk") == (None, "b3")
    assert put(queue, 2, "i3", "interactive") == (None, "i3")  # the longest of its own priority is its own
    assert list(queue.items()) == ["i1", "i2"]
    assert PriorityQueue(0).put(1, "x", priority="normal", deadline=1.0) == (None, "x")


def test_who_cannot_make_it_is_told_whatever_its_priority():
    queue = PriorityQueue(10)
    put(queue, 1, "now", "interactive", deadline=100.0)
    put(queue, 1, "soon", "bulk", deadline=2.0)
    put(queue, 1, "later", "bulk", deadline=50.0)
    decision = queue.decide(0.0, lambda item, now: 10.0)
    assert ([shed.item for shed in decision.shed], decision.wake_in_s) == (["soon"], 10.0)
    assert (len(queue), queue.backlog(1, "bulk"), queue.backlog(1, "interactive")) == (2, 2, 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "leave", "decide", "late"]),
            st.integers(0, 3),
            st.sampled_from(PRIORITIES),
            st.integers(0, 5),
        ),
        max_size=80,
    )
)
def test_nobody_is_lost_or_served_twice(steps):
    queue = PriorityQueue(6)
    waiting, entries, gone = {}, {}, Counter()
    for number, (what, flow, priority, budget) in enumerate(steps):
        if what == "put":
            entry, turned_away = put(queue, flow, number, priority, deadline=number + 40.0)
            if entry is not None:
                waiting[number], entries[number] = priority, entry
            if turned_away is not None:
                gone[turned_away] += 1
                waiting.pop(turned_away, None)
        elif what == "leave" and waiting:
            left = next(iter(waiting))
            queue.remove(entries[left])
            del waiting[left]
        elif what in ("decide", "late"):
            room = [budget]

            def grant(item, now, room=room, late=what == "late"):
                if room[0]:
                    room[0] -= 1
                    return 0.0
                return 1000.0 if late else None

            decision = queue.decide(float(number), grant)
            for item in (*decision.start, *(shed.item for shed in decision.shed)):
                gone[item] += 1
                del waiting[item]
        assert len(queue) == len(waiting) <= 6
        assert sorted(queue.items()) == sorted(waiting)
        assert all(times == 1 for times in gone.values())
