"""Reading a JSON Schema: following its references, choosing among its alternatives, merging its parts.

What comes out is one flat schema whose type is known. Reading is bounded in depth and in work, so that a schema that
refers to itself, or multiplies, comes to an end.
"""

from typing import Any, Final, TypeGuard

DEEPEST: Final = 24
MOST_STEPS: Final = 20_000


class SchemaReader:
    """Reads the parts of one schema; `steps_left` counts down with all that is read or written of it."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self.steps_left = MOST_STEPS

    def resolved(self, schema: Any, depth: int = 0) -> Any:
        """The schema with references followed, alternatives chosen and parts merged; None where that has no end."""
        for _ in range(DEEPEST - depth):
            self.steps_left -= 1
            if self.steps_left < 0 or not isinstance(schema, dict):
                break
            if isinstance(reference := schema.get("$ref"), str):
                rest = {key: part for key, part in schema.items() if key != "$ref"}
                target = self._referred(reference)
                schema = target if not rest or not isinstance(target, dict) else _merged(target, rest)
                continue
            combined = next(
                (key for key in ("allOf", "anyOf", "oneOf") if schema.get(key) and isinstance(schema[key], list)), None
            )
            if combined is None:
                return schema
            rest = {key: part for key, part in schema.items() if key != combined}
            parts = [self.resolved(part, depth + 1) for part in schema[combined]]
            chosen = parts if combined == "allOf" else [_preferred(parts)]
            for part in chosen:
                if isinstance(part, dict):
                    rest = _merged(rest, part)
                elif part is False:
                    return None
            schema = rest
        return None if isinstance(schema, dict) else schema

    def _referred(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return True
        target: Any = self._root
        for step in reference[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and key in target:
                target = target[key]
            elif isinstance(target, list) and key.isdecimal() and int(key) < len(target):
                target = target[int(key)]
            else:
                return True
        return target


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    merged = left | right
    for key in ("properties", "patternProperties"):
        if isinstance(left.get(key), dict) and isinstance(right.get(key), dict):
            merged[key] = left[key] | right[key]
    if isinstance(left.get("required"), list) and isinstance(right.get("required"), list):
        merged["required"] = left["required"] + [key for key in right["required"] if key not in left["required"]]
    for key, choose in (
        ("minimum", max),
        ("minLength", max),
        ("minItems", max),
        ("maximum", min),
        ("maxLength", min),
        ("maxItems", min),
    ):
        if is_number(left.get(key)) and is_number(right.get(key)):
            merged[key] = choose(left[key], right[key])
    return merged


def _preferred(parts: list[Any]) -> Any:
    """The first alternative that is not null."""
    return next((part for part in parts if not (isinstance(part, dict) and part.get("type") == "null")), parts[0])


def type_of(schema: Any) -> str:
    """The type to write: the one that is named, the first that is not null, or the one its keywords imply."""
    if not isinstance(schema, dict):
        return ""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    if (
        "properties" in schema
        or "required" in schema
        or "additionalProperties" in schema
        or "patternProperties" in schema
    ):
        return "object"
    if "items" in schema or "prefixItems" in schema or "minItems" in schema:
        return "array"
    if any(key in schema for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")):
        return "number"
    return "string"


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a keyword's value is a number that can be worked with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def bounded_count(value: Any, default: int, most: int) -> int:
    """A keyword's value as a whole number within [0, most]."""
    return min(max(int(value), 0), most) if is_number(value) else default


def as_list(value: Any) -> list[Any]:
    """A keyword's value when it is a list, else nothing."""
    return value if isinstance(value, list) else []
