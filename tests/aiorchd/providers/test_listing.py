"""Whether an endpoint is there and takes the key: every way it can answer, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from wire import RawServer, Request, Wire, raw_server

from aiorchd.calls.ports import ProviderCheck
from aiorchd.providers.openai import OpenAiDialect, OpenAiOptions
from aiorchd.providers.openai.options import Addresses
from aiorchd.providers.remote import RemoteProvider
from aiorchd.providers.secret import MissingKey, Secret
from aiorchd.providers.simulated import SimulatedProvider
from aiorchd.providers.transport import PoolLimits, Timeouts, open_transport

KEY = Secret("sk-hunter2-0123456789")
LIST = {"object": "list", "data": [{"id": "gpt-4o-mini"}, {"id": "models/gemini-2.5-flash"}, {"id": "llama3:latest"}]}


def http(status: int, payload: Any, **headers: str) -> bytes:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def endpoint(answer: Callable[[Request], bytes]) -> AsyncIterator[RawServer]:
    async def handle(wire: Wire) -> None:
        while True:
            await wire.send(answer(await wire.read_request()))

    async with raw_server(handle) as server:
        yield server


async def look(
    url: str, key: Secret | MissingKey | None = KEY, models: tuple[str, ...] = (), timeout_s: float = 5.0
) -> ProviderCheck:
    async with open_transport(PoolLimits(), {}) as transport:
        provider = RemoteProvider("main", OpenAiDialect(OpenAiOptions(url)), key, transport, Timeouts(), lambda: 0.0)
        found = await provider.check(models, timeout_s)
        assert transport.statistics().in_use == 0
    assert "hunter2" not in str(found)
    return found


def wants_the_key(payload: Any = LIST, **headers: str) -> Callable[[Request], bytes]:
    def answer(request: Request) -> bytes:
        if request.headers.get("authorization") == f"Bearer {KEY.reveal()}":
            return http(200, payload, **headers)
        return http(401, {"error": {"message": f"Incorrect API key provided: {request.headers.get('authorization')}"}})

    return answer


async def test_it_answers_and_takes_the_key() -> None:
    async with endpoint(wants_the_key(date="Wed, 21 Oct 2026 07:28:00 GMT")) as server:
        found = await look(server.url("/v1"))
    assert (found.result, found.sentence) == ("ok", "main answers and takes the key")
    assert (found.status, found.listed, found.missing) == (200, 3, ())
    assert found.clock_s == 1_792_567_680.0
    assert found.took_s is not None
    assert 0 < found.took_s < 5
    assert [request.line for request in server.requests] == ["GET /v1/models HTTP/1.1"] * 2
    assert "authorization" not in server.requests[1].headers


async def test_models_that_its_list_does_not_have() -> None:
    async with endpoint(wants_the_key()) as server:
        found = await look(server.url("/v1"), models=("gpt-4o-mini", "gpt-5", "gemini-2.5-flash", "llama3", "gpt-5"))
    assert (found.result, found.missing) == ("ok", ("gpt-5",))


@pytest.mark.parametrize("payload", [{"data": []}, {"hello": 1}, [], [{"name": "x"}]])
async def test_a_list_that_says_nothing_misses_nothing(payload: Any) -> None:
    async with endpoint(wants_the_key(payload)) as server:
        found = await look(server.url("/v1"), models=("gpt-5",))
    assert (found.result, found.missing) == ("ok", ())


async def test_a_list_for_everybody_says_nothing_about_the_key() -> None:
    async with endpoint(lambda request: http(200, LIST)) as server:
        found = await look(server.url("/v1"), models=("gpt-5",))
        assert (found.result, found.missing) == ("unclear", ("gpt-5",))
        assert found.sentence.endswith("so whether it takes the key was not seen")
        assert (await look(server.url("/v1"), None)).sentence == "main answers; the configuration names no key"


async def test_a_refused_key() -> None:
    async with endpoint(wants_the_key()) as server:
        wrong = Secret("sk-hunter2-wrong-wrong")
        found = await look(server.url("/v1"), wrong)
        assert found.result == "refused"
        assert found.sentence.startswith("main refused the key (401): Incorrect API key provided")
        found = await look(server.url("/v1"), None)
    assert (found.result, found.sentence) == ("refused", "main wants a key (401) and the configuration names none")


async def test_no_key_sends_nothing() -> None:
    async with endpoint(wants_the_key()) as server:
        found = await look(server.url("/v1"), MissingKey("the environment variable K is not set"))
    assert (found.result, found.sentence) == ("no_key", "main has no key: the environment variable K is not set")
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        (http(404, {"detail": "Not Found"}), "unclear", "no such list, or base_url is wrong"),
        (http(405, b""), "unclear", "no such list"),
        (http(429, {"error": {"message": "slow down"}}), "unclear", "limits requests (429): slow down"),
        (http(429, {"error": {"code": "insufficient_quota"}}), "failed", "credit or quota is used up"),
        (http(503, {"error": "loading"}), "failed", "main failed (503): loading"),
        (http(200, {"error": {"message": "no", "code": "invalid_api_key"}}), "refused", "main refused the key"),
        (http(200, b"<html>hello", content_type="text/html"), "failed", "answers with text/html instead of its list"),
        (http(200, b"{"), "failed", "something that cannot be read instead of its list"),
        (http(200, b"{", content_type=""), "failed", "something that cannot be read"),
        (http(302, b"", location="https://elsewhere.example/"), "failed", "redirects (302) to elsewhere.example"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "unreachable", ""),
    ],
)
async def test_other_answers(answer: bytes, result: str, words: str) -> None:
    async with endpoint(lambda request: answer) as server:
        found = await look(server.url("/v1"))
    assert found.result == result
    assert words in found.sentence
    assert found.clock_s is None


async def test_nothing_listens() -> None:
    async with endpoint(wants_the_key()) as server:
        url = server.url("/v1")
    found = await look(url)
    assert found.result == "unreachable"
    assert "nothing listens at 127.0.0.1" in found.sentence


async def test_it_does_not_answer_in_time() -> None:
    async def silent(wire: Wire) -> None:
        await wire.read_request()
        await wire.closed_by_client()

    async with raw_server(silent) as server:
        found = await look(server.url("/v1"), timeout_s=0.1)
    assert found.result == "unreachable"
    assert "did not begin to answer within 0.1 s" in found.sentence


async def test_a_broken_date_is_no_date() -> None:
    async with endpoint(wants_the_key(date="yesterday")) as server:
        assert (await look(server.url("/v1"))).clock_s is None


@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("https://api.openai.com/v1", b"/v1/models"),
        ("https://x.openai.azure.com", b"/openai/models?api-version=2024-10-21"),
        ("https://x.openai.azure.com/openai", b"/openai/models?api-version=2024-10-21"),
        ("https://x.openai.azure.com/openai/v1", b"/openai/v1/models"),
    ],
)
def test_where_the_list_is(base_url: str, target: bytes) -> None:
    assert Addresses(OpenAiOptions(base_url)).listing().target == target


async def test_a_simulated_one_has_nothing_to_ask() -> None:
    found = await SimulatedProvider("sim").check(("a",), 1.0)
    assert (found.result, found.missing) == ("simulated", ())
