"""Write the body of an Anthropic request. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiorch.errors import InvalidRequest
from aiorchd.calls.target import Target
from aiorchd.providers.anthropic.messages import encode_messages
from aiorchd.providers.anthropic.options import AnthropicOptions
from aiorchd.providers.anthropic.schema import expressible
from aiorchd.providers.chat_form import choice_of, function_of
from aiorchd.providers.request_body import checked_extra, to_json

DEFAULT_MAX_TOKENS: Final = 8192
"""Anthropic wants a bound on every answer. This is the largest that every model of theirs since Claude 3.5 takes, and
that they answer without a stream; an answer that needs more ends in ``length``, which its caller sees. ``max_tokens`` of
the call, or in the ``extra`` of the model, is another one, and ``max_output_tokens`` of the model may be less."""

ANSWER_TOOL: Final = "aiorch_answer"
"""The tool that must be called with the answer where a schema cannot be passed on otherwise."""

ANSWER_VALUE_TOOL: Final = "aiorch_answer_value"
"""The same where the answer is no object: its field ``answer`` holds it."""

_NOT_IN_EXTRA: Final = ("model", "messages", "stream", "input", "system")
# Wishes and names that other providers have; leaving them out breaks no promise.
_NOT_SENT: Final = (
    "seed",
    "prompt_cache_key",
    "prompt_cache_retention",
    "store",
    "stream_options",
    "safety_identifier",
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_BETA: Final = ("anthropic-beta", "anthropic_beta", "betas")


@dataclass(frozen=True, slots=True)
class Written:
    """The body of a request, and what goes with it: the beta features asked for, what has no field here, and whether the
    answer is asked for by `ANSWER_TOOL`."""

    body: bytes
    betas: tuple[str, ...] = ()
    not_sent: tuple[str, ...] = ()
    answer_tool: bool = False


def encode_chat(
    request: Mapping[str, Any], target: Target, options: AnthropicOptions, *, stream: bool, recurring: bool = False
) -> Written:
    """Write a chat request; raises `InvalidRequest` for what JSON or the dialect cannot carry.

    Lowest first: what the configuration says of the model (``target.extra``), the call's own fields, the call's
    ``extra``, which may add and change anything but the model, the messages and the mode.
    """
    extra = checked_extra(request.get("extra"), _NOT_IN_EXTRA)
    body: dict[str, Any] = dict(target.extra)
    body["model"] = target.provider_model
    body["messages"], system = encode_messages(request["messages"])
    if system is not None:
        body["system"] = system
    for ours, theirs in (("temperature", "temperature"), ("max_tokens", "max_tokens"), ("stop", "stop_sequences")):
        if request.get(ours) is not None:
            body[theirs] = request[ours]
    if request.get("tools") is not None:
        body["tools"] = _tools(request["tools"])
    tool_choice = request.get("tool_choice")
    if tool_choice is not None:
        body["tool_choice"] = _choice(tool_choice)
    config = {**_map(body.get("output_config")), **_map(extra.get("output_config"))}
    body.update(extra)
    if config:
        body["output_config"] = config
    not_sent = _translate(body, request)
    config = dict(_map(body.get("output_config")))
    schema, answer_tool = request.get("output_schema"), False
    if schema is not None and "format" not in config and options.structured_output != "none":
        native = expressible(schema) if options.structured_output == "json_schema" else None
        if native is not None:
            body["output_config"] = {**config, "format": {"type": "json_schema", "schema": native}}
        else:
            answer_tool = _ask_by_tool(body, schema)
    if not body.get("tools") and _map(body.get("tool_choice")).get("type") in ("auto", "none"):
        del body["tool_choice"]  # says nothing without tools, and Anthropic refuses it
    if body.get("max_tokens") is None:
        body["max_tokens"] = _usual_bound(target, _thinking_budget(body))
    if stream:
        body["stream"] = True
    if recurring and options.prompt_cache == "auto" and not _is_marked(body):
        _mark_beginning(body)
    betas = _betas(body)
    return Written(to_json(body), betas, not_sent, answer_tool)


def _is_marked(body: Mapping[str, Any]) -> bool:
    """Tell whether the caller says himself what is to be kept."""
    system = body.get("system")
    blocks = [*body.get("tools", ()), *(system if isinstance(system, list) else ())]
    for message in body["messages"]:
        blocks.extend(content if isinstance(content := message.get("content"), list) else ())
    return "cache_control" in body or any(isinstance(block, Mapping) and "cache_control" in block for block in blocks)


def _mark_beginning(body: dict[str, Any]) -> None:
    """Have everything up to the end of the system prompt kept, else up to the last tool; in place."""
    system = body.get("system")
    name, blocks = ("system", [{"type": "text", "text": system}] if isinstance(system, str) else system)
    if not blocks:
        name, blocks = "tools", body.get("tools")
    if blocks and isinstance(blocks[-1], Mapping):
        body[name] = [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}]


def _usual_bound(target: Target, thinking: int) -> int:
    """Choose ``max_tokens`` where nobody did; thinking counts against it, so its budget comes on top."""
    bound = DEFAULT_MAX_TOKENS + thinking
    return bound if target.max_output_tokens is None else min(bound, target.max_output_tokens)


def _tools(tools: Any) -> list[Any]:
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise InvalidRequest("tools: must be a list")
    made: list[Any] = []
    for index, tool in enumerate(tools):
        function = function_of(tool, f"tools[{index}]")
        if function is None:
            made.append(tool)
            continue
        one: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            one["description"] = function.description
        one["input_schema"] = function.parameters or {"type": "object", "properties": {}}
        if function.strict:
            one["strict"] = True
        mark = tool.get("cache_control", _map(tool.get("function")).get("cache_control"))
        if mark is not None:
            one["cache_control"] = mark
        made.append(one)
    return made


def _choice(tool_choice: Any) -> Any:
    choice = choice_of(tool_choice)
    if choice is None:
        return dict(tool_choice)
    if choice.function is not None:
        return {"type": "tool", "name": choice.function}
    return {"type": {"auto": "auto", "none": "none", "required": "any"}[choice.mode]}


def _translate(body: dict[str, Any], request: Mapping[str, Any]) -> tuple[str, ...]:
    """Bring OpenAI's names of what Anthropic has too to Anthropic's, in place; gives what it does not have."""
    not_sent = [name for name in _NOT_SENT if request.get(name) is not None or body.get(name) is not None]
    for name in not_sent:
        body.pop(name, None)
    user, metadata = body.pop("user", None), body.pop("metadata", None)
    known = {"user_id": user} if isinstance(user, str) else {}
    if isinstance(metadata, Mapping):
        if metadata.get("user_id") is not None:
            known["user_id"] = metadata["user_id"]
        if set(metadata) - {"user_id"}:
            not_sent.append("metadata")
    if known:
        body["metadata"] = known
    parallel = body.pop("parallel_tool_calls", None)
    if parallel is False and body.get("tools"):
        body["tool_choice"] = {**(_map(body.get("tool_choice")) or {"type": "auto"}), "disable_parallel_tool_use": True}
    effort = body.pop("reasoning_effort", None)
    if effort is not None:
        body["output_config"] = {"effort": effort, **_map(body.get("output_config"))}
    return tuple(not_sent)


def _ask_by_tool(body: dict[str, Any], schema: Any) -> bool:
    """Add the tool that is called with the answer, in place; tells whether it was added.

    Beside tools of the caller the model may call any of them; where the caller wants a certain one called, or none
    beside a thinking model that cannot be forced, the choice stays as it is.
    """
    choice = _map(body.get("tool_choice"))
    if choice.get("type") == "tool":
        return False
    tools = [] if choice.get("type") == "none" else list(body.get("tools") or ())
    name, wanted = _answer_tool(schema)
    description = "Give the whole final answer by calling this tool, once."
    body["tools"] = [*tools, {"name": name, "description": description, "input_schema": wanted}]
    if _map(body.get("thinking")).get("type") in (None, "disabled"):
        body["tool_choice"] = {"type": "any"} if tools else {"type": "tool", "name": name}
    else:
        body["tool_choice"] = {"type": "auto"}  # a model that thinks must not be forced
    return True


def _answer_tool(schema: Any) -> tuple[str, Any]:
    """Give the name and the parameters of the tool: an object, which the answer need not be."""
    if not isinstance(schema, Mapping):
        return ANSWER_VALUE_TOOL, {"type": "object", "properties": {"answer": {}}, "required": ["answer"]}
    if schema.get("type") == "object":
        return ANSWER_TOOL, schema
    # Definitions stay at the root, where references look for them.
    root = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    answer = {name: part for name, part in schema.items() if name not in root}
    return ANSWER_VALUE_TOOL, {"type": "object", "properties": {"answer": answer}, "required": ["answer"], **root}


def _thinking_budget(body: Mapping[str, Any]) -> int:
    budget = _map(body.get("thinking")).get("budget_tokens")
    return budget if isinstance(budget, int) and not isinstance(budget, bool) and budget > 0 else 0


def _betas(body: dict[str, Any]) -> tuple[str, ...]:
    """Take the beta features out of the body, where callers can name them; they travel in a header."""
    found: list[str] = []
    for name in _BETA:
        value = body.pop(name, None)
        if value is None:
            continue
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(_is_token(one) for one in listed):
            raise InvalidRequest(f"extra.{name}: must be names of beta features, as text or a list")
        found += [one.strip() for one in listed]
    return tuple(dict.fromkeys(found))


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value.strip()) is not None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
