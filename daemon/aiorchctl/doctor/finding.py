"""What one check found: fine, doubtful, failed, or not to be seen from here; and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Result: TypeAlias = Literal["ok", "warning", "failed", "not_checked"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``subject`` tells several of a kind apart (a provider, a file). ``remedy`` stands with every warning and
    failure; ``exit_code`` is that of the program if this is its first failure, 0 for all others. ``details`` are plain data.
    """

    check: str
    result: Result
    sentence: str
    remedy: str = ""
    subject: str = ""
    exit_code: int = os.EX_OK
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Check and subject."""
        return f"{self.check} {self.subject}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "check": self.check,
            "subject": self.subject or None,
            "result": self.result,
            "sentence": self.sentence,
            "remedy": self.remedy or None,
            "details": dict(self.details),
        }


_NONE: Final[Mapping[str, Any]] = {}


def ok(check: str, sentence: str, *, subject: str = "", details: Mapping[str, Any] = _NONE) -> Finding:
    """Make the finding of what is as it should be."""
    return Finding(check, "ok", sentence, subject=subject, details=details)


def warning(
    check: str, sentence: str, remedy: str, *, subject: str = "", details: Mapping[str, Any] = _NONE
) -> Finding:
    """Make the finding of what works and is probably not meant, or will not work for long."""
    return Finding(check, "warning", sentence, remedy, subject, details=details)


def failed(
    check: str, sentence: str, remedy: str, exit_code: int, *, subject: str = "", details: Mapping[str, Any] = _NONE
) -> Finding:
    """Make the finding of what does not work."""
    return Finding(check, "failed", sentence, remedy, subject, exit_code, details)


def not_checked(
    check: str, why: str, remedy: str = "", *, subject: str = "", details: Mapping[str, Any] = _NONE
) -> Finding:
    """Make the finding of what cannot be seen from here, or by this user."""
    return Finding(check, "not_checked", why, remedy, subject, details=details)


_GRAVITY: Final[Mapping[Result, int]] = {"ok": 0, "not_checked": 1, "warning": 2, "failed": 3}


def verdict(findings: Iterable[Finding]) -> tuple[Result, int]:
    """Give the gravest result of all, and the exit code: that of the first failure, else 0."""
    worst: Result = "ok"
    exit_code = os.EX_OK
    for finding in findings:
        if _GRAVITY[finding.result] > _GRAVITY[worst]:
            worst = finding.result
        exit_code = exit_code or finding.exit_code
    return worst, exit_code
