"""The provider against aiorchsim in a process of its own: two implementations of one dialect, and its named faults."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from harness import RecordedSink, a_call, a_target, an_attempt

from aiorch.errors import (
    CallError,
    ContextExceeded,
    IncompleteStream,
    InvalidRequest,
    ProviderAuth,
    ProviderError,
    RateLimited,
    UnknownModel,
)
from aiorchd.calls.call import Attempt
from aiorchd.calls.target import Price
from aiorchd.providers.openai import OpenAiDialect, OpenAiOptions
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport import PoolLimits, Timeouts, open_transport
from aiorchsim.process import Simulator, start_simulator

PROFILE = """
[sim]
api_keys = ["sk-right"]

[[models]]
name = "quick"
latency_s = 0.0

[[models]]
name = "short"
latency_s = 0.0
context_tokens = 50

[[models]]
name = "limited"
latency_s = 0.0
requests_per_minute = 6
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start_simulator(PROFILE) as running:
        yield running


@asynccontextmanager
async def provider_at(
    simulator: Simulator, *, key: str = "sk-right", fault: str | None = None, **timeouts: float
) -> AsyncIterator[RemoteProvider]:
    simulator.reset()
    headers = {"x-aiorchsim-fault": fault} if fault is not None else {}
    options = OpenAiOptions(simulator.base_url, headers=headers)
    async with open_transport(PoolLimits(), {}) as transport:
        yield RemoteProvider("sim", OpenAiDialect(options), Secret(key), transport, Timeouts(**timeouts), lambda: 0.0)
        assert transport.statistics().in_use == 0


def asked(prompt: str, model: str = "quick", *, sink: RecordedSink | None = None, **request: Any) -> Attempt:
    messages = [{"role": "user", "content": prompt}]
    target = a_target(model, provider_model=model, price=Price(1.0, 2.0))
    return an_attempt(a_call(request={"messages": messages, **request}, sink=sink), target)


PROMPT = (
    "Give three tags for this page:\nSockets connect processes; a socket listens, and another socket connects to it."
)


async def test_streamed_and_whole_are_the_same(simulator: Simulator) -> None:
    async with provider_at(simulator) as provider:
        whole = await provider.chat(asked(PROMPT))
        sink = RecordedSink()
        attempt = asked(PROMPT, sink=sink)
        streamed = await provider.chat(attempt)
    assert whole.text
    assert "".join(sink.pieces) == streamed.text == whole.text
    assert len(sink.pieces) > 1
    assert streamed.usage == whole.usage
    assert whole.usage is not None
    assert whole.cost_usd == pytest.approx((whole.usage.input + 2 * whole.usage.output) / 1e6)
    assert streamed.finish_reason == whole.finish_reason == "stop"
    assert attempt.notes["provider_request_id"].startswith("req_")
    assert simulator.stats()["calls"]["received"] == 2


async def test_an_answer_by_schema(simulator: Simulator) -> None:
    tags = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    schema = {"type": "object", "properties": {"tags": tags}, "required": ["tags"]}
    async with provider_at(simulator) as provider:
        reply = await provider.chat(asked(PROMPT, output_schema=schema))
    assert json.loads(reply.text)["tags"]


async def test_a_tool_call(simulator: Simulator) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
    async with provider_at(simulator) as provider:
        request = {"tools": [tool], "tool_choice": "required"}
        whole = await provider.chat(asked("Weather in Oslo?", **request))
        sink = RecordedSink()
        streamed = await provider.chat(asked("Weather in Oslo?", sink=sink, **request))
    assert whole.tool_calls[0]["function"]["name"] == "get_weather"
    assert [call["function"] for call in streamed.tool_calls] == [call["function"] for call in whole.tool_calls]
    assert whole.finish_reason == streamed.finish_reason == "tool_calls"
    assert (
        "".join(one[0]["function"].get("arguments", "") for one in sink.pieces)
        == whole.tool_calls[0]["function"]["arguments"]
    )


async def test_the_bound_on_the_answer(simulator: Simulator) -> None:
    async with provider_at(simulator) as provider:
        reply = await provider.chat(asked(PROMPT, max_tokens=2))
    assert reply.finish_reason == "length"
    assert reply.usage is not None
    assert reply.usage.output == 2


async def test_embeddings(simulator: Simulator) -> None:
    async with provider_at(simulator) as provider:
        call = a_call(kind="embed", request={"input": ["a socket", "sockets", "gardening"], "dimensions": 64})
        reply = await provider.embed(an_attempt(call, a_target(provider_model="quick")))
    assert reply.vectors is not None
    assert [len(vector) for vector in reply.vectors] == [256] * 3
    assert reply.usage is not None
    assert reply.usage.input > 0


@pytest.mark.parametrize(
    ("fault", "streamed", "kind", "retryable"),
    [
        ("refuse", False, ProviderError, True),
        ("reset", False, ProviderError, True),
        ("reset", True, ProviderError, True),
        ("cut_stream", False, ProviderError, True),
        ("cut_stream", True, IncompleteStream, True),
        ("nonsense", False, ProviderError, True),
        ("nonsense", True, ProviderError, True),
        ("error_500", False, ProviderError, True),
        ("error_503", True, RateLimited, True),
        ("rate_limited", False, RateLimited, True),
        ("auth", False, ProviderAuth, False),
        ("redirect", True, ProviderError, False),
        ("stream_error", False, ProviderError, True),
        ("stream_error", True, IncompleteStream, True),
    ],
)
async def test_faults(simulator: Simulator, fault: str, streamed: bool, kind: type[CallError], retryable: bool) -> None:
    sink = RecordedSink() if streamed else None
    async with provider_at(simulator, fault=fault) as provider:
        with pytest.raises(CallError) as caught:
            await provider.chat(asked(PROMPT, sink=sink))
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert "sk-right" not in json.dumps(caught.value.to_wire())
    stats = simulator.stats()
    assert stats["calls"]["received"] == 1


async def test_a_provider_that_hangs(simulator: Simulator) -> None:
    async with provider_at(simulator, fault="hang", first_byte_s=0.2, idle_s=0.2) as provider:
        with pytest.raises(ProviderError) as caught, trio.fail_after(5):
            await provider.chat(asked(PROMPT))
    assert caught.value.details["timed_out"]


async def test_a_slow_stream_comes_whole(simulator: Simulator) -> None:
    async with provider_at(simulator, fault="slow_stream") as provider:
        sink = RecordedSink()
        reply = await provider.chat(asked("What is 1 + 1?", sink=sink))
    assert reply.text == "".join(sink.pieces)


@pytest.mark.parametrize(
    ("attempt", "kind"),
    [
        (asked("word " * 500, "short"), ContextExceeded),
        (asked("x", "unheard-of"), UnknownModel),
        (asked("x", stop=7), InvalidRequest),
    ],
)
async def test_refusals(simulator: Simulator, attempt: Attempt, kind: type[CallError]) -> None:
    async with provider_at(simulator) as provider:
        with pytest.raises(CallError) as caught:
            await provider.chat(attempt)
    assert type(caught.value) is kind
    assert not caught.value.retryable


async def test_a_wrong_key(simulator: Simulator) -> None:
    async with provider_at(simulator, key="sk-hunter2-123") as provider:
        with pytest.raises(ProviderAuth) as caught:
            await provider.chat(asked("x"))
    assert "hunter2" not in json.dumps(caught.value.to_wire())


async def test_limits_are_told_and_understood(simulator: Simulator) -> None:
    async with provider_at(simulator) as provider:
        attempt = asked("x", "limited")
        await provider.chat(attempt)
        [told] = attempt.notes["limits_told"].quotas
        assert (told.quota, told.limit, told.remaining) == ("requests", 6, 0)
        with pytest.raises(RateLimited) as caught:
            await provider.chat(asked("y", "limited"))
        assert caught.value.retry_after_s is not None
        assert 5 < caught.value.retry_after_s <= 10
        assert caught.value.details["rate_limit"]["limit_requests"] == 6
    assert simulator.stats()["calls"]["rate_limited"] == 1


async def test_cancelling_is_seen_by_the_provider(simulator: Simulator) -> None:
    def received(stats: dict[str, Any]) -> bool:
        return bool(stats["calls"]["received"] == 1)

    def left(stats: dict[str, Any]) -> bool:
        return bool(stats["connections"]["open"] <= 1)  # the one that asks for the statistics

    async with provider_at(simulator, fault="hang") as provider:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider.chat, asked("x", sink=RecordedSink()))
            await trio.to_thread.run_sync(simulator.wait_until, received)
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(simulator.wait_until, left)
