"""Anthropic's and Gemini's dialects against aiorchsim in a process of its own: two implementations of each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness import RecordedSink, a_call, a_target, an_attempt

from aiorch.errors import CallError, ContextExceeded, ProviderAuth, RateLimited, UnknownModel
from aiorchd.calls.call import Attempt
from aiorchd.calls.target import Price
from aiorchd.providers.anthropic import AnthropicDialect, AnthropicOptions
from aiorchd.providers.dialect import Dialect
from aiorchd.providers.gemini import GeminiDialect, GeminiOptions
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport import PoolLimits, Timeouts, open_transport
from aiorchsim.process import Simulator, start_simulator

PROFILE = """
[sim]
api_keys = ["k-right-1"]

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
PROMPT = (
    "Give three tags for this page:\nSockets connect processes; a socket listens, and another socket connects to it."
)
TAGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SCHEMA = {"type": "object", "properties": {"tags": TAGS}, "required": ["tags"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}  # fmt: skip
BOTH = pytest.mark.parametrize("spoken", ["anthropic", "gemini"])


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start_simulator(PROFILE) as running:
        yield running


def dialect_of(spoken: str, url: str, **options: Any) -> Dialect:
    return AnthropicDialect(AnthropicOptions(url, **options)) if spoken == "anthropic" else GeminiDialect(GeminiOptions(url, **options))  # fmt: skip


@asynccontextmanager
async def provider_at(
    simulator: Simulator, spoken: str, *, key: str = "k-right-1", **options: Any
) -> AsyncIterator[RemoteProvider]:
    simulator.reset()
    dialect = dialect_of(spoken, f"http://{simulator.host}:{simulator.port}", **options)
    async with open_transport(PoolLimits(), {}) as transport:
        yield RemoteProvider("sim", dialect, Secret(key), transport, Timeouts(), lambda: 0.0)
        assert transport.statistics().in_use == 0


def asked(prompt: Any, model: str = "quick", *, sink: RecordedSink | None = None, **request: Any) -> Attempt:
    messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    target = a_target(model, provider_model=model, price=Price(1.0, 2.0, 0.1, 1.25, 2.0))
    return an_attempt(a_call(request={"messages": messages, **request}, sink=sink), target)


@BOTH
async def test_streamed_and_whole_are_the_same(simulator: Simulator, spoken: str) -> None:
    async with provider_at(simulator, spoken) as provider:
        whole = await provider.chat(asked(PROMPT))
        streamed = await provider.chat(asked(PROMPT, sink=(sink := RecordedSink())))
    assert whole.text
    assert sink.text == streamed.text == whole.text
    assert len(sink.pieces) > 1
    assert streamed.usage == whole.usage
    assert whole.usage is not None
    assert whole.cost_usd == pytest.approx((whole.usage.input + 2 * whole.usage.output) / 1e6)
    assert streamed.finish_reason == whole.finish_reason == "stop"
    assert simulator.stats()["calls"]["received"] == 2


@pytest.mark.parametrize(
    ("spoken", "structured_output"),
    [("anthropic", "json_schema"), ("anthropic", "tool"), ("gemini", "json_schema"), ("gemini", "json_object")],
)
async def test_an_answer_by_schema(simulator: Simulator, spoken: str, structured_output: str) -> None:
    async with provider_at(simulator, spoken, structured_output=structured_output) as provider:
        whole = await provider.chat(asked(PROMPT, output_schema=SCHEMA))
        streamed = await provider.chat(asked(PROMPT, output_schema=SCHEMA, sink=(sink := RecordedSink())))
    if structured_output != "json_object":
        assert json.loads(whole.text)["tags"]
    assert json.loads(streamed.text) == json.loads(whole.text) == json.loads(sink.text)
    assert (whole.finish_reason, whole.tool_calls, streamed.tool_calls) == ("stop", (), ())


@BOTH
async def test_a_tool_call_there_and_back(simulator: Simulator, spoken: str) -> None:
    request = {"tools": [WEATHER], "tool_choice": "required"}
    async with provider_at(simulator, spoken) as provider:
        whole = await provider.chat(asked("Weather in Oslo?", **request))
        streamed = await provider.chat(asked("Weather in Oslo?", sink=(sink := RecordedSink()), **request))
        [call] = whole.tool_calls
        answered = [
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": whole.text, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "Rain, 7 degrees"},
        ]
        reply = await provider.chat(asked(answered, tools=[WEATHER]))
    assert call["function"]["name"] == "get_weather"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments == json.loads(streamed.tool_calls[0]["function"]["arguments"])
    pieces = [one for piece in sink.pieces if isinstance(piece, list) for one in piece]
    assert json.loads("".join(one["function"].get("arguments", "") for one in pieces)) == arguments
    assert whole.finish_reason == streamed.finish_reason == "tool_calls"
    assert reply.text


@BOTH
async def test_prompt_caching_is_told_apart_and_adds_up(simulator: Simulator, spoken: str) -> None:
    mark = {"cache_control": {"type": "ephemeral"}} if spoken == "anthropic" else {}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "Sockets connect processes. " * 400, **mark}]},
        {"role": "user", "content": "What is 6 * 7?"},
    ]
    async with provider_at(simulator, spoken) as provider:
        first = (await provider.chat(asked(messages))).usage
        second = (await provider.chat(asked(messages))).usage
    assert first is not None
    assert second is not None
    assert first.total == second.total
    assert second.cache_read > 1000
    assert (first.cache_write > 1000, first.cache_read) == (spoken == "anthropic", 0)
    billed = simulator.stats()["tokens"]
    assert first.total + second.total == billed["prompt"] + billed["completion"]


@BOTH
async def test_bounds_refusals_and_keys(simulator: Simulator, spoken: str) -> None:
    async with provider_at(simulator, spoken) as provider:
        reply = await provider.chat(asked(PROMPT, max_tokens=2))
        assert reply.finish_reason == "length"
        for attempt, kind in (
            (asked("word " * 500, "short"), ContextExceeded),
            (asked("x", "unheard-of"), UnknownModel),
        ):
            with pytest.raises(CallError) as caught:
                await provider.chat(attempt)
            assert type(caught.value) is kind
        found = await provider.check(["quick", "missing"], 5)
        assert (found.result, found.missing) == ("ok", ("missing",))
    async with provider_at(simulator, spoken, key="k-hunter2-123") as provider:
        with pytest.raises(ProviderAuth) as refused:
            await provider.chat(asked("x"))
        assert "hunter2" not in json.dumps(refused.value.to_wire())
        assert (await provider.check([], 5)).result == "refused"


@BOTH
async def test_limits_are_told_and_understood(simulator: Simulator, spoken: str) -> None:
    async with provider_at(simulator, spoken) as provider:
        first, second = asked("x", "limited"), asked("y", "limited")
        await provider.chat(first)
        with pytest.raises(RateLimited) as caught:
            await provider.chat(second)
    assert caught.value.retry_after_s is not None
    assert 5 < caught.value.retry_after_s <= 11
    if spoken == "gemini":  # Google tells nothing of its limits before its 429, and the simulator names no quota there
        assert "limits_told" not in first.notes
        return
    told = [quota for quota in second.notes["limits_told"].quotas if quota.quota == "requests"]
    assert [(quota.limit, quota.remaining) for quota in told] == [(6, 0)]


@BOTH
@pytest.mark.parametrize(
    ("fault", "whole", "streamed"),
    [
        ("error_529", RateLimited, RateLimited),
        ("error_503", RateLimited, RateLimited),
        ("error_500", "provider_error", "provider_error"),
        ("no_credit", RateLimited, RateLimited),
        ("error_in_200", None, None),
        ("cut_stream", "provider_error", "incomplete_stream"),
        ("truncated_json", "provider_error", "incomplete_stream"),
        ("ends_early", "", "incomplete_stream"),
        ("stream_error", "provider_error", "incomplete_stream"),
        ("malformed_line", "", ""),
        ("missing_usage", "", ""),
        ("duplicated_end", "", ""),
        ("content_filter", "content_filtered", "content_filtered"),
        ("wrong_content_type", "provider_error", "provider_error"),
    ],
)
async def test_faults(simulator: Simulator, spoken: str, fault: str, whole: Any, streamed: Any) -> None:
    async with provider_at(simulator, spoken, headers={"x-aiorchsim-fault": fault}) as provider:
        for expected, sink in ((whole, None), (streamed, RecordedSink())):
            attempt = asked(PROMPT, sink=sink)
            if expected == "":
                reply = await provider.chat(attempt)
                assert reply.text
                assert (reply.usage is None) == (fault == "missing_usage")
                assert (reply.cost_usd is None) == (fault == "missing_usage")
                continue
            with pytest.raises(CallError) as caught:
                await provider.chat(attempt)
            if isinstance(expected, str):
                assert caught.value.code == expected
            elif expected is not None:
                assert type(caught.value) is expected
            assert "k-right-1" not in json.dumps(caught.value.to_wire())


async def test_vectors(simulator: Simulator) -> None:
    async with provider_at(simulator, "gemini") as provider:
        call = a_call(kind="embed", request={"input": ["a socket", "sockets", "gardening"], "dimensions": 64})
        reply = await provider.embed(an_attempt(call, a_target(provider_model="quick")))
    assert reply.vectors is not None
    assert [len(vector) for vector in reply.vectors] == [256] * 3
