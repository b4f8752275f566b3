"""The breaker: when it opens, for how long, who probes, how it comes back, and what says nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.circuit_breaker import BreakerPolicy, BreakerTicket, CircuitBreaker, Outcome, Refused, State

POLICY = BreakerPolicy(failure_rate=0.5, min_calls=4, window_s=10.0, open_s=5.0, max_open_s=12.0, recovery_s=4.0)


def send(breaker, now, outcome, **options):
    ticket = breaker.admit(now, **options)
    assert isinstance(ticket, BreakerTicket)
    breaker.settle(ticket, now, outcome)


def opened(now=0.0, policy=POLICY):
    breaker = CircuitBreaker(policy)
    for _ in range(4):
        send(breaker, now, Outcome.FAILED)
    assert breaker.statistics(now).state == "open"
    return breaker


def state(breaker, now):
    return breaker.statistics(now).state


def test_it_opens_at_the_rate_and_not_below_the_sample():
    breaker = CircuitBreaker(POLICY)
    for _ in range(3):
        send(breaker, 0.0, Outcome.FAILED)
    assert state(breaker, 0.0) == "closed"
    send(breaker, 0.0, Outcome.FAILED)
    assert state(breaker, 0.0) == "open"
    refused = breaker.admit(1.0)
    assert refused == Refused(State.OPEN, 1.0, 4.0)
    assert breaker.statistics(1.0).refused == 1


def test_it_stays_closed_below_the_rate():
    breaker = CircuitBreaker(POLICY)
    for number in range(60):
        send(breaker, number * 0.1, Outcome.FAILED if number % 5 in (2, 4) else Outcome.ANSWERED)
    statistics = breaker.statistics(6.0)
    assert (statistics.state, statistics.samples) == ("closed", 60)
    assert statistics.failure_rate == pytest.approx(0.4)


def test_as_many_failures_in_a_row_open_it_whatever_went_before():
    breaker = CircuitBreaker(POLICY)
    for _ in range(1000):
        send(breaker, 0.0, Outcome.ANSWERED)
    for _ in range(3):
        send(breaker, 1.0, Outcome.FAILED)
    send(breaker, 1.0, Outcome.ANSWERED)
    for number in range(4):
        assert state(breaker, 1.0) == "closed", number
        send(breaker, 1.0, Outcome.FAILED)
    assert state(breaker, 1.0) == "open"


def test_what_is_older_than_the_window_does_not_count():
    breaker = CircuitBreaker(POLICY)
    for _ in range(3):
        send(breaker, 0.0, Outcome.FAILED)
    send(breaker, 11.0, Outcome.FAILED)
    assert state(breaker, 11.0) == "closed"
    assert breaker.statistics(11.0).samples == 1
    assert breaker.statistics(30.0).failure_rate is None


def test_cancelled_calls_say_nothing():
    breaker = CircuitBreaker(POLICY)
    for _ in range(100):
        send(breaker, 0.0, Outcome.NOTHING)
    assert (state(breaker, 0.0), breaker.statistics(0.0).samples) == ("closed", 0)


def test_one_probe_at_a_time():
    breaker = opened()
    probe = breaker.admit(5.0)
    assert isinstance(probe, BreakerTicket)
    assert probe.probe
    assert isinstance(breaker.admit(5.0), Refused)
    assert breaker.would_refuse(5.0).state is State.HALF_OPEN
    breaker.settle(probe, 5.1, Outcome.NOTHING)  # its caller left: the next one may try
    another = breaker.admit(5.2)
    assert isinstance(another, BreakerTicket)
    assert another.probe
    assert breaker.statistics(5.2).probes == 2


def test_a_probe_that_is_swallowed_does_not_keep_the_target_shut():
    breaker = opened()
    swallowed = breaker.admit(5.0)
    assert isinstance(breaker.admit(16.9), Refused)
    another = breaker.admit(17.0)
    assert isinstance(another, BreakerTicket)
    assert another.probe
    breaker.settle(another, 17.1, Outcome.ANSWERED)
    breaker.settle(swallowed, 65.0, Outcome.FAILED)
    assert (state(breaker, 65.0), breaker.idle) == ("closed", True)


def test_repeated_openings_last_longer_up_to_the_cap_and_are_forgotten():
    breaker = opened()
    now, spans = 0.0, []
    for _ in range(4):
        spans.append(breaker.would_refuse(now).retry_after_s)
        now += spans[-1]
        send(breaker, now, Outcome.FAILED)
    assert spans == [5.0, 10.0, 12.0, 12.0]
    now += 12.0
    send(breaker, now, Outcome.ANSWERED)
    now += 4.0
    assert state(breaker, now) == "closed"
    for _ in range(4):
        send(breaker, now + 1.0, Outcome.FAILED)
    assert breaker.would_refuse(now + 1.0).retry_after_s == 12.0, "it was well for a moment only"
    now += 13.0
    send(breaker, now, Outcome.ANSWERED)
    assert state(breaker, now + 4.0) == "closed"
    for _ in range(4):
        send(breaker, now + 20.0, Outcome.FAILED)
    assert breaker.would_refuse(now + 20.0).retry_after_s == 5.0


def test_it_comes_back_little_by_little():
    breaker = opened()
    send(breaker, 5.0, Outcome.ANSWERED)
    assert state(breaker, 5.0) == "recovering"
    through = []
    for tick in range(80):
        now = 5.0 + tick * 0.05
        ticket = breaker.admit(now)
        through.append(isinstance(ticket, BreakerTicket))
        if isinstance(ticket, BreakerTicket):
            breaker.settle(ticket, now, Outcome.ANSWERED)
    quarters = [sum(through[start : start + 20]) for start in (0, 20, 40, 60)]
    assert through[0], "the first one comes at once"
    assert quarters == sorted(quarters)
    assert quarters[0] <= 6
    assert quarters[3] >= 16
    assert state(breaker, 9.0) == "closed"
    assert isinstance(breaker.admit(9.0), BreakerTicket)


def test_it_opens_for_longer_when_it_fails_while_it_comes_back():
    breaker = opened()
    send(breaker, 5.0, Outcome.ANSWERED)
    failed = 0
    for tick in range(80):
        now = 5.0 + tick * 0.05
        ticket = breaker.admit(now)
        if isinstance(ticket, BreakerTicket):
            breaker.settle(ticket, now, Outcome.FAILED)
            failed += 1
        if state(breaker, now) == "open":
            break
    assert failed == 3
    assert breaker.would_refuse(now).retry_after_s == pytest.approx(10.0)


def test_tickets_of_another_generation_say_nothing():
    breaker = CircuitBreaker(POLICY)
    old = [breaker.admit(0.0) for _ in range(20)]
    for ticket in old[:4]:
        breaker.settle(ticket, 1.0, Outcome.FAILED)
    assert state(breaker, 1.0) == "open"
    probe = breaker.admit(6.0)
    for ticket in old[4:12]:
        breaker.settle(ticket, 6.0, Outcome.FAILED)
    assert breaker.statistics(6.0).openings == 1, "they were sent before it opened"
    breaker.settle(probe, 6.0, Outcome.ANSWERED)
    for ticket in old[12:]:
        breaker.settle(ticket, 6.1, Outcome.FAILED)
    assert (state(breaker, 6.1), breaker.idle) == ("recovering", True)


def test_a_forced_call_passes_and_its_answer_brings_the_target_back():
    breaker = opened()
    send(breaker, 1.0, Outcome.FAILED, forced=True)
    assert breaker.would_refuse(1.0).retry_after_s == 4.0, "it lasts no longer for having been asked in need"
    send(breaker, 2.0, Outcome.ANSWERED, forced=True)
    statistics = breaker.statistics(2.0)
    assert (statistics.state, statistics.forced, statistics.refused) == ("recovering", 2, 0)


def test_switched_off_it_lets_all_pass_and_closes():
    breaker = opened()
    breaker.reconfigure(1.0, BreakerPolicy(enabled=False))
    assert state(breaker, 1.0) == "closed"
    for _ in range(100):
        send(breaker, 1.0, Outcome.FAILED)
    assert breaker.would_refuse(1.0) is None
    assert isinstance(breaker.admit(1.0), BreakerTicket)


def test_a_shorter_longest_time_holds_for_one_that_is_open():
    breaker = opened()
    breaker.reconfigure(1.0, BreakerPolicy(max_open_s=0.5, open_s=0.5))
    assert breaker.would_refuse(1.0).retry_after_s == 0.5


@given(
    st.lists(
        st.tuples(
            st.floats(0, 3),
            st.sampled_from(["admit", "admit", "force", "answered", "failed", "nothing"]),
        ),
        max_size=150,
    )
)
def test_whatever_happens_tickets_add_up_one_probe_is_out_and_it_is_never_shut_for_longer_than_the_cap(steps):
    breaker = CircuitBreaker(POLICY)
    now, out = 0.0, []
    for wait_s, what in steps:
        now += wait_s
        if what in ("admit", "force"):
            ticket = breaker.admit(now, forced=what == "force")
            if isinstance(ticket, Refused):
                assert 0.0 < ticket.retry_after_s <= POLICY.max_open_s
            else:
                out.append((ticket, now))
        elif out:
            breaker.settle(out.pop()[0], now, Outcome(what))
        statistics = breaker.statistics(now)
        assert statistics.in_flight == len(out)
        probes = [at for ticket, at in out if ticket.probe and ticket.generation == out[-1][0].generation]
        assert all(later - sooner >= POLICY.max_open_s for sooner, later in pairwise(probes)), "one probe at a time"
    now += 1000.0
    assert isinstance(breaker.admit(now), BreakerTicket) or breaker.statistics(now).state == "half_open"
