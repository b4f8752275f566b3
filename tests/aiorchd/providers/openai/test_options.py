"""Addresses and headers of an endpoint."""

from __future__ import annotations

import pytest

from aiorch.version import __version__
from aiorchd.providers.openai.dialect import OpenAiDialect
from aiorchd.providers.openai.options import Addresses, OpenAiOptions
from aiorchd.providers.secret import Secret


def url_of(resource: str = "chat/completions", model: str = "gpt-4o", **options: str) -> str:
    endpoint = Addresses(OpenAiOptions(**options)).of(resource, model)
    return f"{endpoint.origin.scheme}://{endpoint.origin.authority}{endpoint.target.decode()}"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://localhost:11434/v1", "http://localhost:11434/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://gateway.example/x?tenant=a%20b", "https://gateway.example/x/chat/completions?tenant=a%20b"),
        ("https://gateway.example", "https://gateway.example/chat/completions"),
        (
            "https://res.openai.azure.com",
            "https://res.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://res.openai.azure.com/openai/",
            "https://res.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://res.openai.azure.com/openai/deployments/mine",
            "https://res.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://res.openai.azure.com/openai/deployments/mine?api-version=2025-01-01-preview",
            "https://res.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2025-01-01-preview",
        ),
        ("https://res.openai.azure.com/openai/v1", "https://res.openai.azure.com/openai/v1/chat/completions"),
    ],
)
def test_addresses(base_url: str, url: str) -> None:
    assert url_of(base_url=base_url) == url


def test_the_api_version_is_asked_for_where_it_is_configured() -> None:
    assert url_of(base_url="https://a.openai.azure.com/openai/v1", api_version="preview").endswith(
        "/openai/v1/chat/completions?api-version=preview"
    )
    assert "api-version=2025-04-01" in url_of(base_url="https://a.openai.azure.com", api_version="2025-04-01")


def test_deployments_are_part_of_azure_s_addresses() -> None:
    addresses = Addresses(OpenAiOptions("https://a.openai.azure.com"))
    assert b"/my%20model%2Fx/embeddings?" in addresses.of("embeddings", "my model/x").target
    assert addresses.of("embeddings", "b") is addresses.of("embeddings", "b")
    assert addresses.of("embeddings", "b") != addresses.of("embeddings", "c")
    plain = Addresses(OpenAiOptions("https://api.openai.com/v1"))
    assert plain.of("embeddings", "b") is plain.of("embeddings", "c")


def test_http2_goes_with_the_address() -> None:
    assert Addresses(OpenAiOptions("https://x.example/v1", http2=True)).of("x", "m").origin.http2


@pytest.mark.parametrize("base_url", ["", "example.com", "ftp://x/", "https://u:hunter2@x/", "https://x/#hunter2"])
def test_addresses_that_cannot_work(base_url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Addresses(OpenAiOptions(base_url))
    assert "hunter2" not in str(caught.value)


def headers_of(key: Secret | None = None, *, azure: bool = False, **options: object) -> dict[str, str]:
    made = OpenAiOptions("https://r.openai.azure.com" if azure else "https://x.example", **options)  # type: ignore[arg-type]
    return {n.decode(): v.decode() for n, v in OpenAiDialect(made).headers(key)}


def test_headers() -> None:
    key = Secret("sk-1")
    always = {"content-type": "application/json", "user-agent": f"aiorch/{__version__}", "accept-encoding": "identity"}
    assert headers_of() == always
    assert headers_of(key) == {**always, "authorization": "Bearer sk-1"}
    assert headers_of(key, azure=True) == {**always, "api-key": "sk-1"}
    assert headers_of(key, azure=True, authorisation="bearer") == {**always, "authorization": "Bearer sk-1"}
    assert headers_of(key, authorisation="api-key") == {**always, "api-key": "sk-1"}
    assert headers_of(key, authorisation="none") == always
    more = headers_of(key, headers={"OpenAI-Organization": "org-1", "User-Agent": "mine", "Authorization": "Basic x"})
    assert more == {**always, "user-agent": "mine", "openai-organization": "org-1", "authorization": "Basic x"}


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:": "x"},
        {"a\r\nb": "x"},
        {"Host": "evil.example"},
        {"Content-Length": "5"},
        {"x": "hunter2\r\ny: z"},
        {"x": "hunter2é"},
        {"x": "hunter2\0"},
    ],
)
def test_headers_that_cannot_be_sent(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="headers:") as caught:
        headers_of(headers=headers)
    assert "hunter2" not in str(caught.value)


def test_values_of_headers_are_not_shown() -> None:
    assert "hunter2" not in repr(OpenAiOptions("https://x.example", headers={"x": "hunter2"}))
