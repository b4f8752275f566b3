"""Where two inputs differ, in plain words and bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiorchd.core.input_paths import Step, written

MOST: Final = 50
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two inputs are not the same: what is there, shortened, as JSON; None where there is nothing."""

    path: str
    a: str | None
    b: str | None


def differences(a: Any, b: Any) -> list[Difference]:
    """Find the first `MOST` places, deepest where maps and lists correspond."""
    found: list[Difference] = []
    for difference in _below(a, b, ()):
        found.append(difference)
        if len(found) == MOST:
            break
    return found


def _below(a: Any, b: Any, path: tuple[Step, ...]) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            if name in a and name in b:
                yield from _below(a[name], b[name], (*path, name))
            else:
                here = written((*path, name))
                yield Difference(here, _shown(a[name]) if name in a else None, _shown(b[name]) if name in b else None)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _below(one, other, (*path, number))
    elif type(a) is not type(b) or a != b:
        yield Difference(written(path), _shown(a), _shown(b))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
