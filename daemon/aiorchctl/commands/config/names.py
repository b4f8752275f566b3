"""The names of providers and models, out of the flat map of dotted keys that the daemon gives, or out of raw tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_PROVIDER: Final = re.compile(r'providers\.(?:"([^"]*)"|([^."]+))\.')
_CALLER: Final = re.compile(r'callers\.(?:"([^"]*)"|([^."]+))\.')
_OPERATION: Final = re.compile(r'operations\.(?:"([^"]*)"|([^."]+))\.')
_MODEL: Final = re.compile(r"models\[([0-9]+)\]\.")


def provider_names(keys: Iterable[str]) -> list[str]:
    """List the providers that have keys, each once."""
    found = [match[1] if match[2] is None else match[2] for key in keys if (match := _PROVIDER.match(key))]
    return list(dict.fromkeys(found))


def caller_names(keys: Iterable[str]) -> list[str]:
    """List the callers that have keys, each once."""
    found = [match[1] if match[2] is None else match[2] for key in keys if (match := _CALLER.match(key))]
    return list(dict.fromkeys(found))


def operation_names(keys: Iterable[str]) -> list[str]:
    """List the operations that have keys, each once."""
    found = [match[1] if match[2] is None else match[2] for key in keys if (match := _OPERATION.match(key))]
    return list(dict.fromkeys(found))


def model_names(values: Mapping[str, Any]) -> list[str]:
    """List the models by their number."""
    numbers = sorted({int(match[1]) for key in values if (match := _MODEL.match(key))})
    return [str(values.get(f"models[{number}].name", "")) for number in numbers]


def by_name(key: str, models: list[str]) -> str:
    """Write a key of a model with its name in place of its number."""
    match = _MODEL.match(key)
    if match is None or int(match[1]) >= len(models):
        return key
    name = models[int(match[1])]
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None
    return f"models.{name if bare else chr(34) + name + chr(34)}.{key[match.end() :]}"


def names_in_tables(raw: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """List providers and models of raw tables, as far as they have names."""
    providers, models = raw.get("providers"), raw.get("models")
    return (
        list(providers) if isinstance(providers, dict) else [],
        [str(table["name"]) for table in models if isinstance(table, dict) and "name" in table]
        if isinstance(models, list)
        else [],
    )


def operations_in_tables(raw: Mapping[str, Any]) -> list[str]:
    """List the operations of raw tables."""
    operations = raw.get("operations")
    return list(operations) if isinstance(operations, dict) else []


def callers_in_tables(raw: Mapping[str, Any]) -> list[str]:
    """List the callers of raw tables."""
    callers = raw.get("callers")
    return list(callers) if isinstance(callers, dict) else []
