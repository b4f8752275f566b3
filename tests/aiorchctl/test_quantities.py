"""Numbers for people: nothing unknown looks free, nothing is rounded to what it is not."""

import pytest

from aiorchctl.quantities import count, moment, money, number_of, parse_span, plural, seconds, share, size


@pytest.mark.parametrize(
    ("usd", "told"),
    [
        (None, "unknown"),
        (0, "$0"),
        (0.0, "$0"),
        (1234.5, "$1,234"),
        (100.4, "$100"),
        (12.345, "$12.35"),
        (0.5, "$0.50"),
        (0.0999, "$0.1"),
        (0.042, "$0.042"),
        (0.00012345, "$0.00012"),
        (0.0000000042, "$0.0000000042"),
        (1e-12, "under $0.000000001"),
        (-0.5, "-$0.50"),
    ],
)
def test_money(usd, told):
    assert money(usd) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "unknown"),
        (0, "0 s"),
        (0.0000001, "under 0.01 ms"),
        (0.000042, "0.042 ms"),
        (0.0004, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.00123, "1.2 ms"),
        (0.9996, "1.00 s"),
        (1.2345, "1.23 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (100_800, "1 d 4 h"),
        (-5, "-5.00 s"),
    ],
)
def test_seconds(value, told):
    assert seconds(value) == told


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "–"),
        (650, 800, "81.2 %"),
        (1, 4, "25 %"),
        (800, 800, "100 %"),
        (99_999, 100_000, "99.9 %"),
        (1, 100_000, "0.1 %"),
        (0, 5, "0 %"),
    ],
)
def test_share_says_all_and_nothing_only_when_exact(part, whole, told):
    assert share(part, whole) == told


@pytest.mark.parametrize(
    ("number_of_bytes", "told"),
    [(None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 * 2**40, "5 TiB")],
)
def test_size(number_of_bytes, told):
    assert size(number_of_bytes) == told


def test_counts_and_nouns():
    assert count(1234567) == "1,234,567"
    assert count(None) == "unknown"
    assert plural(1, "model") == "1 model"
    assert plural(0, "query", "queries") == "0 queries"


def test_moment_is_in_the_readers_time_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        assert moment(0) == "1970-01-01 03:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert moment(None) == "unknown"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("500ms", 0.5),
        ("0.5h", 1800.0),
        (" 2D ", 172_800.0),
    ],
)
def test_spans(text, value):
    assert parse_span(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "soon", "1x", "h", "-1h", "1h-", "1h!", "0", "0s", "1e3", "nan", "٣m", "²", "99999999999w"]
)
def test_what_is_no_span_says_what_is(text):
    with pytest.raises(ValueError, match="length of time"):
        parse_span(text)


def test_number_of_is_lenient_about_what_another_release_leaves_out():
    result = {"memory": {"entries": 3, "ok": True, "share": 0.5}, "none": None}
    assert number_of(result, "memory", "entries") == 3
    assert isinstance(number_of(result, "memory", "entries"), int)
    assert number_of(result, "memory", "share") == 0.5
    assert number_of(result, "memory", "ok") is None
    assert number_of(result, "disk", "entries") is None
    assert number_of(result, "none") is None
    assert number_of([], "none") is None
