"""The schema of a batch's answer, around the schema of one answer.

References stay right: definitions move to the root under their names, which is where ``#/$defs/…`` points to. A schema that
refers to itself by another way (``#``, ``#/properties/…``) becomes a definition as a whole, and these references follow
it. What has an identity or anchors of its own (``$id``, ``$anchor``, dynamic references) cannot be moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_GROUPS: Final = ("$defs", "definitions")
_IMMOVABLE: Final = frozenset(
    {"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"}
)
_VALUES: Final = frozenset({"const", "enum", "default", "examples", "example"})
"""What stands under these is data."""
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""What stands under these is schemas by name: the names are the schema's owner's."""
_DEEPEST: Final = 64


def batch_schema(answer: Any) -> dict[str, Any] | None:
    """Give the schema of a whole answer; ``answer`` is the schema of each, None for texts. None when it cannot be moved."""
    if answer is None:
        return _around({"type": "string"}, {})
    if answer is True:
        return _around(True, {})
    if not isinstance(answer, Mapping):
        return None
    own = {name: value for name, value in answer.items() if name not in ("$schema", "$id", "$comment")}
    references: set[str] = set()
    try:
        _walk(own, 0, references.add)
    except _ImmovableError:
        return None
    if any(not reference.startswith("#") for reference in references):
        return None
    root = {name: answer["$schema"] for name in ("$schema",) if name in answer}
    if all(reference.startswith(("#/$defs/", "#/definitions/")) for reference in references):
        root |= {group: own.pop(group) for group in _GROUPS if group in own}
        return _around(own, root)
    name = next(name for name in ("answer", *(f"answer{n}" for n in range(2, 10_000))) if name not in _names(own))
    moved = _moved(own, f"#/$defs/{name}", 0)
    return _around({"$ref": f"#/$defs/{name}"}, {**root, "$defs": {name: moved}})


class _ImmovableError(Exception):
    pass


def _around(answer: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    item = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "answer": answer},
        "required": ["id", "answer"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"answers": {"type": "array", "items": item}},
        "required": ["answers"],
        "additionalProperties": False,
        **root,
    }


def _names(schema: Mapping[str, Any]) -> set[str]:
    return {name for group in _GROUPS if isinstance(schema.get(group), Mapping) for name in schema[group]}


def _walk(schema: Any, depth: int, found: Callable[[str], None], *, named: bool = False) -> None:
    """Tell of every reference. Raises `_ImmovableError`."""
    if depth > _DEEPEST:
        raise _ImmovableError
    if isinstance(schema, list):
        for part in schema:
            _walk(part, depth + 1, found)
    elif isinstance(schema, Mapping):
        if not named and not _IMMOVABLE.isdisjoint(schema):
            raise _ImmovableError
        for name, part in schema.items():
            if not named and name in _VALUES:
                continue
            if not named and name == "$ref":
                if not isinstance(part, str):
                    raise _ImmovableError
                found(part)
            else:
                _walk(part, depth + 1, found, named=not named and name in _NAMED)


def _moved(schema: Any, place: str, depth: int, *, named: bool = False) -> Any:
    """Copy a schema that comes to stand at ``place``."""
    if isinstance(schema, list):
        return [_moved(part, place, depth + 1) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for name, part in schema.items():
        if not named and name in _VALUES:
            made[name] = part
        elif not named and name == "$ref":
            made[name] = place + str(part)[1:]
        else:
            made[name] = _moved(part, place, depth + 1, named=not named and name in _NAMED)
    return made
