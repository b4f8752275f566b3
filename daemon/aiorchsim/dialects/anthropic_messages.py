"""Anthropic's Messages: the request checked and answered, and the answer as a whole body or as named events.

Understood: model, max_tokens, messages, system, stream, stop_sequences, tools, tool_choice, output_config.format (and
the older output_format), cache_control on blocks and tools or on the whole request. Everything else is accepted and
changes nothing. A prompt is cached as far as a `cache_control` says, for five minutes or an hour, from 1,024 tokens
on, and found again at any block up to twenty before it; `input_tokens` are those that the cache had no part in.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from aiorchsim.dialects.anthropic import NO_SUCH_MODEL, VERSION_HEADER, event
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
from aiorchsim.dialects.said import MOST_MESSAGES, Asked, ChatWork, said
from aiorchsim.http1 import Request
from aiorchsim.models import NO_MARKS
from aiorchsim.prompt_cache import KEPT_S, LEAST_TOKENS, LONG_KEPT_S, Cached, Mark
from aiorchsim.responses import Refusal, Rendering, Shape
from aiorchsim.simulation import Simulation
from aiorchsim.textwork import text_tokens

ENDPOINT: Final = "/v1/messages"
STOP_REASONS: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}
LOOKED_BACK_BLOCKS: Final = 20


def decode(simulation: Simulation, request: Request) -> "AnthropicMessage | Refusal":
    """Understand and answer a request, or say what is wrong with it."""
    if VERSION_HEADER not in request.headers:
        return Refusal(400, "invalid_request_error", f"{VERSION_HEADER}: header is required")
    return made_once(
        simulation,
        ENDPOINT,
        request.body,
        AnthropicMessage,
        lambda: _work(simulation, decoded(request.body)),
        lambda work: len(work.content),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicMessage(ChatWork):
    """A request for a message, and the message."""

    quoted_model: str
    content: str
    """The blocks of a whole answer, as JSON."""

    def body(self, rendering: Rendering) -> bytes:
        """The whole answer, a `message` object."""
        content = self.content if rendering.shape is Shape.WHOLE else ""
        usage = f',"usage":{self._usage(rendering.cached, self.told_tokens(rendering))}' if rendering.usage else ""
        return (
            f'{{"id":"{_id(rendering)}","type":"message","role":"assistant","model":{self.quoted_model},'
            f'"content":[{content}],{self._stopped(rendering.shape)}{usage}}}'
        ).encode("ascii")

    def events(self, rendering: Rendering) -> list[tuple[bytes, int]]:
        """The answer as named events."""
        usage = f',"usage":{self._usage(rendering.cached, 1)}' if rendering.usage else ""
        started = (
            f'{{"type":"message_start","message":{{"id":"{_id(rendering)}","type":"message","role":"assistant",'
            f'"model":{self.quoted_model},"content":[],"stop_reason":null,"stop_sequence":null{usage}}}}}'
        )
        events = [(event("message_start", started), 0)]
        if rendering.shape is Shape.WHOLE:
            events += self._blocks()
        usage = f',"usage":{{"output_tokens":{self.told_tokens(rendering)}}}' if rendering.usage else ""
        ended = f'{{"type":"message_delta","delta":{{{self._stopped(rendering.shape)}}}{usage}}}'
        events.append((event("message_delta", ended), 0))
        events.append((event("message_stop", '{"type":"message_stop"}'), 0))
        return events

    def _blocks(self) -> Iterator[tuple[bytes, int]]:
        ping = (event("ping", '{"type":"ping"}'), 0)
        if not self.tool_calls:
            yield _begun(0, '{"type":"text","text":""}')
            yield ping
            for part, tokens in self.parts(self.text):
                yield _delta(0, f'{{"type":"text_delta","text":{json.dumps(part)}}}'), tokens
            yield _finished(0)
        for index, call in enumerate(self.tool_calls):
            yield _begun(
                index, f'{{"type":"tool_use","id":"{_call_id(call.id)}","name":{json.dumps(call.name)},"input":{{}}}}'
            )
            if index == 0:
                yield ping
            for part, tokens in self.parts(call.arguments):
                yield _delta(index, f'{{"type":"input_json_delta","partial_json":{json.dumps(part)}}}'), tokens
            yield _finished(index)

    def _stopped(self, shape: Shape) -> str:
        reason = "refusal" if shape is Shape.FILTERED else STOP_REASONS[self.stopped]
        sequence = json.dumps(self.stop_sequence) if shape is Shape.WHOLE else "null"
        return f'"stop_reason":"{reason}","stop_sequence":{sequence}'

    def _usage(self, cached: Cached, answered: int) -> str:
        written = cached.written + cached.written_long
        return (
            f'{{"input_tokens":{self.prompt_tokens - cached.read - written},"cache_creation_input_tokens":{written},'
            f'"cache_read_input_tokens":{cached.read},"cache_creation":{{"ephemeral_5m_input_tokens":{cached.written},'
            f'"ephemeral_1h_input_tokens":{cached.written_long}}},"output_tokens":{answered},"service_tier":"standard"}}'
        )


def _work(simulation: Simulation, document: dict[str, Any]) -> AnthropicMessage:
    model, name = model_asked(simulation, document.get("model"), NO_SUCH_MODEL)
    most_tokens = whole_number(document, "max_tokens", 1, 10**9)
    if most_tokens is None:
        raise bad_request("max_tokens: Field required", "max_tokens")
    streamed = document.get("stream", False)
    if not isinstance(streamed, bool):
        raise wrong_type("stream", "a boolean", streamed)
    system = document.get("system")
    if not isinstance(system, str | None):
        system = objects(system, "system")
    tools = objects(document.get("tools"), "tools")
    given = objects(document.get("messages"), "messages")
    if not 1 <= len(given) <= MOST_MESSAGES:
        raise bad_request(f"messages: expected from 1 to {MOST_MESSAGES} messages", "messages")
    messages: list[dict[str, Any]] = [{"role": "system", "content": _text_parts(system)}] if system else []
    for index, message in enumerate(given):
        messages += _messages(message, f"messages[{index}]")
    asked = Asked(
        model=model,
        name=name,
        messages=messages,
        tools=[_tool(tool, index) for index, tool in enumerate(tools)],
        tool_choice=_tool_choice(optional(document, "tool_choice", dict, "an object")),
        response_format=_format(document),
        stops=strings(document.get("stop_sequences"), "stop_sequences"),
        most_tokens=most_tokens,
    )
    facts = said(simulation, asked)
    return AnthropicMessage(
        **facts,
        streamed=streamed,
        marks=_marks(document, system, tools, given, facts["prompt_tokens"]),
        quoted_model=json.dumps(name),
        content=_content(facts),
    )


def _content(facts: Mapping[str, Any]) -> str:
    if not facts["tool_calls"]:
        return f'{{"type":"text","text":{json.dumps(facts["text"])}}}'
    return ",".join(
        f'{{"type":"tool_use","id":"{_call_id(call.id)}","name":{json.dumps(call.name)},"input":{_ascii(call.arguments)}}}'
        for call in facts["tool_calls"]
    )


def _messages(message: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """One message in OpenAI's shape: results of tools become messages of their own."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        raise bad_request(f"{where}.role: Input should be 'user' or 'assistant'", f"{where}.role")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    blocks = objects(content, f"{where}.content")
    parts = []
    calls = []
    for block in blocks:
        match block.get("type"):
            case "tool_result":
                result = block.get("content")
                yield {"role": "tool", "content": result if isinstance(result, str) else _text_parts(result or [])}
            case "tool_use":
                arguments = json.dumps(block.get("input"))
                calls.append({"id": block.get("id"), "function": {"name": block.get("name"), "arguments": arguments}})
            case _:
                parts.append(block)
    if parts or calls:
        told: dict[str, Any] = {"role": role, "content": parts or None}
        yield told | ({"tool_calls": calls} if calls else {})


def _text_parts(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    if not isinstance(tool.get("name"), str):
        raise bad_request(f"tools.{index}.name: Field required", "tools")
    function = {"name": tool["name"], "description": tool.get("description"), "parameters": tool.get("input_schema")}
    return {"type": "function", "function": {key: value for key, value in function.items() if value is not None}}


def _tool_choice(choice: dict[str, Any] | None) -> str | dict[str, Any] | None:
    match choice:
        case None:
            return None
        case {"type": "any"}:
            return "required"
        case {"type": "tool", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "auto" | "none" as kind}:
            return str(kind)
        case _:
            raise bad_request("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'", "tool_choice")


def _format(document: dict[str, Any]) -> dict[str, Any] | None:
    config = optional(document, "output_config", dict, "an object") or {}
    wanted = config.get("format") or document.get("output_format")
    if wanted is None:
        return None
    if not (
        isinstance(wanted, dict) and wanted.get("type") == "json_schema" and isinstance(wanted.get("schema"), dict)
    ):
        raise bad_request("output_config.format: expected {type: json_schema, schema: {…}}", "output_config")
    return {"type": "json_schema", "json_schema": {"schema": wanted["schema"]}}


def _marks(
    document: dict[str, Any], system: Any, tools: list[dict[str, Any]], given: list[dict[str, Any]], tokens: int
) -> tuple[Mark, ...]:
    """Where the prompt can be cached: at its breakpoints; looked up also at the blocks before them."""
    if tokens < LEAST_TOKENS:
        return NO_MARKS
    blocks: list[Any] = [*tools, *([system] if isinstance(system, str) else system or ())]
    for message in given:
        content = message.get("content")
        blocks += [content] if isinstance(content, str) else content or ()
    kept = [_kept_s(block.get("cache_control")) if isinstance(block, dict) else 0.0 for block in blocks]
    if document.get("cache_control") and blocks:
        kept[-1] = kept[-1] or _kept_s(document["cache_control"])
    points = [index for index, kept_s in enumerate(kept) if kept_s]
    if not points:
        return NO_MARKS
    marks = []
    hashed = blake2b(digest_size=12)
    before = 0
    for index, block in enumerate(blocks[: points[-1] + 1]):
        plain = block if isinstance(block, str) else {key: block[key] for key in block if key != "cache_control"}
        written = json.dumps(plain, sort_keys=True)
        hashed.update(written.encode("ascii"))
        text = plain if isinstance(plain, str) else plain.get("text")
        before = min(tokens, before + text_tokens(text if isinstance(text, str) else written))
        near = any(0 <= point - index <= LOOKED_BACK_BLOCKS for point in points)
        if near and before >= LEAST_TOKENS:
            marks.append(Mark(hashed.digest(), before, kept[index], billed=True))
    return tuple(marks)


def _kept_s(control: Any) -> float:
    if not isinstance(control, dict):
        return 0.0
    return LONG_KEPT_S if control.get("ttl") == "1h" else KEPT_S


def _id(rendering: Rendering) -> str:
    return f"msg_sim{rendering.serial:012x}"


def _call_id(identity: str) -> str:
    return f"toolu_{identity.removeprefix('call_')}"


def _ascii(arguments: str) -> str:
    return json.dumps(json.loads(arguments))


def _begun(index: int, block: str) -> tuple[bytes, int]:
    return event("content_block_start", f'{{"type":"content_block_start","index":{index},"content_block":{block}}}'), 0


def _delta(index: int, delta: str) -> bytes:
    return event("content_block_delta", f'{{"type":"content_block_delta","index":{index},"delta":{delta}}}')


def _finished(index: int) -> tuple[bytes, int]:
    return event("content_block_stop", f'{{"type":"content_block_stop","index":{index}}}'), 0
