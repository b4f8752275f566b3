"""Raw tables, as `tomllib` gives them, laid over each other key by key. What is handed in stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchd.config.lines import Path


def laid_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Give both tables in one: where both have a section, its keys together; where both have a key, that of ``upper``."""
    merged = dict(lower)
    for name, value in upper.items():
        below = merged.get(name)
        merged[name] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def with_value(tables: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any] | None:
    """Give the tables with one value set; missing tables on the way are made. None when something that is no table (or
    no such item of a list) stands in the way.
    """
    first, *rest = path
    changed = dict(tables)
    if not rest:
        changed[str(first)] = value
        return changed
    below: Any = changed.get(str(first), {})
    number = rest[0]
    if isinstance(below, list) and isinstance(number, int):
        if not 0 <= number < len(below) or not isinstance(below[number], dict) or len(rest) == 1:
            return None
        item = with_value(below[number], tuple(rest[1:]), value)
        if item is None:
            return None
        changed[str(first)] = [*below[:number], item, *below[number + 1 :]]
        return changed
    if not isinstance(below, dict):
        return None
    inside = with_value(below, tuple(rest), value)
    if inside is None:
        return None
    changed[str(first)] = inside
    return changed


def paths_of(tables: Mapping[str, Any]) -> list[Path]:
    """List the paths of all keys: of a section each key, of what stands before the first table itself."""
    found: list[Path] = []
    for name, value in tables.items():
        if isinstance(value, dict):
            found += [(name, key) for key in value]
        else:
            found.append((name,))
    return found
