"""The layer above the file: ``AIORCH__SECTION__KEY`` in the daemon's environment, read at start.

``AIORCH__RETRY__MAX_ATTEMPTS=2``, ``AIORCH__RETRY__BACKOFF_S=0.1,0.2``, ``AIORCH__PROVIDERS__MAIN__HTTP2=true``,
``AIORCH__PROFILE=basic``. Strings are taken as they are, lists with commas or as TOML, everything else as TOML. Below
these stand the names of the documents (`document_names`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiorchd.config.document_names import DOCUMENT_NAMES, understand
from aiorchd.config.findings import ENVIRONMENT, Origin
from aiorchd.config.key import Field, fields_of
from aiorchd.config.lines import Path
from aiorchd.config.problems import did_you_mean
from aiorchd.config.schema import Provider, sections, top_keys
from aiorchd.config.tables import with_value
from aiorchd.config.values import value_from_text

PREFIX: Final = "AIORCH__"


@dataclass(frozen=True, slots=True)
class Overlay:
    """The raw tables with the environment's values in them, where each came from, the variables that fit nowhere, and
    those that are without effect (name, sentence, remedy).
    """

    raw: Mapping[str, Any]
    origins: Mapping[Path, Origin]
    values: Mapping[Path, Any]
    misfits: tuple[tuple[str, str, str], ...]
    doubts: tuple[tuple[str, str, str], ...] = ()


def overlay(raw: Mapping[str, Any], environ: Mapping[str, str]) -> Overlay:
    """Lay the environment over the tables, which stay as they are."""
    merged: dict[str, Any] = dict(raw)
    origins: dict[Path, Origin] = {}
    values: dict[Path, Any] = {}
    misfits: list[tuple[str, str, str]] = []

    def put(path: Path, value: Any, variable: str) -> None:
        nonlocal merged
        changed = with_value(merged, path, value)
        if changed is not None:  # else the file has something else where a table belongs, which is told there
            merged = changed
            origins[path] = Origin(ENVIRONMENT, variable)
            values[path] = value

    understood = understand(environ)
    for path, (value, variable) in understood.values.items():
        put(path, value, variable)
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        found = _locate(variable, raw)
        if isinstance(found, _Place):
            put(found.path, value_from_text(environ[variable], found.field.type_info), variable)
        else:
            misfits.append((variable, *found))
    return Overlay(merged, origins, values, tuple(misfits), understood.doubts)


def read_names(environ: Mapping[str, str]) -> list[str]:
    """List the variables that say something about the configuration."""
    return sorted(name for name in environ if name.startswith(PREFIX) or name in DOCUMENT_NAMES)


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    field: Field


def _locate(variable: str, raw: Mapping[str, Any]) -> _Place | tuple[str, str]:
    """Find the key that a variable sets, or say why it sets none."""
    parts = variable[len(PREFIX) :].lower().split("__")
    known = sections()
    top = top_keys()
    if parts[0] == "models":
        return "models are not set in the environment.", "Put them into the file."
    if parts[0] == "providers" and len(parts) == 3:
        fields = fields_of(Provider)
        if parts[1] and parts[2] in fields:
            return _Place(("providers", _provider_name(parts[1], raw), parts[2]), fields[parts[2]])
        return "sets no key of a provider.", did_you_mean(parts[2], fields)
    if parts[0] == "operations":
        return "operations are not set in the environment.", "Put them into the file."
    if parts[0] == "callers":
        return "callers are not set in the environment.", "Put them into the file."
    if parts[0] in top and len(parts) == 1:
        return _Place((parts[0],), top[parts[0]])
    *section, name = parts
    if ".".join(section) in known:
        fields = fields_of(known[".".join(section)])
        if name in fields:
            return _Place((*section, name), fields[name])
        return f"sets no key of [{'.'.join(section)}].", did_you_mean(name, fields)
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
