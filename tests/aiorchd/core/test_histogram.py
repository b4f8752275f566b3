"""Percentiles that add up: within five per cent of the true ones, whatever is added to whatever in whatever order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorchd.core.histogram import LAST_BUCKET, RELATIVE_ERROR, SMALLEST_S, Histogram, bucket_of, value_of

DURATIONS = st.floats(min_value=SMALLEST_S, max_value=900_000.0)
SHARES = st.floats(min_value=0.0, max_value=1.0)


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def true_quantile(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(st.lists(DURATIONS, min_size=1, max_size=300), SHARES)
def test_a_quantile_is_within_five_per_cent_of_the_true_one(values: list[float], share: float) -> None:
    (told,) = filled(values).quantiles((share,))
    true = true_quantile(values, share)
    assert told is not None
    assert abs(told - true) <= 0.05 * true


@given(st.lists(DURATIONS, max_size=50), st.lists(DURATIONS, max_size=50), SHARES)
def test_adding_histograms_is_counting_everything_in_one(left: list[float], right: list[float], share: float) -> None:
    joined = filled(left)
    joined.merge(filled(right))
    assert joined.buckets == filled(left + right).buckets
    assert joined.quantiles((share,)) == filled(right + left).quantiles((share,))
    assert joined.count == len(left) + len(right)


@given(DURATIONS)
def test_every_bucket_stands_for_what_falls_into_it(value: float) -> None:
    told = value_of(bucket_of(value))
    assert abs(told - value) <= (RELATIVE_ERROR + 1e-9) * value


@given(DURATIONS, DURATIONS)
def test_a_longer_time_is_never_in_a_lower_bucket(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)


@pytest.mark.parametrize("odd", [0.0, -1.0, -math.inf, math.nan, 1e-12])
def test_what_is_no_duration_is_counted_as_the_shortest(odd: float) -> None:
    assert bucket_of(odd) == 0
    assert value_of(0) == SMALLEST_S


@pytest.mark.parametrize("long", [1e9, 1e300, math.inf])
def test_what_is_too_long_is_counted_as_the_longest(long: float) -> None:
    assert bucket_of(long) == LAST_BUCKET


def test_nothing_has_no_percentiles() -> None:
    assert Histogram().quantiles((0.5, 0.99)) == (None, None)
    assert Histogram().count == 0


def test_the_numbers_of_buckets_are_those_on_disks_out_there() -> None:
    # metrics.db keeps them: changing the scale makes old sums lie.
    assert [bucket_of(value) for value in (2e-6, 1e-3, 0.05, 1.0, 60.0, 3600.0)] == [8, 73, 114, 145, 188, 231]
