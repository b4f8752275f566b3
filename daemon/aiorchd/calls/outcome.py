"""How an attempt ended, judged once and read by everyone: retry, fallback, limiter, later breaker and bandit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aiorch.errors import CallError


class Verdict(StrEnum):
    """Six ways an attempt can end."""

    OK = "ok"
    RETRYABLE = "retryable"
    """The provider failed in a way that may pass: a broken connection, a 5xx, silence."""
    THROTTLED = "throttled"
    """The provider said not now."""
    FAULT = "fault"
    """It will fail the same way again: a refused key, an unknown model, a malformed request."""
    BAD_ANSWER = "bad_answer"
    """An answer came and was no good."""
    IGNORED = "ignored"
    """Says nothing about the target: the caller left, or its own deadline passed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an error: its verdict, whether the same target is asked again, whether the next one is asked."""

    verdict: Verdict
    retry: bool
    fall_back: bool


RULES: Final = MappingProxyType(
    {
        "rate_limited": Rule(Verdict.THROTTLED, retry=True, fall_back=True),
        "provider_error": Rule(Verdict.RETRYABLE, retry=True, fall_back=True),
        "provider_auth": Rule(Verdict.FAULT, retry=False, fall_back=True),
        "unknown_model": Rule(Verdict.FAULT, retry=False, fall_back=True),
        "overloaded": Rule(Verdict.IGNORED, retry=False, fall_back=True),
        "budget_exceeded": Rule(Verdict.IGNORED, retry=False, fall_back=True),
        "context_exceeded": Rule(Verdict.FAULT, retry=False, fall_back=True),
        "content_filtered": Rule(Verdict.FAULT, retry=False, fall_back=True),
        "validation_failed": Rule(Verdict.BAD_ANSWER, retry=False, fall_back=False),
        "incomplete_stream": Rule(Verdict.RETRYABLE, retry=False, fall_back=False),
        "invalid_request": Rule(Verdict.FAULT, retry=False, fall_back=False),
        "too_large": Rule(Verdict.FAULT, retry=False, fall_back=False),
        "deadline_exceeded": Rule(Verdict.IGNORED, retry=False, fall_back=False),
        "cancelled": Rule(Verdict.IGNORED, retry=False, fall_back=False),
        "internal": Rule(Verdict.IGNORED, retry=False, fall_back=False),
    }
)
"""By error code. ``overloaded`` and ``budget_exceeded`` are our own refusals before anything was sent. An error that
is marked as not retryable is not asked again on the same target whatever its row says."""

REFUSED_BY_US: Final = frozenset({"overloaded", "budget_exceeded"})
"""Codes of our own refusals: nothing was sent, so they are no attempt and use up none."""

_OTHERWISE: Final = Rule(Verdict.FAULT, retry=False, fall_back=False)


def judge(error: CallError) -> Rule:
    """Find the rule for an error."""
    rule = RULES.get(error.code, _OTHERWISE)
    if rule.retry and not error.retryable:
        return Rule(
            Verdict.FAULT if rule.verdict is Verdict.RETRYABLE else rule.verdict, retry=False, fall_back=rule.fall_back
        )
    return rule
