"""Gemini's generateContent and streamGenerateContent: the request checked and answered, whole or as events.

Understood: contents, systemInstruction, tools.functionDeclarations, toolConfig.functionCallingConfig, and of
generationConfig maxOutputTokens, stopSequences, responseMimeType, responseSchema, responseJsonSchema. Everything else
is accepted and changes nothing. Streams are told as events only (`?alt=sse`). Prompts are cached without being asked
to: from 1,024 tokens on, in steps of 128, for five minutes after the last use.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from aiorchsim.dialects.gemini import NO_SUCH_MODEL, PREFIX, named_in, texts_of
from aiorchsim.dialects.reading import (
    bad_request,
    decoded,
    made_once,
    model_asked,
    objects,
    optional,
    strings,
    whole_number,
)
from aiorchsim.dialects.said import MOST_MESSAGES, Asked, ChatWork, said, whole_prompt
from aiorchsim.http1 import Request
from aiorchsim.prompt_cache import Cached, automatic_marks
from aiorchsim.responses import Refusal, Rendering, Shape
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import ToolCall

ENDPOINT: Final = f"{PREFIX}:generateContent"
STREAM_ENDPOINT: Final = f"{PREFIX}:streamGenerateContent"
FINISH_REASONS: Final[Mapping[str, str]] = {
    "stop": "STOP",
    "sequence": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
}


def decode(simulation: Simulation, request: Request) -> "GeminiContent | Refusal":
    """Understand and answer a request, or say what is wrong with it."""
    name, method = named_in(request.path)
    streamed = method == "streamGenerateContent"
    if streamed and parse_qs(request.query).get("alt") != ["sse"]:
        return Refusal(400, "invalid_request_error", "Streams are told as events only here: add ?alt=sse.")
    return made_once(
        simulation,
        request.path,
        request.body,
        GeminiContent,
        lambda: _work(simulation, name, decoded(request.body), streamed),
        lambda work: 2 * len(work.text),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiContent(ChatWork):
    """A request for content, and the content."""

    quoted_model: str

    def body(self, rendering: Rendering) -> bytes:
        """The whole answer, a GenerateContentResponse."""
        if self.tool_calls:
            parts = ",".join(_call_part(call) for call in self.tool_calls)
        else:
            parts = f'{{"text":{json.dumps(self.text)}}}'
        reason = FINISH_REASONS[self.stopped]
        return self._chunk(rendering, parts, reason, self.told_tokens(rendering)).encode("ascii")

    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """The answer as events, each a GenerateContentResponse; the last has the finish reason."""
        if self.tool_calls:
            pieces = [
                (_call_part(call), self.completion_tokens if position == 0 else 0)
                for position, call in enumerate(self.tool_calls)
            ]
        else:
            pieces = [(f'{{"text":{json.dumps(part)}}}', tokens) for part, tokens in self.parts(self.text)]
        if rendering.shape is not Shape.WHOLE:
            pieces = []
        return list(self._streamed(rendering, pieces))

    def _streamed(self, rendering: Rendering, pieces: list[tuple[str, int]]) -> Iterator[tuple[bytes, int]]:
        told = 0
        for part, tokens in pieces:
            told += tokens
            yield f"data: {self._chunk(rendering, part, None, told)}\r\n\r\n".encode("ascii"), tokens
        last = self._chunk(rendering, '{"text":""}', FINISH_REASONS[self.stopped], self.told_tokens(rendering))
        yield f"data: {last}\r\n\r\n".encode("ascii"), 0

    def _chunk(self, rendering: Rendering, parts: str, reason: str | None, told: int) -> str:
        ended = f',"finishReason":"{reason}"' if reason is not None else ""
        candidate = f'{{"content":{{"parts":[{parts}],"role":"model"}}{ended},"index":0}}'
        match rendering.shape:
            case Shape.EMPTY:
                candidate = ""
            case Shape.FILTERED:
                candidate = '{"finishReason":"SAFETY","index":0}'
            case Shape.WHOLE:
                pass
        usage = f'"usageMetadata":{self._usage(rendering.cached, told)},' if rendering.usage else ""
        return (
            f'{{"candidates":[{candidate}],{usage}"modelVersion":{self.quoted_model},'
            f'"responseId":"sim{rendering.serial:012x}"}}'
        )

    def _usage(self, cached: Cached, told: int) -> str:
        asked = self.prompt_tokens
        read = f',"cachedContentTokenCount":{cached.read}' if cached.read else ""
        return (
            f'{{"promptTokenCount":{asked},"candidatesTokenCount":{told},"totalTokenCount":{asked + told}{read},'
            f'"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{asked}}}]}}'
        )


def _work(simulation: Simulation, name: str, document: dict[str, Any], streamed: bool) -> GeminiContent:
    model, name = model_asked(simulation, name, NO_SUCH_MODEL)
    contents = objects(document.get("contents"), "contents")
    if not 1 <= len(contents) <= MOST_MESSAGES:
        raise bad_request("GenerateContentRequest.contents: contents is not specified", "contents")
    messages: list[dict[str, Any]] = []
    system = document.get("systemInstruction")
    if system is not None:
        messages.append({"role": "system", "content": texts_of(system, "systemInstruction")})
    for index, content in enumerate(contents):
        messages += _messages(content, f"contents[{index}]")
    config = optional(document, "generationConfig", dict, "an object") or {}
    asked = Asked(
        model=model,
        name=name,
        messages=messages,
        tools=_tools(objects(document.get("tools"), "tools")),
        tool_choice=_tool_choice(optional(document, "toolConfig", dict, "an object") or {}),
        response_format=_format(config),
        stops=strings(config.get("stopSequences"), "stopSequences"),
        most_tokens=whole_number(config, "maxOutputTokens", 1, 10**9),
    )
    facts = said(simulation, asked)
    return GeminiContent(
        **facts,
        streamed=streamed,
        marks=automatic_marks(whole_prompt(asked, facts["prompt_tokens"]), facts["prompt_tokens"]),
        quoted_model=json.dumps(name),
    )


def _messages(content: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """One content in OpenAI's shape: results of functions become messages of their own."""
    role = content.get("role", "user")
    if role not in ("user", "model", "function"):
        raise bad_request("Please use a valid role: user, model.", f"{where}.role")
    parts = []
    calls = []
    for part in texts_of(content, where):
        if "functionResponse" in part:
            yield {"role": "tool", "content": json.dumps(part["functionResponse"])}
        elif "functionCall" in part:
            calls.append(part)
        else:
            parts.append(part)
    if parts or calls:
        told: dict[str, Any] = {"role": "assistant" if role == "model" else "user", "content": parts or None}
        yield told | ({"tool_calls": calls} if calls else {})


def _tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    functions = []
    for tool in tools:
        for declared in objects(tool.get("functionDeclarations"), "functionDeclarations"):
            if not isinstance(declared.get("name"), str):
                raise bad_request("functionDeclarations: a function needs a name", "tools")
            schema = declared.get("parametersJsonSchema", declared.get("parameters"))
            function = {"name": declared["name"], "description": declared.get("description"), "parameters": schema}
            function["parameters"] = _plain_schema(schema) if isinstance(schema, dict) else None
            functions.append(
                {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}
            )
    return functions


def _tool_choice(config: dict[str, Any]) -> str | dict[str, Any] | None:
    calling = config.get("functionCallingConfig")
    mode = calling.get("mode", "AUTO") if isinstance(calling, dict) else "AUTO"
    if mode != "ANY":
        return "none" if mode == "NONE" else "auto"
    allowed = calling.get("allowedFunctionNames") if isinstance(calling, dict) else None
    if isinstance(allowed, list) and len(allowed) == 1:
        return {"type": "function", "function": {"name": allowed[0]}}
    return "required"


def _format(config: dict[str, Any]) -> dict[str, Any] | None:
    schema = config.get("responseJsonSchema", config.get("responseSchema"))
    if config.get("responseMimeType", "text/plain") != "application/json":
        if schema is not None:
            raise bad_request("responseSchema needs responseMimeType application/json", "responseSchema")
        return None
    if not isinstance(schema, dict):
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"schema": _plain_schema(schema)}}


def _plain_schema(schema: Any) -> Any:
    """A schema with the names of types in lower case, as JSON Schema has them."""
    if isinstance(schema, list):
        return [_plain_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _plain_schema(value)
        for key, value in schema.items()
    }


def _call_part(call: ToolCall) -> str:
    arguments = json.dumps(json.loads(call.arguments))
    return f'{{"functionCall":{{"name":{json.dumps(call.name)},"args":{arguments}}}}}'
