"""OpenAI's chat completions: the request checked and answered, and the answer as a whole body or as a stream.

What follows from the request alone (the answer, its tokens, its JSON) is made once; `body` and `events` only put in
the id, the time and the tokens. Understood: model, messages, stream, stream_options.include_usage, max_tokens,
max_completion_tokens, n, stop, response_format, tools, tool_choice. Everything else is accepted and changes nothing.
Prompts are cached without being asked to: from 1,024 tokens on, in steps of 128, for five minutes after the last use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.dialects.openai import NO_SUCH_MODEL
from aiorchsim.dialects.reading import (
    bad_request,
    decoded,
    made_once,
    model_asked,
    objects,
    optional,
    strings,
    whole_number,
    wrong_type,
)
from aiorchsim.dialects.said import MOST_MESSAGES, Asked, ChatWork, said, whole_prompt
from aiorchsim.http1 import Request
from aiorchsim.prompt_cache import automatic_marks
from aiorchsim.responses import Refusal, Rendering, Shape
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import ToolCall

ENDPOINT: Final = "/v1/chat/completions"
MOST_CHOICES: Final = 16
ROLES: Final = frozenset(["system", "developer", "user", "assistant", "tool", "function"])
FINISH_REASONS: Final[Mapping[str, str]] = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
}


def decode(simulation: Simulation, request: Request) -> "OpenAIChat | Refusal":
    """Understand and answer a request, or say what is wrong with it."""
    return made_once(
        simulation,
        ENDPOINT,
        request.body,
        OpenAIChat,
        lambda: _work(simulation, decoded(request.body)),
        lambda work: len(work.listed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIChat(ChatWork):
    """A chat request and its answer."""

    include_usage: bool
    choices: int
    quoted_model: str
    listed: str
    """The choices of a whole answer, as JSON."""

    def body(self, rendering: Rendering) -> bytes:
        """The whole answer, a `chat.completion` object."""
        listed = self.listed if rendering.shape is Shape.WHOLE else self._misshapen(rendering.shape)
        usage = f'"usage":{self._usage(rendering)},' if rendering.usage else ""
        return (
            f'{{"id":"chatcmpl-sim{rendering.serial:012x}","created":{rendering.created},"object":"chat.completion",'
            f'"model":{self.quoted_model},"choices":[{listed}],{usage}'
            '"service_tier":"default","system_fingerprint":"fp_aiorchsim"}'
        ).encode("ascii")

    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """The answer as `chat.completion.chunk` events: role, pieces, finish reason, usage when asked for, [DONE]."""
        usage = ',"usage":null' if self.include_usage else ""
        begin = (
            f'data: {{"id":"chatcmpl-sim{rendering.serial:012x}","object":"chat.completion.chunk",'
            f'"created":{rendering.created},"model":{self.quoted_model},"system_fingerprint":"fp_aiorchsim","choices":['
        )
        events: list[tuple[bytes, int]] = []
        for index in range(self.choices if rendering.shape is not Shape.EMPTY else 0):
            for delta, tokens, reason in self._deltas(rendering.shape):
                line = (
                    f'{begin}{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]{usage}}}\n\n'
                )
                events.append((line.encode("ascii"), tokens))
        if self.include_usage and rendering.usage:
            events.append((f'{begin}],"usage":{self._usage(rendering)}}}\n\n'.encode("ascii"), 0))
        events.append((b"data: [DONE]\n\n", 0))
        return events

    def _misshapen(self, shape: Shape) -> str:
        return "" if shape is Shape.EMPTY else _choices("", (), "content_filter", 1)

    def _usage(self, rendering: Rendering) -> str:
        asked, answered = self.prompt_tokens, self.told_tokens(rendering)
        return (
            f'{{"prompt_tokens":{asked},"completion_tokens":{answered},"total_tokens":{asked + answered},'
            f'"prompt_tokens_details":{{"cached_tokens":{rendering.cached.read},"audio_tokens":0}},'
            '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
        )

    def _deltas(self, shape: Shape) -> list[tuple[str, int, str]]:
        """Each delta of one choice, with its tokens and finish reason, as JSON."""
        if shape is Shape.FILTERED:
            return [('{"role":"assistant","content":"","refusal":null}', 0, "null"), ("{}", 0, '"content_filter"')]
        if not self.tool_calls:
            deltas = [('{"role":"assistant","content":"","refusal":null}', 0, "null")]
            deltas += [(f'{{"content":{json.dumps(part)}}}', tokens, "null") for part, tokens in self.parts(self.text)]
        else:
            deltas = [('{"role":"assistant","content":null,"refusal":null}', 0, "null")]
        for position, call in enumerate(self.tool_calls):
            named = {
                "index": position,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
            deltas.append((json.dumps({"tool_calls": [named]}), 0, "null"))
            for part, tokens in self.parts(call.arguments):
                more = {"tool_calls": [{"index": position, "function": {"arguments": part}}]}
                deltas.append((json.dumps(more), tokens, "null"))
        deltas.append(("{}", 0, f'"{FINISH_REASONS[self.stopped]}"'))
        return deltas


def _work(simulation: Simulation, document: dict[str, Any]) -> OpenAIChat:
    model, name = model_asked(simulation, document.get("model"), NO_SUCH_MODEL)
    messages = _messages(document)
    tools = objects(document.get("tools"), "tools")
    streamed = document.get("stream", False) or False
    if not isinstance(streamed, bool):
        raise wrong_type("stream", "a boolean", streamed)
    choices = whole_number(document, "n", 1, MOST_CHOICES) or 1
    asked = Asked(
        model=model,
        name=name,
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(document),
        response_format=optional(document, "response_format", dict, "an object"),
        stops=strings(document.get("stop"), "stop"),
        most_tokens=whole_number(document, "max_completion_tokens", 1, 10**9)
        or whole_number(document, "max_tokens", 1, 10**9),
        choices=choices,
    )
    facts = said(simulation, asked)
    return OpenAIChat(
        **facts,
        streamed=streamed,
        marks=automatic_marks(whole_prompt(asked, facts["prompt_tokens"]), facts["prompt_tokens"]),
        include_usage=_include_usage(document, streamed),
        choices=choices,
        quoted_model=json.dumps(name),
        listed=_choices(facts["text"], facts["tool_calls"], FINISH_REASONS[facts["stopped"]], choices),
    )


def _choices(text: str, tool_calls: tuple[ToolCall, ...], reason: str, choices: int) -> str:
    called = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in tool_calls
    ]
    content = "null" if called else json.dumps(text)
    calls = f',"tool_calls":{json.dumps(called)}' if called else ""
    message = f'{{"role":"assistant","content":{content},"refusal":null,"annotations":[]{calls}}}'
    return ",".join(
        f'{{"index":{index},"message":{message},"logprobs":null,"finish_reason":"{reason}"}}'
        for index in range(choices)
    )


def _messages(document: dict[str, Any]) -> list[dict[str, Any]]:
    messages = document.get("messages")
    if messages is None:
        raise bad_request("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages or len(messages) > MOST_MESSAGES:
        message = f"Invalid 'messages': expected from 1 to {MOST_MESSAGES} messages, but got {len(messages)} instead."
        raise bad_request(message, "messages", "empty_array" if not messages else "array_above_max_length")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise wrong_type(where, "an object", message)
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise bad_request(
                f"Invalid value for '{where}.role'. Supported values are: {', '.join(sorted(ROLES))}.",
                f"{where}.role",
                "invalid_value",
            )
        content = message.get("content")
        if not (
            content is None
            or isinstance(content, str)
            or (isinstance(content, list) and all(isinstance(part, dict) for part in content))
        ):
            raise wrong_type(f"{where}.content", "a string or an array of objects", content)
    return messages


def _tool_choice(document: dict[str, Any]) -> str | dict[str, Any] | None:
    choice = document.get("tool_choice")
    if choice is not None and not isinstance(choice, str | dict):
        raise wrong_type("tool_choice", "a string or an object", choice)
    return choice


def _include_usage(document: dict[str, Any], streamed: bool) -> bool:
    options = optional(document, "stream_options", dict, "an object")
    if options is None:
        return False
    if not streamed:
        raise bad_request("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return bool(options.get("include_usage"))
