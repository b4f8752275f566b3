"""How one OpenAI-compatible endpoint is spoken to, and the addresses that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlsplit

from aiorchd.providers.transport import Endpoint

Authorisation: TypeAlias = Literal["auto", "bearer", "api-key", "none"]
MaxTokensField: TypeAlias = Literal["auto", "max_tokens", "max_completion_tokens"]
StructuredOutput: TypeAlias = Literal["json_schema", "json_object", "none"]
EmbeddingEncoding: TypeAlias = Literal["base64", "float", "none"]

_AZURE_DOMAINS: Final = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
)
_AZURE_API_VERSION: Final = "2024-10-21"


@dataclass(frozen=True, slots=True)
class OpenAiOptions:
    """``[providers.NAME]`` of an endpoint with ``dialect = "openai"``.

    ``base_url`` is the address up to and without ``/chat/completions``. ``authorisation`` ``auto`` sends
    ``Authorization: Bearer``, at Azure ``api-key``; nothing where there is no key. ``api_version`` is Azure's query
    argument. ``max_tokens_field`` ``auto`` says ``max_completion_tokens`` to reasoning models by their names (see
    `request.max_tokens_field`) and ``max_tokens`` to others. ``structured_output`` is how an ``output_schema`` is
    passed on: as a schema, as a bare wish for JSON (older servers), or not at all; the answer is validated here in any
    case. ``embedding_encoding`` is asked for, either is understood. ``headers`` are sent with every request.
    """

    base_url: str
    http2: bool = False
    authorisation: Authorisation = "auto"
    api_version: str | None = None
    max_tokens_field: MaxTokensField = "auto"
    structured_output: StructuredOutput = "json_schema"
    embedding_encoding: EmbeddingEncoding = "base64"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Addresses:
    """The endpoints of one provider. Raises `ValueError`, without the address, when ``base_url`` is no good."""

    def __init__(self, options: OpenAiOptions) -> None:
        parts = urlsplit(options.base_url)
        self._http2 = options.http2
        self._root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._query = parts.query
        self._known: dict[tuple[str, str], Endpoint] = {}
        host = Endpoint.parse(options.base_url, http2=options.http2).origin.host
        self.azure = host.endswith(_AZURE_DOMAINS)
        # Azure's older addresses name the deployment in the path; its newer ones (…/openai/v1) are like everybody's.
        self.by_deployment = self.azure and parts.path.rstrip("/") in ("", "/openai")
        """Whether each model has addresses of its own."""
        if self.by_deployment:
            self._root = f"{parts.scheme}://{parts.netloc}/openai/deployments"
        api_version = options.api_version
        if api_version is None and (self.by_deployment or (self.azure and "/deployments/" in parts.path)):
            api_version = _AZURE_API_VERSION
        if api_version is not None and "api-version=" not in self._query:
            self._query += ("&" if self._query else "") + f"api-version={quote(api_version)}"

    def of(self, resource: str, model: str) -> Endpoint:
        """Give the endpoint of a resource such as ``chat/completions``."""
        key = (resource, model if self.by_deployment else "")
        endpoint = self._known.get(key)
        if endpoint is None:
            path = f"{quote(model, safe='')}/{resource}" if self.by_deployment else resource
            url = f"{self._root}/{path}" + (f"?{self._query}" if self._query else "")
            endpoint = self._known[key] = Endpoint.parse(url, http2=self._http2)
        return endpoint

    def listing(self) -> Endpoint:
        """Give the endpoint of the list of models, which at Azure is not below a deployment."""
        root = self._root.removesuffix("/deployments") if self.by_deployment else self._root
        return Endpoint.parse(f"{root}/models" + (f"?{self._query}" if self._query else ""), http2=self._http2)
