"""The embedded simulated model: honest small text work instead of a provider, when nothing is configured.

It needs no network, costs nothing and says of every answer that it is simulated. What it understands is told in
`aiorchsim.textwork`, which does the work; the simulator of that name does the same behind real HTTP.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from aiorch.errors import InvalidRequest
from aiorchd.calls.call import Attempt
from aiorchd.calls.ports import DeltaSink, ProviderCheck
from aiorchd.calls.reply import Reply, Usage
from aiorchd.providers.pricing import cost_usd
from aiorchsim.textwork import Answer, answer, embed, prompt_tokens, text_tokens

DEFAULT_DIMENSIONS: Final = 256
MOST_DIMENSIONS: Final = 4096

_CHARACTERS_PER_TOKEN: Final = 4
_CHARACTERS_PER_PIECE: Final = 16
# The work takes some 50 us per kilobyte of text; beyond this it would hold up everybody else.
_INLINE_CHARACTERS: Final = 20_000


class SimulatedProvider:
    """Satisfies `aiorchd.calls.ports.Provider`; keeps nothing of a call.

    The same request always gets the same answer. ``latency_s`` is how long it pretends to think (before the first piece
    when streaming). Raises `InvalidRequest` for what is not in OpenAI's shape.
    """

    attempt_s: Final = None
    """It keeps no time."""

    def __init__(self, name: str, *, seed: int = 0, latency_s: float = 0.0) -> None:
        self.name = name
        self._seed = seed
        self._latency_s = latency_s

    async def chat(self, attempt: Attempt) -> Reply:
        """Answer a chat call, streamed when the call has a sink."""
        request, target, sink = attempt.call.request, attempt.target, attempt.call.sink
        messages, tools = _messages(request), request.get("tools")
        began = trio.current_time()
        await trio.sleep(self._latency_s)
        asked = _size(messages)
        work = (messages, request, target.provider_model, self._seed)
        said = _answer(*work) if asked <= _INLINE_CHARACTERS else await trio.to_thread.run_sync(_answer, *work)
        text, finish_reason = _limited(said, request)
        calls = _calls(said)
        if sink is not None:
            await self._stream(attempt, sink, text, calls, began)
        said_tokens = text_tokens(text) + sum(
            text_tokens(call.name) + text_tokens(call.arguments) for call in said.tool_calls
        )
        usage = Usage(prompt_tokens(messages, tools), 0, 0, said_tokens, 0)
        return Reply(
            text=text,
            tool_calls=calls,
            finish_reason=finish_reason,
            model=target.name,
            provider=target.provider,
            provider_model=target.provider_model,
            simulated=True,
            usage=usage,
            cost_usd=cost_usd(usage, target.price),
        )

    async def embed(self, attempt: Attempt) -> Reply:
        """Turn each input string into a vector."""
        request, target = attempt.call.request, attempt.target
        texts = request.get("input")
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise InvalidRequest("input must be a list of strings")
        dimensions = request.get("dimensions") or DEFAULT_DIMENSIONS
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= MOST_DIMENSIONS:
            raise InvalidRequest(f"dimensions must be from 1 to {MOST_DIMENSIONS}")
        await trio.sleep(self._latency_s)
        vectors = []
        for text in texts:
            vectors.append(_vector(text, dimensions))
            await trio.lowlevel.checkpoint()
        usage = Usage(sum(map(text_tokens, texts)), 0, 0, 0, 0)
        return Reply(
            model=target.name,
            provider=target.provider,
            provider_model=target.provider_model,
            simulated=True,
            usage=usage,
            cost_usd=cost_usd(usage, target.price),
            vectors=tuple(vectors),
        )

    async def check(self, models: Sequence[str], timeout_s: float) -> ProviderCheck:  # noqa: ARG002 - as the port has it
        """Say that there is nothing to ask."""
        return ProviderCheck("simulated", f"{self.name} is simulated inside the daemon; no real model answers")

    async def _stream(
        self, attempt: Attempt, sink: DeltaSink, text: str, calls: tuple[Mapping[str, Any], ...], began: float
    ) -> None:
        attempt.notes["first_token_s"] = trio.current_time() - began
        for start in range(0, len(text), _CHARACTERS_PER_PIECE):
            await sink.send(text=text[start : start + _CHARACTERS_PER_PIECE])
        if calls:
            await sink.send(tool_calls=tuple({**call, "index": index} for index, call in enumerate(calls)))


def _answer(messages: Sequence[Mapping[str, Any]], request: Mapping[str, Any], model: str, seed: int) -> Answer:
    schema = request.get("output_schema")
    response_format: Mapping[str, Any] | None = None
    if isinstance(schema, Mapping) and schema:
        response_format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    elif schema is not None:
        response_format = {"type": "json_object"}
    return answer(
        messages,
        model=model,
        seed=seed,
        response_format=response_format,
        tools=request.get("tools"),
        tool_choice=request.get("tool_choice"),
    )


def _messages(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = request.get("messages")
    if not isinstance(messages, list | tuple) or not messages or not all(isinstance(one, Mapping) for one in messages):
        raise InvalidRequest("messages must be a list of objects, at least one")
    return list(messages)


def _size(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(one["content"]) if isinstance(one.get("content"), str) else 1_000 for one in messages)


def _limited(said: Answer, request: Mapping[str, Any]) -> tuple[str, str]:
    """Cut the text at a stop sequence and at ``max_tokens``, and tell why it ended."""
    if said.tool_calls:
        return "", "tool_calls"
    text, stops, most = said.text, request.get("stop"), request.get("max_tokens")
    for stop in [stops] if isinstance(stops, str) else stops or ():
        if stop:
            text = text.partition(stop)[0]
    if isinstance(most, int) and text_tokens(text) > most:
        return text[: most * _CHARACTERS_PER_TOKEN], "length"
    return text, "stop"


def _calls(said: Answer) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in said.tool_calls
    )


def _vector(text: str, dimensions: int) -> bytes:
    values = array.array("f", embed(text, dimensions))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
