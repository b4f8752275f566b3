"""From the file to the wire: what each key of a provider makes of a request, and that a new file makes another of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import a_call, a_target, an_attempt
from wire import RawServer, Request, Wire, http, raw_server

from aiorch.errors import ProviderError
from aiorchd.app.supply import Supply, open_supply
from aiorchd.config.load import load_text
from aiorchd.config.schema import Pool
from aiorchd.runtime.host_models import HostModels

ENVIRON = {"KEY": "k-0123456789"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@asynccontextmanager
async def surroundings() -> AsyncIterator[tuple[RawServer, Supply]]:
    async def refusing(wire: Wire) -> None:
        while True:
            await wire.read_request()
            await wire.send(http(b"{}", 500))

    async with raw_server(refusing) as server, open_supply(ENVIRON, Pool(), lambda: 0.0, HostModels()) as supply:
        yield server, supply


async def sent(
    server: RawServer,
    supply: Supply,
    keys: str,
    *,
    kind: str = "chat",
    path: str = "",
    model: str = "m",
    recurring: bool = False,
) -> Request:
    text = f'[providers.p]\nbase_url = "{server.url(path)}"\napi_key_env = "KEY"\n{keys}\n[[models]]\nname = "m"\nprovider = "p"\n'
    plan = await supply.plan(load_text(text.encode(), Path("/f"), {}))
    assert plan.addresses["p"].endswith(server.url(path))
    request: dict[str, Any] = {
        "messages": [{"role": "user", "content": "JSON"}],
        "output_schema": SCHEMA,
        "max_tokens": 9,
    }
    if kind == "embed":
        request = {"input": ["a"]}
    if recurring:
        request["messages"].insert(0, {"role": "system", "content": "Be brief."})
    attempt = an_attempt(a_call(kind=kind, request=request, recurring=recurring), a_target(provider_model=model))
    with pytest.raises(ProviderError):
        await (plan.providers["p"].embed if kind == "embed" else plan.providers["p"].chat)(attempt)
    return server.requests[-1]


@pytest.mark.parametrize(
    ("keys", "header", "value"),
    [
        ("", "authorization", "Bearer k-0123456789"),
        ('authorisation = "api-key"', "api-key", "k-0123456789"),
        ('dialect = "anthropic"', "x-api-key", "k-0123456789"),
        ('dialect = "anthropic"\nauthorisation = "bearer"', "authorization", "Bearer k-0123456789"),
        ('dialect = "anthropic"\napi_version = "2030-01-01"', "anthropic-version", "2030-01-01"),
        ('dialect = "gemini"', "x-goog-api-key", "k-0123456789"),
        ('dialect = "gemini"\nauthorisation = "bearer"', "authorization", "Bearer k-0123456789"),
    ],
)
async def test_headers(keys: str, header: str, value: str) -> None:
    async with surroundings() as (server, supply):
        assert (await sent(server, supply, keys)).headers[header] == value
        told = await sent(server, supply, 'authorisation = "none"')
        assert "k-0123456789" not in told.headers.values()


async def test_each_dialect_has_its_own_way_of_asking_for_a_schema() -> None:
    async with surroundings() as (server, supply):

        async def body(keys: str) -> dict[str, Any]:
            made: dict[str, Any] = json.loads((await sent(server, supply, keys)).body)
            return made

        assert (await body(""))["response_format"]["type"] == "json_schema"
        assert (await body('structured_output = "json_object"'))["response_format"] == {"type": "json_object"}
        assert "response_format" not in await body('structured_output = "none"')
        anthropic = 'dialect = "anthropic"\n'
        assert (await body(anthropic))["output_config"]["format"]["schema"] == SCHEMA
        assert (await body(anthropic + 'structured_output = "tool"'))["tools"][0]["input_schema"] == SCHEMA
        assert set(await body(anthropic + 'structured_output = "none"')) == {"model", "messages", "max_tokens"}
        gemini = 'dialect = "gemini"\n'
        assert (await body(gemini))["generationConfig"]["responseJsonSchema"] == SCHEMA
        bare = await body(gemini + 'structured_output = "json_object"')
        assert bare["generationConfig"] == {"maxOutputTokens": 9, "responseMimeType": "application/json"}


async def test_anthropic_is_asked_to_keep_what_recurs_unless_it_is_not_wanted() -> None:
    async with surroundings() as (server, supply):
        for keys, marked in (("", True), ('prompt_cache = "none"\n', False)):
            body = (await sent(server, supply, f'dialect = "anthropic"\n{keys}', recurring=True)).body
            assert (b"cache_control" in body) is marked


async def test_what_the_bound_is_called_and_how_vectors_are_asked_for() -> None:
    async with surroundings() as (server, supply):
        assert json.loads((await sent(server, supply, "")).body)["max_tokens"] == 9
        other = 'max_tokens_field = "max_completion_tokens"'
        assert json.loads((await sent(server, supply, other)).body)["max_completion_tokens"] == 9
        for keys, said in (
            ("", "base64"),
            ('embedding_encoding = "float"', "float"),
            ('embedding_encoding = "none"', None),
        ):
            assert json.loads((await sent(server, supply, keys, kind="embed")).body).get("encoding_format") == said


async def test_where_each_is_asked() -> None:
    async with surroundings() as (server, supply):
        version = 'api_version = "2024-06-01"'
        assert (await sent(server, supply, version, path="/v1")).target == "/v1/chat/completions?api-version=2024-06-01"
        assert (await sent(server, supply, 'dialect = "anthropic"')).target == "/v1/messages"
        assert (
            await sent(server, supply, 'dialect = "gemini"', model="g")
        ).target == "/v1beta/models/g:generateContent"
