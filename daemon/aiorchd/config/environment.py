"""The layer above the file: ``AIORCH__SECTION__KEY`` in the daemon's environment, read at start.

``AIORCH__RETRY__MAX_ATTEMPTS=2``, ``AIORCH__RETRY__BACKOFF_S=0.1,0.2``, ``AIORCH__PROVIDERS__MAIN__HTTP2=true``. Strings
are taken as they are, lists with commas or as TOML, everything else as TOML.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import inspect

from aiorchd.config.key import Field, fields_of
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean
from aiorchd.config.schema import Provider, sections

PREFIX: Final = "AIORCH__"


@dataclass(frozen=True, slots=True)
class Overlay:
    """The raw tables with the environment's values in them, where each came from, and the variables that fit nowhere
    (name, sentence, remedy).
    """

    raw: Mapping[str, Any]
    origins: Mapping[Path, str]
    values: Mapping[Path, Any]
    misfits: tuple[tuple[str, str, str], ...]


def overlay(raw: Mapping[str, Any], environ: Mapping[str, str]) -> Overlay:
    """Lay the environment over the tables, which stay as they are."""
    merged: dict[str, Any] = dict(raw)
    origins: dict[Path, str] = {}
    values: dict[Path, Any] = {}
    misfits: list[tuple[str, str, str]] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        found = _locate(variable, raw)
        if isinstance(found, _Place):
            value = _parse(environ[variable], found.field)
            if _put(merged, found.path, value):
                origins[found.path] = variable
                values[found.path] = value
        else:
            misfits.append((variable, *found))
    return Overlay(merged, origins, values, tuple(misfits))


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    field: Field


def _locate(variable: str, raw: Mapping[str, Any]) -> _Place | tuple[str, str]:
    """Find the key that a variable sets, or say why it sets none."""
    parts = variable[len(PREFIX) :].lower().split("__")
    known = sections()
    if parts[0] == "models":
        return "models are not set in the environment.", "Put them into the file."
    if parts[0] == "providers" and len(parts) == 3:
        fields = fields_of(Provider)
        if parts[1] and parts[2] in fields:
            return _Place(("providers", _provider_name(parts[1], raw), parts[2]), fields[parts[2]])
        return "sets no key of a provider.", did_you_mean(parts[2], fields)
    if parts[0] in known and len(parts) == 2:
        fields = fields_of(known[parts[0]])
        if parts[1] in fields:
            return _Place((parts[0], parts[1]), fields[parts[1]])
        return f"sets no key of [{parts[0]}].", did_you_mean(parts[1], fields)
    return (
        "is not of the form AIORCH__SECTION__KEY with a section that exists.",
        did_you_mean(parts[0], [*known, "providers"]),
    )


def _provider_name(part: str, raw: Mapping[str, Any]) -> str:
    """Environment names know no case and no dashes: prefer the provider of the file that reads alike."""
    providers = raw.get("providers")
    if isinstance(providers, dict):
        for name in providers:
            if name.lower().replace("-", "_").replace(".", "_") == part:
                return str(name)
    return part


def _put(merged: dict[str, Any], path: Path, value: Any) -> bool:
    """Set a value, copying the tables on the way; False when the file has something else where a table belongs."""
    table = merged
    for part in path[:-1]:
        below = table.get(str(part), {})
        if not isinstance(below, dict):
            return False
        below = dict(below)
        table[str(part)] = below
        table = below
    table[str(path[-1])] = value
    return True


def _parse(text: str, field: Field) -> Any:
    """Read a value by what its key expects; what cannot be read stays a string, which its check then refuses."""
    shape = field.type_info
    kinds = _kinds(shape)
    if inspect.BoolType in kinds:
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        return words.get(text.strip().lower(), text)
    if inspect.StrType in kinds or inspect.LiteralType in kinds:
        return text
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):
        pass
    if inspect.VarTupleType in kinds:
        return [_item(item.strip()) for item in text.split(",") if item.strip()]
    return text


def _item(text: str) -> Any:
    """One item of a list with commas: a number when it reads as one, else a string."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _kinds(shape: inspect.Type) -> set[type[inspect.Type]]:
    if isinstance(shape, inspect.Metadata):
        return _kinds(shape.type)
    if isinstance(shape, inspect.UnionType):
        return set().union(*(_kinds(one) for one in shape.types))
    return {type(shape)}
