"""The uppermost layer: keys that programs changed while the daemon runs, kept apart from the file.

An override is live at once, survives every reload of the file, and ends with ``config.reset`` or the process. It is held
to the same checks as the file. Keys that decide who may do what, and where keys of providers go, are not overridden:
those are for whoever may write the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from msgspec import inspect

from aiorchd.config.address import Address, AddressError, find_address
from aiorchd.config.findings import OVERRIDE, Origin
from aiorchd.config.lines import Path
from aiorchd.config.problems import ConfigError, Problem, dotted, printable
from aiorchd.config.tables import with_value

Overrides: TypeAlias = Mapping[Path, Any]
"""Values by path, models by their names, in the order in which they came."""

NO_OVERRIDES: Final[Overrides] = MappingProxyType({})
MOST_OVERRIDES: Final = 1000
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Laid:
    """The tables with the overrides in them, where each value came from, the values by path in the tables, and those
    (as dotted keys) whose model the tables do not have.
    """

    raw: Mapping[str, Any]
    origins: Mapping[Path, Origin]
    values: Mapping[Path, Any]
    left_out: tuple[str, ...]


def lay(raw: Mapping[str, Any], overrides: Overrides) -> Laid:
    """Lay overrides over the tables, which stay as they are."""
    merged: dict[str, Any] = dict(raw)
    origins: dict[Path, Origin] = {}
    values: dict[Path, Any] = {}
    left_out: list[str] = []
    for path, value in overrides.items():
        place = _place_in(path, raw)
        changed = None if place is None else with_value(merged, place, value)
        if place is None or changed is None:
            left_out.append(dotted(path))
            continue
        merged = changed
        origins[place] = Origin(OVERRIDE, dotted(path))
        values[place] = value
    return Laid(merged, origins, values, tuple(left_out))


def with_override(
    held: Overrides,
    key: str,
    value: Any,
    *,
    providers: Collection[str],
    models: Sequence[str],
    callers: Collection[str] = (),
    operations: Collection[str] = (),
) -> Overrides:
    """Add an override, or several when ``key`` names a section and ``value`` is a table of its keys.

    Raises `ConfigError` with everything that is wrong with the keys; whether the values fit is found when the whole is
    read again.
    """
    problems: list[Problem] = []
    names = {"providers": providers, "models": models, "callers": callers, "operations": operations}
    changed = dict(held)
    for address, one in _addressed(key, value, names, problems):
        if address.field.about.guarded:
            problems.append(
                _problem(
                    str(address),
                    "decides who may do what or where a key goes, and is not overridden.",
                    "Change it in the file.",
                )
            )
            continue
        if one == [] and isinstance(address.shape, inspect.DictType):
            one = {}  # what some clients make of an empty table
        if not _is_text_throughout(one):
            problems.append(_problem(str(address), "holds bytes, text that is not UTF-8, or nests too deep."))
            continue
        for other in [path for path in changed if path[: len(address.whole)] == address.whole]:
            del changed[other]
        changed[address.whole] = one
    if len(changed) > MOST_OVERRIDES:
        problems.append(_problem(printable(key), f"there are {len(changed)} overrides; the most is {MOST_OVERRIDES}."))
    if problems:
        raise ConfigError(problems)
    return changed


def without_override(
    held: Overrides,
    key: str | None,
    *,
    providers: Collection[str],
    models: Sequence[str],
    callers: Collection[str] = (),
    operations: Collection[str] = (),
) -> Overrides:
    """Take an override away, those below a section, or (None) all. Raises `ConfigError` when none is meant."""
    if key is None:
        return NO_OVERRIDES
    try:
        prefix: Path = find_address(
            key, providers=providers, models=models, callers=callers, operations=operations
        ).whole
        meant = [path for path in held if path[: len(prefix)] == prefix]
    except AddressError:
        # A section, or something that is not in the file any more: by its words.
        meant = [path for path in held if dotted(path) == key or dotted(path).startswith(f"{key}.")]
    if not meant:
        listed = ", ".join(dotted(path) for path in held) or "none"
        raise ConfigError([_problem(printable(key), "is not overridden.", f"Overridden: {listed}.")])
    return {path: value for path, value in held.items() if path not in meant}


def to_wire(overrides: Overrides) -> dict[str, Any]:
    """Give the plain map of dotted keys."""
    return {dotted(path): value for path, value in overrides.items()}


def _addressed(
    key: str,
    value: Any,
    names: Mapping[str, Any],
    problems: list[Problem],
) -> list[tuple[Address, Any]]:
    """Find the places that are meant, noting a problem for each that there is not."""
    try:
        return [(find_address(key, **names), value)]
    except AddressError as error:
        if not (error.table and isinstance(value, dict) and value):
            problems.append(_problem(printable(key), error.sentence, error.remedy))
            return []
    found: list[tuple[Address, Any]] = []
    for name, one in value.items():
        below = f"{key}.{name}"
        try:
            found.append((find_address(below, **names), one))
        except AddressError as error:
            problems.append(_problem(printable(below), error.sentence, error.remedy))
    return found


def _place_in(path: Path, raw: Mapping[str, Any]) -> Path | None:
    """Turn the name of a model into its number."""
    if path[0] != "models":
        return path
    listed = raw.get("models")
    for number, table in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(table, dict) and table.get("name") == path[1]:
            return ("models", number, *path[2:])
    return None


def _is_text_throughout(value: Any, depth: int = 0) -> bool:
    """Refuse what TOML could not hold either, and what nests too deep to be looked at."""
    if depth > _DEEPEST or isinstance(value, bytes):
        return False
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, dict):
        return all(
            isinstance(name, str) and _is_text_throughout(name, depth + 1) and _is_text_throughout(one, depth + 1)
            for name, one in value.items()
        )
    return not isinstance(value, list) or all(_is_text_throughout(one, depth + 1) for one in value)


def _problem(key: str, sentence: str, remedy: str = "") -> Problem:
    return Problem(OVERRIDE, key, None, sentence, remedy)
