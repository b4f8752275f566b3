"""A JSON Schema in the part of the language that Anthropic's structured output takes. Pure.

Source: Anthropic's documentation of ``output_config.format``. Every object allows no further properties; there are no
bounds of numbers, lengths and sizes, no recursion, no references to elsewhere. What bounds an answer further is left out
here, since the answer is validated against the whole schema anyway. What cannot be said at all (maps with free keys,
recursion, conditions) is not expressible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KEPT: Final = frozenset(
    {"type", "enum", "const", "title", "description", "default", "required", "$ref", "$defs", "definitions"}
    | {"properties", "items", "anyOf", "allOf", "additionalProperties"}
)
_LEFT_OUT: Final = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern"}
    | {"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "format", "$schema", "$id", "$comment"}
    | {"examples", "contentEncoding", "contentMediaType", "deprecated", "readOnly", "writeOnly"}
)
_DEEPEST: Final = 64


class _Inexpressible(Exception):
    pass


def expressible(schema: Any) -> dict[str, Any] | None:
    """Give the schema as Anthropic takes it, None when it cannot say that; the root must be an object."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        return None
    try:
        if _recursive(schema):
            return None
        return _rewritten(schema, 0)
    except _Inexpressible:
        return None


def _rewritten(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST or not set(schema) <= _KEPT | _LEFT_OUT:
        raise _Inexpressible
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _LEFT_OUT:
            continue
        if name in ("properties", "$defs", "definitions"):
            if not isinstance(value, Mapping):
                raise _Inexpressible
            made[name] = {key: _rewritten(part, depth + 1) for key, part in value.items()}
        elif name == "items":
            made[name] = _rewritten(value, depth + 1)
        elif name in ("anyOf", "allOf"):
            if not isinstance(value, list):
                raise _Inexpressible
            made[name] = [_rewritten(part, depth + 1) for part in value]
        elif name == "$ref":
            if not isinstance(value, str) or not value.startswith(("#/$defs/", "#/definitions/")):
                raise _Inexpressible
            made[name] = value
        else:
            made[name] = value
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        # Without properties, or with a schema for further ones, the keys are free: a map, which is not to be had.
        if schema.get("additionalProperties", False) not in (False, True) or not schema.get("properties"):
            raise _Inexpressible
        made["additionalProperties"] = False
    return made


def _recursive(schema: Mapping[str, Any]) -> bool:
    """Tell whether a definition contains itself, by whatever way."""
    definitions = {
        f"#/{group}/{name}": part
        for group in ("$defs", "definitions")
        if isinstance(schema.get(group), Mapping)
        for name, part in schema[group].items()
    }
    names = {name: _references(part) for name, part in definitions.items()}
    for start, first in names.items():
        seen: set[str] = set()
        waiting = list(first)
        while waiting:
            name = waiting.pop()
            if name == start:
                return True
            if name not in seen:
                seen.add(name)
                waiting.extend(names.get(name, ()))
    return False


def _references(schema: Any, depth: int = 0) -> set[str]:
    if depth > _DEEPEST:
        raise _Inexpressible
    found: set[str] = set()
    children: list[Any] = []
    if isinstance(schema, Mapping):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            found.add(reference)
        children = list(schema.values())
    elif isinstance(schema, list):
        children = schema
    for child in children:
        found |= _references(child, depth + 1)
    return found
