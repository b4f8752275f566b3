"""JSON Schemas that callers send, as checks that Validate is handed.

A check gives the place and the reason of what is wrong, in one short line that quotes little of the answer. Compiled
checks are held, by the exact text of their schema, so that an operation's schema is compiled once; they outlive reloads.

Schemas come from anybody who may call, so they are bounded: in size, in depth (by the interpreter's stack), in the CPU a
compilation or a check may take, and in what they may reach: references lead into the schema itself, nothing is ever
fetched. ``format`` is an annotation, as the standard has it. The dialect is Draft 2020-12 unless ``$schema`` names another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from math import inf
from typing import Any, Final, TypeAlias

from aiorch.errors import InvalidRequest
from aiorchd.core.memory_cache import MemoryCache

Check: TypeAlias = Callable[[Any], tuple[str, str] | None]
"""Looks at a value; gives the place (a JSON path) and the reason of what is wrong, or None."""

_MAX_COMPILED: Final = 256
_MAX_COMPILED_BYTES: Final = 4 * 1024 * 1024
"""Of schema text; a compiled check is mostly the schema itself."""
_MAX_ERRORS: Final = 50
"""Faults of one answer that are looked at to find the one worth telling."""
_EXCERPT_CHARACTERS: Final = 60
_PATH_CHARACTERS: Final = 200
_REASON_CHARACTERS: Final = 160


@dataclass(frozen=True, slots=True)
class JsonSchemasStatistics:
    """Checks held, and how often one was compiled."""

    held: int
    compiled: int


class JsonSchemas:
    """Makes checks of schemas. ``max_bytes`` bounds a schema's text; ``cpu_limit`` bounds the work of one compilation or
    check and raises TimeoutError.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 256 * 1024,
        cpu_limit: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._max_bytes = max_bytes
        self._cpu_limit = cpu_limit
        self._checks: MemoryCache[Check] = MemoryCache(_MAX_COMPILED, _MAX_COMPILED_BYTES)
        self._compiled = 0

    def check(self, schema: Any, where: str) -> Check:
        """Give the check of a schema; ``where`` is what the caller calls it. Raises `InvalidRequest` naming the place."""
        if schema is True:
            return _anything
        if not isinstance(schema, dict):
            raise _wrong(where, "must be a JSON Schema, as a map, that some answer can satisfy")
        try:
            text = json.dumps(schema, sort_keys=True, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise _wrong(where, f"is not plain JSON ({_short(str(error))})") from error
        if len(text) > self._max_bytes:
            raise _wrong(where, f"has {len(text)} bytes, the limit is {self._max_bytes}")
        key = blake2b(text, digest_size=16).digest()
        check = self._checks.get(key, 0.0)
        if check is None:
            self._compiled += 1
            try:
                with self._cpu_limit():
                    check = self._limited(_compile(schema, where))
            except TimeoutError as error:
                raise _wrong(where, f"to read it takes {error}; simplify it") from error
            self._checks.put(key, check, size_bytes=len(text), stored_at=0.0, expires_at=inf)
        return check

    def statistics(self) -> JsonSchemasStatistics:
        """Tell what is held."""
        return JsonSchemasStatistics(held=len(self._checks), compiled=self._compiled)

    def _limited(self, check: Check) -> Check:
        def limited(value: Any) -> tuple[str, str] | None:
            try:
                with self._cpu_limit():
                    return check(value)
            except TimeoutError as error:
                return "$", f"to check it takes {error}"

        return limited


def _anything(value: Any) -> None:  # noqa: ARG001  what checks are given
    return None


def _wrong(where: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {what}", stage="validate")


def _compile(schema: dict[str, Any], where: str) -> Check:
    # Loaded at the first schema: 60 ms and 10 MB that most daemons save.
    from jsonschema.exceptions import SchemaError, best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    dialect = _dialect(schema, where)
    try:
        dialect.check_schema(schema)
        _resolve_references(schema, dialect, where)
    except SchemaError as error:
        place = where + error.json_path.removeprefix("$")[:_PATH_CHARACTERS]
        raise _wrong(place, _reason(error)) from error
    except RecursionError as error:
        raise _wrong(where, "is nested too deeply") from error
    except OverflowError as error:  # a repetition beyond what a regular expression takes
        raise _wrong(where, f"cannot be read ({_short(str(error))})") from error
    validator = dialect(schema, registry=Registry())

    def check(value: Any) -> tuple[str, str] | None:
        try:
            error = best_match(islice(validator.iter_errors(value), _MAX_ERRORS))
        except RecursionError:
            return "$", "the schema refers to itself without end"
        except Unresolvable as error:
            return "$", f"the schema has a reference that leads nowhere ({_short(str(error))})"
        return None if error is None else (error.json_path[:_PATH_CHARACTERS], _reason(error))

    return check


def _dialect(schema: dict[str, Any], where: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    if "$schema" not in schema:
        return Draft202012Validator
    named = schema["$schema"]
    try:
        dialect = validator_for(schema, default=None) if isinstance(named, str) else None
    except ValueError:  # not even a URL
        dialect = None
    if dialect is None:
        usual = Draft202012Validator.META_SCHEMA["$schema"]
        raise _wrong(f"{where}.$schema", f"unknown dialect {_excerpt(named)}; leave it out for {usual}")
    return dialect


def _resolve_references(schema: dict[str, Any], dialect: Any, where: str) -> None:
    """Make sure that every reference leads somewhere in the schema. Raises `InvalidRequest` naming the first that does
    not."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification: Any = specification_with(dialect.META_SCHEMA["$schema"])
    registry: Any = Registry()

    def visit(part: Any, resolver: Any, path: str) -> None:
        if not isinstance(part, dict):
            return
        if part is not schema:
            resolver = resolver.in_subresource(specification.create_resource(part))
        for keyword in ("$ref", "$dynamicRef"):
            reference = part.get(keyword)
            if not isinstance(reference, str):
                continue
            try:
                resolver.lookup(reference)
            except Unresolvable as error:
                place = f"{path[:_PATH_CHARACTERS]}.{keyword}"
                raise _wrong(
                    place, f"leads to {_excerpt(reference)}, which is not in the schema; nothing is fetched"
                ) from error
        for inner_path, inner in _subschemas(part):
            visit(inner, resolver, path + inner_path)

    visit(schema, registry.resolver_with_root(specification.create_resource(schema)), where)


_IN_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_IN_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE: Final = (
    "items",
    "additionalItems",
    "additionalProperties",
    "propertyNames",
    "contains",
    "if",
    "then",
    "else",
    "not",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
)


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for keyword in _IN_MAPS:
        members = schema.get(keyword)
        if isinstance(members, dict):
            for name, inner in members.items():
                yield f".{keyword}.{name}", inner
    for keyword in _IN_LISTS:
        items = schema.get(keyword)
        if isinstance(items, list):
            for index, inner in enumerate(items):
                yield f".{keyword}[{index}]", inner
    for keyword in _SINGLE:
        if isinstance(schema.get(keyword), dict):
            yield f".{keyword}", schema[keyword]


_TELLING: Final = frozenset(("required", "additionalProperties", "dependentRequired", "unevaluatedProperties"))
"""Keywords whose messages name members and do not quote the value."""


def _reason(error: Any) -> str:
    """Say what is wrong in one line: the library's own messages quote whole values."""
    if error.validator is None:
        return "nothing is allowed here"
    if error.validator in _TELLING:
        return _short(error.message, _REASON_CHARACTERS)
    return f"{error.validator} must be {_excerpt(error.validator_value)}, got {_excerpt(error.instance)}"


def _excerpt(value: Any) -> str:
    return _short(json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str, characters: int = _EXCERPT_CHARACTERS) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
