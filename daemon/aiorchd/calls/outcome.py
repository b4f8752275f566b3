"""How an attempt ended, judged once and read by everyone: retry, fallback, limiter, breaker, later bandit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

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


Health: TypeAlias = Literal["answered", "failed", "nothing"]
"""What an error says about its target to whoever decides whether it is sick (``core/circuit_breaker``)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from an error: its verdict, whether the same target is asked again, whether the next one is asked, what
    it says about the target, and in a few words for a person what it is."""

    verdict: Verdict
    retry: bool
    fall_back: bool
    health: Health
    what: str


RULES: Final = MappingProxyType(
    {
        "rate_limited": Rule(
            Verdict.THROTTLED, True, True, "answered", "the provider said not now: 429, 529, or the like inside a 200"
        ),
        "provider_error": Rule(
            Verdict.RETRYABLE,
            True,
            True,
            "failed",
            "a broken connection, a 5xx, silence, nonsense instead of an answer",
        ),
        "provider_auth": Rule(
            Verdict.FAULT, False, True, "answered", "the provider refused the key; with another key it is asked at once"
        ),
        "unknown_model": Rule(Verdict.FAULT, False, True, "answered", "the provider does not know the model"),
        "overloaded": Rule(
            Verdict.IGNORED, False, True, "nothing", "refused here, nothing was sent: a full queue, an open breaker"
        ),
        "budget_exceeded": Rule(
            Verdict.IGNORED,
            False,
            True,
            "nothing",
            "refused here, nothing was sent: no money; for a budget only where [budget] on_exhausted is cheapest",
        ),
        "storage": Rule(
            Verdict.IGNORED,
            False,
            True,
            "nothing",
            "refused here, nothing was sent: a budget could not be written down",
        ),
        "host_error": Rule(
            Verdict.RETRYABLE,
            True,
            True,
            "failed",
            "a function in a host process failed (not asked again), or its connection was lost",
        ),
        "no_models": Rule(
            Verdict.IGNORED, False, True, "nothing", "refused here, nothing was sent: no process answers for the model"
        ),
        "context_exceeded": Rule(
            Verdict.FAULT, False, True, "answered", "too long for this model; goes to [routing] context_window_fallback"
        ),
        "content_filtered": Rule(
            Verdict.FAULT, False, True, "answered", "withheld; goes to [routing] content_filter_fallback"
        ),
        "validation_failed": Rule(
            Verdict.BAD_ANSWER, False, False, "answered", "the answer broke its schema; [validation] asks it again"
        ),
        "incomplete_stream": Rule(
            Verdict.RETRYABLE, False, False, "failed", "it broke off after content had reached the caller"
        ),
        "invalid_request": Rule(Verdict.FAULT, False, False, "answered", "only its sender can mend it"),
        "too_large": Rule(Verdict.FAULT, False, False, "answered", "only its sender can mend it"),
        "deadline_exceeded": Rule(Verdict.IGNORED, False, False, "nothing", "the call's own time is over"),
        "cancelled": Rule(Verdict.IGNORED, False, False, "nothing", "the caller left"),
        "internal": Rule(Verdict.IGNORED, False, False, "nothing", "a defect here"),
    }
)
"""By error code. ``overloaded``, ``budget_exceeded``, ``storage`` and ``no_models`` are our own refusals before anything was
sent. An error that is marked as not retryable is not asked again on the same target whatever its row says: a provider's
``x-should-retry: false``, a 429 that says the account's credit is used up, a certificate that is not accepted."""

REFUSED_BY_US: Final = frozenset({"overloaded", "budget_exceeded", "no_models", "storage"})
"""Codes of our own refusals: nothing was sent, so they are no attempt and use up none."""

_NEVER_SENT: Final = frozenset({"invalid_request", "provider_auth", "unknown_model"})
"""What we say ourselves of a request that cannot be written or has no key; with a status, a provider said it."""

_OTHERWISE: Final = Rule(Verdict.FAULT, False, False, "nothing", "anything else")


def judge(error: CallError) -> Rule:
    """Find the rule for an error."""
    rule = RULES.get(error.code, _OTHERWISE)
    if error.details.get("on_exhausted") in ("refuse", "cache_only"):
        return Rule(rule.verdict, False, False, rule.health, rule.what)
    if rule.retry and not error.retryable:
        verdict = Verdict.FAULT if rule.verdict is Verdict.RETRYABLE else rule.verdict
        return Rule(verdict, False, rule.fall_back, rule.health, rule.what)
    return rule


def never_sent(error: CallError) -> bool:
    """Tell whether it is certain that nothing of the request left the house."""
    if (sent := error.details.get("sent")) is not None:
        return sent is False
    return error.code in REFUSED_BY_US or (error.details.get("status") is None and error.code in _NEVER_SENT)


def rules() -> list[dict[str, Any]]:
    """Give the table in plain data, for whoever shows it."""
    return [
        {
            "code": code,
            "what": rule.what,
            "verdict": str(rule.verdict),
            "retry": rule.retry,
            "fall_back": rule.fall_back,
            "breaker": rule.health,
        }
        for code, rule in RULES.items()
    ]
