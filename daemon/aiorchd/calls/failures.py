"""What went wrong along the chain of one call, and which of it its caller is told."""

from __future__ import annotations

from typing import Any

from aiorch.errors import CallError, IncompleteStream
from aiorchd.calls.journal import AttemptRecord, Journal
from aiorchd.calls.outcome import REFUSED_BY_US
from aiorchd.calls.target import Target


class Failures:
    """What went wrong along the chain of one call, whose first attempt is the record number ``first`` of its journal."""

    def __init__(self, journal: Journal, first: int) -> None:
        self._journal = journal
        self._seen = first
        self._errors: list[CallError] = []
        self._told: list[dict[str, Any]] = []

    def add(self, target: Target, error: CallError) -> None:
        """Note that a target failed: its attempts, and what was refused here before it was sent."""
        records = self._journal.attempts[self._seen :]
        self._seen += len(records)
        self._told += [_plain(record) for record in records]
        if not records or error.code in REFUSED_BY_US:
            unsent = {"model": target.name, "provider": target.provider, "sent": False}
            self._told.append({**unsent, "code": error.code, "message": error.message})
        self._errors.append(error)

    def in_the_middle(self, error: CallError) -> CallError:
        """Part of the answer is out: whatever ended it, the caller has half an answer and must know."""
        if not isinstance(error, IncompleteStream):
            details = {**error.details, "cause": error.code}
            incomplete = IncompleteStream(f"the answer broke off: {error.message}", stage=error.stage, details=details)
            incomplete.__cause__ = error
            error = incomplete
        error.details["attempts"] = self._told
        return error

    def most_telling(self) -> CallError:
        """Choose the error to raise: what a provider said before what we refused ourselves, what may pass before what
        stays (asking again can help then), the later one before the earlier."""
        chosen = max(
            enumerate(self._errors),
            key=lambda each: (each[1].code not in REFUSED_BY_US, each[1].retryable, each[0]),
        )[1]
        if chosen.retryable and chosen.retry_after_s is None:
            waits = [
                error.retry_after_s for error in self._errors if error.retryable and error.retry_after_s is not None
            ]
            chosen.retry_after_s = min(waits, default=None)
        chosen.details["attempts"] = self._told
        return chosen


def _plain(record: AttemptRecord) -> dict[str, Any]:
    told = {
        "model": record.model,
        "provider": record.provider,
        "code": record.code,
        "message": record.message,
        "status": record.status,
        "sent": record.sent,
    }
    return {name: value for name, value in told.items() if value is not None}
