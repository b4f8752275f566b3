"""The provider over real HTTP: whole and streamed answers, faults at every stage, nothing left behind."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from harness import RecordedSink, a_call, a_target, an_attempt, cancel_at_every_checkpoint
from wire import Handler, RawServer, Wire, answering, http, raw_server

from aiorch.errors import (
    CallError,
    ContentFiltered,
    ContextExceeded,
    IncompleteStream,
    InvalidRequest,
    ProviderAuth,
    ProviderError,
    RateLimited,
)
from aiorchd.calls.call import Attempt
from aiorchd.calls.rate_limits import QuotaTold
from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price
from aiorchd.providers.openai import OpenAiDialect, OpenAiOptions
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import MissingKey, Secret
from aiorchd.providers.transport import PoolLimits, Timeouts, Transport, open_transport

KEY = Secret("sk-hunter2-0123456789")
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "small-1-2024",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Eight."}, "finish_reason": "stop"}],
    "usage": USAGE,
    "service_tier": "default",
}


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def piece(content: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    fields = {**({"content": content} if content is not None else {}), **delta}
    return event({"model": "small-1-2024", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


STREAM = [
    piece("", role="assistant"), piece("Ei"), piece("ght"), piece("."), piece(finish="stop"),
    event({"choices": [], "usage": USAGE}), event(b"[DONE]"),
]  # fmt: skip


def sse(*parts: bytes, chunked: bool = True, end: bool = True, **headers: str) -> bytes:
    """A streamed answer as bytes."""
    fields = {"content-type": "text/event-stream; charset=utf-8", **headers}
    if chunked:
        fields["transfer-encoding"] = "chunked"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part for part in parts)
    return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body + (b"0\r\n\r\n" if chunked and end else b"")


@asynccontextmanager
async def provider_at(
    server: RawServer, key: Secret | MissingKey | None = KEY, timeouts: Timeouts | None = None, **options: Any
) -> AsyncIterator[tuple[RemoteProvider, Transport]]:
    async with open_transport(PoolLimits(), {}) as transport:
        made = OpenAiOptions(server.url("/v1"), **options)
        yield (
            RemoteProvider(
                "main", OpenAiDialect(made), key, transport, timeouts or Timeouts(), lambda: 1_762_855_200.0
            ),
            transport,
        )
        assert transport.statistics().in_use == 0
        assert transport.statistics().waiting == 0


def asked(sink: RecordedSink | None = None, price: Price = Price(0.15, 0.6), **request: Any) -> Attempt:  # noqa: B008
    messages = [{"role": "user", "content": "How many moons?"}]
    return an_attempt(a_call(request={"messages": messages, **request}, sink=sink), a_target(price=price))


async def failing(handler: Handler, *, sink: RecordedSink | None = None, **options: Any) -> CallError:
    async with raw_server(handler) as server, provider_at(server, **options) as (provider, _):
        with pytest.raises(CallError) as caught:
            await provider.chat(asked(sink))
    wire = json.dumps(caught.value.to_wire())
    assert "hunter2" not in wire
    return caught.value


def then_close(answer: bytes, *, reset: bool = False) -> Handler:
    async def handler(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(answer)
        if reset:
            await trio.testing.wait_all_tasks_blocked()
            wire.reset()

    return handler


# --- whole answers ---------------------------------------------------------------------------------------------------


async def test_a_whole_answer() -> None:
    answer = http(
        json.dumps(WHOLE).encode(),
        x_request_id="req_1",
        x_ratelimit_limit_requests="500",
        x_ratelimit_reset_requests="1s",
    )
    async with raw_server(answering(answer)) as server, provider_at(server, headers={"X-Title": "t"}) as (provider, _):
        attempt = asked(temperature=0)
        reply = await provider.chat(attempt)
        assert (reply.text, reply.finish_reason, reply.tool_calls) == ("Eight.", "stop", ())
        assert (reply.model, reply.provider, reply.provider_model) == ("small", "main", "small-1-2024")
        assert reply.usage == Usage(1000, 0, 0, 100, 0)
        assert reply.cost_usd == pytest.approx(0.00021)
        assert reply.extra == {"service_tier": "default"}
        assert reply.simulated is False
        assert attempt.notes == {
            "status": 200,
            "provider_request_id": "req_1",
            "limits_told": attempt.notes["limits_told"],
            "usage": reply.usage,
            "cost_usd": reply.cost_usd,
        }
        assert attempt.notes["limits_told"].quotas == (QuotaTold("requests", 500, None, 1.0),)
        [request] = server.requests
        assert request.line == "POST /v1/chat/completions HTTP/1.1"
        assert request.headers["authorization"] == "Bearer sk-hunter2-0123456789"
        assert request.headers["x-title"] == "t"
        assert json.loads(request.body) == {
            "model": "small-1",
            "messages": [{"role": "user", "content": "How many moons?"}],
            "temperature": 0,
        }


async def test_no_key_where_none_is_needed_and_none_where_one_is_missing() -> None:
    async with raw_server(answering(http(json.dumps(WHOLE).encode()))) as server:
        async with provider_at(server, key=None) as (provider, _):
            await provider.chat(asked())
        assert "authorization" not in server.requests[0].headers
        async with provider_at(server, key=MissingKey("the variable OPENAI_API_KEY is not set")) as (provider, _):
            for ask in (provider.chat, provider.embed):
                with pytest.raises(ProviderAuth, match="main has no key: the variable OPENAI_API_KEY is not set"):
                    await ask(asked())
        assert len(server.requests) == 1


async def test_what_cannot_be_written_is_not_sent() -> None:
    async with raw_server(answering(http())) as server, provider_at(server) as (provider, _):
        for sink in (None, RecordedSink()):
            with pytest.raises(InvalidRequest):
                await provider.chat(asked(sink, extra={"x": b"bytes"}))
        assert server.connections == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b""), "with nothing"),
        (http(b"<html>hello</html>", content_type="text/html"), "text/html instead of JSON; is base_url right"),
        (http(b"oops"), "broken or cut off"),
        (http(json.dumps(WHOLE).encode()[:-20]), "broken or cut off"),
        (http(b"[" * 100_000), "nested too deeply"),
        (http(b"[]"), "not an object"),
        (http(b'"text"'), "not an object"),
        (http(b"{}"), "without any choice"),
        (http(b'{"choices": []}'), "without any choice"),
        (http(b'{"choices": [{"index": 0}]}'), "no message"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_nonsense_with_a_200(answer: bytes, words: str, streamed: bool) -> None:
    sink = RecordedSink() if streamed else None
    error = await failing(answering(answer), sink=sink)
    assert type(error) is ProviderError
    assert error.message.startswith("main answered with")
    assert words.replace("JSON", "a stream" if streamed and "html" in words else "JSON") in error.message
    assert error.retryable
    assert error.details["status"] == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_status(streamed: bool) -> None:
    body = json.dumps({"error": {"message": "Slow down sk-hunter2-0123456789", "code": "rate_limit_exceeded"}}).encode()
    error = await failing(answering(http(body, 429, retry_after="7")), sink=RecordedSink() if streamed else None)
    assert type(error) is RateLimited
    assert error.retry_after_s == 7
    assert error.details["status"] == 429
    assert error.details["provider_code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_huge_error_page(streamed: bool) -> None:
    page = b"<html><title>502 Bad Gateway</title>" + b"x" * 5_000_000
    error = await failing(
        answering(http(page, 502, content_type="text/html")), sink=RecordedSink() if streamed else None
    )
    assert error.message == "main failed (502): 502 Bad Gateway"


async def test_an_error_in_a_200() -> None:
    error = await failing(answering(http(b'{"error": {"message": "no capacity", "code": 503}}')))
    assert type(error) is ProviderError
    assert error.message == "main failed (503): no capacity"


async def test_a_withheld_answer() -> None:
    body = json.dumps(
        {**WHOLE, "choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}
    ).encode()
    assert type(await failing(answering(http(body)))) is ContentFiltered
    half = json.dumps(
        {**WHOLE, "choices": [{"message": {"content": "Ei"}, "finish_reason": "content_filter"}]}
    ).encode()
    async with raw_server(answering(http(half))) as server, provider_at(server) as (provider, _):
        reply = await provider.chat(asked())
        assert (reply.text, reply.finish_reason) == ("Ei", "content_filter")


async def test_the_connection_breaks() -> None:
    error = await failing(then_close(http(json.dumps(WHOLE).encode())[:-10]))
    assert type(error) is ProviderError
    assert error.details["phase"] == "reading"


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_a_stream(chunked: bool, byte_by_byte: bool) -> None:
    answer = sse(*STREAM, chunked=chunked)

    async def drip(wire: Wire) -> None:
        while True:
            await wire.read_request()
            for byte in answer:
                await wire.send(bytes([byte]))
                await trio.lowlevel.checkpoint()
            if not chunked:
                return

    handler = drip if byte_by_byte else answering(answer) if chunked else then_close(answer)
    async with raw_server(handler) as server, provider_at(server) as (provider, transport):
        for _ in range(2):
            sink = RecordedSink()
            attempt = asked(sink)
            reply = await provider.chat(attempt)
            assert sink.pieces == ["Ei", "ght", "."]
            assert (reply.text, reply.finish_reason) == ("Eight.", "stop")
            assert reply.usage == Usage(1000, 0, 0, 100, 0)
            assert reply.cost_usd == pytest.approx(0.00021)
            assert reply.provider_model == "small-1-2024"
            assert 0 <= attempt.notes["first_token_s"] < 5
            assert attempt.notes["status"] == 200
            assert "malformed_events" not in attempt.notes
        body = json.loads(server.requests[0].body)
        assert body["stream"] is True
        assert body["stream_options"] == {"include_usage": True}
        assert transport.statistics().dialled == (1 if chunked else 2)


async def test_pieces_reach_the_caller_as_they_come() -> None:
    async def slowly(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(sse(end=False))
        for part in STREAM:
            before = len(sink.pieces)
            await wire.send(b"%x\r\n%b\r\n" % (len(part), part))
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert len(sink.pieces) == before + (
                1 if b'content": "E' in part or b"ght" in part or b'"."' in part else 0
            )
        await wire.send(b"0\r\n\r\n")

    sink = RecordedSink()
    async with raw_server(slowly) as server, provider_at(server) as (provider, _):
        assert (await provider.chat(asked(sink))).text == "Eight."


async def test_tool_calls_are_streamed() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    parts = [
        piece(role="assistant", content=None, tool_calls=[first]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        piece(finish="tool_calls"),
        event(b"[DONE]"),
    ]
    sink = RecordedSink()
    async with raw_server(answering(sse(*parts))) as server, provider_at(server) as (provider, _):
        reply = await provider.chat(asked(sink))
    assert reply.tool_calls == ({"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},)
    assert sink.pieces[0] == [first]
    assert "".join(one[0]["function"]["arguments"] for one in sink.pieces) == '{"a":1}'


async def test_a_server_that_does_not_stream_is_taken_whole() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Eight.", "tool_calls": [call]}
    body = {**WHOLE, "choices": [{"message": message, "finish_reason": "stop"}]}
    async with raw_server(answering(http(json.dumps(body).encode()))) as server, provider_at(server) as (provider, _):
        sink = RecordedSink()
        reply = await provider.chat(asked(sink))
        assert sink.pieces == ["Eight.", [{**call, "index": 0}]]
        assert reply.text == "Eight."


async def test_a_compressed_stream() -> None:
    packed = gzip.compress(b"".join(STREAM))
    answer = sse(packed[:40], packed[40:], **{"content-encoding": "gzip"})
    async with raw_server(answering(answer)) as server, provider_at(server) as (provider, _):
        sink = RecordedSink()
        assert (await provider.chat(asked(sink))).text == "Eight."
        assert sink.pieces == ["Ei", "ght", "."]


async def test_a_damaged_event_is_survived() -> None:
    parts = [*STREAM[:2], event(b'{"choices": [{"del'), *STREAM[2:]]
    async with raw_server(answering(sse(*parts))) as server, provider_at(server) as (provider, _):
        attempt = asked(RecordedSink())
        assert (await provider.chat(attempt)).text == "Eight."
        assert attempt.notes["malformed_events"] == 1


CUT = {
    "nothing": (b"", ProviderError),
    "head": (sse(end=False), ProviderError),
    "comment": (sse(b": keep-alive\n\n", end=False), ProviderError),
    "role": (sse(*STREAM[:1], end=False), ProviderError),
    "content": (sse(*STREAM[:3], end=False), IncompleteStream),
    "half an event": (sse(*STREAM[:3], STREAM[3][:30], end=False), IncompleteStream),
    "orderly": (sse(*STREAM[:3]), IncompleteStream),
    "orderly, half an event": (sse(*STREAM[:3], STREAM[3][:30]), IncompleteStream),
    "orderly, nothing": (sse(), ProviderError),
    "orderly, nonsense": (sse(event(b"nonsense")), ProviderError),
    "without length": (sse(*STREAM[:3], chunked=False), IncompleteStream),
    "done and nothing": (sse(event(b"[DONE]")), ProviderError),
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("where", CUT)
async def test_a_stream_that_breaks_off(where: str, reset: bool) -> None:
    answer, kind = CUT[where]
    sink = RecordedSink()
    error = await failing(then_close(answer, reset=reset), sink=sink)
    assert type(error) is kind
    assert sink.started is (kind is IncompleteStream)
    assert error.retryable


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("parts", [5, 6, 7])
async def test_what_happens_after_the_end_of_the_answer_does_not_matter(parts: int, reset: bool) -> None:
    answer = sse(*STREAM[:parts], end=False)
    sink = RecordedSink()
    async with raw_server(then_close(answer, reset=reset)) as server, provider_at(server) as (provider, _):
        reply = await provider.chat(asked(sink))
        assert reply.text == "Eight."
        assert (reply.usage is None) == (parts == 5)
        assert (reply.cost_usd is None) == (parts == 5)


async def test_a_server_that_says_done_and_stays(autojump_clock: trio.testing.MockClock) -> None:
    async def staying(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(sse(*STREAM, end=False))
        await wire.closed_by_client()

    async with raw_server(staying) as server, provider_at(server) as (provider, transport):
        began = trio.current_time()
        assert (await provider.chat(asked(RecordedSink()))).text == "Eight."
        assert trio.current_time() - began < 0.1
        assert transport.statistics().idle == 0


async def test_a_server_that_finishes_and_stays(autojump_clock: trio.testing.MockClock) -> None:
    """Without [DONE] it might still send the usage: the silence is waited out, the answer is kept."""

    async def staying(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(sse(*STREAM[:5], end=False))
        await wire.closed_by_client()

    async with raw_server(staying) as server, provider_at(server, timeouts=Timeouts(idle_s=5)) as (provider, _):
        began = trio.current_time()
        assert (await provider.chat(asked(RecordedSink()))).text == "Eight."
        assert trio.current_time() - began == pytest.approx(5)


@pytest.mark.parametrize(
    ("timeouts", "said", "kind", "words"),
    [
        (Timeouts(first_byte_s=5), b"", ProviderError, "did not begin to answer within 5 s"),
        (Timeouts(idle_s=5), sse(*STREAM[:1], end=False), ProviderError, "silent for 5 s"),
        (Timeouts(idle_s=5), sse(*STREAM[:3], end=False), IncompleteStream, "silent for 5 s"),
        (Timeouts(attempt_s=5), sse(*STREAM[:3], end=False), IncompleteStream, "not complete after 5 s"),
    ],
)
async def test_silence(
    autojump_clock: trio.testing.MockClock, timeouts: Timeouts, said: bytes, kind: type[CallError], words: str
) -> None:
    async def silent(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(said)
        await wire.closed_by_client()

    began = trio.current_time()
    error = await failing(silent, sink=RecordedSink(), timeouts=timeouts)
    assert type(error) is kind
    assert words in error.message
    assert trio.current_time() - began == pytest.approx(5)


@pytest.mark.parametrize(
    ("before", "body", "kind"),
    [
        (1, {"error": {"message": "Overloaded", "type": "overloaded_error"}}, RateLimited),
        (1, {"error": {"message": "maximum context length is 10", "code": "context_length_exceeded"}}, ContextExceeded),
        (0, {"error": {"message": "boom"}}, ProviderError),
        (3, {"error": {"message": "Overloaded", "type": "overloaded_error"}}, IncompleteStream),
        (3, {"error": {"message": "boom", "code": 502}}, IncompleteStream),
    ],
)
async def test_an_error_inside_the_stream(before: int, body: dict[str, Any], kind: type[CallError]) -> None:
    sink = RecordedSink()
    error = await failing(answering(sse(*STREAM[:before], event(body), *STREAM[before:])), sink=sink)
    assert type(error) is kind
    assert body["error"]["message"] in error.message
    assert len(sink.pieces) == max(0, before - 1)


async def test_one_event_without_end() -> None:
    async def endless(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(sse(chunked=False) + b"data: ")
        while True:
            await wire.send(b"x" * 1_000_000)

    error = await failing(endless, sink=RecordedSink())
    assert type(error) is ProviderError
    assert "cannot be read: one event" in error.message


async def test_a_slow_reader_holds_up_the_provider() -> None:
    """The sink waits; nothing is piled up here, the provider's own sending comes to a halt."""
    sent = 0

    async def fast(wire: Wire) -> None:
        nonlocal sent
        await wire.read_request()
        await wire.send(sse(chunked=False))
        while True:
            await wire.send(piece("x" * 10_000))
            sent += 10_000

    sink = RecordedSink(room=trio.Event())
    async with raw_server(fast) as server, provider_at(server) as (provider, _), trio.open_nursery() as nursery:
        nursery.start_soon(provider.chat, asked(sink))
        await trio.sleep(0.1)
        halted_at = sent
        await trio.sleep(0.1)
        assert sent == halted_at
        nursery.cancel_scope.cancel()


async def test_an_error_of_the_sink_is_not_the_provider_s() -> None:
    class Broken(RecordedSink):
        async def send(self, **_: Any) -> None:
            raise trio.BrokenResourceError("the host is gone")

    async with raw_server(answering(sse(*STREAM))) as server, provider_at(server) as (provider, _):
        with pytest.raises(trio.BrokenResourceError, match="the host is gone"):
            await provider.chat(asked(Broken()))


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelled_anywhere_nothing_is_left(streamed: bool) -> None:
    async def pieces(wire: Wire) -> None:
        while True:
            await wire.read_request()
            answer = sse(*STREAM) if streamed else http(json.dumps(WHOLE).encode())
            for start in range(0, len(answer), 100):
                await wire.send(answer[start : start + 100])
                await trio.lowlevel.checkpoint()

    async with raw_server(pieces) as server, provider_at(server) as (provider, transport):

        async def check(transport: Transport) -> None:
            assert transport.statistics().in_use == 0
            with trio.move_on_after(2):
                while server.alive != transport.statistics().idle:
                    await trio.sleep(0.001)
            assert server.alive == transport.statistics().idle

        def scenario(_: trio.Nursery) -> Any:
            transport.close()
            return transport, lambda: provider.chat(asked(RecordedSink() if streamed else None))

        await cancel_at_every_checkpoint(scenario, check, at_least=4)


async def test_a_redirection_is_not_followed() -> None:
    error = await failing(answering(http(b"", 307, location="http://169.254.169.254/x?hunter2")), sink=RecordedSink())
    assert type(error) is ProviderError
    assert "redirects (307) to 169.254.169.254" in error.message
    assert not error.retryable


# --- embeddings ------------------------------------------------------------------------------------------------------


def embedding_of(*inputs: str, **request: Any) -> Attempt:
    return an_attempt(a_call(kind="embed", request={"input": list(inputs), **request}), a_target(price=Price(0.02)))


async def test_embeddings() -> None:
    vectors = [struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)]
    data = [{"index": n, "embedding": base64.b64encode(v).decode()} for n, v in reversed(list(enumerate(vectors)))]
    body = json.dumps({"data": data, "model": "e-1", "usage": {"prompt_tokens": 1000, "total_tokens": 1000}}).encode()
    answers = answering(http(gzip.compress(body), content_encoding="gzip"))
    async with raw_server(answers) as server, provider_at(server) as (provider, _):
        attempt = embedding_of("a", "b", dimensions=2)
        reply = await provider.embed(attempt)
        assert reply.vectors == tuple(vectors)
        assert reply.usage == Usage(1000, 0, 0, 0, 0)
        assert reply.cost_usd == pytest.approx(0.00002)
        assert (reply.model, reply.provider_model) == ("small", "e-1")
        assert attempt.notes["status"] == 200
        [request] = server.requests
        assert request.target == "/v1/embeddings"
        assert request.headers["accept-encoding"] == "gzip"
        assert json.loads(request.body) == {
            "model": "small-1", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http(b'{"data": []}'), ProviderError, "0 vectors for 1 inputs"),
        (http(b'[{"index": 0}]'), ProviderError, "without any vectors"),
        (http(b"oops"), ProviderError, "broken or cut off"),
        (http(b'{"data": [{"embedding": "AAAA"}]}'), ProviderError, "cut off"),
        (http(b"{}", 429), RateLimited, "limits requests (429)"),
        (http(b'{"error": "boom"}'), ProviderError, "main failed: boom"),
    ],
)
async def test_embeddings_that_fail(answer: bytes, kind: type[CallError], words: str) -> None:
    async with raw_server(answering(answer)) as server, provider_at(server) as (provider, _):
        with pytest.raises(CallError) as caught:
            await provider.embed(embedding_of("a"))
        assert type(caught.value) is kind
        assert words in caught.value.message


# --- secrets ---------------------------------------------------------------------------------------------------------


async def test_the_key_is_nowhere_but_in_the_header(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with raw_server(answering(http(b"{}", 500))) as server, provider_at(server) as (provider, transport):
            with pytest.raises(ProviderError) as caught:
                await provider.chat(asked())
            shown = repr(provider) + repr(transport) + repr(transport.statistics()) + repr(caught.value.to_wire())
            assert server.requests[0].headers["authorization"].endswith("hunter2-0123456789")
    assert "hunter2" not in shown
    assert "hunter2" not in caplog.text


async def test_options_that_cannot_work_are_refused_when_built() -> None:
    async with open_transport(PoolLimits(), {}) as transport:
        for options in (OpenAiOptions("no address"), OpenAiOptions("https://x.example", headers={"host": "y"})):
            with pytest.raises(ValueError):
                RemoteProvider("main", OpenAiDialect(options), KEY, transport, Timeouts(), lambda: 0.0)
