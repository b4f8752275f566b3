"""What the daemon was asked, what it saved and what it cost: the sums of finished calls, told as a person asks.

Exact over calls that ended in this process and, but for the last second before a crash, in earlier ones. What is not known
is None and never 0: money whose price is unknown, rates and percentiles of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from aiorchd.core.histogram import Histogram
from aiorchd.core.semantic_model import wilson_interval
from aiorchd.store.records import Records
from aiorchd.store.tallies import ATTEMPT, BATCHED, Series, Tally

GroupBy: TypeAlias = Literal["operation", "model", "provider", "caller", "unit"]

GROUPS: Final[Mapping[str, Callable[[Series], str]]] = {
    "operation": lambda series: series.operation,
    "model": lambda series: series.model,
    "provider": lambda series: series.provider,
    "caller": lambda series: str(series.uid),
    "unit": lambda series: series.unit,
}
"""What ``by`` may be, and the name of a call's group. A caller is a user, by number; ``""`` means none or not known."""

ASKED: Final = frozenset(("miss", "none", ATTEMPT))
"""What is said in place of the cache of calls that it did not answer, and of attempts; every other word is a way of saving
a call."""

_SHARES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations in seconds, each within five per cent; None when there were no calls."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What providers counted, over the ``calls`` whose usage is known; None when it is known of none."""

    calls: int
    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None


@dataclass(frozen=True, slots=True)
class SemanticChecks:
    """Of near answers that would have been given, ``checked`` were compared to what the model said, and ``wrong`` of these were
    not the same: the share, and its 95 % confidence interval (Wilson's); None of nothing."""

    checked: int
    wrong: int
    error_rate: float | None
    error_low: float | None
    error_high: float | None


@dataclass(frozen=True, slots=True)
class Batched:
    """``questions`` were asked together with others, in ``batches`` provider calls; where others than those that are counted
    here were in one, with these questions' share of it, so that ``mean_questions`` is how many a batch held. ``left_out``
    were not answered by it, and asked alone."""

    questions: int
    batches: float
    mean_questions: float | None
    left_out: int


@dataclass(frozen=True, slots=True)
class Line:
    """The sums of some calls.

    ``calls`` were asked for, ``answered`` of them with success, ``errors`` by code. ``provider_calls`` were made for them,
    attempts that failed included, ``failed_attempts`` of them by the code of what went wrong. These, their tokens and what
    they cost are counted at the model that was asked; a call is at the one that answered, or was asked last. ``saved_calls``
    were answered without one, by how (``exact``, ``coalesced`` …), and ``hit_rates`` is their share of all calls, under ``all``
    together.

    ``spent_usd`` is what is known to have been spent. Of ``cost_unknown_attempts``, in ``cost_unknown_calls``, nobody said what
    they cost: they are not in it but in ``cost_estimate_usd``, at what budgets count; ``spent_usd`` is None when that leaves out
    everything. ``saved_usd`` leaves out ``saving_unknown_calls`` likewise. ``saved_tokens`` and ``saved_s`` are what providers
    counted, and the time they took, when they gave the answers that saved calls got (no time for who shared a call and waited,
    too); None when it is known of none. ``total`` is how long the calls took, ``overhead`` how much of it was neither
    waiting for quotas nor for a provider (of calls that shared another's it is not told). ``throttled`` answers were 429s
    and the like. ``fallbacks_by_kind`` says what another model was asked for; ``hedges`` are second tries beside a first.
    """

    calls: int
    answered: int
    provider_calls: int
    failed_attempts: Mapping[str, int]
    saved_calls: Mapping[str, int]
    hit_rates: Mapping[str, float | None]
    spent_usd: float | None
    cost_unknown_calls: int
    cost_unknown_attempts: int
    cost_estimate_usd: float
    saved_usd: float | None
    saving_unknown_calls: int
    saved_tokens: int | None
    saved_s: float | None
    total: Percentiles
    overhead: Percentiles
    throttled: int
    fallbacks: int
    fallbacks_by_kind: Mapping[str, int]
    hedges: int
    errors: Mapping[str, int]
    tokens: Tokens
    semantic_checks: SemanticChecks
    batched: Batched


@dataclass(frozen=True, slots=True)
class Report:
    """Everything from ``since`` (wall seconds; rounded down to a minute, long ago to an hour) until ``until``; ``groups``
    by name, the one with most calls first, when the question was ``by`` something."""

    since: float
    until: float
    by: str | None
    all: Line
    groups: Mapping[str, Line]

    def to_wire(self) -> dict[str, Any]:
        """Give it as plain maps, groups as a list with their ``name``."""
        return {
            "since": self.since,
            "until": self.until,
            "by": self.by,
            **_line_to_wire(self.all),
            "groups": [{"name": name, **_line_to_wire(line)} for name, line in self.groups.items()],
        }


async def report(
    records: Records, *, now: float, since_s: float | None = None, by: GroupBy | None = None, uid: int | None = None
) -> Report:
    """Add up the calls of the last ``since_s`` seconds (None: all that are kept), of one user or of all.

    Raises `aiorch.errors.StorageError` when the records cannot be read.
    """
    totals = await records.totals(0.0 if since_s is None else max(0.0, now - since_s), uid=uid)
    groups: dict[str, dict[Series, Tally]] = {}
    if by is not None:
        name_of = GROUPS[by]
        for series, tally in totals.tallies.items():
            groups.setdefault(name_of(series), {})[series] = tally
    lines = {name: line_of(tallies) for name, tallies in groups.items()}
    return Report(
        since=float(totals.since),
        until=now,
        by=by,
        all=line_of(totals.tallies),
        groups=dict(sorted(lines.items(), key=lambda item: (-item[1].calls, item[0]))),
    )


def line_of(tallies: Mapping[Series, Tally]) -> Line:
    """Add up some series."""
    sums = Tally()
    saved: dict[str, int] = {}
    errors: dict[str, int] = {}
    failed: dict[str, int] = {}
    for series, tally in tallies.items():
        sums.merge(tally)
        if series.cache == ATTEMPT:
            if series.error:
                failed[series.error] = failed.get(series.error, 0) + tally.attempts
        elif series.error:
            errors[series.error] = errors.get(series.error, 0) + tally.calls
        elif series.cache not in ASKED:
            saved[series.cache] = saved.get(series.cache, 0) + tally.calls
    calls = sums.calls
    kept = saved.keys() - {BATCHED}  # a question that was asked together with others had no answer from before
    return Line(
        calls=calls,
        answered=calls - sum(errors.values()),
        provider_calls=sums.attempts,
        failed_attempts=_most_first(failed),
        saved_calls=_most_first(saved),
        hit_rates={
            "all": sum(saved.values()) / calls if calls else None,
            **{how: count / calls for how, count in _most_first(saved).items()},
        },
        spent_usd=_spent_usd(sums),
        cost_unknown_calls=sums.costs_unknown,
        cost_unknown_attempts=sums.attempts_unknown,
        cost_estimate_usd=sums.estimated_usd,
        saved_usd=None if sums.savings_unknown and not sums.savings_known else sums.saved_usd,
        saving_unknown_calls=sums.savings_unknown,
        saved_tokens=sums.saved_tokens if sums.counted_savings or not kept else None,
        saved_s=sums.saved_s if sums.timed_savings or not kept else None,
        total=_percentiles(sums.total_times()),
        overhead=_percentiles(sums.overhead_times()),
        throttled=sums.throttled,
        fallbacks=sums.fallbacks,
        fallbacks_by_kind={
            "failure": sums.fallbacks - sums.context_fallbacks - sums.filter_fallbacks,
            "context_window": sums.context_fallbacks,
            "content_filter": sums.filter_fallbacks,
        },
        hedges=sums.hedges,
        errors=_most_first(errors),
        tokens=_tokens(sums),
        semantic_checks=_semantic_checks(sums),
        batched=Batched(
            sums.batch_questions,
            sums.batches,
            sums.batch_questions / sums.batches if sums.batches else None,
            sums.batch_left_out,
        ),
    )


def _spent_usd(sums: Tally) -> float | None:
    return None if sums.attempts_unknown and not sums.costs_known and not sums.spent_usd else sums.spent_usd


def _percentiles(times: Histogram) -> Percentiles:
    p50, p95, p99 = times.quantiles(_SHARES)
    return Percentiles(p50, p95, p99)


def _tokens(sums: Tally) -> Tokens:
    if not sums.usage_known:
        return Tokens(0, None, None, None, None, None)
    return Tokens(
        calls=sums.usage_known,
        input=sums.input_tokens,
        cache_read=sums.cache_read_tokens,
        cache_write=sums.cache_write_tokens,
        output=sums.output_tokens,
        reasoning=sums.reasoning_tokens,
    )


def _semantic_checks(sums: Tally) -> SemanticChecks:
    checked, wrong = sums.semantic_checks, sums.semantic_wrong
    if not checked:
        return SemanticChecks(0, 0, None, None, None)
    return SemanticChecks(checked, wrong, wrong / checked, *wilson_interval(wrong, checked))


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _line_to_wire(line: Line) -> dict[str, Any]:
    return {
        "calls": line.calls,
        "answered": line.answered,
        "provider_calls": line.provider_calls,
        "failed_attempts": dict(line.failed_attempts),
        "saved_calls": dict(line.saved_calls),
        "hit_rates": dict(line.hit_rates),
        "spent_usd": line.spent_usd,
        "cost_unknown_calls": line.cost_unknown_calls,
        "cost_unknown_attempts": line.cost_unknown_attempts,
        "cost_estimate_usd": line.cost_estimate_usd,
        "saved_usd": line.saved_usd,
        "saving_unknown_calls": line.saving_unknown_calls,
        "saved_tokens": line.saved_tokens,
        "saved_s": line.saved_s,
        "total_s": _percentiles_to_wire(line.total),
        "overhead_s": _percentiles_to_wire(line.overhead),
        "throttled": line.throttled,
        "fallbacks": line.fallbacks,
        "fallbacks_by_kind": dict(line.fallbacks_by_kind),
        "hedges": line.hedges,
        "errors": dict(line.errors),
        "tokens": {
            "calls": line.tokens.calls,
            "input": line.tokens.input,
            "cache_read": line.tokens.cache_read,
            "cache_write": line.tokens.cache_write,
            "output": line.tokens.output,
            "reasoning": line.tokens.reasoning,
        },
        "semantic_checks": {
            "checked": line.semantic_checks.checked,
            "wrong": line.semantic_checks.wrong,
            "error_rate": line.semantic_checks.error_rate,
            "error_low": line.semantic_checks.error_low,
            "error_high": line.semantic_checks.error_high,
        },
        "batched": {
            "questions": line.batched.questions,
            "batches": line.batched.batches,
            "mean_questions": line.batched.mean_questions,
            "left_out": line.batched.left_out,
        },
    }


def _percentiles_to_wire(percentiles: Percentiles) -> dict[str, float | None]:
    return {"p50": percentiles.p50, "p95": percentiles.p95, "p99": percentiles.p99}
