"""Anthropic's and Gemini's dialects over real HTTP: golden answers, refusals, faults at every place of a stream."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from golden import cases_of, sse
from harness import RecordedSink, a_call, a_target, an_attempt
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
    UnknownModel,
)
from aiorchd.calls.call import Attempt
from aiorchd.calls.outcome import Verdict, judge
from aiorchd.calls.ports import ProviderCheck
from aiorchd.calls.rate_limits import QuotaTold
from aiorchd.calls.reply import Usage
from aiorchd.calls.target import Price
from aiorchd.providers.anthropic import AnthropicDialect, AnthropicOptions
from aiorchd.providers.dialect import Dialect
from aiorchd.providers.gemini import GeminiDialect, GeminiOptions
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport import PoolLimits, Timeouts, open_transport

HERE = Path(__file__).parent
PRICE = Price(1.0, 2.0, 0.1, 1.25, 2.0)
KEY = Secret("k-hunter2-0123456789")


@dataclass(frozen=True)
class Spoken:
    """What differs between the two in these tests."""

    name: str
    key_header: str
    named: bool
    path: str
    streamed_path: str

    def dialect(self, base_url: str, **options: Any) -> Dialect:
        if self.name == "anthropic":
            return AnthropicDialect(AnthropicOptions(base_url, **options))
        return GeminiDialect(GeminiOptions(base_url, **options))

    def golden(self, name: str) -> Any:
        return json.loads((HERE / self.name / "golden" / f"{name}.json").read_text(encoding="utf-8"))


ANTHROPIC = Spoken("anthropic", "x-api-key", True, "/v1/messages", "/v1/messages")
GEMINI = Spoken(
    "gemini",
    "x-goog-api-key",
    False,
    "/v1beta/models/small-1:generateContent",
    "/v1beta/models/small-1:streamGenerateContent?alt=sse",
)
BOTH = pytest.mark.parametrize("spoken", [ANTHROPIC, GEMINI], ids=["anthropic", "gemini"])
ALL = [
    pytest.param(spoken, *case.values, id=f"{spoken.name} {case.id}")
    for spoken in (ANTHROPIC, GEMINI)
    for case in cases_of(HERE / spoken.name / "golden")
]


def streamed(body: bytes, *, whole: bool = True) -> bytes:
    """A stream's bytes as an HTTP answer; not ``whole``: the connection ends without the last chunk."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if whole else b"")


@asynccontextmanager
async def provider_at(server: RawServer, spoken: Spoken, **options: Any) -> AsyncIterator[RemoteProvider]:
    async with open_transport(PoolLimits(), {}) as transport:
        dialect = spoken.dialect(server.url("").rstrip("/"), **options)
        yield RemoteProvider("main", dialect, KEY, transport, Timeouts(), lambda: 1_762_855_200.0)
        assert (transport.statistics().in_use, transport.statistics().waiting) == (0, 0)


def asked(sink: RecordedSink | None = None, **request: Any) -> Attempt:
    messages = [{"role": "user", "content": "How many moons?"}]
    return an_attempt(a_call(request={"messages": messages, **request}, sink=sink), a_target(price=PRICE))


async def failing(
    spoken: Spoken, handler: Handler, *, sink: RecordedSink | None = None, attempt: Attempt | None = None
) -> CallError:
    async with raw_server(handler) as server, provider_at(server, spoken) as provider:
        with pytest.raises(CallError) as caught:
            await provider.chat(attempt or asked(sink))
    assert "hunter2" not in json.dumps(caught.value.to_wire())
    return caught.value


# --- golden answers over HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spoken", "case"), ALL)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_golden_answers(spoken: Spoken, case: dict[str, Any], stream: bool) -> None:
    expected = case["expected"]
    body = streamed(sse(case["stream"], named=spoken.named)) if stream else http(json.dumps(case["response"]).encode())
    sink = RecordedSink() if stream else None
    by_tool = {"output_schema": True} if "aiorch_answer" in json.dumps(case["response"]) else {}
    async with raw_server(answering(body)) as server, provider_at(server, spoken) as provider:
        attempt = asked(sink, **by_tool)
        if expected["finish_reason"] == "content_filter" and not expected["text"]:
            with pytest.raises(ContentFiltered, match="withheld the answer by its content filter"):
                await provider.chat(attempt)
        else:
            reply = await provider.chat(attempt)
            assert (reply.text, reply.finish_reason) == (expected["text"], expected["finish_reason"])
            assert [call["id"] for call in reply.tool_calls] == [call["id"] for call in expected["tool_calls"]]
            assert reply.usage == (None if expected["usage"] is None else Usage(**expected["usage"]))
            assert (reply.extra or {}) == expected["extra"]
            assert (reply.cost_usd is None) == (reply.usage is None)
            if sink is not None:
                assert sink.text == reply.text
                assert ("first_token_s" in attempt.notes) == bool(reply.text or reply.tool_calls)
        [request] = server.requests
        assert request.line == f"POST {spoken.streamed_path if stream else spoken.path} HTTP/1.1"
        assert request.headers[spoken.key_header] == KEY.reveal()
        assert "authorization" not in request.headers
        assert request.headers.get("anthropic-version") == ("2023-06-01" if spoken is ANTHROPIC else None)


async def test_headers_of_a_call() -> None:
    answer = http(
        json.dumps(ANTHROPIC.golden("plain")["response"]).encode(),
        request_id="req_011CS",
        anthropic_ratelimit_requests_limit="50",
        anthropic_ratelimit_requests_remaining="49",
    )
    options = {"headers": {"anthropic-beta": "x-2025"}, "authorisation": "bearer", "api_version": "2024-01-01"}
    async with raw_server(answering(answer)) as server, provider_at(server, ANTHROPIC, **options) as provider:
        attempt = asked(seed=7, extra={"betas": ["y-2025"]})
        reply = await provider.chat(attempt)
        assert reply.extra is not None
        assert reply.extra["not_sent"] == ["seed"]
        assert attempt.call.journal.notes[-1][1:] == ("provider", "main has no field for seed: left out")
        assert attempt.notes["provider_request_id"] == "req_011CS"
        assert attempt.notes["limits_told"].quotas == (QuotaTold("requests", 50, 49),)
        await provider.chat(asked())
        first, second = server.requests
        assert first.headers["authorization"] == f"Bearer {KEY.reveal()}"
        assert first.headers["anthropic-version"] == "2024-01-01"
        assert (first.headers["anthropic-beta"], second.headers["anthropic-beta"]) == ("x-2025,y-2025", "x-2025")
        assert "x-api-key" not in first.headers


# --- refusals --------------------------------------------------------------------------------------------------------


def anthropic_error(kind: str, message: str = "No.") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}).encode()


def google_error(code: int, status: str, message: str = "No.", **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "status": status, **more}}).encode()


TOO_LONG = "The input token count (1050000) exceeds the maximum number of tokens allowed (1048576)."
BAD_KEY = "API key not valid. Please pass a valid API key."
LOW = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
REFUSALS = [
    (ANTHROPIC, 400, anthropic_error("invalid_request_error", "max_tokens: 1 > 0"), InvalidRequest, Verdict.FAULT),
    (ANTHROPIC, 400, anthropic_error("invalid_request_error", "prompt is too long: 209000 tokens > 200000 maximum"), ContextExceeded, Verdict.FAULT),
    (ANTHROPIC, 400, anthropic_error("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2"), ContextExceeded, Verdict.FAULT),
    (ANTHROPIC, 400, anthropic_error("invalid_request_error", LOW), RateLimited, Verdict.THROTTLED),
    (ANTHROPIC, 401, anthropic_error("authentication_error", "invalid x-api-key k-hunter2-0123456789"), ProviderAuth, Verdict.FAULT),
    (ANTHROPIC, 402, anthropic_error("billing_error"), RateLimited, Verdict.THROTTLED),
    (ANTHROPIC, 403, anthropic_error("permission_error"), ProviderAuth, Verdict.FAULT),
    (ANTHROPIC, 404, anthropic_error("not_found_error", "model: claude-9"), UnknownModel, Verdict.FAULT),
    (ANTHROPIC, 404, anthropic_error("not_found_error", "Not found"), ProviderError, Verdict.FAULT),
    (ANTHROPIC, 413, anthropic_error("request_too_large"), ContextExceeded, Verdict.FAULT),
    (ANTHROPIC, 429, anthropic_error("rate_limit_error"), RateLimited, Verdict.THROTTLED),
    (ANTHROPIC, 500, anthropic_error("api_error"), ProviderError, Verdict.RETRYABLE),
    (ANTHROPIC, 504, anthropic_error("timeout_error"), ProviderError, Verdict.RETRYABLE),
    (ANTHROPIC, 529, anthropic_error("overloaded_error"), RateLimited, Verdict.THROTTLED),
    (ANTHROPIC, 529, b"", RateLimited, Verdict.THROTTLED),
    (GEMINI, 400, google_error(400, "INVALID_ARGUMENT"), InvalidRequest, Verdict.FAULT),
    (GEMINI, 400, google_error(400, "INVALID_ARGUMENT", TOO_LONG), ContextExceeded, Verdict.FAULT),
    (GEMINI, 400, google_error(400, "INVALID_ARGUMENT", BAD_KEY), ProviderAuth, Verdict.FAULT),
    (GEMINI, 400, google_error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), ProviderAuth, Verdict.FAULT),
    (GEMINI, 401, google_error(401, "UNAUTHENTICATED"), ProviderAuth, Verdict.FAULT),
    (GEMINI, 403, google_error(403, "PERMISSION_DENIED"), ProviderAuth, Verdict.FAULT),
    (GEMINI, 404, google_error(404, "NOT_FOUND", "models/x is not found for API version v1beta"), UnknownModel, Verdict.FAULT),
    (GEMINI, 429, google_error(429, "RESOURCE_EXHAUSTED"), RateLimited, Verdict.THROTTLED),
    (GEMINI, 429, b"[" + google_error(429, "RESOURCE_EXHAUSTED") + b"]", RateLimited, Verdict.THROTTLED),
    (GEMINI, 500, google_error(500, "INTERNAL"), ProviderError, Verdict.RETRYABLE),
    (GEMINI, 503, google_error(503, "UNAVAILABLE"), ProviderError, Verdict.RETRYABLE),
    (GEMINI, 503, google_error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), RateLimited, Verdict.THROTTLED),
    (GEMINI, 504, google_error(504, "DEADLINE_EXCEEDED"), ProviderError, Verdict.RETRYABLE),
]  # fmt: skip


@pytest.mark.parametrize(("spoken", "status", "body", "kind", "verdict"), REFUSALS)
async def test_refusals(spoken: Spoken, status: int, body: bytes, kind: type[CallError], verdict: Verdict) -> None:
    whole = http(body, status, request_id="req_1")
    for sink in (None, RecordedSink()):
        error = await failing(spoken, answering(whole), sink=sink)
        assert type(error) is kind
        assert judge(error).verdict is verdict
        assert error.details["status"] == status
        assert error.details["provider_request_id"] == "req_1"


@pytest.mark.parametrize(("spoken", "status", "body", "kind", "verdict"), REFUSALS)
async def test_the_same_refusals_inside_a_200(
    spoken: Spoken, status: int, body: bytes, kind: type[CallError], verdict: Verdict
) -> None:
    if not body:
        return
    event = (b"event: error\n" if spoken.named else b"") + b"data: " + body + b"\n\n"
    for answer in (http(body), streamed(event)):
        error = await failing(spoken, answering(answer), sink=RecordedSink())
        # Without a status of HTTP's own, Anthropic's type is all there is to go by.
        assert type(error) is kind
        assert judge(error).verdict is verdict


async def test_what_google_says_of_quotas() -> None:
    def violation(name: str, value: str) -> dict[str, Any]:
        return {"quotaMetric": "m", "quotaId": name, "quotaValue": value}

    def body(*violations: Any) -> bytes:
        details = [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": list(violations)},
            {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ]
        return google_error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", details=details)

    attempt = asked()
    minute = violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "15")
    tokens = violation("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000")
    error = await failing(GEMINI, answering(http(body(minute, tokens, {}, "x"), 429)), attempt=attempt)
    assert (type(error), error.retry_after_s, error.retryable) == (RateLimited, 34.5, True)
    assert attempt.notes["limits_told"].quotas == (
        QuotaTold("requests", 15, 0, 34.5, 60),
        QuotaTold("input_tokens", 250_000, 0, 34.5, 60),
    )
    attempt = asked()
    day = violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "-1")
    error = await failing(GEMINI, answering(http(body(day), 429)), attempt=attempt)
    assert (type(error), error.retryable) == (RateLimited, False)
    assert "the day's quota is used up" in error.message
    assert attempt.notes["limits_told"].quotas == (QuotaTold("requests", None, 0, None, 86_400),)


async def test_why_an_answer_was_withheld_is_told() -> None:
    refusal = {
        "content": [],
        "stop_reason": "refusal",
        "stop_details": {"category": "bio", "explanation": "It could harm."},
    }
    error = await failing(ANTHROPIC, answering(http(json.dumps(refusal).encode())))
    assert "(It could harm.)" in error.message
    blocked = {"promptFeedback": {"blockReason": "BLOCKLIST"}}
    error = await failing(GEMINI, answering(http(json.dumps(blocked).encode())))
    assert error.details["provider_message"] == "BLOCKLIST"


# --- streams that break ----------------------------------------------------------------------------------------------


def then_close(answer: bytes) -> Handler:
    async def handler(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(answer)

    return handler


@BOTH
async def test_a_stream_that_is_cut_at_any_byte_is_never_a_whole_answer(spoken: Spoken) -> None:
    case = spoken.golden("plain")
    body = sse(case["stream"], named=spoken.named)
    # The answer is whole with the line that holds its stop reason.
    mark = b"end_turn" if spoken is ANTHROPIC else b'"STOP"'
    end = body.index(b"\n", body.index(mark))
    for at in [*range(0, end, 23), end - 1]:
        for whole in (False, True):
            sink = RecordedSink()
            error = await failing(spoken, then_close(streamed(body[:at], whole=whole)), sink=sink)
            assert type(error) is (IncompleteStream if sink.started else ProviderError)
            assert error.retryable
    for at, whole in ((end, True), (end + 2, False)):
        async with (
            raw_server(then_close(streamed(body[:at], whole=whole))) as server,
            provider_at(server, spoken) as provider,
        ):
            reply = await provider.chat(asked(sink := RecordedSink()))
            assert reply.text == sink.text == case["expected"]["text"]


@BOTH
async def test_an_error_after_the_first_content(spoken: Spoken) -> None:
    case = spoken.golden("plain")
    beginning = case["stream"][:4] if spoken is ANTHROPIC else case["stream"][:1]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded", "code": 503}}
    sink = RecordedSink()
    body = sse([*beginning, error], named=spoken.named)
    caught = await failing(spoken, answering(streamed(body)), sink=sink)
    assert type(caught) is IncompleteStream
    assert sink.started
    assert "Overloaded" in caught.message


@BOTH
@pytest.mark.parametrize("bad", [b"{oops", b"[]", b"7", b'"text"', b"\xff\xfe", b"[" * 10_000])
async def test_malformed_lines_are_survived(spoken: Spoken, bad: bytes) -> None:
    case = spoken.golden("plain")
    events = [sse([event], named=spoken.named) for event in case["stream"]]
    body = b"".join([*events[:2], b"data: " + bad + b"\n\n", *events[2:]])
    async with raw_server(answering(streamed(body))) as server, provider_at(server, spoken) as provider:
        attempt = asked(RecordedSink())
        reply = await provider.chat(attempt)
        assert reply.text == case["expected"]["text"]
        assert attempt.notes["malformed_events"] == 1


@BOTH
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(b""), "with nothing"),
        (http(b"<html>hello</html>", content_type="text/html"), "text/html instead of"),
        (http(b"oops"), "broken or cut off"),
        (http(b"[]"), "not an object"),
        (http(b"{}"), "without any"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_nonsense_with_a_200(spoken: Spoken, answer: bytes, words: str, stream: bool) -> None:
    error = await failing(spoken, answering(answer), sink=RecordedSink() if stream else None)
    assert type(error) is ProviderError
    assert words in error.message
    assert error.retryable


@BOTH
async def test_a_server_that_does_not_stream(spoken: Spoken) -> None:
    case = spoken.golden("plain")
    whole = http(json.dumps(case["response"]).encode())
    async with raw_server(answering(whole)) as server, provider_at(server, spoken) as provider:
        reply = await provider.chat(asked(sink := RecordedSink()))
        assert reply.text == sink.text == case["expected"]["text"]


@BOTH
async def test_a_caller_who_leaves_closes_the_connection(spoken: Spoken) -> None:
    case = spoken.golden("plain")
    beginning = streamed(
        sse(case["stream"][:4] if spoken is ANTHROPIC else case["stream"][:1], named=spoken.named), whole=False
    )
    closed = trio.Event()

    async def handler(wire: Wire) -> None:
        await wire.read_request()
        await wire.send(beginning)
        await wire.closed_by_client()
        closed.set()

    async with raw_server(handler) as server, provider_at(server, spoken) as provider:
        sink = RecordedSink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(provider.chat, asked(sink))
            with trio.fail_after(5):
                while not sink.started:
                    await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await closed.wait()


# --- vectors and lists -----------------------------------------------------------------------------------------------


def wants_vectors() -> Attempt:
    return an_attempt(a_call(kind="embed", request={"input": ["a", "b"]}), a_target(price=Price(0.1, 0.1)))


async def test_vectors() -> None:
    payload = {"embeddings": [{"values": [1.0, 2.0]}, {"values": [3, 4]}], "usageMetadata": {"promptTokenCount": 8}}
    async with (
        raw_server(answering(http(json.dumps(payload).encode()))) as server,
        provider_at(server, GEMINI) as provider,
    ):
        reply = await provider.embed(wants_vectors())
        assert reply.vectors == (struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4))
        assert reply.usage == Usage(8, 0, 0, 0, 0)
        assert server.requests[0].target == "/v1beta/models/small-1:batchEmbedContents"
    del payload["usageMetadata"]
    async with (
        raw_server(answering(http(json.dumps(payload).encode()))) as server,
        provider_at(server, GEMINI) as provider,
    ):
        reply = await provider.embed(wants_vectors())
        assert (reply.usage, reply.cost_usd) == (None, None)
    async with raw_server(answering(http())) as server, provider_at(server, ANTHROPIC) as provider:
        with pytest.raises(UnknownModel, match="has no embeddings"):
            await provider.embed(wants_vectors())
        assert not server.requests


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ([], "without any vectors"),
        ({"embeddings": [{"values": [1]}]}, "1 vectors for 2 inputs"),
        ({"embeddings": [{"values": [1]}, {}]}, "empty vector"),
        ({"embeddings": [{"values": [1]}, {"values": ["x"]}]}, "does not hold numbers"),
        ({"embeddings": [{"values": [1]}, {"values": [1, 2]}]}, "of 2 dimensions where 1 were due"),
    ],
)
async def test_vectors_that_make_no_sense(payload: Any, words: str) -> None:
    async with (
        raw_server(answering(http(json.dumps(payload).encode()))) as server,
        provider_at(server, GEMINI) as provider,
    ):
        with pytest.raises(ProviderError, match=words):
            await provider.embed(wants_vectors())


LISTS = {
    "anthropic": {"data": [{"type": "model", "id": "claude-sonnet-4-5-20250929"}], "has_more": False},
    "gemini": {"models": [{"name": "models/claude-sonnet-4-5-20250929"}]},
}


@BOTH
async def test_the_list_of_models(spoken: Spoken) -> None:
    body = json.dumps(LISTS[spoken.name]).encode()

    async def handler(wire: Wire) -> None:
        while True:
            request = await wire.read_request()
            await wire.send(http(body) if spoken.key_header in request.headers else http(b"{}", 401))

    async with raw_server(handler) as server, provider_at(server, spoken) as provider:
        found = await provider.check(["claude-sonnet-4-5-20250929", "claude-9"], 5)
        assert (found.result, found.listed, found.missing) == ("ok", 1, ("claude-9",))
        assert "hunter2" not in str(found)
        where = "/v1/models?limit=1000" if spoken is ANTHROPIC else "/v1beta/models?pageSize=1000"
        assert server.requests[0].line == f"GET {where} HTTP/1.1"


@BOTH
async def test_a_key_that_is_refused(spoken: Spoken) -> None:
    body = anthropic_error("authentication_error", "invalid x-api-key") if spoken is ANTHROPIC else google_error(400, "INVALID_ARGUMENT", BAD_KEY)  # fmt: skip
    answer = http(body, 401 if spoken is ANTHROPIC else 400)
    async with raw_server(answering(answer)) as server, provider_at(server, spoken) as provider:
        found: ProviderCheck = await provider.check([], 5)
        assert found.result == "refused"
