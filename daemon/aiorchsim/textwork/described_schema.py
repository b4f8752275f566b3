"""A schema for an instruction that asks for JSON without giving one: by its example, by the keys it names, or by the task."""

import json
import re
from typing import Any, Final

from aiorchsim.textwork.tasks import Kind, Task

JSON_LIST: Final = re.compile(
    r"\bjson (?:array|list)\b|\b(?:array|list) of (?:json )?(?:strings|objects)\b", re.IGNORECASE
)
_KEYS: Final = re.compile(r"\b(?:keys?|fields?|propert(?:y|ies)|form|format|like|shape|schema)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"[\"`']([A-Za-z_][\w-]{0,40})[\"`']")
_LISTS: Final = frozenset(
    ["tags", "keywords", "topics", "labels", "categories", "entities", "items", "steps", "results", "points"]
)


def schema_described(instruction: str, task: Task, *, anything: bool) -> Any:
    """A schema for an instruction that asks for JSON without one: by its example, by the keys it names, or by the
    task.
    """
    if (opening := instruction.find("{")) >= 0:
        try:
            example, _ = json.JSONDecoder().raw_decode(instruction, opening)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(example, dict) and example:
                return _schema_like(example, 0)
    named = _KEYS.search(instruction)
    keys = _QUOTED.findall(instruction[named.start() :] if named else "") or re.findall(
        r"\"([A-Za-z_]\w{0,40})\"\s*:", instruction
    )
    if keys:
        return {
            "type": "object",
            "properties": {key: _usual(key) for key in dict.fromkeys(keys)},
            "additionalProperties": False,
        }
    if anything and JSON_LIST.search(instruction):
        return {"type": "array", "items": {"type": "string"}}
    key = {Kind.TAGS: "tags", Kind.SUMMARY: "summary", Kind.LABEL: "label", Kind.OPEN: "answer"}[task.kind]
    inner: dict[str, Any] = {"enum": list(task.labels)} if task.kind is Kind.LABEL and task.count == 1 else _usual(key)
    return {"type": "object", "properties": {key: inner}, "additionalProperties": False}


def _usual(key: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}} if key.lower() in _LISTS else {"type": "string"}


def _schema_like(example: Any, depth: int) -> dict[str, Any]:
    match example:
        case dict() if depth < 8:
            return {
                "type": "object",
                "properties": {key: _schema_like(part, depth + 1) for key, part in example.items()},
            }
        case list() if depth < 8:
            return {"type": "array", "items": _schema_like(example[0], depth + 1) if example else {"type": "string"}}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case float():
            return {"type": "number"}
        case _:
            return {"type": "string"}
