"""How full the cache is, as ``cache stats`` and ``status`` show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiorchctl.page import Cell, Fields, Words
from aiorchctl.quantities import count, number_of, plural, seconds, share, size


def fill_fields(cache: Mapping[str, Any], title: str | None = None) -> Fields:
    """Make the rows: how answers are kept, and what each tier holds."""
    strategy = cache.get("strategy")
    rows: list[tuple[str, Cell]] = [("strategy", str(strategy))]
    if strategy == "off":
        rows[0] = ("strategy", Words("off: answers are not kept", "doubtful"))
    for name in ("memory", "disk"):
        tier = cache.get(name)
        if isinstance(tier, dict):
            rows.append((name, _tier(tier)))
    kept, not_kept = number_of(cache, "kept"), number_of(cache, "not_kept")
    if kept is not None:
        told = f"{count(kept)} since this generation began"
        if not_kept:
            told += f"; {plural(int(not_kept), 'answer was', 'answers were')} not fit to be kept"
        rows.append(("answers kept", told))
    return Fields(rows, title)


def _tier(tier: Mapping[str, Any]) -> Cell:
    entries, most = number_of(tier, "entries"), number_of(tier, "max_entries")
    held, room = number_of(tier, "bytes"), number_of(tier, "max_bytes")
    lines = [f"{_of(entries, most, count)} answers, {_of(held, room, size)}"]
    hits, misses = number_of(tier, "hits"), number_of(tier, "misses")
    asked, found = number_of(tier, "asked"), number_of(tier, "found")
    if hits is not None and misses is not None:
        asked, found = hits + misses, hits
    if asked is not None and found is not None:
        lines.append(f"asked {plural(int(asked), 'time')}, found {count(found)} ({share(found, asked)})")
    oldest, middle = number_of(tier, "oldest_age_s"), number_of(tier, "median_age_s")
    if oldest is not None and middle is not None:
        lines.append(f"the oldest {seconds(oldest)} old, half of them younger than {seconds(middle)}")
    gone = _counted(tier, _GONE)
    if gone:
        lines.append(gone)
    bad = _counted(tier, _BAD)
    return Words("\n".join([*lines, bad]), "doubtful") if bad else "\n".join(lines)


_GONE: Final = (
    ("evictions", "gave way to newer ones"),
    ("evicted", "gave way to newer ones"),
    ("expired", "expired"),
    ("deleted", "forgotten"),
    ("queued", "about to be written"),
)
_BAD: Final = (
    ("poisoned", "damaged and dropped"),
    ("dropped", "not written: the queue was full"),
    ("read_faults", "failed readings"),
)


def _counted(tier: Mapping[str, Any], names: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{count(number)} {words}" for name, words in names if (number := number_of(tier, name)))


def _of(part: float | None, whole: float | None, written: Any) -> str:
    if part is None:
        return str(written(None))
    if not whole:
        return str(written(part))
    return f"{written(part)} of {written(whole)} ({share(part, whole)})"
