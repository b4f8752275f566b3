"""How one endpoint that speaks Anthropic's dialect is spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from aiorchd.providers.transport import Endpoint

Authorisation: TypeAlias = Literal["auto", "bearer", "api-key", "none"]
StructuredOutput: TypeAlias = Literal["json_schema", "tool", "none"]
PromptCache: TypeAlias = Literal["auto", "none"]

BASE_URL: Final = "https://api.anthropic.com/v1"
VERSION: Final = "2023-06-01"
"""The version that everything here is written for; the only one there has been since."""


@dataclass(frozen=True, slots=True)
class AnthropicOptions:
    """``[providers.NAME]`` of an endpoint with ``dialect = "anthropic"``.

    ``base_url`` is the address up to and with ``/v1``; without that it is added, since Anthropic's own tools want the
    address without. ``authorisation`` ``auto`` and ``api-key`` send ``x-api-key``, ``bearer`` ``Authorization: Bearer``.
    ``api_version`` is the ``anthropic-version`` header. ``structured_output`` is how an ``output_schema`` is passed on:
    ``json_schema`` as ``output_config.format`` where Anthropic can express it and otherwise as ``tool``, a tool that must
    be called with the answer; the answer is validated here in any case. ``prompt_cache`` ``auto`` marks beginnings that recur
    for keeping, where the caller marks nothing himself. ``headers`` are sent with every request.
    """

    base_url: str = BASE_URL
    http2: bool = False
    authorisation: Authorisation = "auto"
    api_version: str | None = None
    structured_output: StructuredOutput = "json_schema"
    prompt_cache: PromptCache = "auto"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def endpoint_of(options: AnthropicOptions, resource: str) -> Endpoint:
    """Give the endpoint of a resource. Raises `ValueError`, without the address, when ``base_url`` is no good."""
    Endpoint.parse(options.base_url, http2=options.http2)
    parts = urlsplit(options.base_url)
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return Endpoint.parse(f"{parts.scheme}://{parts.netloc}{path}/{resource}", http2=options.http2)
