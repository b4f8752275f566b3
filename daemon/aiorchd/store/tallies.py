"""Counting finished calls: what is added up for each combination of who, what, where and how it ended.

A `Tally` is a row of ``minutes`` and ``hours`` while it is still in memory, or read back. Adding one plain hit is the
hottest line of the house after the cache itself, so it is a handful of attribute additions and one logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from aiorchd.calls.journal import AttemptRecord, CallRecord
from aiorchd.calls.reply import Usage
from aiorchd.core.histogram import Histogram, bucket_of
from aiorchd.store.metrics_schema import SUMS
from aiorchd.store.plain import plain_text


class Series(NamedTuple):
    """What calls are counted by. ``""`` where a call had none."""

    unit: str
    uid: int
    model: str
    provider: str
    cache: str
    error: str
    operation: str


RawSeries: TypeAlias = tuple[str, int, str | None, str | None, str, str | None, str | None]

ATTEMPT: Final = "attempt"
"""Stands for ``cache`` where attempts are counted that did not answer their call, or not at the model that it is counted at."""

OTHER: Final = "(other)"
"""Stands for names beyond what is told apart: callers may ask for any model and any operation."""

_LONGEST_NAME: Final = 200
_MOST_TOKENS: Final = 10**12  # of one call; a provider may report anything, and a sum has to stay a sum

raw_series_of: Final[Callable[[CallRecord], RawSeries]] = attrgetter(
    "unit", "uid", "model", "provider", "cache", "error", "operation"
)
"""The combination of one record, as quickly as Python can."""

BATCHED: Final = "batched"
"""Stands for ``cache`` where a question was answered by the provider call of another that it was asked together with."""


def asked_by_another(record: CallRecord) -> bool:
    """Whether the call was answered by a provider that another call asked, for both (stages/batch)."""
    return record.cache == "miss" and not record.attempts and not record.tried and record.error is None


def raw_series_of_call(record: CallRecord) -> RawSeries:
    """Give the combination of a call of any kind; `raw_series_of` does for answers from memory."""
    raw = raw_series_of(record)
    return raw if record.attempts or not asked_by_another(record) else (*raw[:4], BATCHED, *raw[5:])


def series_of(raw: RawSeries) -> Series:
    """Give the combination as it is stored."""
    unit, uid, model, provider, cache, error, operation = raw
    return Series(
        plain_text(unit), uid, *(plain_text(name or "") for name in (model, provider, cache, error, operation))
    )


def raw_series_of_attempt(record: CallRecord, attempt: AttemptRecord, of_call: RawSeries) -> RawSeries:
    """Give the combination of an attempt: that of its call when it is the one that answered, else one at the model that was
    asked."""
    if attempt.code is None and attempt.model == record.model and attempt.provider == record.provider:
        return of_call
    return (record.unit, record.uid, attempt.model, attempt.provider, ATTEMPT, attempt.code, record.operation)


def is_countable(raw: RawSeries) -> bool:
    """Whether the names are of a length that a name has."""
    return all(len(name) <= _LONGEST_NAME for name in raw if isinstance(name, str))


def without_names(raw: RawSeries) -> RawSeries:
    """Give the combination with the names that callers are free to choose left out."""
    unit, uid, model, provider, cache, error, operation = raw
    if not is_countable(raw):
        unit, provider = unit[:_LONGEST_NAME], None
    return (unit, uid, model and OTHER, provider, cache, error, operation and OTHER)


def series_without_names(series: Series) -> Series:
    """Do the same with a combination as it is stored."""
    return series_of(without_names(series))


class Tally:
    """The sums of one series over some time; the names are those of `SUMS`, and ``total`` and ``overhead`` count durations
    by bucket (core/histogram.py)."""

    __slots__ = (*SUMS, "overhead", "total")

    calls: int
    attempts: int
    throttled: int
    fallbacks: int
    context_fallbacks: int
    filter_fallbacks: int
    hedges: int
    timed_savings: int
    saved_s: float
    counted_savings: int
    saved_tokens: int
    costs_known: int
    costs_unknown: int
    spent_usd: float
    savings_known: int
    savings_unknown: int
    saved_usd: float
    usage_known: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    attempts_unknown: int
    estimated_usd: float
    semantic_checks: int
    semantic_wrong: int
    batch_questions: int
    batches: float
    batch_left_out: int

    def __init__(self) -> None:
        for name in SUMS:
            setattr(self, name, 0)
        self.total: dict[int, int] = {}
        self.overhead: dict[int, int] = {}

    def add_hit(self, record: CallRecord) -> None:
        """Count a call that was answered without asking anybody."""
        self.calls += 1
        if record.saved_usd is None:
            self.savings_unknown += 1
        else:
            self.savings_known += 1
            self.saved_usd += record.saved_usd
        self._add_savings(record)
        bucket = bucket_of(record.total_s)
        self.total[bucket] = self.total.get(bucket, 0) + 1
        self.overhead[bucket] = self.overhead.get(bucket, 0) + 1

    def add_refusals(self, number: int) -> None:
        """Count calls that were turned away at once."""
        self.calls += number
        bucket = bucket_of(0.0)
        self.total[bucket] = self.total.get(bucket, 0) + number
        self.overhead[bucket] = self.overhead.get(bucket, 0) + number

    def add(self, record: CallRecord) -> None:
        """Count a call of any kind.

        What was saved is counted where no provider was asked and an answer came; what was spent, and the tokens, where
        one was asked: a call that never got that far cost nothing, which is known. What its attempts took is counted by
        `add_attempt`, each at its model, if the record has them.
        """
        self.calls += 1
        if record.fallbacks or record.hedges:
            self.fallbacks += record.fallbacks
            self.context_fallbacks += record.context_fallbacks
            self.filter_fallbacks += record.filter_fallbacks
            self.hedges += record.hedges
        if record.batch_questions:
            self.batch_questions += 1
            self.batches += 1 / record.batch_questions
            self.batch_left_out += record.batch_left_out
        if record.semantic_right is not None:
            self.semantic_checks += 1
            self.semantic_wrong += not record.semantic_right
        if record.attempts or record.tried or asked_by_another(record):
            cost_usd = record.cost_usd
            if cost_usd is None or not math.isfinite(cost_usd):
                self.costs_unknown += 1
            else:
                self.costs_known += 1
            if record.attempts and not record.tried:
                self._add_attempts(record)
        elif record.error is None:
            if record.saved_usd is None or not math.isfinite(record.saved_usd):
                self.savings_unknown += 1
            else:
                self.savings_known += 1
                self.saved_usd += record.saved_usd
            self._add_savings(record)
        bucket = bucket_of(record.total_s)
        self.total[bucket] = self.total.get(bucket, 0) + 1
        if record.cache != "coalesced":  # such a call waited for a provider, too, though for one that another had asked
            bucket = bucket_of(record.total_s - record.queue_s - record.provider_s)
            self.overhead[bucket] = self.overhead.get(bucket, 0) + 1

    def add_attempt(self, attempt: AttemptRecord) -> None:
        """Count what one attempt of a call took, and not the call."""
        self.attempts += 1
        self.throttled += attempt.verdict == "throttled"
        cost_usd, estimate_usd = attempt.cost_usd, attempt.cost_estimate_usd
        if cost_usd is not None and math.isfinite(cost_usd):
            self.spent_usd += cost_usd
        else:
            self.attempts_unknown += 1
            if estimate_usd is not None and math.isfinite(estimate_usd):
                self.estimated_usd += estimate_usd
        usage = attempt.usage
        if usage is not None:
            self.usage_known += 1
            counts = usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning
            if min(counts) < 0 or max(counts) > _MOST_TOKENS:
                fresh, read, written, said, thought = map(_tokens, counts)
                usage = Usage(fresh, read, written, said, thought)
            self.input_tokens += usage.input
            self.output_tokens += usage.output
            if usage.cache_read or usage.cache_write or usage.reasoning:
                self.cache_read_tokens += usage.cache_read
                self.cache_write_tokens += usage.cache_write
                self.reasoning_tokens += usage.reasoning

    def _add_attempts(self, record: CallRecord) -> None:
        """Count what all attempts of a call took by what its record says of them together."""
        self.attempts += record.attempts
        self.throttled += record.throttled
        if record.cost_usd is not None and math.isfinite(record.cost_usd):
            self.spent_usd += record.cost_usd
        else:
            self.attempts_unknown += 1
        if record.input_tokens is not None or record.output_tokens is not None:
            self.usage_known += 1
            self.input_tokens += _tokens(record.input_tokens)
            self.cache_read_tokens += _tokens(record.cache_read_tokens)
            self.cache_write_tokens += _tokens(record.cache_write_tokens)
            self.output_tokens += _tokens(record.output_tokens)
            self.reasoning_tokens += _tokens(record.reasoning_tokens)

    def _add_savings(self, record: CallRecord) -> None:
        if record.saved_s is not None and math.isfinite(record.saved_s):
            self.timed_savings += 1
            self.saved_s += record.saved_s
        if record.input_tokens is not None or record.output_tokens is not None:
            self.counted_savings += 1
            self.saved_tokens += (
                _tokens(record.input_tokens)
                + _tokens(record.cache_read_tokens)
                + _tokens(record.cache_write_tokens)
                + _tokens(record.output_tokens)
                + _tokens(record.reasoning_tokens)
            )

    def merge(self, other: Tally) -> None:
        """Add all that another one counted."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.total, other.total), (self.overhead, other.overhead)):
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count

    def copy(self) -> Tally:
        """Give one that does not change with this one."""
        other = Tally()
        other.merge(self)
        return other

    def sums(self) -> tuple[Any, ...]:
        """Give the sums in the order of `SUMS`."""
        return tuple(getattr(self, name) for name in SUMS)

    def total_times(self) -> Histogram:
        """How long the calls took in all."""
        return Histogram(self.total)

    def overhead_times(self) -> Histogram:
        """How long they took beyond waiting for quotas and for the provider."""
        return Histogram(self.overhead)


def _tokens(count: int | None) -> int:
    return 0 if count is None else max(0, min(count, _MOST_TOKENS))
