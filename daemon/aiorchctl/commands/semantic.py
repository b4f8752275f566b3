"""How the semantic cache stands, as ``stats``, ``cache stats`` and ``status`` show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchctl.page import Cell, Fields, Words
from aiorchctl.quantities import count, number_of, plural


def semantic_fields(told: Mapping[str, Any]) -> Fields:
    """Make the rows: whether it gives answers or why not, what it gave, and how often it was wrong."""
    active = told.get("active") is True
    state = Words("gives answers", "good") if active else Words(f"gives no answers: {told.get('why')}", "quiet")
    rows: list[tuple[str, Cell]] = [("state", state)]
    hits, would = number_of(told, "hits"), number_of(told, "would_hits")
    if told.get("enabled"):
        rows.append(("hits", f"{count(hits)} given, {count(would)} would have been"))
        rows.append(("wrong", _error(told)))
        rows.append(
            (
                "learned",
                (
                    f"from {plural(int(number_of(told, 'labels') or 0), 'compared answer')}; given when right with a "
                    f"probability of {number_of(told, 'threshold') or 0.0:.3f}; {count(number_of(told, 'vetoed'))} vetoed"
                ),
            )
        )
        if told.get("embedder"):
            rows.append(("vectors", f"made by the model {told['embedder']}"))
        rows.append(
            (
                "kept",
                (
                    f"{plural(int(number_of(told, 'entries') or 0), 'question')} in "
                    f"{plural(int(number_of(told, 'scopes') or 0), 'scope')}"
                ),
            )
        )
    shut = int(number_of(told, "shut_off") or 0)
    if shut:
        rows.append(("shut off", Words(plural(shut, "time"), "bad")))
    return Fields(rows, "Semantic cache")


def _error(told: Mapping[str, Any]) -> Cell:
    rate, low, high = (number_of(told, name) for name in ("error_rate", "error_low", "error_high"))
    target = number_of(told, "target_error_rate") or 0.0
    if rate is None or low is None or high is None:
        return f"nothing was checked yet; at most {target:.2%} is allowed"
    line = (
        f"{rate:.2%} of {count(number_of(told, 'checked'))} checked (with 95 % confidence {low:.2%} to {high:.2%}); at most "
        f"{target:.2%} is allowed"
    )
    return Words(line, "bad") if low > target else line
