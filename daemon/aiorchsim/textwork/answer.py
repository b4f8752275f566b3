"""The answer of a simulated model to a chat request.

Decided in this order: answers to many items when the prompt has them in one document (`together`); a tool call when the
request demands one; otherwise an answer to each of several questions when the prompt holds several (`items`); otherwise
one answer. It is JSON when the request or its instruction asks for JSON
(`schema`), and words when not (`solve`). What the words say follows from the task that the instruction names
(`tasks`).

Right or wrong: with `quality` q, a share q of all texts is answered right and the rest wrong, in the right form.
Which, is decided by the seed, the model's name and the text of the question alone, so the same model is wrong about
the same texts every time, and a text asked among others fares as it does alone.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.textwork.described_schema import JSON_LIST, schema_described
from aiorchsim.textwork.items import Batch, Item, find_items
from aiorchsim.textwork.schema import value_for, value_for_items
from aiorchsim.textwork.solve import solve
from aiorchsim.textwork.tasks import Kind, Task, read_task, split_head, split_prompt
from aiorchsim.textwork.together import (
    SOUND,
    Spoiled,
    Together,
    Weakness,
    answer_schema,
    answer_together,
    read_together,
)
from aiorchsim.textwork.words import chance, clip, pick, words

_JSON: Final = re.compile(r"\bjson\b", re.IGNORECASE)


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
    together: Spoiled | None = None
    """What became of many items in one document; None when there were none."""


def answer(
    messages: Sequence[Mapping[str, Any]],
    *,
    model: str = "",
    seed: int = 0,
    quality: float = 1.0,
    response_format: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    weakness: Weakness = SOUND,
) -> Answer:
    """Answer a chat request given in OpenAI's shape; unknown or misshapen parts of it are ignored, nothing is raised.

    `tools` lead to a call when `tool_choice` is "required" or names one; with "auto" the answer is text.
    `response_format` is OpenAI's: `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {"schema":
    ...}}`. `weakness` is how much worse it is at many items at once.
    """
    system, user = question_of(messages)

    def right(text: str) -> bool:
        return quality >= 1.0 or chance(seed, model, text) < quality

    tool = _demanded(tools, tool_choice, user)
    together = read_together(system, user)
    if together is not None and (tool is None or answer_schema(tool.get("parameters")) is not None):
        return _answer_together(together, tool, response_format, weakness, (model, seed, quality))
    if tool is not None:
        return Answer("", (_tool_call(tool, system, user, right, (seed, model)),))
    schema = _schema_of(response_format)
    head, _ = split_head(user)
    instruction = f"{system}\n{head}"
    batch = find_items(user)
    if batch is not None:
        instruction = f"{system}\n{batch.instruction}"
    wants_json = schema is not None or _JSON.search(instruction) is not None
    if batch is not None:
        return Answer(
            _batch_answer(batch, system, schema, wants_json, {item.id: right(item.text) for item in batch.items})
        )
    task, subject = _read(system, user)
    if not wants_json:
        return Answer(solve(task, subject, right=right(subject)))
    if not schema:
        schema = schema_described(instruction, task, anything=response_format is None)
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


def _read(system: str, user: str) -> tuple[Task, str]:
    """The task, and the text that it is about."""
    task, subject = split_prompt(system, user)
    head, rest = split_head(user)
    return task, rest if task.kind is Kind.OPEN and rest and _JSON.search(head) else subject


def _answer_together(
    together: Together,
    tool: Mapping[str, Any] | None,
    response_format: Mapping[str, Any] | None,
    weakness: Weakness,
    who: tuple[str, int, float],
) -> Answer:
    """Answers to many items: in the call of a tool when one is demanded, else as text."""
    model, seed, quality = who
    schema = answer_schema(tool.get("parameters") if tool is not None else _schema_of(response_format))
    words_alone = not schema or schema == {"type": "string"}
    asked: dict[str, Any] = {}
    if words_alone and response_format is not None and schema is None:
        asked = {"response_format": response_format} if _JSON.search(f"{together.system}\n{together.before}") else {}
    elif not words_alone and tool is not None:
        one = {"type": "function", "function": {**tool, "parameters": schema}}
        asked = {"tools": [one], "tool_choice": {"type": "function", "function": {"name": tool["name"]}}}
    elif not words_alone:
        asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}

    def alone(user: str, wrong: bool) -> Any:
        messages = [{"role": "system", "content": together.system}, {"role": "user", "content": user}]
        said = answer(messages, model=model, seed=seed, quality=0.0 if wrong else quality, **asked)
        text = said.tool_calls[0].arguments if said.tool_calls else said.text
        if words_alone:
            return text if schema is not None or together.strings else _json_or_text(text)
        return json.loads(text)

    text, spoiled = answer_together(together, alone, weakness, (seed, model))
    if tool is None:
        return Answer(text, together=spoiled)
    identity = f"call_{pick(16**8, 'call', seed, model, text):08x}"
    return Answer("", (ToolCall(identity, str(tool["name"]), text),), spoiled)


def _json_or_text(text: str) -> Any:
    """The value of a text that is JSON's object or array, else the text."""
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _batch_answer(batch: Batch, system: str, schema: Any, wants_json: bool, right: Mapping[str, bool]) -> str:
    task = read_task(batch.instruction)
    if task.kind is Kind.OPEN:
        task = read_task(system)
    if schema:
        return _json(value_for_items(schema, task, batch.items, right))
    told = {item.id: _item_answer(task, item, right[item.id]) for item in batch.items}
    if wants_json:
        as_list = schema is None and JSON_LIST.search(batch.instruction) is not None
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


def _tool_call(
    function: Mapping[str, Any], system: str, user: str, right: Callable[[str], bool], salt: tuple[int, str]
) -> ToolCall:
    task, subject = _read(system, user)
    schema = function.get("parameters")
    schema = (
        schema
        if isinstance(schema, dict) and schema
        else {"type": "object", "properties": {}, "additionalProperties": False}
    )
    arguments = value_for(schema, task, subject, right=right(subject))
    name = str(function["name"])
    identity = "".join(f"{pick(16**8, 'call', part, *salt, name, user):08x}" for part in range(3))
    return ToolCall(
        f"call_{identity}", name, _json(arguments if isinstance(arguments, dict) else {"input": clip(subject, 200)})
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
