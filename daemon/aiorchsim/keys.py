"""The keys of a table, as a profile in TOML or a request to /sim holds it: declared once, checked, explained.

A record is a frozen dataclass whose fields are made with `key`; the same declaration checks what somebody wrote
(`read_record`, which tells every problem with its place and remedy) and writes the manual (`explained_key`).
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar, cast

REQUIRED: Final = ""
"""The default of a string that has to be given."""

_Record = TypeVar("_Record")


def key(
    default: Any,
    meaning: str,
    *,
    kind: type = float,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A key of a table: default (None: may be absent), meaning with unit and consequence, type, bounds or choices."""
    facts = {"meaning": meaning, "kind": kind, "least": least, "above": above, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata=facts)


def read_record(record: type[_Record], table: Mapping[str, Any], where: str, problems: list[str]) -> _Record:
    """A record from a table; what is wrong with it is added to `problems`, each with its place, and left out."""
    fields = {field.name: field for field in dataclasses.fields(cast("Any", record)) if field.metadata}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields:
            problems.append(f"{where}.{name}: unknown key{nearest(name, tuple(fields))}")
            continue
        problem = _problem(fields[name].metadata, value)
        if problem:
            problems.append(f"{where}.{name}: {problem}, got {_shown(value)}")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    problems += [
        f"{where}.{name}: is missing; it must be one of {', '.join(field.metadata['choices'])}"
        for name, field in fields.items()
        if field.default == REQUIRED and name not in table
    ]
    return record(**values)


def nearest(word: str, known: tuple[str, ...]) -> str:
    """The end of a sentence that suggests what was meant; empty when nothing is near."""
    if word == "prices" and "input_usd_per_1m" in known:
        return "; write input_usd_per_1m and output_usd_per_1m, as in aiorch.toml"
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def explained_key(field: "dataclasses.Field[Any]") -> list[str]:
    """The lines of the manual for one key: its meaning, and the key at its default."""
    facts = field.metadata
    bounds = [
        f"{word} {facts[bound]}"
        for bound, word in (("least", "at least"), ("above", "more than"), ("most", "at most"))
        if facts[bound] is not None
    ]
    if facts["choices"]:
        bounds.append(" | ".join(facts["choices"]))
    meaning = f"# {facts['meaning']}" + (f" ({', '.join(bounds)})" if bounds else "")
    if field.default is None or field.default == REQUIRED:
        example = {int: "0", float: "0.0", str: '""'}[cast("type", facts["kind"])]
        return [meaning, f"# {field.name} = {example}"]
    return [meaning, f"{field.name} = {_toml(field.default)}"]


def _problem(facts: Mapping[str, Any], value: Any) -> str:
    kind = facts["kind"]
    if kind is tuple:
        fine = isinstance(value, list) and all(isinstance(element, str) and element.isprintable() for element in value)
        return "" if fine else "must be an array of strings"
    if kind is bool:
        return "" if isinstance(value, bool) else "must be true or false"
    if kind is str:
        if not isinstance(value, str) or not value:
            return "must be a string that is not empty"
        choices = facts["choices"]
        return (
            f"must be one of {', '.join(choices)}{nearest(value, choices)}" if choices and value not in choices else ""
        )
    allowed = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        return "must be a whole number" if kind is int else "must be a number"
    if facts["least"] is not None and value < facts["least"]:
        return f"must be at least {facts['least']}"
    if facts["above"] is not None and value <= facts["above"]:
        return f"must be more than {facts['above']}; leave it out for no limit"
    if facts["most"] is not None and value > facts["most"]:
        return f"must be at most {facts['most']}"
    return ""


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return "[]" if isinstance(value, tuple) else str(value)
