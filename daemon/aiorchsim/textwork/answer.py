"""The answer of a simulated model to a chat request.

Decided in this order: a tool call when the request demands one; otherwise an answer to each of several questions when
the prompt holds several (`items`); otherwise one answer. It is JSON when the request or its instruction asks for JSON
(`schema`), and words when not (`solve`). What the words say follows from the task that the instruction names
(`tasks`).

Right or wrong: with `quality` q, a share q of all texts is answered right and the rest wrong, in the right form.
Which, is decided by the seed, the model's name and the text of the question alone, so the same model is wrong about
the same texts every time, and a text asked among others fares as it does alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.textwork.items import Batch, Item, find_items
from aiorchsim.textwork.schema import value_for, value_for_items
from aiorchsim.textwork.solve import solve
from aiorchsim.textwork.tasks import Kind, Task, read_task, split_head, split_prompt
from aiorchsim.textwork.words import chance, clip, pick, words

_JSON: Final = re.compile(r"\bjson\b", re.IGNORECASE)
_JSON_LIST: Final = re.compile(
    r"\bjson (?:array|list)\b|\b(?:array|list) of (?:json )?(?:strings|objects)\b", re.IGNORECASE
)
_KEYS: Final = re.compile(r"\b(?:keys?|fields?|propert(?:y|ies)|form|format|like|shape|schema)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"[\"`']([A-Za-z_][\w-]{0,40})[\"`']")
_LISTS: Final = frozenset(
    ["tags", "keywords", "topics", "labels", "categories", "entities", "items", "steps", "results", "points"]
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: `arguments` is JSON, as providers send it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: text, or calls of tools and then no text."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()


def answer(
    messages: Sequence[Mapping[str, Any]],
    *,
    model: str = "",
    seed: int = 0,
    quality: float = 1.0,
    response_format: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
) -> Answer:
    """Answer a chat request given in OpenAI's shape; unknown or misshapen parts of it are ignored, nothing is raised.

    `tools` lead to a call when `tool_choice` is "required" or names one; with "auto" the answer is text.
    `response_format` is OpenAI's: `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {"schema":
    ...}}`.
    """
    system, user = question_of(messages)

    def right(text: str) -> bool:
        return quality >= 1.0 or chance(seed, model, text) < quality

    tool = _demanded(tools, tool_choice, user)
    if tool is not None:
        return Answer("", (_tool_call(tool, system, user, right(user), (seed, model)),))
    schema = _schema_of(response_format)
    head, rest = split_head(user)
    instruction = f"{system}\n{head}"
    batch = find_items(user)
    if batch is not None:
        instruction = f"{system}\n{batch.instruction}"
    wants_json = schema is not None or _JSON.search(instruction) is not None
    if batch is not None:
        return Answer(
            _batch_answer(batch, system, schema, wants_json, {item.id: right(item.text) for item in batch.items})
        )
    task, subject = split_prompt(system, user)
    if task.kind is Kind.OPEN and rest and _JSON.search(head):
        subject = rest
    if not wants_json:
        return Answer(solve(task, subject, right=right(subject)))
    if not schema:
        schema = _schema_from(instruction, task, anything=response_format is None)
    return Answer(_json(value_for(schema, task, subject, right=right(subject))))


def question_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The system text and the last user message of a conversation; a tool's result when that came last."""
    system = "\n".join(
        text_of(message.get("content")) for message in messages if message.get("role") in ("system", "developer")
    )
    asked = [message for message in messages if message.get("role") in ("user", "tool")]
    return system, text_of(asked[-1].get("content")) if asked else ""


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string, a list of parts, or null."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def _batch_answer(batch: Batch, system: str, schema: Any, wants_json: bool, right: Mapping[str, bool]) -> str:
    task = read_task(batch.instruction)
    if task.kind is Kind.OPEN:
        task = read_task(system)
    if schema:
        return _json(value_for_items(schema, task, batch.items, right))
    told = {item.id: _item_answer(task, item, right[item.id]) for item in batch.items}
    if wants_json:
        as_list = schema is None and _JSON_LIST.search(batch.instruction) is not None
        return _json(list(told.values()) if as_list else told)
    return "\n".join(f"{key}. {text}" if batch.numbered else f"[{key}] {text}" for key, text in told.items())


def _item_answer(task: Task, item: Item, right: bool) -> str:
    if task.kind is Kind.OPEN:  # each question may bring its own instruction
        own, subject = split_prompt("", item.text)
        return solve(own, subject, right=right)
    return solve(task, item.text, right=right)


def _schema_of(response_format: Any) -> Any:
    """The schema asked for; {} when any JSON object will do; None when JSON was not asked for."""
    if not isinstance(response_format, Mapping):
        return None
    match response_format.get("type"):
        case "json_schema":
            wrapped = response_format.get("json_schema")
            schema = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
            return schema if isinstance(schema, dict) and schema else {}
        case "json_object":
            return {}
        case _:
            return None


def _schema_from(instruction: str, task: Task, *, anything: bool) -> Any:
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
    if anything and _JSON_LIST.search(instruction):
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


def _demanded(tools: Any, choice: Any, user: str) -> Mapping[str, Any] | None:
    """The function to call, when one must be called."""
    functions: list[Mapping[str, Any]] = [
        tool["function"]
        for tool in (tools if isinstance(tools, Sequence) else ())
        if isinstance(tool, Mapping)
        and isinstance(tool.get("function"), Mapping)
        and isinstance(tool["function"].get("name"), str)
    ]
    if isinstance(choice, Mapping):
        named = choice.get("function")
        name = named.get("name") if isinstance(named, Mapping) else None
        return next((function for function in functions if function["name"] == name), None)
    if choice != "required" or not functions:
        return None
    asked = set(words(user))
    return max(
        functions, key=lambda function: len(asked & set(words(f"{function['name']} {function.get('description', '')}")))
    )


def _tool_call(function: Mapping[str, Any], system: str, user: str, right: bool, salt: tuple[int, str]) -> ToolCall:
    task, subject = split_prompt(system, user)
    schema = function.get("parameters")
    schema = (
        schema
        if isinstance(schema, dict) and schema
        else {"type": "object", "properties": {}, "additionalProperties": False}
    )
    arguments = value_for(schema, task, subject, right=right)
    name = str(function["name"])
    identity = "".join(f"{pick(16**8, 'call', part, *salt, name, user):08x}" for part in range(3))
    return ToolCall(
        f"call_{identity}", name, _json(arguments if isinstance(arguments, dict) else {"input": clip(subject, 200)})
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
