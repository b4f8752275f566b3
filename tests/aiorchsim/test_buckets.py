"""Limits: exact at any time that is handed in, and told as OpenAI tells them."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorchsim.buckets import RateLimits, TokenBucket, duration, retry_after_lines


def test_a_full_bucket_lets_its_burst_through_and_then_the_rate():
    bucket = TokenBucket(rate_per_s=10, capacity=100, now=5.0)
    for _ in range(100):
        assert bucket.wait_s(1, 5.0) == 0.0
        bucket.take(1, 5.0)
    assert bucket.wait_s(1, 5.0) == pytest.approx(0.1)
    assert bucket.wait_s(1, 5.1) == 0.0
    assert bucket.full_in_s(5.1) == pytest.approx(9.9)
    assert bucket.level(1000.0) == 100.0


def test_more_than_it_holds_needs_a_full_bucket_and_leaves_debt():
    bucket = TokenBucket(rate_per_s=10, capacity=100, now=0.0)
    assert bucket.wait_s(250, 0.0) == 0.0
    bucket.take(250, 0.0)
    assert bucket.level(0.0) == -150.0
    assert bucket.wait_s(1, 0.0) == pytest.approx(15.1)


def test_time_that_goes_back_changes_nothing():
    bucket = TokenBucket(rate_per_s=10, capacity=100, now=10.0)
    bucket.take(50, 10.0)
    assert bucket.level(5.0) == 50.0


ARRIVALS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 300)), min_size=1, max_size=80)


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 2000), st.integers(60, 20_000), st.floats(0.5, 60))
def test_never_more_than_burst_and_rate_and_never_less_than_is_there(arrivals, requests, tokens, burst_s):
    limits = RateLimits(requests, tokens, burst_s, 0.0)
    request_capacity = max(1.0, requests / 60 * burst_s)
    token_capacity = max(1.0, tokens / 60 * burst_s)
    now = 0.0
    let_in = spent = 0
    largest = 0
    for gap_s, cost in arrivals:
        now += gap_s
        refused = limits.admit(cost, now)
        if refused is None:
            let_in += 1
            spent += cost
            largest = max(largest, cost)
        elif refused.retry_after_s is None:
            assert cost > tokens
        else:
            assert refused.retry_after_s > 0
        assert let_in <= request_capacity + requests / 60 * now + 1e-6
        assert spent <= token_capacity + tokens / 60 * now + largest + 1e-6


@settings(deadline=None)
@given(ARRIVALS, st.integers(1, 600), st.integers(600, 20_000))
def test_retry_after_is_exact(arrivals, requests, tokens):
    limits = RateLimits(requests, tokens, 10.0, 0.0)
    now = 0.0
    for gap_s, cost in arrivals:
        now += gap_s
        refused = limits.admit(cost, now)
        if refused is not None:
            assert refused.retry_after_s is not None
            if refused.retry_after_s > 0.002:
                assert limits.admit(cost, now + refused.retry_after_s - 0.001) is not None
            now += refused.retry_after_s
            assert limits.admit(cost, now) is None


def test_a_refused_call_is_charged_nothing():
    limits = RateLimits(600, 600, 10.0, 0.0)
    assert limits.admit(100, 0.0) is None
    before = limits.header_lines(0.0)
    refused = limits.admit(50, 0.0)
    assert refused is not None
    assert (refused.limited_by, refused.limit, refused.requested, refused.used) == ("tokens", 600, 50, 100)
    assert limits.header_lines(0.0) == before


def test_a_refused_call_may_be_charged_a_request():
    limits = RateLimits(600, 600, 10.0, 0.0, count_refused=True)
    assert limits.admit(100, 0.0) is None
    for _ in range(99):
        assert limits.admit(50, 0.0) is not None
    refused = limits.admit(0, 0.0)
    assert refused is not None
    assert refused.limited_by == "requests"


def test_a_call_beyond_the_limit_itself_never_passes():
    limits = RateLimits(None, 1000, 60.0, 0.0)
    refused = limits.admit(1001, 0.0)
    assert refused is not None
    assert refused.retry_after_s is None
    assert limits.admit(1000, 0.0) is None


def headers(limits, now):
    return dict(line.split(": ") for line in limits.header_lines(now).decode().splitlines())


def test_headers_tell_limit_remaining_and_reset():
    limits = RateLimits(600, 60_000, 10.0, 0.0)
    assert headers(limits, 0.0) == {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "100",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "60000",
        "x-ratelimit-remaining-tokens": "10000",
        "x-ratelimit-reset-tokens": "0s",
    }
    limits.admit(500, 0.0)
    told = headers(limits, 0.0)
    assert told["x-ratelimit-remaining-requests"] == "99"
    assert told["x-ratelimit-reset-requests"] == "100ms"
    assert told["x-ratelimit-remaining-tokens"] == "9500"
    assert told["x-ratelimit-reset-tokens"] == "500ms"
    assert headers(RateLimits(None, None, 10.0, 0.0), 0.0) == {}
    assert len(headers(RateLimits(5, None, 10.0, 0.0), 0.0)) == 3


@settings(deadline=None)
@given(ARRIVALS)
def test_remaining_is_what_still_passes(arrivals):
    limits = RateLimits(120, None, 10.0, 0.0)
    now = 0.0
    for gap_s, _ in arrivals:
        now += gap_s
        remaining = int(headers(limits, now)["x-ratelimit-remaining-requests"])
        assert (limits.admit(1, now) is None) == (remaining >= 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (-1, "0s"), (0.0001, "1ms"), (0.012, "12ms"), (0.9991, "1s"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"),
        (86.4, "1m26.4s"), (360, "6m0s"), (3600, "1h0m0s"), (86_400.5, "24h0m0.5s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(seconds, text):
    assert duration(seconds) == text


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_durations_are_never_short_and_read_back(seconds):
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)(ms|s))", duration(seconds))
    assert found is not None
    hours, minutes, rest, unit = found.groups()
    read = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest) / (1000 if unit == "ms" else 1)
    assert seconds - 1e-6 <= read <= seconds + 0.0011 + seconds * 1e-9


@settings(deadline=None)
@given(st.floats(0, 1e5))
def test_retry_after_is_rounded_up(seconds):
    first, second, end = retry_after_lines(seconds).decode().split("\r\n")
    assert end == ""
    assert int(first.removeprefix("retry-after: ")) >= max(1, seconds - 1e-5)
    assert seconds * 1000 - 0.01 <= int(second.removeprefix("retry-after-ms: ")) <= math.ceil(seconds * 1000)
