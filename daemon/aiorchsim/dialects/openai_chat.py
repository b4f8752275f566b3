"""OpenAI's chat completions: the request checked and answered, and the answer as a whole body or as a stream.

What follows from the request alone (the answer, its tokens, its JSON) is made once; `body` and `events` only put in
the id and the time. Understood: model, messages, stream, stream_options.include_usage, max_tokens,
max_completion_tokens, n, stop, response_format, tools, tool_choice. Everything else is accepted and changes nothing.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from aiorchsim.dialects.openai import Refused, bad_request, decoded, model_asked, whole_number, wrong_type
from aiorchsim.http1 import Request
from aiorchsim.models import Model
from aiorchsim.replay import Recorded, ReplayError
from aiorchsim.responses import Refusal
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import Answer, ToolCall, answer, prompt_tokens, text_tokens
from aiorchsim.textwork.answer import text_of
from aiorchsim.textwork.tokens import CHARACTERS_PER_TOKEN

ENDPOINT: Final = "/v1/chat/completions"
MOST_MESSAGES: Final = 10_000
MOST_CHOICES: Final = 16
ROLES: Final = frozenset(["system", "developer", "user", "assistant", "tool", "function"])


def decode(simulation: Simulation, request: Request) -> "ChatWork | Refusal":
    """Understand and answer a request, or say what is wrong with it."""
    work = simulation.remembered(ENDPOINT, request.body)
    if isinstance(work, ChatWork):
        return work
    try:
        work = _work(simulation, decoded(request.body))
    except Refused as refused:
        return refused.refusal
    simulation.remember(ENDPOINT, request.body, work, len(work.body_end))
    return work


@dataclass(frozen=True, slots=True)
class ChatWork:
    """A chat request and its answer."""

    model: Model
    model_name: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float | None
    streamed: bool
    include_usage: bool
    choices: int
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    quoted_model: str
    body_end: str

    def body(self, serial: int, created: int) -> bytes:
        """The whole answer, a `chat.completion` object."""
        return f'{{"id":"chatcmpl-sim{serial:012x}","created":{created},{self.body_end}'.encode("ascii")

    def events(self, serial: int, created: int) -> list[tuple[bytes, int]]:
        """The answer as `chat.completion.chunk` events: role, pieces, finish reason, usage when asked for, [DONE]."""
        usage = ',"usage":null' if self.include_usage else ""
        begin = (
            f'data: {{"id":"chatcmpl-sim{serial:012x}","object":"chat.completion.chunk","created":{created},'
            f'"model":{self.quoted_model},"system_fingerprint":"fp_aiorchsim","choices":['
        )
        events: list[tuple[bytes, int]] = []
        for index in range(self.choices):
            for delta, tokens, reason in self._deltas():
                line = (
                    f'{begin}{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]{usage}}}\n\n'
                )
                events.append((line.encode("ascii"), tokens))
        if self.include_usage:
            events.append(
                (f'{begin}],"usage":{_usage(self.prompt_tokens, self.completion_tokens)}}}\n\n'.encode("ascii"), 0)
            )
        events.append((b"data: [DONE]\n\n", 0))
        return events

    def _deltas(self) -> list[tuple[str, int, str]]:
        """Each delta of one choice, with its tokens and finish reason, as JSON."""
        if not self.tool_calls:
            deltas = [('{"role":"assistant","content":"","refusal":null}', 0, "null")]
            deltas += [(f'{{"content":{json.dumps(part)}}}', tokens, "null") for part, tokens in self._parts(self.text)]
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
            for part, tokens in self._parts(call.arguments):
                more = {"tool_calls": [{"index": position, "function": {"arguments": part}}]}
                deltas.append((json.dumps(more), tokens, "null"))
        deltas.append(("{}", 0, f'"{self.finish_reason}"'))
        return deltas

    def _parts(self, text: str) -> list[tuple[str, int]]:
        size = self.model.profile.stream_chunk_tokens * CHARACTERS_PER_TOKEN
        return [
            (text[start : start + size], text_tokens(text[start : start + size])) for start in range(0, len(text), size)
        ]


def _work(simulation: Simulation, document: dict[str, Any]) -> ChatWork:
    model, name = model_asked(simulation, document)
    messages = _messages(document)
    tools = document.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise wrong_type("tools", "an array of objects", tools)
    streamed = document.get("stream", False) or False
    if not isinstance(streamed, bool):
        raise wrong_type("stream", "a boolean", streamed)
    choices = whole_number(document, "n", 1, MOST_CHOICES) or 1
    asked_tokens = prompt_tokens(messages, tools)
    longest = model.profile.context_tokens
    if longest is not None and asked_tokens > longest:
        message = (
            f"This model's maximum context length is {longest} tokens. However, your messages resulted in {asked_tokens} tokens. "
            "Please reduce the length of the messages."
        )
        raise bad_request(message, "messages", "context_length_exceeded")
    recorded = _recorded(simulation, name, messages)
    if recorded is not None:
        said = Answer(recorded.answer)
    else:
        said = answer(
            messages,
            model=name,
            seed=simulation.seed,
            quality=model.profile.quality,
            response_format=_optional(document, "response_format", dict, "an object"),
            tools=tools,
            tool_choice=_tool_choice(document),
        )
    text, reason = _limited(document, said.text)
    reason = "tool_calls" if said.tool_calls else reason
    said_tokens = text_tokens(text) + sum(
        text_tokens(call.name) + text_tokens(call.arguments) for call in said.tool_calls
    )
    if recorded is not None:
        asked_tokens = asked_tokens if recorded.input_tokens is None else recorded.input_tokens
        said_tokens = recorded.output_tokens if text == said.text else said_tokens
    quoted_model = json.dumps(name)
    return ChatWork(
        model=model,
        model_name=name,
        prompt_tokens=asked_tokens,
        completion_tokens=said_tokens * choices,
        latency_s=None if recorded is None else recorded.latency_s,
        streamed=streamed,
        include_usage=_include_usage(document, streamed),
        choices=choices,
        text=text,
        tool_calls=said.tool_calls,
        finish_reason=reason,
        quoted_model=quoted_model,
        body_end=_body_end(
            quoted_model, text, said.tool_calls, reason, choices, _usage(asked_tokens, said_tokens * choices)
        ),
    )


def _body_end(model: str, text: str, tool_calls: tuple[ToolCall, ...], reason: str, choices: int, usage: str) -> str:
    called = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in tool_calls
    ]
    content = "null" if called else json.dumps(text)
    calls = f',"tool_calls":{json.dumps(called)}' if called else ""
    message = f'{{"role":"assistant","content":{content},"refusal":null,"annotations":[]{calls}}}'
    listed = ",".join(
        f'{{"index":{index},"message":{message},"logprobs":null,"finish_reason":"{reason}"}}'
        for index in range(choices)
    )
    return (
        f'"object":"chat.completion","model":{model},"choices":[{listed}],"usage":{usage},'
        '"service_tier":"default","system_fingerprint":"fp_aiorchsim"}'
    )


def _usage(asked: int, said: int) -> str:
    return (
        f'{{"prompt_tokens":{asked},"completion_tokens":{said},"total_tokens":{asked + said},'
        '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
        '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
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


def _recorded(simulation: Simulation, name: str, messages: list[dict[str, Any]]) -> Recorded | None:
    """The recorded answer to the last user message; None where there is no replay, or none is to be computed
    instead.
    """
    if simulation.replay is None:
        return None
    prompts = [message for message in messages if message["role"] == "user"]
    prompt = text_of(prompts[-1].get("content")) if prompts else ""
    try:
        recorded = simulation.replay.find(name, prompt)
    except ReplayError as error:
        raise Refused(Refusal(500, "server_error", str(error), "replay_damaged")) from error
    if recorded is None and simulation.profile.replay_missing == "error":
        message = f"There is no recorded answer of `{name}` to this prompt."
        raise Refused(Refusal(404, "invalid_request_error", message, "replay_missing", "messages"))
    return recorded


def _limited(document: dict[str, Any], text: str) -> tuple[str, str]:
    """The text as far as stop sequences and the limit of tokens let it go, and why it ended."""
    stops = document.get("stop")
    stops = [stops] if isinstance(stops, str) else stops
    if stops is not None and not (isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)):
        raise wrong_type("stop", "a string or an array of strings", stops)
    for stop in stops or ():
        text = text.partition(stop)[0]
    most = whole_number(document, "max_completion_tokens", 1, 10**9) or whole_number(document, "max_tokens", 1, 10**9)
    if most is not None and text_tokens(text) > most:
        return text[: most * CHARACTERS_PER_TOKEN], "length"
    return text, "stop"


def _tool_choice(document: dict[str, Any]) -> str | dict[str, Any] | None:
    choice = document.get("tool_choice")
    if choice is not None and not isinstance(choice, str | dict):
        raise wrong_type("tool_choice", "a string or an object", choice)
    return choice


def _include_usage(document: dict[str, Any], streamed: bool) -> bool:
    options = _optional(document, "stream_options", dict, "an object")
    if options is None:
        return False
    if not streamed:
        raise bad_request("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return bool(options.get("include_usage"))


def _optional(document: dict[str, Any], param: str, kind: type, wanted: str) -> Any:
    value = document.get(param)
    if value is not None and not isinstance(value, kind):
        raise wrong_type(param, wanted, value)
    return value
