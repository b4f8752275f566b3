"""When to ask again, and how much is left, in all the ways in which providers say it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.calls.rate_limits import DAY_S, MINUTE_S, LimitsTold, QuotaTold
from aiorchd.providers.hints import duration_s, limits_told, retry_after_s, should_retry

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
    names = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
    anthropic = ("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-reset", "date")
    told = limits_told(dict.fromkeys((*names, *anthropic), text), now=1.0, wall_time=NOW)
    for quota in () if told is None else told.quotas:
        assert quota.limit is None or quota.limit > 0
        assert quota.reset_s is None or 0 <= quota.reset_s <= DAY_S


def test_a_hostile_message_takes_no_time() -> None:
    assert retry_after_s({}, {"message": "try again in " + "1s " * 5_000_000}, NOW) is not None
    assert retry_after_s({}, {"message": "try again in " + "1" * 5_000_000}, NOW) is None


def test_the_provider_s_word() -> None:
    assert should_retry({}) is None
    assert should_retry({"x-should-retry": "true"}) is True
    assert should_retry({"x-should-retry": "False"}) is False
    assert should_retry({"x-should-retry": "maybe"}) is None


def told(headers: dict[str, str]) -> tuple[QuotaTold, ...]:
    limits = limits_told(headers, now=7.0, wall_time=NOW)
    assert limits is None or limits.at == 7.0
    return () if limits is None else limits.quotas


def test_limits_as_openai_says_them() -> None:
    openai = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-tokens": "1999950",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    assert told({"content-type": "x"}) == ()
    assert told(openai) == (
        QuotaTold("requests", 10_000, 9_999, 0.006),
        QuotaTold("tokens", 2_000_000, 1_999_950, 60.0),
    )
    plain = LimitsTold(7.0, told(openai)).to_plain()
    assert plain["limit_requests"] == 10_000
    assert plain["reset_tokens_s"] == 60.0


def test_limits_as_azure_and_cerebras_say_them() -> None:
    azure = {"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "0"}
    assert told(azure) == ()
    azure |= {"x-ratelimit-remaining-tokens": "17", "x-ratelimit-reset-tokens": "9"}
    assert told(azure) == (QuotaTold("tokens", None, 17, 9.0),)
    cerebras = {
        "x-ratelimit-limit-requests-day": "14400",
        "x-ratelimit-remaining-requests-day": "14399",
        "x-ratelimit-reset-requests-day": "33011.382867",
        "x-ratelimit-limit-tokens-minute": "60000",
        "x-ratelimit-remaining-tokens-minute": "0",
        "x-ratelimit-reset-tokens-minute": "11.38",
    }
    assert told(cerebras) == (
        QuotaTold("requests", 14_400, 14_399, pytest.approx(33_011.38), DAY_S),
        QuotaTold("tokens", 60_000, 0, 11.38, MINUTE_S),
    )
    assert LimitsTold(0.0, told(cerebras)).to_plain()["limit_requests_day"] == 14_400


ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2025-11-11T10:00:01Z",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2025-11-11T10:00:30.5+00:00",
}


def test_limits_as_anthropic_says_them() -> None:
    due = (QuotaTold("requests", 50, 49, 1.0), QuotaTold("input_tokens", 30_000, 0, 30.5))
    assert told(ANTHROPIC) == due
    # The same at a provider whose clock is an hour ahead of ours: its date says so.
    skewed = {name: text.replace("T10:", "T11:") for name, text in ANTHROPIC.items()}
    assert told({**skewed, "date": "Tue, 11 Nov 2025 11:00:00 GMT"}) == due
    # A moment that has passed by, or is not one, tells nothing.
    assert told({**ANTHROPIC, "anthropic-ratelimit-requests-reset": "2025-11-11T09:00:00Z"})[0].reset_s is None
    assert told({**ANTHROPIC, "anthropic-ratelimit-requests-reset": "soon"})[0].reset_s is None
    assert retry_after_s(ANTHROPIC, {}, NOW) == 30.5


def test_nonsense_is_nothing() -> None:
    for text in ("", "0", "-3", "many", "1e400", "9" * 30, "٣"):
        assert told({"x-ratelimit-limit-requests": text}) == ()
    assert told({"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "9999h"})[0].reset_s is None


def test_a_date_to_come_back_at_is_read_by_the_clock_of_who_says_it() -> None:
    again = "Tue, 11 Nov 2025 11:00:05 GMT"
    assert retry_after_s({"retry-after": again, "date": "Tue, 11 Nov 2025 11:00:00 GMT"}, {}, NOW) == 5
    assert retry_after_s({"retry-after": again}, {}, NOW) == 3605
    # Whole seconds that only seem to differ do not.
    assert retry_after_s({"retry-after": again, "date": "Tue, 11 Nov 2025 10:00:01 GMT"}, {}, NOW) == 3605
    assert retry_after_s({"retry-after": again, "date": "yesterday"}, {}, NOW) == 3605
