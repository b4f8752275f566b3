"""The OpenAI dialect at one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchd.calls.target import Target
from aiorchd.providers.answer import ChatAnswer
from aiorchd.providers.dialect import Embedded, ModelList, WireRequest
from aiorchd.providers.headers import fixed_headers
from aiorchd.providers.openai.answer import read_chat
from aiorchd.providers.openai.embeddings import read_vectors
from aiorchd.providers.openai.options import Addresses, OpenAiOptions
from aiorchd.providers.openai.request import encode_chat, encode_embeddings
from aiorchd.providers.openai.stream import ChatAssembler
from aiorchd.providers.openai.usage import read_usage
from aiorchd.providers.openai.usual_answer import read_usual
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport.channel import Headers


class OpenAiDialect:
    """Satisfies `aiorchd.providers.dialect.Dialect`. Raises `ValueError` for an address that is none."""

    def __init__(self, options: OpenAiOptions) -> None:
        self._options = options
        self._addresses = Addresses(options)
        self._chat = None if self._addresses.by_deployment else self._addresses.of("chat/completions", "")

    def headers(self, key: Secret | None) -> Headers:
        """Give the headers of every request (see `Dialect`)."""
        style = self._options.authorisation
        own: dict[str, str] = {}
        if style == "auto":
            style = "api-key" if self._addresses.azure else "bearer"
        if key is not None and style == "bearer":
            own["authorization"] = f"Bearer {key.reveal()}"
        elif key is not None and style == "api-key":
            own["api-key"] = key.reveal()
        return fixed_headers(own, self._options.headers)

    def chat_request(
        self, request: Mapping[str, Any], target: Target, *, stream: bool, recurring: bool = False
    ) -> WireRequest:
        """Write a chat request (see `Dialect`). What recurs is kept there without being asked to."""
        del recurring
        endpoint = self._chat or self._addresses.of("chat/completions", target.provider_model)
        return WireRequest(endpoint, encode_chat(request, target, self._options, stream=stream))

    def read_usual(self, body: bytes, asked: WireRequest) -> ChatAnswer | None:
        """Read a whole answer of the usual form (see `Dialect`)."""
        del asked
        return read_usual(body)

    def read_chat(self, payload: Any, asked: WireRequest) -> ChatAnswer:
        """Read a whole answer (see `Dialect`)."""
        del asked
        return read_chat(payload)

    def assembler(self, key: Secret | None, asked: WireRequest) -> ChatAssembler:
        """Make what reads a streamed answer (see `Dialect`)."""
        del asked
        return ChatAssembler(key)

    def embed_request(self, request: Mapping[str, Any], target: Target) -> WireRequest:
        """Write an embeddings request (see `Dialect`)."""
        body = encode_embeddings(request, target, self._options)
        return WireRequest(self._addresses.of("embeddings", target.provider_model), body)

    def read_vectors(self, payload: Any, count: int, dimensions: int | None) -> Embedded:
        """Read an embeddings answer (see `Dialect`)."""
        vectors = read_vectors(payload, count, dimensions)
        model = payload.get("model")
        return Embedded(vectors, read_usage(payload.get("usage")), model if isinstance(model, str) else None)

    def model_list(self) -> ModelList:
        """Say where the list of models is (see `Dialect`)."""
        # Deployments have names of their own, which Azure's list of models does not know.
        return ModelList(self._addresses.listing(), names_count=not self._addresses.azure)
