"""The embedded simulated model: works at once, says what it is, and behaves like a provider."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import trio
import trio.testing
from harness import RecordedSink, a_call, a_target, an_attempt

from aiorch.errors import InvalidRequest
from aiorchd.calls.call import Attempt
from aiorchd.calls.target import Price
from aiorchd.providers.simulated import DEFAULT_DIMENSIONS, SimulatedProvider

PROMPT = (
    "Give three tags for this page:\nSockets connect processes; a socket listens, and another socket connects to it."
)
PROVIDER = SimulatedProvider("embedded")


def asked(prompt: Any = PROMPT, *, sink: RecordedSink | None = None, **request: Any) -> Attempt:
    messages = [{"role": "user", "content": prompt}]
    target = a_target("simulated", dialect="simulated", price=Price(0, 0))
    return an_attempt(a_call(request={"messages": messages, **request}, sink=sink), target)


async def test_whole_and_streamed_are_the_same_and_always_the_same() -> None:
    whole = await PROVIDER.chat(asked())
    assert whole.text
    assert whole.simulated
    assert whole.finish_reason == "stop"
    assert whole.cost_usd == 0
    assert whole.usage is not None
    assert whole.usage.total > 0
    sink = RecordedSink()
    attempt = asked(sink=sink)
    assert await PROVIDER.chat(attempt) == whole
    assert "".join(sink.pieces) == whole.text
    assert attempt.notes["first_token_s"] >= 0
    assert await SimulatedProvider("other").chat(asked()) == whole


async def test_a_schema_is_kept() -> None:
    tags = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    schema = {"type": "object", "properties": {"tags": tags}, "required": ["tags"]}
    assert json.loads((await PROVIDER.chat(asked(output_schema=schema))).text)["tags"]
    assert isinstance(json.loads((await PROVIDER.chat(asked("Give JSON with a city.", output_schema={}))).text), dict)


async def test_tools() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    sink = RecordedSink()
    reply = await PROVIDER.chat(asked(tools=[tool], tool_choice="required", sink=sink))
    assert reply.finish_reason == "tool_calls"
    assert reply.text == ""
    [call] = reply.tool_calls
    assert call["type"] == "function"
    assert call["function"]["name"] == "f"
    json.loads(call["function"]["arguments"])
    assert sink.pieces == [[{**call, "index": 0}]]


async def test_where_it_ends() -> None:
    whole = await PROVIDER.chat(asked())
    short = await PROVIDER.chat(asked(max_tokens=1))
    assert (short.text, short.finish_reason) == (whole.text[:4], "length")
    assert short.usage is not None
    assert short.usage.output == 1
    for stop in (whole.text[5], [whole.text[5], "never"], ""):
        stopped = await PROVIDER.chat(asked(stop=stop))
        assert stopped.text == (whole.text.partition(whole.text[5])[0] if stop else whole.text)
        assert stopped.finish_reason == "stop"


async def test_a_long_prompt_holds_up_nobody() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.001)
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        reply = await PROVIDER.chat(asked("Summarise:\n" + "The socket listens. " * 20_000))
        nursery.cancel_scope.cancel()
    assert reply.text
    assert ticks >= 1


async def test_content_in_parts() -> None:
    parts = [{"type": "text", "text": "What is 6 * 7?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert "42" in (await PROVIDER.chat(asked(parts))).text


async def test_it_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    await SimulatedProvider("slow", latency_s=3).chat(asked())
    assert trio.current_time() - began == pytest.approx(3)


@pytest.mark.parametrize("messages", [None, [], "hello", [7], {}])
async def test_messages_that_are_none(messages: Any) -> None:
    with pytest.raises(InvalidRequest, match="messages"):
        await PROVIDER.chat(an_attempt(a_call(request={"messages": messages})))


def embedding_of(texts: Any, **request: Any) -> Attempt:
    return an_attempt(a_call(kind="embed", request={"input": texts, **request}), a_target(price=Price(0)))


async def test_embeddings() -> None:
    reply = await PROVIDER.embed(embedding_of(["a socket listens", "sockets listen", "tulips and roses"]))
    assert reply.simulated
    assert reply.cost_usd == 0
    assert reply.vectors is not None
    one, two, three = (struct.unpack(f"<{DEFAULT_DIMENSIONS}f", vector) for vector in reply.vectors)
    assert math.isclose(sum(x * x for x in one), 1, rel_tol=1e-5)
    assert sum(a * b for a, b in zip(one, two, strict=True)) > sum(a * b for a, b in zip(one, three, strict=True))
    assert len((await PROVIDER.embed(embedding_of(["x"], dimensions=8))).vectors[0]) == 32  # type: ignore[index]
    assert (await PROVIDER.embed(embedding_of([]))).vectors == ()


@pytest.mark.parametrize(
    "request_",
    [{"texts": "x"}, {"texts": [7]}, {"texts": ["x"], "dimensions": -1}, {"texts": ["x"], "dimensions": 99_999}],
)
async def test_embeddings_that_make_no_sense(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await PROVIDER.embed(embedding_of(**request_))
