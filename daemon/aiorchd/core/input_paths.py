"""Dotted paths into an input: ``input.page.id``, ``input.entries[*].seen``, ``input["a name"]``, ``input.**.uuid``.

A path is a tuple of steps: a name, a place in a list, `ANY` (any name or any place) or `DEEP` (any number of levels, none
included). ``input`` itself is the first part of what is written and no step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

ANY: Final = "*"
DEEP: Final = "**"
ROOT: Final = "input"

Step: TypeAlias = str | int
InputPath: TypeAlias = tuple[Step, ...]

_PART: Final = re.compile(r'\.(\*{1,2}|[^\s.\[\]"*]+)|\[(\d{1,9})\]|\[(\*)\]|\["((?:[^"\\]|\\.)*)"\]')


class PathError(ValueError):
    """Text that is no path."""


def parse_path(text: str) -> InputPath:
    """Read a path. Raises `PathError` with a sentence."""
    if text != ROOT and not text.startswith((f"{ROOT}.", f"{ROOT}[")):
        raise PathError(f"begins with {ROOT}, as in {ROOT}.page.id")
    steps: list[Step] = []
    at = len(ROOT)
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise PathError(f"makes no sense from its character {at + 1} on")
        name, number, star, quoted = match.groups()
        if number is not None:
            steps.append(int(number))
        elif quoted is not None:
            steps.append(re.sub(r"\\(.)", r"\1", quoted))
        else:
            steps.append(star or name)
        at = match.end()
    if not steps:
        raise PathError(f"names the whole input; name something in it, as in {ROOT}.page.id")
    return tuple(steps)


def is_plain(path: InputPath) -> bool:
    """Tell whether a path means one single place."""
    return ANY not in path and DEEP not in path


def find_at(value: Any, path: InputPath) -> tuple[bool, Any]:
    """Tell whether there is something at a plain path, and what."""
    for step in path:
        if isinstance(value, dict):
            if step not in value:
                return False, None
            value = value[step]
        elif isinstance(value, list):
            if not isinstance(step, int) or step >= len(value):
                return False, None
            value = value[step]
        else:
            return False, None
    return True, value


def matches(pattern: InputPath, path: Sequence[Step]) -> bool:
    """Tell whether a pattern means this place."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == DEEP:
        return any(matches(rest, path[number:]) for number in range(len(path) + 1))
    return bool(path) and (first in (ANY, path[0])) and matches(rest, path[1:])


def written(path: Sequence[Step]) -> str:
    """Write a path as people do."""
    text = ROOT
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r'[^\s.\[\]"*]+', step):
            text += f".{step}"
        else:
            text += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return text
