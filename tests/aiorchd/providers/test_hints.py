"""When to ask again, and how much is left, in all the ways in which providers say it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.providers.hints import RateLimits, duration_s, rate_limits, retry_after_s, should_retry

NOW = 1_762_855_200.0  # Tue, 11 Nov 2025 10:00:00 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("7m12.345s", 432.345),
        ("2 minutes", 120),
        ("0s", 0),
        ("5", 5),
        ("5.25", 5.25),
        ("300 milliseconds", 0.3),
        ("1.5 hours", 5400),
        ("10 seconds", 10),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("3 months", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({}, {}, None),
        ({"retry-after-ms": "1500", "retry-after": "99"}, {}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, {}, 9),
        ({"retry-after": "0.5"}, {}, 0.5),
        ({"retry-after": " 20 "}, {}, 20),
        ({"retry-after": "Tue, 11 Nov 2025 10:00:30 GMT"}, {}, 30),
        ({"retry-after": "Tuesday, 11-Nov-25 10:00:30 GMT"}, {}, 30),
        ({"retry-after": "Tue, 11 Nov 2025 10:00:30 -0000"}, {}, 30),
        ({"retry-after": "Tue, 11 Nov 2025 09:00:00 GMT"}, {}, 0),
        ({"retry-after": "Tue, 99 Foo 2025"}, {}, None),
        ({"retry-after": "2m5s"}, {}, 125),
        ({"retry-after": "-5"}, {}, 0),
        ({"retry-after": "99999999"}, {}, 86_400),
        ({"retry-after": "nan"}, {"message": "try again in 3s"}, 3),
        ({}, {"message": "Rate limit reached for gpt-4o. Please try again in 5.289s. Visit https://…"}, 5.289),
        ({}, {"message": "Limit 14400, Used 14390. Please try again in 7m12.345s."}, 432.345),
        ({}, {"message": "Please retry after 10 seconds."}, 10),
        ({}, {"message": "PLEASE TRY AGAIN IN 20MS"}, 0.02),
        ({}, {"message": "Please wait 3 minutes and 5 seconds before"}, 185),
        ({}, {"message": "You may try again later."}, None),
        ({}, {"message": 17}, None),
        (
            {},
            {"details": [{"@type": "…/google.rpc.Help"}, {"@type": "…/google.rpc.RetryInfo", "retryDelay": "35s"}]},
            35,
        ),
        ({}, {"details": [{"retryDelay": 35}, "x"]}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, {}, 360),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "6m0s"}, {}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "12ms",
            },
            {},
            1,
        ),
    ],
)
def test_waits(headers: dict[str, str], error: dict[str, Any], seconds: float | None) -> None:
    assert retry_after_s(headers, error, NOW) == (seconds if seconds is None else pytest.approx(seconds))


@given(text=st.text(max_size=100))
def test_any_header_and_any_message_are_survived(text: str) -> None:
    for headers, error in (({"retry-after": text, "retry-after-ms": text}, {}), ({}, {"message": text})):
        wait_s = retry_after_s(headers, error, NOW)
        assert wait_s is None or 0 <= wait_s <= 86_400
    rate_limits({"x-ratelimit-limit-requests": text, "x-ratelimit-reset-tokens": text})


def test_a_hostile_message_takes_no_time() -> None:
    assert retry_after_s({}, {"message": "try again in " + "1s " * 5_000_000}, NOW) is not None
    assert retry_after_s({}, {"message": "try again in " + "1" * 5_000_000}, NOW) is None


def test_the_provider_s_word() -> None:
    assert should_retry({}) is None
    assert should_retry({"x-should-retry": "true"}) is True
    assert should_retry({"x-should-retry": "False"}) is False
    assert should_retry({"x-should-retry": "maybe"}) is None


def test_limits() -> None:
    assert rate_limits({"content-type": "x"}) is None
    openai = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-tokens": "1999950",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    limits = rate_limits(openai)
    assert limits == RateLimits(10_000, 9_999, 0.006, 2_000_000, 1_999_950, 60.0)
    azure = rate_limits({"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-tokens": "17"})
    assert azure == RateLimits(remaining_tokens=17)
    assert azure.to_plain() == {"remaining_tokens": 17}
