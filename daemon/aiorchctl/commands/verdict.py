"""The verdict on the configuration file, as ``status`` and ``config reload`` show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiorchctl.page import Cell, Words
from aiorchctl.quantities import count, moment, number_of


def verdict_words(verdict: Mapping[str, Any]) -> Cell:
    """Tell in a line (more when it was refused) what became of the last look at the file."""
    result = verdict.get("result")
    generation = count(number_of(verdict, "generation"))
    when = moment(number_of(verdict, "at"))
    if result == "refused":
        lines = [f"refused at {when}; generation {generation} stays in force:"]
        return Words("\n".join([*lines, *(problem_line(problem) for problem in _list(verdict, "problems"))]), "bad")
    if result == "unchanged":
        return Words(f"unchanged at {when}; generation {generation} is in force", "good")
    text = f"{result or 'accepted'} at {when}; generation {generation} is in force"
    changed = _list(verdict, "changed")
    if changed:
        text += f"\nchanged: {', '.join(map(str, changed))}"
    return Words(text, "good")


def doubts(verdict: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Give the rows about what waits for a restart and what is doubtful."""
    pending = _list(verdict, "restart_needed")
    if pending:
        yield "waits for a restart", Words(", ".join(map(str, pending)), "doubtful")
    warnings = _list(verdict, "warnings")
    if warnings:
        yield "warnings", Words("\n".join(problem_line(warning) for warning in warnings), "doubtful")


def problem_line(problem: Any) -> str:
    """Write a problem of a configuration as the daemon's log does: place, key, what is wrong, remedy."""
    if not isinstance(problem, dict):
        return str(problem)
    place = str(problem.get("file") or "")
    if problem.get("line") is not None:
        place += f":{problem['line']}" + (f":{problem['column']}" if problem.get("column") is not None else "")
    parts = [f"{place}:"] if place else []
    if problem.get("key"):
        parts.append(f"{problem['key']}:")
    parts += [str(problem[name]) for name in ("sentence", "remedy") if problem.get(name)]
    return " ".join(parts)


def _list(verdict: Mapping[str, Any], name: str) -> list[Any]:
    found = verdict.get(name)
    return found if isinstance(found, list) else []
