"""What one answer of a provider said about its rate limits, in one form for all dialects.

A dialect reads it from the headers of *every* answer it gets (`providers.hints.limits_told`), refusals and streams
included, and passes it on as soon as the headers are there: ``attempt.heard(limits_told(headers, ...))``. Everything else,
such as which of our requests the provider had counted already, is worked out by who keeps the quotas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Quota: TypeAlias = Literal["requests", "tokens", "input_tokens", "output_tokens"]

MINUTE_S: Final = 60.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class QuotaTold:
    """One quota; None where the answer said nothing, or nonsense.

    ``limit`` is the figure for a whole window of ``window_s`` seconds (None: the header does not say which, usually a
    minute), ``remaining`` what was left, ``reset_s`` how long, counted from the answer, until it is whole again (or until the
    window ends: providers differ).
    """

    quota: Quota
    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class LimitsTold:
    """All that one answer said; at least one quota. ``at`` is when its headers came, on Trio's clock."""

    at: float
    quotas: tuple[QuotaTold, ...]

    def to_plain(self) -> dict[str, Any]:
        """Give what is known as a plain map, for an error's details: ``{"limit_requests": 500, ...}``."""
        plain: dict[str, Any] = {}
        for told in self.quotas:
            name = told.quota + ("_day" if told.window_s == DAY_S else "")
            known = {f"limit_{name}": told.limit, f"remaining_{name}": told.remaining, f"reset_{name}_s": told.reset_s}
            plain.update({key: value for key, value in known.items() if value is not None})
        return plain
