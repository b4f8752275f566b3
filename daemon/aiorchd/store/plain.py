"""Values as SQLite takes them: what comes from callers and providers may be anything."""

from __future__ import annotations

import math
from typing import Final

_LARGEST: Final = 2**63 - 1


def plain_text(text: str) -> str:
    """Replace what UTF-8 cannot carry (a wire string may have held other bytes)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def plain_count(number: int | None) -> int | None:
    """Keep a count within what a column holds."""
    return None if number is None else max(-_LARGEST, min(_LARGEST, int(number)))


def plain_dollars(amount: float | None) -> float | None:
    """Take what is no amount as unknown."""
    return amount if amount is not None and math.isfinite(amount) else None
