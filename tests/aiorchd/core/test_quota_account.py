"""The quota account: all quotas taken together, told ones mirrored, and a closed door that holds for everybody."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.quota_account import Limits, Need, QuotaAccount


def account(requests=None, tokens=None, **more):
    return QuotaAccount("test", Limits(requests, tokens, **{"burst_s": 10, **more}))


def need(tokens, output=0):
    return Need(tokens - output, output)


def levels(it, now):
    return it.level(now, "requests"), it.level(now, "tokens")


def test_without_limits_everything_goes():
    it = account()
    assert it.delay_s(0.0, need(1e9)) == 0.0
    grant = it.take(0.0, need(1e9))
    it.settle(grant, need(1.0), 1.0)
    assert levels(it, 1.0) == (None, None)
    assert it.blocked(1.0, need(1e9)) is None
    assert it.views(1.0) == []


def test_the_scarcer_quota_decides():
    it = account(60, 6000)  # 1 request and 100 tokens a second, 10 and 1 000 at once
    it.take(0.0, need(990))
    assert it.delay_s(0.0, need(10)) == 0.0
    assert it.delay_s(0.0, need(60)) == pytest.approx(0.5)
    assert it.blocked(0.0, need(60)).by == "tokens a minute"
    for _ in range(9):
        it.take(0.0, need(0))
    assert it.delay_s(0.0, need(10)) == pytest.approx(1.0)
    assert it.blocked(0.0, need(10)).by == "requests a minute"
    assert it.earliest_s(0.0, 3) == pytest.approx(3.0)


def test_the_margin_is_kept_until_the_provider_tells_its_limit():
    it = account(600, margin=0.9)
    assert it.level(0.0, "requests") == 90.0
    grant = it.take(0.0, need(0))
    it.hear(grant, 0.1, "requests", 600, 99, 0.1, None)
    [view] = it.views(0.1)
    assert (view.limit, view.source) == (600, "reported")
    # A configured limit that is lower still holds, whole: the provider shows that there is room.
    it.reconfigure(0.1, Limits(300, margin=0.9, burst_s=10))
    assert it.views(0.1)[0].limit == 300


def test_settling_corrects_tokens_and_keeps_the_request():
    it = account(60, 6000)
    grant = it.take(0.0, need(600))
    it.settle(grant, need(100), 0.0)
    assert levels(it, 0.0) == (9.0, 900.0)


def test_cancelling_gives_both_back():
    it = account(60, 6000)
    it.cancel(it.take(0.0, need(600)), 0.0)
    assert levels(it, 0.0) == (10.0, 1000.0)


def test_input_and_output_tokens_are_counted_apart_where_the_provider_does():
    it = account()
    grant = it.take(0.0, need(100, output=20))
    it.hear(grant, 0.0, "input_tokens", 6000, 500, 5.0, None)
    it.hear(grant, 0.0, "output_tokens", 600, 10, 5.0, None)
    assert it.delay_s(0.0, need(100, output=5)) == 0.0
    blocked = it.blocked(0.0, need(100, output=20))
    assert blocked.by == "output tokens a minute"
    assert 0.9 < blocked.delay_s < 1.2


def test_the_share_is_that_of_the_scarcer_quota():
    it = account(60, 6000)
    assert it.share_s(need(50)) == 1.0
    assert it.share_s(need(500)) == 5.0
    assert account(None, 6000).share_s(need(0)) == 0.01
    assert account(120).share_s(need(10**6)) == 0.5
    assert account().share_s(need(10**6)) == 0.0


def test_a_day_is_counted_over_any_24_hours():
    it = account(requests_per_day=10)
    for hour in range(10):
        assert it.delay_s(hour * 3600.0, need(0)) == 0.0
        it.take(hour * 3600.0, need(0))
    blocked = it.blocked(9 * 3600.0, need(0))
    assert blocked.by == "requests a day"
    assert blocked.delay_s == pytest.approx(15 * 3600.0 + 900.0)
    assert it.delay_s(9 * 3600.0 + blocked.delay_s, need(0)) == 0.0


def test_a_quota_that_takes_longer_than_a_minute_to_come_back_is_one_of_a_day():
    it = account()
    for spent in range(1, 40):  # Groq: 14 400 requests a day, one back every six seconds
        grant = it.take(float(spent), need(0))
        it.hear(grant, float(spent), "requests", 14_400, 14_400 - spent, 6.0 * spent, None)
    assert {view.window_s for view in it.views(40.0) if view.level < 14_400} == {86_400.0}
    assert it.delay_s(40.0, need(0)) == 0.0


def test_closed_for_everybody_until_the_later_end():
    it = account(600)
    assert it.close(0.0, 10.0)
    assert not it.close(1.0, 3.0)  # a shorter word does not shorten the longer one
    assert it.delay_s(4.0, need(0)) == pytest.approx(6.0)
    assert it.earliest_s(4.0, 1) == pytest.approx(6.0)
    assert it.close(5.0, 20.0, "so it said")
    assert it.blocked(5.0, need(0)).by == "closed: so it said"
    assert it.closed_s(5.0) == 20.0
    assert it.delay_s(25.0, need(0)) == 0.0
    assert it.closed_why(25.0) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_no_information_is_ignored(seconds):
    it = account(60)
    assert not it.close(0.0, seconds)
    assert it.closed_s(0.0) == 0.0


@pytest.mark.parametrize("seconds", [1e9, math.inf])
def test_nobody_is_shut_out_for_ever(seconds):
    it = account()
    it.close(0.0, seconds)
    assert it.delay_s(0.0, need(0)) == 3600.0


def test_a_refusal_costs_no_tokens_and_empties_what_only_we_count():
    it = account(60, 6000)
    grant = it.take(0.0, need(600))
    it.refused(grant, 0.1, "requests")
    requests, tokens = levels(it, 0.1)
    assert requests == pytest.approx(0.0)
    assert tokens == pytest.approx(1000.0)


def test_without_a_word_of_limits_a_refusal_finds_a_pace():
    it = account()
    for number in range(20):
        it.take(number * 0.05, need(10))
    it.refused(it.take(1.0, need(10)), 1.0, None)
    assert [(view.kind, view.source) for view in it.views(1.0)] == [("requests", "found")]
    assert it.delay_s(1.0, need(10)) > 0.0


def test_limits_come_change_and_go():
    it = account(60)
    grant = it.take(0.0, need(500))
    it.reconfigure(0.0, Limits(120, 6000, burst_s=10))
    assert levels(it, 0.0) == (9.0, 1000.0)
    it.settle(grant, need(100), 0.0)  # was never charged
    assert levels(it, 0.0)[1] == 1000.0
    grant = it.take(0.0, need(500))
    it.reconfigure(0.0, Limits())
    it.settle(grant, need(100), 0.0)
    assert levels(it, 0.0) == (None, None)


def test_the_same_limits_again_change_nothing():
    it = account(60, 6000)
    grant = it.take(0.0, need(500))
    it.reconfigure(0.0, Limits(60, 6000, burst_s=10))
    it.settle(grant, need(0), 0.0)
    assert levels(it, 0.0)[1] == 1000.0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2000), st.booleans()), max_size=50))
def test_no_delay_means_that_it_can_be_taken(steps):
    it = account(60, 6000)
    now = 0.0
    for pause, tokens, close in steps:
        now += pause
        if close:
            it.close(now, pause)
        now += it.delay_s(now, need(tokens))
        assert it.delay_s(now, need(tokens)) == 0.0
        grant = it.take(now, need(tokens))
        assert all(taken.reservation.granted for taken in grant.taken)


told = st.tuples(
    st.sampled_from(["requests", "tokens", "input_tokens", "output_tokens"]),
    st.none() | st.floats(1, 1e12),
    st.none() | st.floats(0, 1e12),
    st.none() | st.floats(0, 86_400),
    st.sampled_from([None, 60.0, 86_400.0]),
)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5), st.integers(0, 10_000), told | st.none(), st.sampled_from("answer refuse drop".split())
        ),
        max_size=40,
    )
)
def test_whatever_a_provider_says_nobody_waits_for_ever(steps):
    it = account()
    now, open_grants = 0.0, []
    for pause, tokens, says, ending in steps:
        now += pause
        delay_s = it.delay_s(now, need(tokens, output=tokens // 3))
        assert 0.0 <= delay_s < math.inf
        if delay_s < 2 * 86_400.0:
            for _ in range(20):  # what was told may forget itself on the way, never grow without end
                now += delay_s
                delay_s = it.delay_s(now, need(tokens, output=tokens // 3))
                if delay_s == 0.0:
                    break
        if delay_s > 0.0:
            continue
        grant = it.take(now, need(tokens, output=tokens // 3))
        open_grants.append(grant)
        answered = open_grants.pop(len(open_grants) // 2)
        if says is not None:
            it.hear(answered, now, *says)
        if ending == "answer":
            it.settle(answered, need(tokens // 2), now)
        elif ending == "refuse":
            it.refused(answered, now, None)
        for view in it.views(now):
            assert not math.isnan(view.level)
            assert view.limit is None or view.limit > 0.0
