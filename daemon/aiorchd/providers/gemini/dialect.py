"""Gemini's dialect at one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiorchd.calls.target import Target
from aiorchd.providers.answer import ChatAnswer, Unreadable
from aiorchd.providers.dialect import Embedded, ModelList, WireRequest
from aiorchd.providers.gemini.answer import read_chat
from aiorchd.providers.gemini.options import Addresses, GeminiOptions
from aiorchd.providers.gemini.request import encode_chat, encode_embeddings
from aiorchd.providers.gemini.stream import ChatAssembler
from aiorchd.providers.gemini.usage import read_usage
from aiorchd.providers.headers import fixed_headers
from aiorchd.providers.secret import Secret
from aiorchd.providers.transport.channel import Headers
from aiorchd.providers.vectors import packed_vector, same_length


class GeminiDialect:
    """Satisfies `aiorchd.providers.dialect.Dialect`. Raises `ValueError` for an address that is none."""

    def __init__(self, options: GeminiOptions) -> None:
        self._options = options
        self._addresses = Addresses(options)

    def headers(self, key: Secret | None) -> Headers:
        """Give the headers of every request (see `Dialect`)."""
        own: dict[str, str] = {}
        style = self._options.authorisation
        if key is not None and style == "bearer":
            own["authorization"] = f"Bearer {key.reveal()}"
        elif key is not None and style != "none":
            own["x-goog-api-key"] = key.reveal()
        return fixed_headers(own, self._options.headers)

    def chat_request(
        self, request: Mapping[str, Any], target: Target, *, stream: bool, recurring: bool = False
    ) -> WireRequest:
        """Write a chat request (see `Dialect`). What recurs is kept there without being asked to."""
        del recurring
        body, not_sent = encode_chat(request, target, self._options)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return WireRequest(self._addresses.of(method, target.provider_model), body, not_sent=not_sent)

    def read_usual(self, body: bytes, asked: WireRequest) -> None:  # noqa: ARG002
        """Know no usual form (see `Dialect`)."""
        return

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
        body = encode_embeddings(request, target)
        return WireRequest(self._addresses.of("batchEmbedContents", target.provider_model), body)

    def read_vectors(self, payload: Any, count: int, dimensions: int | None) -> Embedded:
        """Read an embeddings answer (see `Dialect`)."""
        rows = payload.get("embeddings") if isinstance(payload, Mapping) else None
        if not isinstance(rows, list):
            raise Unreadable("without any vectors")
        if len(rows) != count:
            raise Unreadable(f"with {len(rows)} vectors for {count} inputs")
        vectors = tuple(packed_vector(row.get("values") if isinstance(row, Mapping) else None) for row in rows)
        usage = payload.get("usageMetadata")
        counted = read_usage({"candidatesTokenCount": 0, **usage}) if isinstance(usage, Mapping) else None
        return Embedded(same_length(vectors, dimensions), counted)

    def model_list(self) -> ModelList:
        """Say where the list of models is (see `Dialect`)."""
        return ModelList(self._addresses.listing())
