"""One number of tokens, as a stranger's JSON has it. Pure."""

from __future__ import annotations

from typing import Any


def token_count(value: Any) -> int | None:
    """Give the count, None for what is missing or makes no sense: unknown is never zero."""
    if type(value) is int:  # as nearly always
        return value if 0 <= value < 2**53 else None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 2**53 else None
