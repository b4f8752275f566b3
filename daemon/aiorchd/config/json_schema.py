"""The schema in the form that editors read, so that they complete, explain and check the TOML while it is written.

``make docs`` makes the file anew; a test holds the two together.
Draft 7 with the ``x-taplo`` extension, which is what taplo, Even Better TOML and their kin understand. It says what one
key may be; whether several fit together is for `aiorchctl config check`.
"""

from __future__ import annotations

import inspect as source
import json
import sys
from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final

import msgspec
from msgspec import inspect

from aiorchd.config.key import Field, fields_of
from aiorchd.config.manual import facts
from aiorchd.config.schema import (
    DEFAULT_BASE_URLS,
    WITHOUT_ADDRESS,
    CallerTable,
    Model,
    Operation,
    Provider,
    Section,
    sections,
    top_keys,
)

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
PROVIDER_NAME: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def json_schema() -> dict[str, Any]:
    """Make the whole schema."""
    properties: dict[str, Any] = {name: _key(name, field) for name, field in top_keys().items()}
    for name, kind in sections().items():
        above, _, own = name.rpartition(".")
        (properties[above]["properties"] if above else properties)[own] = _table(name, kind)
    provider = _table("providers.NAME", Provider)
    near = {"properties": {"dialect": {"enum": list(WITHOUT_ADDRESS)}}, "required": ["dialect"]}
    addressed = {"properties": {"dialect": {"enum": list(DEFAULT_BASE_URLS)}}, "required": ["dialect"]}
    provider["if"] = near
    provider["then"] = {"properties": {"base_url": False}}
    provider["else"] = {"anyOf": [addressed, {"required": ["base_url"]}]}
    places = ("api_key_env", "api_keys_env", "api_key_credential", "api_keys_credential")
    provider["not"] = {"anyOf": [{"required": list(pair)} for pair in combinations(places, 2)]}
    properties["providers"] = {
        "title": "providers",
        "description": "Endpoints, each as [providers.NAME]; the names are yours and models refer to them.",
        "type": "object",
        "patternProperties": {PROVIDER_NAME: provider},
        "additionalProperties": False,
    }
    properties["callers"] = {
        "title": "callers",
        "description": "Single callers, each as [callers.NAME]: a user's name or number, or a systemd unit in quotes.",
        "type": "object",
        "additionalProperties": _table("callers.NAME", CallerTable),
    }
    properties["operations"] = {
        "title": "operations",
        "description": "Kinds of work, each as [operations.NAME]; hosts call them by that name.",
        "type": "object",
        "patternProperties": {PROVIDER_NAME: _table("operations.NAME", Operation)},
        "additionalProperties": False,
    }
    properties["models"] = {
        "title": "models",
        "description": _words(Model),
        "type": "array",
        "items": _table("[[models]]", Model, first=("name", "provider")),
    }
    return {
        "$schema": DRAFT,
        "title": "aiorch.toml",
        "description": "The configuration of aiorchd. What is left out has its default.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _table(title: str, kind: type[Section], *, first: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = fields_of(kind)
    table: dict[str, Any] = {
        "title": title,
        "description": _words(kind),
        "type": "object",
        "properties": {name: _key(f"{title}.{name}", field) for name, field in fields.items()},
        "additionalProperties": False,
    }
    needed = [name for name, field in fields.items() if field.required]
    if needed:
        table["required"] = needed
    if first:
        table["x-taplo"] = {"initKeys": list(first)}  # what an editor writes when such a table is begun
    return table


def _key(title: str, field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {
        "title": title,
        "description": f"{field.about.meaning} {field.about.effect}\n\n{'. '.join(facts(field))}.",
        **_shape(field.type_info, field.choices()),
    }
    if not field.required and field.default is not None:
        described["default"] = msgspec.to_builtins(field.default)
    return described


def _shape(shape: inspect.Type, choices: tuple[str, ...] = ()) -> dict[str, Any]:
    """Say in JSON Schema what a value may be. ``choices`` are the words of a literal in their order."""
    if isinstance(shape, inspect.Metadata):
        return _shape(shape.type, choices)
    if isinstance(shape, inspect.AnyType):
        return {}
    if isinstance(shape, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(shape, inspect.IntType | inspect.FloatType):
        kind = "integer" if isinstance(shape, inspect.IntType) else "number"
        return _given({"type": kind, "minimum": shape.ge, "maximum": shape.le})
    if isinstance(shape, inspect.StrType):
        return _given({"type": "string", "minLength": shape.min_length, "maxLength": shape.max_length})
    if isinstance(shape, inspect.LiteralType):
        return {"type": "string", "enum": list(choices)}
    if isinstance(shape, inspect.VarTupleType):
        listed = {"type": "array", "minItems": shape.min_length, "maxItems": shape.max_length}
        return _given({**listed, "items": _shape(shape.item_type, choices)})
    if isinstance(shape, inspect.DictType):
        table = {"type": "object", "minProperties": shape.min_length, "maxProperties": shape.max_length}
        return _given({**table, "additionalProperties": _shape(shape.value_type, choices)})
    if isinstance(shape, inspect.UnionType):
        kinds = [_shape(one, choices) for one in shape.types if not isinstance(one, inspect.NoneType)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    raise TypeError(f"the schema has a type that has no JSON Schema yet: {shape}")


def _given(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if value is not None}


def _words(kind: type[Section]) -> str:
    return source.cleandoc(kind.__doc__ or "")


def json_schema_text() -> str:
    """Write it as a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema_text())
