"""A histogram of durations whose percentiles can be added up over time, callers and models.

Idea: count values in buckets that grow by a constant factor. Two such histograms add bucket by bucket, which no
percentile does, and the error is relative: the same five per cent at a microsecond and at an hour.

Formula: bucket ``i`` holds ``[s·g^(i-1), s·g^i)`` with ``s`` = 1 µs and ``g`` = 1.1; bucket 0 holds what is below ``s``.
A value is told as ``2·s·g^i / (g+1)``, the point whose relative error towards both ends of the bucket is equal:
``(g-1)/(g+1)`` = 4.76 %.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019,
without its collapsing of buckets, since 1 µs to 11 days takes only `LAST_BUCKET` of them.

Limits: values below 1 µs (negative ones and nan too) are told as 1 µs, those above 11 days as 11 days. The numbers of
buckets are kept on disk (`metrics.db`), so ``s`` and ``g`` cannot change without a migration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

SMALLEST_S: Final = 1e-6
GROWTH: Final = 1.1
LAST_BUCKET: Final = 290
RELATIVE_ERROR: Final = (GROWTH - 1) / (GROWTH + 1)

_PER_LOG: Final = 1 / math.log(GROWTH)
_OFFSET: Final = 1 - math.log(SMALLEST_S) * _PER_LOG
_LARGEST_S: Final = SMALLEST_S * GROWTH**LAST_BUCKET


def bucket_of(value_s: float) -> int:
    """Give the number of the bucket that counts this value."""
    if value_s >= _LARGEST_S:
        return LAST_BUCKET
    if value_s > SMALLEST_S:
        return int(math.log(value_s) * _PER_LOG + _OFFSET)
    return 0  # also for nan, which is larger than nothing


def value_of(bucket: int) -> float:
    """Give the value, in seconds, that stands for all that a bucket holds."""
    if bucket <= 0:
        return SMALLEST_S
    return 2 * SMALLEST_S * float(GROWTH**bucket) / (GROWTH + 1)


class Histogram:
    """How many values fell into each bucket. ``buckets`` is open to whoever counts in a hurry."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets) if buckets is not None else {}

    def add(self, value_s: float) -> None:
        """Count one value."""
        bucket = bucket_of(value_s)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count all that another one counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.buckets.values())

    def quantiles(self, shares: Iterable[float]) -> tuple[float | None, ...]:
        """Tell, for each share from 0 to 1, the value that so large a share of the values does not exceed.

        By nearest rank: the value told lies within `RELATIVE_ERROR` of one that was counted. None when nothing was.
        """
        ordered = sorted(self.buckets.items())
        total = sum(count for _, count in ordered)
        return tuple(_at_rank(ordered, max(1, math.ceil(share * total))) if total else None for share in shares)


def _at_rank(ordered: list[tuple[int, int]], rank: int) -> float:
    passed = 0
    for bucket, count in ordered:
        passed += count
        if passed >= rank:
            return value_of(bucket)
    return value_of(ordered[-1][0])
